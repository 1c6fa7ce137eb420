//! The allocator itself: best fit, split, join, give back.

use super::pool::{FreeBlock, Pool};
use super::{
    BEYOND_ANY_DEVICE, MIN_BLOCK, Refusal, SMALL_REQUEST, Segment, SegmentSource, round_request,
    segment_size,
};
use crate::units::Bytes;

/// Names a block that [`CachingAllocator::allocate`] handed out, until it is freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockHandle(u32);

impl BlockHandle {
    /// Names no block (an `Option` would take twice the memory, and replays copy many).
    pub(super) const NONE: BlockHandle = BlockHandle(NONE);

    /// Whether it names a block.
    pub(super) fn is_some(self) -> bool {
        self != BlockHandle::NONE
    }
}

/// No block: the end of a segment.
const NONE: u32 = u32::MAX;

/// Which of PyTorch's two pools a block belongs to, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PoolKind {
    /// Requests of up to 1 MiB, in segments of 2 MiB.
    Small,
    /// All others.
    Large,
}

/// What a block is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A tensor lives in it.
    Live,
    /// It is in its pool.
    Free,
    /// It was joined to a neighbour or given back; its index waits to be used again.
    Gone,
}

/// A part of a segment; neighbours are linked in the order of their addresses.
#[derive(Debug, Clone, Copy)]
struct Block {
    address: u64,
    size: u64,
    before: u32,
    after: u32,
    pool: PoolKind,
    state: State,
}

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
    /// Segments that the source granted (`num_device_alloc`).
    pub segments_granted: u64,
    /// Segments given back while the step ran (`num_device_free`).
    pub segments_released: u64,
}

/// PyTorch's caching allocator on one stream of one device.
///
/// A block that is handed out may be larger than the rounded request: what would be left of it is
/// not split off unless it is of use (512 B in the small pool, more than 1 MiB in the large one).
/// `max_memory_allocated` counts the block.
#[derive(Debug, Clone)]
pub struct CachingAllocator<S> {
    source: S,
    blocks: Vec<Block>,
    /// Indices into `blocks` that are [`State::Gone`].
    unused: Vec<u32>,
    small: Pool,
    large: Pool,
    statistics: Statistics,
}

impl<S: SegmentSource> CachingAllocator<S> {
    /// Makes an allocator that holds nothing yet.
    pub fn new(source: S) -> CachingAllocator<S> {
        CachingAllocator {
            source,
            blocks: Vec::new(),
            unused: Vec::new(),
            small: Pool::default(),
            large: Pool::default(),
            statistics: Statistics::default(),
        }
    }

    /// Hands out a block of at least `requested` bytes, which are not zero.
    ///
    /// # Errors
    ///
    /// [`Refusal::OutOfMemory`] where PyTorch raises `torch.OutOfMemoryError`: no cached block
    /// fits, the source refused a segment, and refused it again after every segment without a live
    /// block had been given back. [`Refusal::Failed`] when the source broke.
    pub fn allocate(&mut self, requested: Bytes) -> Result<BlockHandle, Refusal<S::Error>> {
        if requested > BEYOND_ANY_DEVICE {
            return Err(Refusal::OutOfMemory);
        }
        let size = round_request(requested);
        let kind = if size <= SMALL_REQUEST { PoolKind::Small } else { PoolKind::Large };
        let whole = match self.pool(kind).take_best_fit(size.get()) {
            Some(found) => found.block,
            None => self.new_segment(kind, size)?,
        };
        let taken = self.take(kind, whole, size.get());
        self.statistics.allocated += Bytes::new(self.blocks[taken as usize].size);
        self.statistics.peak_allocated =
            self.statistics.peak_allocated.max(self.statistics.allocated);
        Ok(BlockHandle(taken))
    }

    /// Allocates and frees at once where a cached block serves, and returns what was taken; `None`,
    /// and nothing done, where none does.
    ///
    /// What is split off joins again, so that the pool is as it was.
    pub(super) fn pass(&mut self, requested: Bytes) -> Option<Bytes> {
        if requested == Bytes::ZERO || requested > BEYOND_ANY_DEVICE {
            return None;
        }
        let size = round_request(requested);
        let kind = if size <= SMALL_REQUEST { PoolKind::Small } else { PoolKind::Large };
        let whole = self.pool(kind).best_fit(size.get())?;
        let splits = worth_splitting(kind, whole - size.get());
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
        let mut block = self.blocks[index as usize];
        debug_assert_eq!(block.state, State::Live, "only a live block is freed");
        self.statistics.allocated -= Bytes::new(block.size);
        let before = self.free_neighbour(block.before);
        let after = self.free_neighbour(block.after);
        if let Some(joined) = before {
            let neighbour = self.blocks[joined.block as usize];
            block.address = neighbour.address;
            block.size += neighbour.size;
            block.before = neighbour.before;
            self.link_before(index, block.before);
            self.forget(joined.block);
        }
        if let Some(joined) = after {
            let neighbour = self.blocks[joined.block as usize];
            block.size += neighbour.size;
            block.after = neighbour.after;
            self.link_after(index, block.after);
            self.forget(joined.block);
        }
        block.state = State::Free;
        self.blocks[index as usize] = block;
        let free = FreeBlock { size: block.size, address: block.address, block: index };
        let pool = self.pool(block.pool);
        for joined in [before, after].into_iter().flatten() {
            pool.remove(joined);
        }
        pool.insert(free);
    }

