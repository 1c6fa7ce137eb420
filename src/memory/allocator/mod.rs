//! PyTorch's caching allocator, replayed over a trace by its own rules.
//!
//! What decides whether a step fits is in four files: the free blocks of a pool (`pool`), the
//! allocator that splits, joins and gives back (`caching`), a device that is not there
//! (`capacity`), and the driver of a whole trace ([`replay()`]). Segments come from behind
//! `SegmentSource`, so the same decisions run on a simulated capacity and on a real device.
//!
//! This is the allocator as it is without settings: no `max_split_size_mb` (so no block is
//! oversize, and `release_available_cached_blocks` does nothing), no `roundup_power2_divisions`,
//! no memory fraction (so no garbage collection), no expandable segments, one stream, no CUDA
//! graphs.
//!
//! Source: c10/cuda/CUDACachingAllocator.cpp and c10/core/AllocatorConfig.h of PyTorch 2.15; the
//! rules are those of 2.8 too. Checked against both programs' own statistics, to the byte, in
//! tests/allocator_against_pytorch.rs.

pub mod caching;
pub mod capacity;
mod pool;
pub(in crate::memory) mod replay;

pub use caching::CachingAllocator;
pub use capacity::Capacity;
pub use replay::{Outcome, Replay, replay};

use crate::units::Bytes;

/// What every request is rounded up to, and the least that a small block leaves when split.
///
/// Source: `kMinBlockSize`.
pub const MIN_BLOCK: Bytes = Bytes::new(512);

/// The largest rounded request that the small pool serves; a large block is split when more than
/// this is left.
///
/// Source: `kSmallSize`.
pub const SMALL_REQUEST: Bytes = Bytes::mib(1);

/// The segment that small requests share.
///
/// Source: `kSmallBuffer`.
pub const SMALL_SEGMENT: Bytes = Bytes::mib(2);

/// The segment that large requests under [`LARGE_REQUEST`] share.
///
/// Source: `large_segment_size` (before 2.10: `kLargeBuffer`).
pub const LARGE_SEGMENT: Bytes = Bytes::mib(20);

/// From this rounded request on, a segment is as large as the request.
///
/// Source: `kMinLargeAlloc`.
pub const LARGE_REQUEST: Bytes = Bytes::mib(10);

/// What segments from [`LARGE_REQUEST`] on are rounded up to; cudaMalloc's own granule, too.
///
/// Source: `kRoundLarge`.
pub const GRANULE: Bytes = Bytes::mib(2);

/// More than any device has; a larger request runs out of memory without asking the source.
///
/// One pebibyte, so that sums and roundings stay far from the end of 64 bits.
const BEYOND_ANY_DEVICE: Bytes = Bytes::gib(1 << 20);

/// Rounds a request as PyTorch does; this is what `max_memory_allocated` counts.
pub const fn round_request(bytes: Bytes) -> Bytes {
    if bytes.get() < MIN_BLOCK.get() { MIN_BLOCK } else { bytes.round_up(MIN_BLOCK) }
}

/// Returns the segment that a rounded request asks for when no cached block fits.
pub const fn segment_size(rounded: Bytes) -> Bytes {
    if rounded.get() <= SMALL_REQUEST.get() {
        SMALL_SEGMENT
    } else if rounded.get() < LARGE_REQUEST.get() {
        LARGE_SEGMENT
    } else {
        rounded.round_up(GRANULE)
    }
}

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

impl<S: SegmentSource> SegmentSource for &mut S {
    type Error = S::Error;

    fn allocate(&mut self, bytes: Bytes) -> Result<Segment, Refusal<S::Error>> {
        (**self).allocate(bytes)
    }

    fn release(&mut self, segment: Segment) -> Result<(), S::Error> {
        (**self).release(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_to_512_bytes_and_never_below() {
        assert_eq!(round_request(Bytes::new(1)), Bytes::new(512));
        assert_eq!(round_request(Bytes::new(512)), Bytes::new(512));
        assert_eq!(round_request(Bytes::new(513)), Bytes::new(1024));
    }

    #[test]
    fn segments_are_2_mib_then_20_mib_then_what_is_asked() {
        assert_eq!(segment_size(Bytes::mib(1)), Bytes::mib(2));
        assert_eq!(segment_size(Bytes::new((1 << 20) + 512)), Bytes::mib(20));
        assert_eq!(segment_size(Bytes::new((10 << 20) - 512)), Bytes::mib(20));
        assert_eq!(segment_size(Bytes::mib(10)), Bytes::mib(10));
        assert_eq!(segment_size(Bytes::new((10 << 20) + 512)), Bytes::mib(12));
    }
}
