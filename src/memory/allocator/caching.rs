//! The allocator itself: best fit, split, join. How it grows and gives back is in `segments` and
//! `expandable`.

use super::blocks::{Block, BlockHandle, Blocks, State};
use super::expandable::Ranges;
use super::pool::{FreeBlock, Pool, PoolKind, Pools};
use super::{BEYOND_ANY_DEVICE, MIN_BLOCK, PageSource, Refusal, SMALL_REQUEST, round_request};
use crate::trace::{AllocatorMode, Ties};
use crate::units::Bytes;

/// What the allocator holds at one moment, and held at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Live blocks.
    pub allocated: Bytes,
    /// The most there ever was of it: `torch.cuda.max_memory_allocated()`.
    pub peak_allocated: Bytes,
    /// Segments.
    pub reserved: Bytes,
    /// The most there ever was of it: `torch.cuda.max_memory_reserved()`.
    pub peak_reserved: Bytes,
    /// How often cached segments were given back because the source had run out
    /// (`num_alloc_retries`).
    pub retries: u64,
    /// How often the source granted a segment, or pages at once (`num_device_alloc`).
    pub segments_granted: u64,
    /// How often segments, or pages at once, were given back while the step ran
    /// (`num_device_free`).
    pub segments_released: u64,
}

impl Statistics {
    /// Counts what the source granted at once.
    pub(super) fn grew(&mut self, bytes: Bytes) {
        self.segments_granted += 1;
        self.reserved += bytes;
        self.peak_reserved = self.peak_reserved.max(self.reserved);
    }

    /// Counts what was given back at once.
    pub(super) fn shrank(&mut self, bytes: Bytes) {
        self.segments_released += 1;
        self.reserved -= bytes;
    }
}

/// PyTorch's caching allocator on one stream of one device.
///
/// A block that is handed out may be larger than the rounded request: what would be left of it is
/// not split off unless it is of use (512 B in the small pool, more than 1 MiB in the large one;
/// 512 B in both with expandable segments). `max_memory_allocated` counts the block.
#[derive(Debug, Clone)]
pub struct CachingAllocator<S> {
    pub(super) source: S,
    pub(super) blocks: Blocks,
    pub(super) pools: Pools<Pool>,
    /// The address ranges of expandable segments; nothing without them.
    pub(super) ranges: Option<Ranges>,
    pub(super) ties: Ties,
    pub(super) statistics: Statistics,
}

impl<S: PageSource> CachingAllocator<S> {
    /// Makes an allocator that holds nothing yet.
    pub fn new(source: S, mode: AllocatorMode, ties: Ties) -> CachingAllocator<S> {
        let ranges = match mode {
            AllocatorMode::Default => None,
            AllocatorMode::Expandable { total } => Some(Ranges::new(total)),
        };
        CachingAllocator {
            source,
            blocks: Blocks::default(),
            pools: Pools::default(),
            ranges,
            ties,
            statistics: Statistics::default(),
        }
    }

    /// Hands out a block of at least `requested` bytes, which are not zero.
    ///
    /// # Errors
    ///
    /// [`Refusal::OutOfMemory`] where PyTorch raises `torch.OutOfMemoryError`: no cached block
    /// fits, the source refused more, and refused it again after every segment or page without a
    /// live block had been given back. [`Refusal::Failed`] when the source broke.
    pub fn allocate(&mut self, requested: Bytes) -> Result<BlockHandle, Refusal<S::Error>> {
        if requested > BEYOND_ANY_DEVICE {
            return Err(Refusal::OutOfMemory);
        }
        let size = round_request(requested);
        let kind = pool_of(size);
        let whole = match self.take_best_fit(kind, size.get()) {
            Some(found) => found.block,
            None => self.grow(kind, size)?,
        };
        let taken = self.take(kind, whole, size.get());
        self.statistics.allocated += Bytes::new(self.blocks[taken].size);
        self.statistics.peak_allocated =
            self.statistics.peak_allocated.max(self.statistics.allocated);
        Ok(BlockHandle(taken))
    }

    /// Allocates and frees at once where a cached block serves, and returns what was taken; `None`,
    /// and nothing done, where none does.
    ///
    /// What is split off joins again, so that the pool is as it was; but younger, where that counts.
    pub(super) fn pass(&mut self, requested: Bytes) -> Option<Bytes> {
        if requested == Bytes::ZERO || requested > BEYOND_ANY_DEVICE {
            return None;
        }
        let size = round_request(requested);
        let kind = pool_of(size);
        let whole = self.best_fit(kind, size.get())?;
        let splits = self.is_worth_splitting(kind, whole - size.get());
        if splits && self.ties == Ties::Age {
            return None;
        }
        let taken = if splits { size } else { Bytes::new(whole) };
        let statistics = &mut self.statistics;
        statistics.peak_allocated = statistics.peak_allocated.max(statistics.allocated + taken);
        Some(taken)
    }

