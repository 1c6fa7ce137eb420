//! Device addresses: a process' own, ascending, none given out twice.

use crate::memory::arena;

/// The bytes of address space given out so far.
#[derive(Default)]
pub struct Addresses(u64);

/// CUDA's own alignment of whole granules.
const ALIGNMENT: u64 = 2 << 20;

impl Addresses {
    /// Returns the start of a new range, or `None` when there is no space left.
    pub fn take(&mut self, bytes: u64, alignment: u64) -> Option<u64> {
        let (first, room) = arena::span();
        let start = (first + self.0).checked_next_multiple_of(alignment.max(ALIGNMENT))?;
        let end = start.checked_add(bytes)?.checked_next_multiple_of(ALIGNMENT)?;
        if end > first + room {
            return None;
        }
        self.0 = end - first;
        Some(start)
    }
}
