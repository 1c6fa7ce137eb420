//! PyTorch's allocator rules once more, as lists that are searched from end to end: too slow to use
//! and too plain to be wrong in the same way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;

use oomph::memory::trace::{Event, Trace};

const MIB: u64 = 1 << 20;

/// One allocator on one device.
#[derive(Default)]
pub struct SlowAllocator {
    segments: BTreeMap<u64, SlowSegment>,
    next_address: u64,
    allocated: u64,
    pub peak_allocated: u64,
    pub peak_reserved: u64,
}

struct SlowSegment {
    small: bool,
    parts: Vec<Part>,
}

#[derive(Clone, Copy)]
struct Part {
    address: u64,
    bytes: u64,
    live: bool,
}

impl SlowAllocator {
    /// Returns the event that ran out of memory, if one did.
    pub fn replay(&mut self, trace: &Trace, capacity: u64) -> Option<usize> {
        let mut places = BTreeMap::new();
        for (event, what) in trace.events.iter().enumerate() {
            match *what {
                Event::Alloc(id) => match trace.blocks[id.0 as usize].bytes.get() {
                    0 => {}
                    bytes => match self.allocate(bytes, capacity) {
                        Some(address) => drop(places.insert(id, address)),
                        None => return Some(event),
                    },
                },
                Event::Free(id) => {
                    if let Some(address) = places.remove(&id) {
                        self.free(address);
                    }
                }
            }
        }
        None
    }

    fn reserved(&self) -> u64 {
        self.segments.values().flat_map(|segment| &segment.parts).map(|part| part.bytes).sum()
    }

    /// Returns the address, or nothing if out of memory.
    fn allocate(&mut self, requested: u64, capacity: u64) -> Option<u64> {
        let size = requested.div_ceil(512) * 512;
        let small = size <= MIB;
        let address = self
            .segments
            .values()
            .filter(|segment| segment.small == small)
            .flat_map(|segment| &segment.parts)
            .filter(|part| !part.live && part.bytes >= size)
            .map(|part| (part.bytes, part.address))
            .min()
            .map(|(_, address)| address)
            .or_else(|| self.grow(size, small, capacity))?;
        let (parts, place) = self.find(address);
        let rest = parts[place].bytes - size;
        let split = rest >= 512 && (small || rest > MIB);
        let bytes = if split { size } else { parts[place].bytes };
        parts[place] = Part { address, bytes, live: true };
        if split {
            let part = Part { address: address + size, bytes: rest, live: false };
            parts.insert(place + 1, part);
        }
        self.allocated += bytes;
        self.peak_allocated = self.peak_allocated.max(self.allocated);
        Some(address)
    }

    fn grow(&mut self, size: u64, small: bool, capacity: u64) -> Option<u64> {
        let bytes = match (small, size < 10 * MIB) {
            (true, _) => 2 * MIB,
            (false, true) => 20 * MIB,
            (false, false) => size.div_ceil(2 * MIB) * 2 * MIB,
        };
        if self.reserved() + bytes > capacity {
            self.segments.retain(|_, segment| segment.parts.len() > 1 || segment.parts[0].live);
        }
        if self.reserved() + bytes > capacity {
            return None;
        }
        let address = self.next_address;
        self.next_address += bytes;
        let parts = vec![Part { address, bytes, live: false }];
        self.segments.insert(address, SlowSegment { small, parts });
        self.peak_reserved = self.peak_reserved.max(self.reserved());
        Some(address)
    }

    fn free(&mut self, address: u64) {
        let (parts, place) = self.find(address);
        parts[place].live = false;
        let bytes = parts[place].bytes;
        parts.dedup_by(|next, kept| {
            let join = !next.live && !kept.live;
            kept.bytes += if join { next.bytes } else { 0 };
            join
        });
        self.allocated -= bytes;
    }

    fn find(&mut self, address: u64) -> (&mut Vec<Part>, usize) {
        let (_, segment) = self.segments.range_mut(..=address).next_back().unwrap();
        let place = segment.parts.iter().position(|part| part.address == address).unwrap();
        (&mut segment.parts, place)
    }
}
