//! What is known of device memory's values: which blocks the host has written last, and how much.
//!
//! Kernels do nothing here, so nobody knows where they would have written. A byte for each block
//! of 512 bytes (PyTorch's rounding) says how much the host wrote there last; none means that only
//! a kernel can have written.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::arena;

const BLOCK: u64 = 512;

static ONCE: Once = Once::new();
static TABLE: AtomicU64 = AtomicU64::new(0);

/// Says that the host has written `bytes` at a device address.
pub fn mark(address: u64, bytes: u64) {
    set(address, bytes, 1 + bytes.max(1).ilog2() as u8);
}

/// Says that what is at a device address is not known.
pub fn forget(address: u64, bytes: u64) {
    set(address, bytes, 0);
}

/// Says of a device address what is known of another.
pub fn carry(to: u64, from: u64, bytes: u64) {
    let level = level(from).unwrap_or(0);
    set(to, bytes, level);
}

/// How much the host wrote last at a device address, as a power of two; `None` for nothing.
pub fn written(address: u64) -> Option<u64> {
    let level = level(address)?;
    (level > 0).then(|| 1 << (level - 1))
}

/// Whether an address is the start of a block.
pub fn starts_block(address: u64) -> bool {
    arena::offset(address).is_multiple_of(BLOCK)
}

fn set(address: u64, bytes: u64, level: u8) {
    let first = arena::offset(address) / BLOCK;
    let last = (arena::offset(address) + bytes.max(1) - 1) / BLOCK;
    if let Some(table) = table() {
        for block in first..=last {
            // SAFETY: the table has a byte for each block of the arena; a race between two
            // threads leaves one of the two values, as with the copies themselves.
            unsafe { table.add(block as usize).write_volatile(level) };
        }
    }
}

fn level(address: u64) -> Option<u8> {
    let block = arena::offset(address) / BLOCK;
    // SAFETY: as in `set`.
    table().map(|table| unsafe { table.add(block as usize).read_volatile() })
}

fn table() -> Option<*mut u8> {
    ONCE.call_once(|| {
        let (_, bytes) = arena::span();
        TABLE.store(arena::map(0, bytes / BLOCK, 0).unwrap_or(0), Relaxed);
    });
    match TABLE.load(Relaxed) {
        0 => None,
        at => Some(std::ptr::with_exposed_provenance_mut(at as usize)),
    }
}