    /// Returns a live block's address and size.
    pub fn block(&self, handle: BlockHandle) -> (u64, Bytes) {
        let block = self.blocks[handle.0 as usize];
        (block.address, Bytes::new(block.size))
    }

    /// Returns what is held now, and what was held at most.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Returns where the segments come from.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Returns where the segments come from, to change it.
    pub(super) fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// Gives every segment back, whatever lives in it.
    ///
    /// # Errors
    ///
    /// The first failure of the source; the other segments are given back all the same.
    pub fn give_back_all(mut self) -> Result<(), S::Error> {
        let mut result = Ok(());
        for block in &self.blocks {
            if block.state != State::Gone && block.before == NONE {
                let released = self.source.release(Segment { address: block.address });
                result = result.and(released);
            }
        }
        result
    }

    /// Returns a new segment as one block that is in no pool.
    fn new_segment(&mut self, kind: PoolKind, size: Bytes) -> Result<u32, Refusal<S::Error>> {
        let bytes = segment_size(size);
        let segment = match self.source.allocate(bytes) {
            Err(Refusal::OutOfMemory) => {
                self.release_cached().map_err(Refusal::Failed)?;
                self.statistics.retries += 1;
                self.source.allocate(bytes)?
            }
            answer => answer?,
        };
        self.statistics.segments_granted += 1;
        self.statistics.reserved += bytes;
        self.statistics.peak_reserved = self.statistics.peak_reserved.max(self.statistics.reserved);
        Ok(self.remember(Block {
            address: segment.address,
            size: bytes.get(),
            before: NONE,
            after: NONE,
            pool: kind,
            state: State::Free,
        }))
    }

    /// Makes the first `size` bytes of a block that is in no pool live, or all of it where the rest
    /// would be of no use; a rest goes back into the pool.
    fn take(&mut self, kind: PoolKind, index: u32, size: u64) -> u32 {
        let whole = self.blocks[index as usize];
        if !worth_splitting(kind, whole.size - size) {
            self.blocks[index as usize].state = State::Live;
            return index;
        }
        let taken = self.remember(Block { size, after: index, state: State::Live, ..whole });
        self.link_before(taken, whole.before);
        let rest = &mut self.blocks[index as usize];
        rest.before = taken;
        rest.address += size;
        rest.size -= size;
        rest.state = State::Free;
        let free = FreeBlock { size: rest.size, address: rest.address, block: index };
        self.pool(kind).insert(free);
        taken
    }

    /// Gives back every segment that is one free block: the large pool's, then the small one's,
    /// each from its smallest to its largest.
    fn release_cached(&mut self) -> Result<(), S::Error> {
        let CachingAllocator { source, blocks, unused, small, large, statistics } = self;
        let mut result = Ok(());
        for pool in [large, small] {
            pool.retain(|index| {
                let block = &mut blocks[index as usize];
                if result.is_err() || block.before != NONE || block.after != NONE {
                    return true;
                }
                result = source.release(Segment { address: block.address });
                statistics.reserved -= Bytes::new(block.size);
                statistics.segments_released += 1;
                block.state = State::Gone;
                unused.push(index);
                false
            });
        }
        result
    }

    fn free_neighbour(&self, index: u32) -> Option<FreeBlock> {
        let block = self.blocks.get(index as usize)?;
        (block.state == State::Free).then_some(FreeBlock {
            size: block.size,
            address: block.address,
            block: index,
        })
    }

    fn link_before(&mut self, index: u32, before: u32) {
        if let Some(neighbour) = self.blocks.get_mut(before as usize) {
            neighbour.after = index;
        }
    }

    fn link_after(&mut self, index: u32, after: u32) {
        if let Some(neighbour) = self.blocks.get_mut(after as usize) {
            neighbour.before = index;
        }
    }

    fn remember(&mut self, block: Block) -> u32 {
        match self.unused.pop() {
            Some(index) => {
                self.blocks[index as usize] = block;
                index
            }
            None => {
                let index = u32::try_from(self.blocks.len()).expect("fewer blocks than addresses");
                self.blocks.push(block);
                index
            }
        }
    }

    fn forget(&mut self, index: u32) {
        self.blocks[index as usize].state = State::Gone;
        self.unused.push(index);
    }

    fn pool(&mut self, kind: PoolKind) -> &mut Pool {
        match kind {
            PoolKind::Small => &mut self.small,
            PoolKind::Large => &mut self.large,
        }
    }
}

/// Whether what is left of a block becomes one of its own (`should_split`).
fn worth_splitting(kind: PoolKind, rest: u64) -> bool {
    match kind {
        PoolKind::Small => rest >= MIN_BLOCK.get(),
        PoolKind::Large => rest > SMALL_REQUEST.get(),
    }
}
