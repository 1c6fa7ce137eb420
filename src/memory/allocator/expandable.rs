//! How the allocator grows and gives back with `expandable_segments:True`: by mapping pages into
//! ranges of addresses.
//!
//! A range belongs to a pool and takes all of its blocks: live, free, and unmapped, with no memory
//! behind them yet or any more. A pool has one as a rule, and another where no place in it is left.

use super::blocks::{Block, Blocks, NONE, State};
use super::pool::{PoolKind, Pools};
use super::{
    BEYOND_ANY_DEVICE, CachingAllocator, LARGE_SEGMENT, PageSource, Refusal, SMALL_SEGMENT,
};
use crate::units::Bytes;

/// The ranges of both pools.
#[derive(Debug, Clone)]
pub(super) struct Ranges {
    /// The device's memory.
    total: Bytes,
    sides: Pools<Side>,
}

/// The ranges of one pool.
#[derive(Debug, Clone, Default)]
struct Side {
    /// Start and bytes, in the order in which they were reserved.
    reserved: Vec<(u64, Bytes)>,
    /// Unmapped blocks: (address, index), ascending.
    unmapped: Vec<(u64, u32)>,
}

impl Ranges {
    /// Returns no ranges yet, of a device with `total` bytes of memory.
    pub fn new(total: Bytes) -> Ranges {
        let total = total.min(BEYOND_ANY_DEVICE);
        Ranges { total, sides: Pools::default() }
    }

    /// Returns the bytes of a range: nine eighths of the device's memory, in whole pages, or what
    /// is asked for where that is more, which no such device has.
    ///
    /// Source: `ExpandableSegment`'s constructor.
    fn bytes(&self, page: Bytes, size: Bytes) -> Bytes {
        (self.total + Bytes::new(self.total.get() / 8)).max(size).round_up(page)
    }
}

impl Side {
    fn insert(&mut self, address: u64, block: u32) {
        let place = self.unmapped.partition_point(|&(other, _)| other < address);
        self.unmapped.insert(place, (address, block));
    }

    fn remove(&mut self, block: u32) {
        self.unmapped.retain(|&(_, other)| other != block);
    }

    /// Returns the start of the range that an address lies in.
    fn start_of(&self, address: u64) -> u64 {
        let starts = self.reserved.iter().map(|&(start, _)| start);
        starts.filter(|&start| start <= address).max().unwrap_or(address)
    }

    /// Returns the parts of a range that have memory behind them: start and bytes.
    fn mapped(&self, (start, bytes): (u64, Bytes), blocks: &Blocks) -> Vec<(u64, Bytes)> {
        let end = start + bytes.get();
        let holes = self.unmapped.iter().filter(|(address, _)| (start..end).contains(address));
        let mut parts = Vec::new();
        let mut from = start;
        for &(address, block) in holes {
            parts.push((from, Bytes::new(address - from)));
            from = address + blocks[block].size;
        }
        parts.push((from, Bytes::new(end - from)));
        parts.retain(|&(_, bytes)| bytes > Bytes::ZERO);
        parts
    }
}

/// Returns the pages of a pool's ranges.
const fn page_of(kind: PoolKind) -> Bytes {
    match kind {
        PoolKind::Small => SMALL_SEGMENT,
        PoolKind::Large => LARGE_SEGMENT,
    }
}

impl<S: PageSource> CachingAllocator<S> {
    /// Returns a block of at least `size` that is in no pool, with memory behind all of it.
    ///
    /// Pages that were mapped on the way stay, as free blocks, when there is no memory for the rest.
    ///
    /// Source: `try_allocate_expandable_block`.
    pub(super) fn map_pages(
        &mut self,
        kind: PoolKind,
        size: Bytes,
    ) -> Result<u32, Refusal<S::Error>> {
        let size = size.get();
        let mut block = match self.roomy(kind, size) {
            Some(found) => found,
            None => self.new_range(kind, size).map_err(Refusal::Failed)?,
        };
        if self.blocks[block].state == State::Unmapped {
            self.map(kind, block, self.blocks[block].size.min(size))?;
        }
        while self.blocks[block].size < size {
            let Block { size: has, after, .. } = self.blocks[block];
            self.map(kind, after, self.blocks[after].size.min(size - has))?;
            block = after;
        }
        let taken = self.blocks.as_free(block, self.ties);
        self.pools[kind].remove(taken);
        Ok(block)
    }

    /// Returns the block of the lowest address from which on there are `size` bytes of addresses
    /// that nothing lives in, some of them unmapped.
    ///
    /// Source: `find_expandable_block`.
    fn roomy(&mut self, kind: PoolKind, size: u64) -> Option<u32> {
        let CachingAllocator { blocks, ranges, .. } = self;
        let unmapped = &ranges.as_ref()?.sides[kind].unmapped;
        let first = |&(_, block): &(u64, u32)| {
            blocks.neighbour(blocks[block].before, State::Free).unwrap_or(block)
        };
        let has_room = |&block: &u32| {
            let (mut bytes, mut next) = (0, block);
            while let Some(block) = blocks.get(next) {
                if bytes >= size || block.state == State::Live {
                    break;
                }
                bytes += block.size;
                next = block.after;
            }
            bytes >= size
        };
        unmapped.iter().map(first).find(has_room)
    }

