//! A device that is not there: so many bytes, in granules, at addresses that ascend.

use std::convert::Infallible;

use super::{GRANULE, PageSource, Refusal, Segment, SegmentSource};
use crate::units::Bytes;

/// A simulated device of a certain capacity.
///
/// Addresses ascend and are never used twice, as those of the oracle's cudaMalloc; a real device
/// may hand them out in another order, which can shift fragmentation a little.
///
/// It also remembers for which other capacities a replay would have come to the same: a replay
/// learns the capacity only from what is granted and what is refused.
#[derive(Debug, Clone)]
pub struct Capacity {
    capacity: Bytes,
    granule: Bytes,
    held: Bytes,
    largest_granted: Bytes,
    smallest_refused: Option<Bytes>,
    /// By address; one that was given back has no bytes, and goes when most have none: thousands go at once
    /// where experts are looped over.
    segments: Vec<(Segment, Bytes)>,
    given_back: usize,
    next_address: u64,
    /// Reserved ranges, ascending: start and bytes.
    ranges: Vec<(u64, Bytes)>,
}

impl Capacity {
    /// The first address; zero would be a null pointer.
    const FIRST_ADDRESS: u64 = 1 << 44;

    /// More than any machine has: 16 PiB, so that no sum comes near the end of 64 bits.
    pub const UNLIMITED: Bytes = Bytes::gib(1 << 24);

    /// Makes a device of `capacity` bytes (of [`UNLIMITED`](Self::UNLIMITED) at most).
    pub fn new(capacity: Bytes) -> Capacity {
        Capacity::in_granules(capacity, GRANULE)
    }

    /// As [`new`](Self::new), of a driver that takes multiples of `granule`, where that is more.
    pub fn in_granules(capacity: Bytes, granule: Bytes) -> Capacity {
        Capacity {
            capacity: capacity.min(Capacity::UNLIMITED),
            granule: granule.max(GRANULE),
            held: Bytes::ZERO,
            largest_granted: Bytes::ZERO,
            smallest_refused: None,
            segments: Vec::new(),
            given_back: 0,
            next_address: Capacity::FIRST_ADDRESS,
            ranges: Vec::new(),
        }
    }

    /// Makes a device that never runs out of less than [`UNLIMITED`](Self::UNLIMITED) bytes.
    pub fn unlimited() -> Capacity {
        Capacity::new(Capacity::UNLIMITED)
    }

    /// Goes on with another capacity, as if it had been that from the start.
    ///
    /// It has granted no more than `capacity` at any time, and refused nothing that fits it: see
    /// [`largest_granted`](Self::largest_granted).
    pub(crate) fn change_to(&mut self, capacity: Bytes) {
        debug_assert!(self.largest_granted <= capacity);
        debug_assert!(self.smallest_refused.is_none_or(|refused| refused > capacity));
        self.capacity = capacity.min(Capacity::UNLIMITED);
    }

    /// Returns the same device before its first segment, of another capacity.
    pub fn anew(&self, capacity: Bytes) -> Capacity {
        Capacity::in_granules(capacity, self.granule)
    }

    /// Returns what may be handed out.
    pub fn capacity(&self) -> Bytes {
        self.capacity
    }

    /// Returns how much more than PyTorch reserves its driver takes for a segment, at most.
    pub fn beyond_2_mib(&self) -> Bytes {
        self.granule - GRANULE
    }

    /// Returns the bytes handed out and not yet given back.
    pub fn held(&self) -> Bytes {
        self.held
    }

    /// Returns the most bytes that were ever handed out at once.
    ///
    /// On every capacity from this on, and below [`smallest_refused`](Self::smallest_refused), the
    /// same calls have the same answers.
    pub fn largest_granted(&self) -> Bytes {
        self.largest_granted
    }

    /// Returns the smallest total that was refused, if any was.
    pub fn smallest_refused(&self) -> Option<Bytes> {
        self.smallest_refused
    }
}

impl Capacity {
    /// Takes so much more if it is there, and remembers what was granted and refused.
    fn take(&mut self, bytes: Bytes) -> Result<(), Refusal<Infallible>> {
        let total = self.held + bytes;
        if total > self.capacity {
            let refused = self.smallest_refused.map_or(total, |smallest| smallest.min(total));
            self.smallest_refused = Some(refused);
            return Err(Refusal::OutOfMemory);
        }
        self.held = total;
        self.largest_granted = self.largest_granted.max(total);
        Ok(())
    }

    /// Returns what the driver takes for so many bytes of pages.
    fn taken_by_pages(&self, bytes: Bytes, page: Bytes) -> Bytes {
        Bytes::new(bytes.get() / page.get() * page.round_up(self.granule).get())
    }
}

impl SegmentSource for Capacity {
    type Error = Infallible;

    fn allocate(&mut self, bytes: Bytes) -> Result<Segment, Refusal<Infallible>> {
        let bytes = bytes.round_up(self.granule);
        self.take(bytes)?;
        let segment = Segment { address: self.next_address };
        self.next_address += bytes.get();
        self.segments.push((segment, bytes));
        Ok(segment)
    }

    fn release(&mut self, segment: Segment) -> Result<(), Infallible> {
        if let Ok(place) = self.segments.binary_search_by_key(&segment, |&(segment, _)| segment) {
            let bytes = std::mem::replace(&mut self.segments[place].1, Bytes::ZERO);
            self.held -= bytes;
            self.given_back += usize::from(bytes > Bytes::ZERO);
        }
        if self.given_back * 2 > self.segments.len() {
            self.segments.retain(|&(_, bytes)| bytes > Bytes::ZERO);
            self.given_back = 0;
        }
        Ok(())
    }
}

/// Ranges of addresses ascend too; those at the end are used again once they are given back.
impl PageSource for Capacity {
    fn reserve(&mut self, bytes: Bytes) -> Result<u64, Infallible> {
        let last = self.ranges.last();
        let address = last.map_or(Capacity::FIRST_ADDRESS, |&(start, bytes)| start + bytes.get());
        self.ranges.push((address, bytes));
        Ok(address)
    }

    fn map(&mut self, _: u64, bytes: Bytes, page: Bytes) -> Result<(), Refusal<Infallible>> {
        self.take(self.taken_by_pages(bytes, page))
    }

    fn unmap(&mut self, _: u64, bytes: Bytes, page: Bytes) -> Result<(), Infallible> {
        self.held -= self.taken_by_pages(bytes, page);
        Ok(())
    }

    fn release_range(&mut self, address: u64, _: Bytes) -> Result<(), Infallible> {
        self.ranges.retain(|&(start, _)| start != address);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_had_again_at_another_address() {
        let mut device = Capacity::new(Bytes::mib(5));
        let first = device.allocate(Bytes::mib(4)).unwrap();
        assert_eq!(device.allocate(Bytes::mib(2)), Err(Refusal::OutOfMemory));
        device.release(first).unwrap();
        let second = device.allocate(Bytes::mib(4)).unwrap();
        assert!(second.address > first.address);
        assert_eq!(device.held(), Bytes::mib(4));
    }

    #[test]
    fn it_knows_which_capacities_would_have_answered_the_same() {
        let mut device = Capacity::new(Bytes::mib(10));
        device.allocate(Bytes::mib(6)).unwrap();
        assert!(device.allocate(Bytes::mib(8)).is_err());
        assert!(device.allocate(Bytes::mib(6)).is_err());
        assert_eq!(device.largest_granted(), Bytes::mib(6));
        assert_eq!(device.smallest_refused(), Some(Bytes::mib(12)));
    }
}
