//! NVIDIA's libraries on top of the runtime: handles and sizes are answered, work on device memory
//! is nothing to do, and the rest is named (`lists/`, one file a library).

pub mod arrays;
mod cublas;
mod cublas_lt;
mod cudnn;
mod cudnn_backend;
mod cudnn_convolution;
mod cudnn_descriptors;
mod cufft;
mod curand;
mod cusolver;
mod cusparse;
mod handle;
mod lists;
mod nvrtc;
