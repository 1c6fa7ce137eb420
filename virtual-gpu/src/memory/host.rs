//! Pinned host memory: ordinary memory that CUDA knows of.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::arena;

unsafe extern "C" {
    fn munmap(address: *mut c_void, bytes: usize) -> i32;
}

/// A range that CUDA knows of.
#[derive(Clone, Copy)]
struct Range {
    bytes: u64,
    /// Whether CUDA made it, not the program.
    ours: bool,
}

static RANGES: Mutex<BTreeMap<u64, Range>> = Mutex::new(BTreeMap::new());

fn ranges() -> MutexGuard<'static, BTreeMap<u64, Range>> {
    RANGES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for other threads, and keeps them out until the guard drops.
pub fn pause() -> MutexGuard<'static, impl Sized> {
    ranges()
}

/// Returns new zeroed memory, in whole pages; `None` when the host has none.
pub fn allocate(bytes: u64) -> Option<u64> {
    let bytes = bytes.checked_next_multiple_of(4096)?;
    let at = arena::map(0, bytes, 0)?;
    ranges().insert(at, Range { bytes, ours: true });
    Some(at)
}

/// Frees what [`allocate`] returned; says whether it was that.
pub fn free(address: u64) -> bool {
    let mut ranges = ranges();
    match ranges.get(&address) {
        Some(Range { bytes, ours: true }) => {
            let at = std::ptr::with_exposed_provenance_mut(address as usize);
            // SAFETY: a whole mapping of `allocate`, which the program gives up here.
            unsafe { munmap(at, *bytes as usize) };
            ranges.remove(&address);
            true
        }
        _ => false,
    }
}

/// Registers the program's own memory; says whether none of it was known.
pub fn register(address: u64, bytes: u64) -> bool {
    let mut ranges = ranges();
    let before = ranges.range(..address.saturating_add(bytes)).next_back();
    if before.is_some_and(|(start, range)| start + range.bytes > address) {
        return false;
    }
    ranges.insert(address, Range { bytes, ours: false });
    true
}

/// Forgets registered memory; says whether it was that.
pub fn unregister(address: u64) -> bool {
    let mut ranges = ranges();
    let known = ranges.get(&address).is_some_and(|range| !range.ours);
    if known {
        ranges.remove(&address);
    }
    known
}

/// Whether an address is in pinned memory.
pub fn is_pinned(address: u64) -> bool {
    let ranges = ranges();
    let before = ranges.range(..=address).next_back();
    before.is_some_and(|(start, range)| address - start < range.bytes)
}
