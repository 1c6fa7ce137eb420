//! How the allocator grows and gives back by default: a segment at a time, by cudaMalloc.

use super::blocks::{Block, NONE, State};
use super::pool::PoolKind;
use super::{CachingAllocator, PageSource, Refusal, Segment, segment_size};
use crate::units::Bytes;

impl<S: PageSource> CachingAllocator<S> {
    /// Returns a new segment as one block that is in no pool.
    pub(super) fn new_segment(
        &mut self,
        kind: PoolKind,
        size: Bytes,
    ) -> Result<u32, Refusal<S::Error>> {
        let bytes = segment_size(size);
        let segment = self.source.allocate(bytes)?;
        self.statistics.grew(bytes);
        Ok(self.blocks.insert(Block {
            address: segment.address,
            size: bytes.get(),
            before: NONE,
            after: NONE,
            pool: kind,
            state: State::Free,
            age: 0,
        }))
    }

    /// Gives back every segment that is one free block: the large pool's, then the small one's,
    /// each from its smallest to its largest.
    pub(super) fn release_segments(&mut self) -> Result<(), S::Error> {
        let CachingAllocator { source, blocks, pools, statistics, .. } = self;
        let mut result = Ok(());
        for kind in PoolKind::AS_RELEASED {
            pools[kind].retain(|index| {
                let block = blocks[index];
                if result.is_err() || block.before != NONE || block.after != NONE {
                    return true;
                }
                result = source.release(Segment { address: block.address });
                statistics.shrank(Bytes::new(block.size));
                blocks.forget(index);
                false
            });
        }
        result
    }

    /// Gives every segment back, whatever lives in it.
    pub(super) fn give_back_segments(&mut self) -> Result<(), S::Error> {
        let mut result = Ok(());
        for block in self.blocks.iter().filter(|block| block.before == NONE) {
            let released = self.source.release(Segment { address: block.address });
            result = result.and(released);
        }
        result
    }
}
