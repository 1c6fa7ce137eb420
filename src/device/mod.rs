//! GPUs: NVML and the CUDA driver, and the simulated ones, behind the traits of `probe`.

mod cuda;
mod cuda_codes;
pub mod nvml;
mod nvml_codes;
mod processes;
