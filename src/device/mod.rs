//! GPUs: NVML and the CUDA driver, and the simulated ones, behind the traits of `probe`.

pub mod virtual_library;
