//! Names that are not answered one by one, as nm lists them in the libraries.

mod cublas;
mod cublas_lt;
mod cudnn;
mod cufft;
mod cufile;
mod cupti;
mod curand;
mod cusolver;
mod cusparse;
mod cusparse_lt;
mod nvjitlink;
mod nvrtc;
mod nvshmem;
