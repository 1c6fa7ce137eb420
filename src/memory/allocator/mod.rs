//! PyTorch's caching allocator, replayed over a trace by its own rules.
//!
//! What decides whether a step fits: blocks and their neighbours (`blocks`), the free ones of a pool
//! (`pool`), the allocator that hands out, splits and joins them (`caching`), the two ways in which
//! it takes memory from the device and gives it back (`segments`, by cudaMalloc; `expandable`, by
//! pages mapped into a range of addresses: `expandable_segments:True`), a device that is not there
//! (`capacity`), and the driver of a whole trace ([`replay()`]). Memory comes from behind
//! [`PageSource`], so the same decisions run on a simulated capacity and on a real device.
//!
//! This is the allocator as it is with no other setting: no `max_split_size_mb` (so no block is
//! oversize, and `release_available_cached_blocks` does nothing), no `roundup_power2_divisions`,
//! no memory fraction (so no garbage collection), one stream, no CUDA graphs.
//!
//! Source: c10/cuda/CUDACachingAllocator.cpp and c10/core/AllocatorConfig.h of PyTorch 2.15; the
//! rules are those of 2.8 and 2.4 too. Checked against these programs' own statistics, to the byte,
//! in tests/allocator_against_pytorch.rs and tests/allocator_random.rs.

mod blocks;
pub mod caching;
pub mod capacity;
mod expandable;
mod pool;
pub(in crate::memory) mod replay;
mod segments;

pub use blocks::BlockHandle;
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

/// Where the pages of expandable segments come from, beside segments.
///
/// Addresses and bytes are multiples of `page`, counted from the start of a range.
pub trait PageSource: SegmentSource {
    /// Reserves `bytes` of addresses, with no memory behind them; returns their start.
    fn reserve(&mut self, bytes: Bytes) -> Result<u64, Self::Error>;

    /// Puts memory behind `bytes` of addresses, page by page; all of them or, when it runs out of
    /// memory on the way, none.
    fn map(&mut self, address: u64, bytes: Bytes, page: Bytes) -> Result<(), Refusal<Self::Error>>;

    /// Gives the memory behind `bytes` of addresses back.
    fn unmap(&mut self, address: u64, bytes: Bytes, page: Bytes) -> Result<(), Self::Error>;

    /// Gives a whole range of addresses back, with no memory behind any.
    fn release_range(&mut self, address: u64, bytes: Bytes) -> Result<(), Self::Error>;
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

impl<S: PageSource> PageSource for &mut S {
    fn reserve(&mut self, bytes: Bytes) -> Result<u64, S::Error> {
        (**self).reserve(bytes)
    }

    fn map(&mut self, address: u64, bytes: Bytes, page: Bytes) -> Result<(), Refusal<S::Error>> {
        (**self).map(address, bytes, page)
    }

    fn unmap(&mut self, address: u64, bytes: Bytes, page: Bytes) -> Result<(), S::Error> {
        (**self).unmap(address, bytes, page)
    }

    fn release_range(&mut self, address: u64, bytes: Bytes) -> Result<(), S::Error> {
        (**self).release_range(address, bytes)
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
