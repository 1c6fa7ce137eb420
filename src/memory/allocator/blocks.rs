//! Blocks: the parts of a segment, linked in the order of their addresses.

use std::ops::{Index, IndexMut};

use super::pool::{FreeBlock, PoolKind};
use crate::trace::Ties;

/// Names a block that [`CachingAllocator::allocate`](super::CachingAllocator::allocate) handed out,
/// until it is freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockHandle(pub(super) u32);

impl BlockHandle {
    /// Names no block (an `Option` would take twice the memory, and replays copy many).
    pub(super) const NONE: BlockHandle = BlockHandle(NONE);

    /// Whether it names a block.
    pub(super) fn is_some(self) -> bool {
        self != BlockHandle::NONE
    }
}

/// No block: the end of a segment.
pub(super) const NONE: u32 = u32::MAX;

/// What a block is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A tensor lives in it.
    Live,
    /// It is in its pool.
    Free,
    /// Addresses of an expandable segment with no memory behind them.
    Unmapped,
    /// It was joined to a neighbour or given back; its index waits to be used again.
    Gone,
}

/// A part of a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub address: u64,
    pub size: u64,
    pub before: u32,
    pub after: u32,
    pub pool: PoolKind,
    pub state: State,
    /// How many were made before it; [`Blocks::insert`] counts.
    pub age: u32,
}

/// Every block of an allocator, by its index.
#[derive(Debug, Clone, Default)]
pub(super) struct Blocks {
    all: Vec<Block>,
    /// Indices that are [`State::Gone`].
    unused: Vec<u32>,
    made: u32,
}

impl Blocks {
    /// Returns a block, unless the index is that of none.
    pub fn get(&self, index: u32) -> Option<&Block> {
        self.all.get(index as usize)
    }

    /// Returns what is not gone.
    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        self.all.iter().filter(|block| block.state != State::Gone)
    }

    /// Adds a block, linked to its neighbours on their sides as well.
    pub fn insert(&mut self, block: Block) -> u32 {
        let index = self.unused.pop().unwrap_or_else(|| {
            self.all.push(block);
            u32::try_from(self.all.len() - 1).expect("fewer blocks than addresses")
        });
        self.all[index as usize] = Block { age: self.made, ..block };
        self.made = self.made.wrapping_add(1);
        self.link(index);
        index
    }

    /// Makes the neighbours of a block point to it.
    pub fn link(&mut self, index: u32) {
        let Block { before, after, .. } = self[index];
        if let Some(neighbour) = self.all.get_mut(before as usize) {
            neighbour.after = index;
        }
        if let Some(neighbour) = self.all.get_mut(after as usize) {
            neighbour.before = index;
        }
    }

    /// Takes a neighbour's place as well as its own; the neighbour is gone.
    pub fn join(&mut self, index: u32, neighbour: u32) {
        let gone = self[neighbour];
        let block = &mut self[index];
        block.size += gone.size;
        if block.before == neighbour {
            block.address = gone.address;
            block.before = gone.before;
        } else {
            block.after = gone.after;
        }
        self.link(index);
        self.forget(neighbour);
    }

    /// Returns what its pool knows of a block.
    pub fn as_free(&self, index: u32, ties: Ties) -> FreeBlock {
        let Block { size, address, age, .. } = self[index];
        let rank = match ties {
            Ties::Address => address,
            Ties::Age => age.into(),
        };
        FreeBlock { size, rank, block: index }
    }

    /// Lets an index be used again.
    pub fn forget(&mut self, index: u32) {
        self[index].state = State::Gone;
        self.unused.push(index);
    }

    /// Returns a neighbour if it is in that state.
    pub fn neighbour(&self, index: u32, state: State) -> Option<u32> {
        (self.get(index)?.state == state).then_some(index)
    }
}

impl Index<u32> for Blocks {
    type Output = Block;

    fn index(&self, index: u32) -> &Block {
        &self.all[index as usize]
    }
}

impl IndexMut<u32> for Blocks {
    fn index_mut(&mut self, index: u32) -> &mut Block {
        &mut self.all[index as usize]
    }
}
