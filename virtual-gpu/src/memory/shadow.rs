//! What is known of device memory's values: which words the host has written.
//!
//! Kernels do nothing here, so nobody knows where they would have written. A bit for each word of
//! eight bytes says that the host wrote it, another that work which nobody follows may have written
//! it since (`unfollowed.rs`); a byte for each block of 512 bytes (PyTorch's rounding) says how much
//! the host wrote there last, and one what a kernel answered there (`question.rs`).

use std::sync::Once;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use super::arena;

const WORD: u64 = 8;
const BLOCK: u64 = 512;
const ONE: u8 = 3;

/// What is known of a block.
#[repr(C)]
struct Block {
    /// A bit for each word that the host has written.
    words: AtomicU64,
    /// A bit for each of them that is in doubt.
    doubts: AtomicU64,
    /// One more than the logarithm of what it wrote last; zero for nothing.
    level: AtomicU8,
    /// What a kernel answered last by the first byte: 1 for no, 2 for yes; 3 for a number that is
    /// one; zero for nothing.
    answer: AtomicU8,
}

impl Block {
    fn is_blank(&self) -> bool {
        let words = self.words.load(Relaxed);
        (words, self.level.load(Relaxed), self.answer.load(Relaxed)) == (0, 0, 0)
    }
}

static ONCE: Once = Once::new();
static TABLE: AtomicU64 = AtomicU64::new(0);

/// Says that the host has written `bytes` at a device address.
pub fn mark(address: u64, bytes: u64) {
    let level = 1 + bytes.max(1).ilog2() as u8;
    each_block(address, bytes, |block, words| {
        block.words.fetch_or(words, Relaxed);
        block.doubts.fetch_and(!words, Relaxed);
        block.level.store(level, Relaxed);
        block.answer.store(0, Relaxed);
    });
}

/// Says that what is at a device address is not known.
pub fn forget(address: u64, bytes: u64) {
    each_block(address, bytes, |block, words| {
        // What nothing is known of stays a page of zeros that takes no memory.
        if block.is_blank() {
            return;
        }
        block.words.fetch_and(!words, Relaxed);
        block.doubts.fetch_and(!words, Relaxed);
        block.level.store(0, Relaxed);
        block.answer.store(0, Relaxed);
    });
}

/// Says that what the host wrote from a device address on, as far as it wrote at once and up to
/// `most` bytes, may have been written by others since.
pub fn doubt(address: u64, most: u64) {
    let reach = most.min(2 * last_written(address));
    if reach == 0 {
        return;
    }
    let mut goes_on = true;
    each_block(address, reach, |block, words| {
        let gap = words & !block.words.load(Relaxed);
        // The words before the first that the host did not write.
        let run = if gap == 0 { words } else { words & ((gap & gap.wrapping_neg()) - 1) };
        if goes_on && run != 0 {
            block.doubts.fetch_or(run, Relaxed);
        }
        goes_on &= gap == 0;
    });
}

/// Whether any word of a range is in doubt.
pub fn is_doubted(address: u64, bytes: u64) -> bool {
    let mut doubted = false;
    each_block(address, bytes, |block, words| doubted |= block.doubts.load(Relaxed) & words != 0);
    doubted
}

/// Says what a kernel answers by the byte at the start of a block, or that it answers nothing, after
/// what the host wrote there was forgotten.
pub fn answer(address: u64, answer: Option<bool>) {
    keep(address, answer.map_or(0, |answer| 1 + u8::from(answer)));
}

/// Says that a kernel leaves a number at the start of a block that is one, likewise.
pub fn answer_one(address: u64) {
    keep(address, ONE);
}

fn keep(address: u64, answer: u8) {
    if !starts_block(address) {
        return;
    }
    each_block(address, 1, |block, _| {
        if answer != block.answer.load(Relaxed) {
            block.answer.store(answer, Relaxed);
        }
    });
}

/// What a kernel has answered by the byte at an address.
pub fn answered(address: u64) -> Option<bool> {
    match kept(address) {
        0 | ONE => None,
        answer => Some(answer == 2),
    }
}

/// Whether a kernel has left a number at an address that is one.
pub fn is_one(address: u64) -> bool {
    kept(address) == ONE
}

fn kept(address: u64) -> u8 {
    let mut answer = 0;
    if arena::holds(address) && starts_block(address) {
        each_block(address, 1, |block, _| answer = block.answer.load(Relaxed));
    }
    answer
}

/// Whether the host has written every word of a range.
pub fn is_known(address: u64, bytes: u64) -> bool {
    let mut known = table().is_some();
    each_block(address, bytes, |block, words| {
        known &= block.words.load(Relaxed) & words == words;
    });
    known
}

/// How much the host wrote last at a device address, as a power of two; zero for nothing.
pub fn last_written(address: u64) -> u64 {
    let mut level = 0;
    each_block(address, 1, |block, _| level = block.level.load(Relaxed));
    if level == 0 { 0 } else { 1 << (level - 1) }
}

/// Whether an address is the start of a block.
pub fn starts_block(address: u64) -> bool {
    arena::offset(address).is_multiple_of(BLOCK)
}

/// Calls `body` with each block of a range and the bits of its words in the range.
fn each_block(address: u64, bytes: u64, mut body: impl FnMut(&Block, u64)) {
    let Some(table) = table() else {
        return;
    };
    let start = arena::offset(address);
    let end = start + bytes.max(1);
    let mut at = start;
    while at < end {
        let block = at / BLOCK;
        let last = end.min((block + 1) * BLOCK) - 1;
        let (first_word, last_word) = (at % BLOCK / WORD, last % BLOCK / WORD);
        let words = (u64::MAX >> (63 - (last_word - first_word))) << first_word;
        // SAFETY: the table has an entry of atomics for each block of the arena.
        body(unsafe { &*table.add(block as usize) }, words);
        at = last + 1;
    }
}

fn table() -> Option<*const Block> {
    ONCE.call_once(|| {
        let (_, bytes) = arena::span();
        let entries = bytes / BLOCK * size_of::<Block>() as u64;
        TABLE.store(arena::map(0, entries, 0).unwrap_or(0), Relaxed);
    });
    match TABLE.load(Relaxed) {
        0 => None,
        at => Some(std::ptr::with_exposed_provenance(at as usize)),
    }
}
