//! GPUs: NVML and the CUDA driver, and the simulated ones, behind the traits of `probe`.
