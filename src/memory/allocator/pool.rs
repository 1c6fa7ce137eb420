//! The free blocks of one pool, ordered by size and then by address.

/// A free block: what best fit compares, and which block it is.
///
/// The order is that of the fields: size, then address. Addresses differ, so `block` never decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FreeBlock {
    /// Bytes.
    pub size: u64,
    /// Device address.
    pub address: u64,
    /// Index of the block.
    pub block: u32,
}

/// PyTorch's `BlockPool::blocks`, which there is a `std::set` by (stream, size, address).
///
/// Kept as a sorted vector: a pool rarely holds more than a few hundred blocks, and moving them
/// within one cache-resident array is quicker than walking a tree. Most changes replace one block
/// by another of a nearby size (what is left of a split, what a free joins), which moves only what
/// lies between.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool {
    blocks: Vec<FreeBlock>,
}

impl Pool {
    /// Returns the place of the smallest block of at least `size`, lowest address first.
    pub fn best_fit(&self, size: u64) -> Option<usize> {
        let place = self.blocks.partition_point(|free| free.size < size);
        (place < self.blocks.len()).then_some(place)
    }

    /// Returns the block at a place.
    pub fn at(&self, place: usize) -> FreeBlock {
        self.blocks[place]
    }

    /// Adds a block.
    pub fn insert(&mut self, free: FreeBlock) {
        let place = self.blocks.partition_point(|other| *other < free);
        self.blocks.insert(place, free);
    }

    /// Takes a block out by its place.
    pub fn remove_at(&mut self, place: usize) {
        self.blocks.remove(place);
    }

    /// Takes a block out.
    pub fn remove(&mut self, free: FreeBlock) {
        let place = self.place_of(free);
        self.blocks.remove(place);
    }

    /// Puts `new` where the block at `place` was, in its order.
    pub fn replace_at(&mut self, place: usize, new: FreeBlock) {
        if new > self.blocks[place] {
            let end = place + self.blocks[place..].partition_point(|other| *other < new);
            self.blocks.copy_within(place + 1..end, place);
            self.blocks[end - 1] = new;
        } else {
            let start = self.blocks[..place].partition_point(|other| *other < new);
            self.blocks.copy_within(start..place, start + 1);
            self.blocks[start] = new;
        }
    }

    /// Replaces one block by another.
    pub fn replace(&mut self, old: FreeBlock, new: FreeBlock) {
        let place = self.place_of(old);
        self.replace_at(place, new);
    }

    /// Keeps the blocks for which `keep` holds, asked in the pool's order.
    pub fn retain(&mut self, keep: impl FnMut(&FreeBlock) -> bool) {
        self.blocks.retain(keep);
    }

    fn place_of(&self, free: FreeBlock) -> usize {
        let place = self.blocks.partition_point(|other| *other < free);
        debug_assert_eq!(self.blocks.get(place), Some(&free), "a free block is in its pool");
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(size: u64, address: u64) -> FreeBlock {
        FreeBlock { size, address, block: 0 }
    }

    #[test]
    fn the_smallest_block_that_fits_is_found_lowest_address_first() {
        let mut pool = Pool::default();
        for block in [free(1024, 4096), free(2048, 0), free(1024, 512)] {
            pool.insert(block);
        }
        let found = |size| pool.best_fit(size).map(|place| pool.at(place));
        assert_eq!(found(512), Some(free(1024, 512)));
        assert_eq!(found(1536), Some(free(2048, 0)));
        assert_eq!(found(2560), None);
    }

    #[test]
    fn a_replaced_block_moves_to_its_new_place_in_the_order() {
        for (old, new) in [(1, 9), (9, 1), (5, 6), (5, 5), (1, 2), (9, 8)] {
            let mut pool = Pool::default();
            let mut expected: Vec<_> = [1, 3, 5, 7, 9].map(|size| free(size, size)).to_vec();
            for &block in &expected {
                pool.insert(block);
            }
            pool.replace(free(old, old), free(new, 100));
            expected.retain(|block| block.size != old);
            expected.push(free(new, 100));
            expected.sort();
            assert_eq!(pool.blocks, expected);
        }
    }
}
