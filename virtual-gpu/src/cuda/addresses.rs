//! Device addresses: a process' own, ascending, none given out twice.

/// The bytes of address space given out so far.
#[derive(Default)]
pub struct Addresses(u64);

/// Above what Linux gives a program to begin with, below its libraries and stacks: 80 TiB.
const FIRST: u64 = 0x1000_0000_0000;
const LIMIT: u64 = 0x6000_0000_0000;
/// CUDA's own alignment of whole granules.
const ALIGNMENT: u64 = 2 << 20;

impl Addresses {
    /// Returns the start of a new range, or `None` when there is no space left.
    pub fn take(&mut self, bytes: u64, alignment: u64) -> Option<u64> {
        let start = (FIRST + self.0).checked_next_multiple_of(alignment.max(1))?;
        let end = start.checked_add(bytes)?.checked_next_multiple_of(ALIGNMENT)?;
        if end > LIMIT {
            return None;
        }
        self.0 = end - FIRST;
        Some(start)
    }
}
