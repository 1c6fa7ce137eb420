//! The free blocks of each pool, ordered by size and then by address or age.

use std::ops::{Index, IndexMut};

/// Which of PyTorch's two pools a block belongs to, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PoolKind {
    /// Requests of up to 1 MiB, in segments of 2 MiB.
    Small,
    /// All others.
    Large,
}

impl PoolKind {
    /// Both, in the order in which PyTorch gives back what they hold.
    pub const AS_RELEASED: [PoolKind; 2] = [PoolKind::Large, PoolKind::Small];
}

/// What there is once for each pool.
#[derive(Debug, Clone, Default)]
pub(super) struct Pools<T> {
    small: T,
    large: T,
}

impl<T> Index<PoolKind> for Pools<T> {
    type Output = T;

    fn index(&self, kind: PoolKind) -> &T {
        match kind {
            PoolKind::Small => &self.small,
            PoolKind::Large => &self.large,
        }
    }
}

impl<T> IndexMut<PoolKind> for Pools<T> {
    fn index_mut(&mut self, kind: PoolKind) -> &mut T {
        match kind {
            PoolKind::Small => &mut self.small,
            PoolKind::Large => &mut self.large,
        }
    }
}

/// A free block: what best fit compares, and which block it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FreeBlock {
    /// Bytes.
    pub size: u64,
    /// What tells it from others of its size: its address, or its age.
    pub rank: u64,
    /// Index of the block.
    pub block: u32,
}

/// Blocks in one list; a longer one is parted in two.
const MOST: usize = 512;

/// PyTorch's `BlockPool::blocks`, which there is a `std::set` by (stream, size, address).
///
/// Free blocks are many (hundreds) but their sizes are few (about ten at a time in the recorded
/// traces, since layers repeat), so a pool is a short sorted list of sizes, each with its blocks.
/// A sorted vector of all blocks took 1.5 times as long, most of it moving memory. So would a list of
/// the thousands that the experts of a mixture leave: it is parted, at [`MOST`] blocks.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool {
    /// The sizes that have a free block, ascending; one of many blocks more than once, from its lowest
    /// ranks to its highest.
    sizes: Vec<u64>,
    /// The blocks of each of `sizes`: (rank, index), from the highest rank to the lowest, so
    /// that the one that best fit takes is the last.
    blocks: Vec<Vec<(u64, u32)>>,
    /// Emptied lists, kept for their memory.
    spare: Vec<Vec<(u64, u32)>>,
}

impl Pool {
    /// Takes out the smallest block of at least `size`, lowest rank first, where blocks can grow by
    /// `room`.
    pub fn take_best_fit(&mut self, size: u64, room: impl Fn(u32) -> u64) -> Option<FreeBlock> {
        let (class, place) = self.find(size, room)?;
        let (found, list) = (self.sizes[class], &mut self.blocks[class]);
        // The last as a rule, and nothing behind it to move.
        let (rank, block) = if place + 1 == list.len() { list.pop()? } else { list.remove(place) };
        self.drop_if_empty(class);
        Some(FreeBlock { size: found, rank, block })
    }

    /// Returns the size of the block that [`take_best_fit`](Self::take_best_fit) takes.
    pub fn best_fit(&self, size: u64, room: impl Fn(u32) -> u64) -> Option<u64> {
        self.find(size, room).map(|(class, _)| self.sizes[class])
    }

    /// Returns the place of the first block of at least `size`, in the pool's order, after which
    /// none is smaller: a block counts as large as it can grow by the `room` behind it.
    ///
    /// Source: `get_free_block`, which goes on only while the next one counts for less.
    fn find(&self, size: u64, room: impl Fn(u32) -> u64) -> Option<(usize, usize)> {
        let mut class = self.class(size);
        let mut place = self.blocks.get(class)?.len() - 1;
        let mut beyond = room(self.blocks[class][place].1);
        // A block that cannot grow is followed by none that counts for less.
        while beyond > 0 {
            let next = match place {
                0 => (class + 1, self.blocks.get(class + 1).map_or(0, |list| list.len() - 1)),
                _ => (class, place - 1),
            };
            let Some(&next_size) = self.sizes.get(next.0) else { break };
            let next_beyond = room(self.blocks[next.0][next.1].1);
            if next_size + next_beyond >= self.sizes[class] + beyond {
                break;
            }
            ((class, place), beyond) = (next, next_beyond);
        }
        Some((class, place))
    }

    /// Returns every block, in the pool's order.
    pub fn in_order(&self) -> Vec<u32> {
        let lists = self.blocks.iter().map(|list| list.iter().rev());
        lists.flatten().map(|&(_, block)| block).collect()
    }

