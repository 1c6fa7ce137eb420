//! PyTorch's caching allocator, replayed over a trace by its own rules.
//!
//! Source: c10/cuda/CUDACachingAllocator.cpp of PyTorch 2.x.

use crate::units::Bytes;

/// Names one segment that a source has handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// The device address; addresses decide which of two equal blocks is taken.
    pub address: u64,
}

/// Why a source did not hand out a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal<E> {
    /// No memory left: the allocator gives cached segments back and asks once more.
    OutOfMemory,
    /// The source itself broke.
    Failed(E),
}

/// Where segments come from: a simulated capacity, or a real device's driver.
pub trait SegmentSource {
    /// What can go wrong, other than running out of memory.
    type Error;

    /// Asks for a segment of `bytes`, a multiple of 2 MiB.
    fn allocate(&mut self, bytes: Bytes) -> Result<Segment, Refusal<Self::Error>>;

    /// Gives a segment back.
    fn release(&mut self, segment: Segment) -> Result<(), Self::Error>;
}