    /// Takes a block back into its pool, joined with its free neighbours.
    ///
    /// The handle must be one that is live; it names nothing afterwards.
    pub fn free(&mut self, handle: BlockHandle) {
        let index = handle.0;
        debug_assert_eq!(self.blocks[index].state, State::Live, "only a live block is freed");
        self.statistics.allocated -= Bytes::new(self.blocks[index].size);
        self.make_free(index);
    }

    /// Joins a block that is in no pool with its free neighbours, and puts it into its pool.
    pub(super) fn make_free(&mut self, index: u32) {
        let Block { before, after, pool, .. } = self.blocks[index];
        for neighbour in [before, after] {
            if let Some(neighbour) = self.blocks.neighbour(neighbour, State::Free) {
                let joined = self.blocks.as_free(neighbour, self.ties);
                self.pools[pool].remove(joined);
                self.blocks.join(index, neighbour);
            }
        }
        self.blocks[index].state = State::Free;
        let free = self.blocks.as_free(index, self.ties);
        self.pools[pool].insert(free);
    }

    /// Returns a live block's address and size.
    pub fn block(&self, handle: BlockHandle) -> (u64, Bytes) {
        let block = self.blocks[handle.0];
        (block.address, Bytes::new(block.size))
    }

    /// Returns what is held now, and what was held at most.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Returns where the memory comes from.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Returns where the memory comes from, to change it.
    pub(super) fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// Gives everything back, whatever lives in it.
    ///
    /// # Errors
    ///
    /// The first failure of the source; the rest is given back all the same.
    pub fn give_back_all(mut self) -> Result<(), S::Error> {
        match self.ranges.take() {
            None => self.give_back_segments(),
            Some(ranges) => self.give_back_ranges(&ranges),
        }
    }

    /// Returns a block of at least `size` that is in no pool, of memory that is new at least in
    /// part; where there is none left, what is cached is given back first.
    fn grow(&mut self, kind: PoolKind, size: Bytes) -> Result<u32, Refusal<S::Error>> {
        match self.grow_once(kind, size) {
            Err(Refusal::OutOfMemory) => {
                self.release_cached().map_err(Refusal::Failed)?;
                self.statistics.retries += 1;
                self.grow_once(kind, size)
            }
            answer => answer,
        }
    }

    fn grow_once(&mut self, kind: PoolKind, size: Bytes) -> Result<u32, Refusal<S::Error>> {
        match self.ranges {
            None => self.new_segment(kind, size),
            Some(_) => self.map_pages(kind, size),
        }
    }

    fn release_cached(&mut self) -> Result<(), S::Error> {
        match self.ranges {
            None => self.release_segments(),
            Some(_) => self.release_pages(),
        }
    }

    fn take_best_fit(&mut self, kind: PoolKind, size: u64) -> Option<FreeBlock> {
        let CachingAllocator { blocks, pools, ranges, .. } = self;
        match ranges {
            // Nothing is unmapped: one closure that asked would be 6% of a replay.
            None => pools[kind].take_best_fit(size, |_| 0),
            Some(_) => pools[kind].take_best_fit(size, |index| room_behind(blocks, index)),
        }
    }

    /// Returns the size of the block that [`take_best_fit`](Self::take_best_fit) takes.
    fn best_fit(&self, kind: PoolKind, size: u64) -> Option<u64> {
        match self.ranges {
            None => self.pools[kind].best_fit(size, |_| 0),
            Some(_) => self.pools[kind].best_fit(size, |index| room_behind(&self.blocks, index)),
        }
    }

    /// Makes the first `size` bytes of a block that is in no pool live, or all of it where the rest
    /// would be of no use; a rest goes back into the pool.
    fn take(&mut self, kind: PoolKind, index: u32, size: u64) -> u32 {
        let whole = self.blocks[index];
        if !self.is_worth_splitting(kind, whole.size - size) {
            self.blocks[index].state = State::Live;
            return index;
        }
        let rest = &mut self.blocks[index];
        rest.address += size;
        rest.size -= size;
        rest.state = State::Free;
        let taken = self.blocks.insert(Block { size, after: index, state: State::Live, ..whole });
        let free = self.blocks.as_free(index, self.ties);
        self.pools[kind].insert(free);
        taken
    }

    /// Whether what is left of a block becomes one of its own (`should_split`).
    fn is_worth_splitting(&self, kind: PoolKind, rest: u64) -> bool {
        match kind {
            PoolKind::Large if self.ranges.is_none() => rest > SMALL_REQUEST.get(),
            PoolKind::Large | PoolKind::Small => rest >= MIN_BLOCK.get(),
        }
    }
}

/// Returns the pool that serves a rounded request.
fn pool_of(size: Bytes) -> PoolKind {
    if size <= SMALL_REQUEST { PoolKind::Small } else { PoolKind::Large }
}

/// Returns the bytes of addresses behind a block that have no memory yet: what it could grow by.
fn room_behind(blocks: &Blocks, index: u32) -> u64 {
    let behind = blocks.neighbour(blocks[index].after, State::Unmapped);
    behind.map_or(0, |behind| blocks[behind].size)
}