    /// Adds a block.
    pub fn insert(&mut self, free: FreeBlock) {
        let class = self.class_at(free.size, free.rank);
        if self.sizes.get(class) != Some(&free.size) {
            self.sizes.insert(class, free.size);
            self.blocks.insert(class, self.spare.pop().unwrap_or_default());
        }
        let list = &mut self.blocks[class];
        let place = list.partition_point(|&(rank, _)| rank > free.rank);
        list.insert(place, (free.rank, free.block));
        if list.len() > MOST {
            let low = list.split_off(MOST / 2);
            let high = std::mem::replace(list, low);
            self.sizes.insert(class + 1, free.size);
            self.blocks.insert(class + 1, high);
        }
    }

    /// Takes a block out that is in the pool.
    pub fn remove(&mut self, free: FreeBlock) {
        let class = self.class_at(free.size, free.rank);
        let list = &mut self.blocks[class];
        let place = list.partition_point(|&(rank, _)| rank > free.rank);
        debug_assert_eq!(list.get(place), Some(&(free.rank, free.block)));
        list.remove(place);
        self.drop_if_empty(class);
    }

    /// Keeps the blocks for which `keep` holds, asked in the pool's order.
    pub fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) {
        for list in &mut self.blocks {
            list.reverse();
            list.retain(|&(_, block)| keep(block));
            list.reverse();
        }
        for class in (0..self.sizes.len()).rev() {
            self.drop_if_empty(class);
        }
    }

    /// Returns the place of the first of `sizes` that is not below `size`.
    fn class(&self, size: u64) -> usize {
        // Counting takes no branch that depends on the sizes; searching mispredicts half of its own.
        if self.sizes.len() <= 32 {
            return self.sizes.iter().filter(|&&other| other < size).count();
        }
        self.sizes.partition_point(|&other| other < size)
    }

    /// Returns the place of a size's list for a rank; of the first larger size where there is none.
    fn class_at(&self, size: u64, rank: u64) -> usize {
        let mut class = self.class(size);
        while self.sizes.get(class + 1) == Some(&size)
            && self.blocks[class + 1].last().is_some_and(|&(lowest, _)| lowest <= rank)
        {
            class += 1;
        }
        class
    }

    fn drop_if_empty(&mut self, class: usize) {
        if self.blocks[class].is_empty() {
            self.sizes.remove(class);
            let list = self.blocks.remove(class);
            self.spare.push(list);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(blocks: &[(u64, u64)]) -> Pool {
        let mut pool = Pool::default();
        for (block, &(size, address)) in (0..).zip(blocks) {
            pool.insert(FreeBlock { size, rank: address, block });
        }
        pool
    }

    fn drained(mut pool: Pool) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| pool.take_best_fit(0, |_| 0))
            .map(|free| (free.size, free.rank))
            .collect()
    }

    #[test]
    fn the_smallest_block_that_fits_is_taken_lowest_address_first() {
        let mut pool = pool(&[(1024, 4096), (2048, 0), (1024, 512), (1024, 8192)]);
        let free = |size, address, block| Some(FreeBlock { size, rank: address, block });
        assert_eq!(pool.take_best_fit(512, |_| 0), free(1024, 512, 2));
        assert_eq!(pool.take_best_fit(1024, |_| 0), free(1024, 4096, 0));
        assert_eq!(pool.take_best_fit(1536, |_| 0), free(2048, 0, 1));
        assert_eq!(pool.take_best_fit(1536, |_| 0), None);
        assert_eq!(drained(pool), [(1024, 8192)]);
    }

    #[test]
    fn a_removed_block_is_no_longer_found() {
        let mut pool = pool(&[(512, 0), (512, 1024), (512, 2048), (1024, 4096)]);
        pool.remove(FreeBlock { size: 512, rank: 1024, block: 1 });
        pool.remove(FreeBlock { size: 1024, rank: 4096, block: 3 });
        assert_eq!(drained(pool), [(512, 0), (512, 2048)]);
    }

    #[test]
    fn a_size_of_thousands_of_blocks_keeps_its_order() {
        let addresses = (0..5_000_u64).map(|n| n * 7_919 % 5_003);
        let mut pool = pool(&addresses.clone().map(|address| (512, address)).collect::<Vec<_>>());
        let (taken, kept): (Vec<_>, Vec<_>) =
            (0..).zip(addresses).partition(|(_, address)| address % 3 == 0);
        for &(block, address) in &taken {
            pool.remove(FreeBlock { size: 512, rank: address, block });
        }
        let mut left: Vec<(u64, u64)> = kept.iter().map(|&(_, address)| (512, address)).collect();
        left.sort_unstable();
        assert_eq!(drained(pool), left);
    }

    #[test]
    fn what_is_kept_is_asked_by_size_and_address() {
        let mut pool = pool(&[(1024, 0), (512, 4096), (512, 2048), (2048, 1024)]);
        let mut asked = Vec::new();
        pool.retain(|block| {
            asked.push(block);
            block == 1
        });
        assert_eq!(asked, [2, 1, 0, 3]);
        assert_eq!(drained(pool), [(512, 4096)]);
    }
}
