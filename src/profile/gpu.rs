//! A GPU as memory planning sees it.

use crate::step::setup::GpuArch;
use crate::units::Bytes;

/// What memory and scratch depend on, of one kind of GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuProfile {
    /// The name on the command line (`h100-80gb`).
    pub name: String,
    /// The name that NVML reports (`NVIDIA H100 80GB HBM3`).
    pub product_name: String,
    /// Total bytes as NVML reports them (v2), not the vendor's GB.
    pub total: Bytes,
    /// Bytes the driver keeps to itself, as NVML's v2 call reports them.
    pub reserved: Bytes,
    /// Compute capability and SM count.
    pub arch: GpuArch,
    /// L2 cache.
    pub l2: Bytes,
    /// Boost clock.
    pub clock_mhz: u64,
    /// Memory bandwidth, bytes a second.
    pub memory_bandwidth: u64,
    /// Host link bandwidth (PCIe or NVLink-C2C), bytes a second, one direction.
    pub host_link_bandwidth: u64,
    /// What a CUDA context with PyTorch's kernels loaded takes, outside the caching allocator.
    pub context: Bytes,
    /// Where the figures come from.
    pub source: String,
}
