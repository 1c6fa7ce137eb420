//! What one step needs, read off a replay: peaks, what is alive at them, the smallest capacity.

use std::collections::BTreeMap;

use crate::memory::trace::{Category, Phase};
use crate::units::Bytes;

/// What one training step needs of one device, inside the caching allocator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footprint {
    /// `torch.cuda.max_memory_allocated()`: tensors, each rounded up by the allocator.
    pub peak_allocated: Bytes,
    /// `torch.cuda.max_memory_reserved()` on a device with room to spare: segments.
    pub peak_reserved: Bytes,
    /// The smallest capacity from which on every 2 MiB step runs.
    pub min_capacity: Bytes,
    /// The phase in which `peak_allocated` is first reached.
    pub peak_phase: Phase,
    /// What is alive at that moment, by category (rounded); sums to `peak_allocated`.
    pub at_peak: BTreeMap<Category, Bytes>,
}