    /// Reserves another range, and returns it as one unmapped block.
    fn new_range(&mut self, kind: PoolKind, size: u64) -> Result<u32, S::Error> {
        let CachingAllocator { source, blocks, ranges: Some(ranges), .. } = self else {
            unreachable!("pages are mapped into ranges only");
        };
        let bytes = ranges.bytes(page_of(kind), Bytes::new(size));
        let address = source.reserve(bytes)?;
        let block = blocks.insert(Block {
            address,
            size: bytes.get(),
            before: NONE,
            after: NONE,
            pool: kind,
            state: State::Unmapped,
            age: 0,
        });
        let side = &mut ranges.sides[kind];
        side.reserved.push((address, bytes));
        side.insert(address, block);
        Ok(block)
    }

    /// Maps the first pages of an unmapped block, enough for `bytes` of it, and joins them with
    /// their free neighbours.
    ///
    /// Source: `map_block`.
    fn map(&mut self, kind: PoolKind, index: u32, bytes: u64) -> Result<(), Refusal<S::Error>> {
        let CachingAllocator { source, blocks, ranges: Some(ranges), statistics, .. } = self else {
            unreachable!("pages are mapped into ranges only");
        };
        let page = page_of(kind);
        let mapped = Bytes::new(bytes).round_up(page);
        let whole = blocks[index];
        source.map(whole.address, mapped, page)?;
        statistics.grew(mapped);
        let side = &mut ranges.sides[kind];
        side.remove(index);
        if mapped.get() < whole.size {
            blocks[index].size = mapped.get();
            let address = whole.address + mapped.get();
            let size = whole.size - mapped.get();
            let rest = blocks.insert(Block { address, size, before: index, ..whole });
            side.insert(address, rest);
        }
        self.make_free(index);
        Ok(())
    }

    /// Unmaps every page with nothing alive in it: the large pool's, then the small one's, each
    /// block by block from the smallest to the largest.
    ///
    /// Source: `release_blocks`.
    pub(super) fn release_pages(&mut self) -> Result<(), S::Error> {
        for kind in PoolKind::AS_RELEASED {
            for block in self.pools[kind].in_order() {
                self.unmap(kind, block)?;
            }
        }
        Ok(())
    }

    /// Unmaps the whole pages of a free block; what is left on both sides stays free.
    ///
    /// Source: `unmap_block`, `release_expandable_segment`.
    fn unmap(&mut self, kind: PoolKind, index: u32) -> Result<(), S::Error> {
        let page = page_of(kind);
        let whole = self.blocks[index];
        let (free, ties) = (self.blocks.as_free(index, self.ties), self.ties);
        let CachingAllocator { source, blocks, ranges: Some(ranges), pools, statistics, .. } = self
        else {
            unreachable!("pages are mapped into ranges only");
        };
        let (side, pool) = (&mut ranges.sides[kind], &mut pools[kind]);
        let start = side.start_of(whole.address);
        let first = start + Bytes::new(whole.address - start).round_up(page).get();
        let end = whole.address + whole.size;
        let end_of_pages = end - (end - start) % page.get();
        if first >= end_of_pages {
            return Ok(());
        }
        let unmapped = Bytes::new(end_of_pages - first);
        let result = source.unmap(first, unmapped, page);
        statistics.shrank(unmapped);
        pool.remove(free);
        let mut block = Block { address: first, size: unmapped.get(), ..whole };
        block.state = State::Unmapped;
        blocks[index] = block;
        if whole.address < first {
            let size = first - whole.address;
            let before = blocks.insert(Block { size, after: index, ..whole });
            pool.insert(blocks.as_free(before, ties));
        }
        if end_of_pages < end {
            let (address, size) = (end_of_pages, end - end_of_pages);
            let after = blocks.insert(Block { address, size, before: index, ..whole });
            pool.insert(blocks.as_free(after, ties));
        }
        for neighbour in [blocks[index].before, blocks[index].after] {
            if let Some(neighbour) = blocks.neighbour(neighbour, State::Unmapped) {
                side.remove(neighbour);
                blocks.join(index, neighbour);
            }
        }
        let Block { address, size, before, after, .. } = blocks[index];
        if before != NONE || after != NONE {
            side.insert(address, index);
            return result;
        }
        blocks.forget(index);
        side.reserved.retain(|&(start, _)| start != address);
        result.and(source.release_range(address, Bytes::new(size)))
    }

    /// Unmaps every page, whatever lives in it, and gives every range back.
    pub(super) fn give_back_ranges(&mut self, ranges: &Ranges) -> Result<(), S::Error> {
        let mut result = Ok(());
        for kind in PoolKind::AS_RELEASED {
            let side = &ranges.sides[kind];
            for &range in &side.reserved {
                for (address, bytes) in side.mapped(range, &self.blocks) {
                    result = result.and(self.source.unmap(address, bytes, page_of(kind)));
                }
                result = result.and(self.source.release_range(range.0, range.1));
            }
        }
        result
    }
}
