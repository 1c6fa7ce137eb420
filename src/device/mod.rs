//! GPUs: NVML and the CUDA driver, and the simulated ones, behind the traits of `probe`.

pub mod child;
pub mod cuda;
mod cuda_codes;
pub mod failure;
pub mod holder;
pub mod interrupt;
pub mod lock;
pub mod meter;
pub mod nvml;
mod nvml_codes;
pub mod nvml_failure;
pub mod prober;
mod processes;
pub mod session;
pub mod sim;
pub use crate::trial::virtual_library;
mod wire;
pub mod wsl;
