//! GPUs: NVML and the CUDA driver, and the simulated ones, behind the traits of `probe`.

pub mod cuda;
mod cuda_codes;
pub mod holder;
pub mod meter;
pub mod nvml;
mod nvml_codes;
pub mod nvml_failure;
mod processes;
pub mod sim;
pub mod wsl;

// A probe and its child talk through pipes, under a lock, as a Unix has them.
#[cfg(unix)]
pub mod child;
#[cfg(unix)]
mod cuda_mapping;
#[cfg(unix)]
pub mod failure;
#[cfg(unix)]
mod held;
#[cfg(unix)]
pub mod interrupt;
#[cfg(unix)]
pub mod lock;
#[cfg(unix)]
pub mod prober;
#[cfg(unix)]
pub mod session;
#[cfg(unix)]
mod wire;

#[cfg(unix)]
pub use crate::trial::virtual_library;
