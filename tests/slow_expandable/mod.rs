//! Expandable segments once more, written down independently: each range of addresses is painted live,
//! free or unmapped, and all else is read off the picture.

use std::collections::BTreeMap;

use oomph::memory::trace::{Event, Trace};

const MIB: u64 = 1 << 20;

/// What addresses are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Paint {
    Unmapped,
    Free,
    /// Handed out at this event.
    Live(usize),
}

/// Bytes of one paint next to each other: range, first byte, bytes.
type Part = (usize, u64, u64);

/// A range of addresses, from its first to its last, as bytes of one paint.
struct Range(Vec<(u64, Paint)>);

impl Range {
    fn paint(&mut self, first: u64, bytes: u64, paint: Paint) {
        let mut painted: Vec<(u64, Paint)> = Vec::new();
        let mut add = |bytes, paint| match painted.last_mut() {
            _ if bytes == 0 => {}
            Some(last) if last.1 == paint => last.0 += bytes,
            _ => painted.push((bytes, paint)),
        };
        let mut at = 0;
        for &(size, old) in &self.0 {
            let (from, to) = (first.clamp(at, at + size), (first + bytes).clamp(at, at + size));
            add(from - at, old);
            add(to - from, paint);
            add(at + size - to, old);
            at += size;
        }
        self.0 = painted;
    }

    /// Every part with its first byte.
    fn parts(&self) -> impl Iterator<Item = (u64, u64, Paint)> {
        self.0.iter().scan(0, |at, &(bytes, paint)| {
            *at += bytes;
            Some((*at - bytes, bytes, paint))
        })
    }
}

/// One allocator on one device.
pub struct SlowExpandable {
    capacity: u64,
    range: u64,
    /// Small pool, large pool: ranges.
    pools: [Vec<Range>; 2],
    pub peak_allocated: u64,
    pub peak_reserved: u64,
}

impl SlowExpandable {
    pub fn new(capacity: u64, total: u64) -> SlowExpandable {
        let pools = [Vec::new(), Vec::new()];
        let range = total + total / 8;
        SlowExpandable { capacity, range, pools, peak_allocated: 0, peak_reserved: 0 }
    }

    /// Returns the event that ran out of memory, if one did.
    pub fn replay(&mut self, trace: &Trace) -> Option<usize> {
        let mut places = BTreeMap::new();
        for (event, what) in trace.events.iter().enumerate() {
            match *what {
                Event::Alloc(id) => {
                    let bytes = trace.blocks[id.0 as usize].bytes.get().next_multiple_of(512);
                    let pool = usize::from(bytes > MIB);
                    if bytes > 0 {
                        let Some((range, first, _)) = self.find(pool, bytes) else {
                            return Some(event);
                        };
                        self.pools[pool][range].paint(first, bytes, Paint::Live(event));
                        places.insert(id, (pool, range, event));
                    }
                }
                Event::Free(id) => {
                    if let Some((pool, range, event)) = places.remove(&id) {
                        let range = &mut self.pools[pool][range];
                        let live = range.parts().find(|part| part.2 == Paint::Live(event));
                        if let Some((first, bytes, _)) = live {
                            range.paint(first, bytes, Paint::Free);
                        }
                    }
                }
            }
            let live = |paint| matches!(paint, Paint::Live(_));
            self.peak_allocated = self.peak_allocated.max(self.sum(live));
        }
        None
    }

    fn find(&mut self, pool: usize, bytes: u64) -> Option<Part> {
        self.best_fit(pool, bytes).or_else(|| self.grow(pool, bytes)).or_else(|| {
            self.give_back();
            self.grow(pool, bytes)
        })
    }

    fn page(pool: usize) -> u64 {
        [2 * MIB, 20 * MIB][pool]
    }

    fn sum(&self, counts: impl Fn(Paint) -> bool) -> u64 {
        let parts = self.pools.iter().flatten().flat_map(|range| &range.0);
        parts.filter(|part| counts(part.1)).map(|part| part.0).sum()
    }

    /// The smallest free part, but for those that count for more with what they could grow by.
    fn best_fit(&self, pool: usize, wanted: u64) -> Option<Part> {
        let mut free = Vec::new();
        for (index, range) in self.pools[pool].iter().enumerate() {
            let mut parts = range.parts().peekable();
            while let Some((first, bytes, paint)) = parts.next() {
                let behind = parts.peek().filter(|next| next.2 == Paint::Unmapped);
                let counts = bytes + behind.map_or(0, |next| next.1);
                if paint == Paint::Free && bytes >= wanted {
                    free.push((bytes, index, first, counts));
                }
            }
        }
        free.sort_unstable();
        let goes_on = free.windows(2).take_while(|pair| pair[1].3 < pair[0].3).count();
        free.get(goes_on).map(|&(bytes, index, first, _)| (index, first, bytes))
    }

    /// Maps what is missing at the lowest place with room.
    fn grow(&mut self, pool: usize, wanted: u64) -> Option<Part> {
        let (index, first) = self.place(pool, wanted);
        let page = SlowExpandable::page(pool);
        // One hole after the other, each in whole pages; what does not fit is not mapped at all.
        loop {
            let is_hole = |&(at, bytes, paint): &(u64, u64, Paint)| {
                paint == Paint::Unmapped && at + bytes > first && at < first + wanted
            };
            let hole = self.pools[pool][index].parts().find(is_hole);
            let Some((at, hole, _)) = hole else { break };
            let mapped = hole.min(first + wanted - at).next_multiple_of(page);
            let reserved = self.sum(|paint| paint != Paint::Unmapped) + mapped;
            if reserved > self.capacity {
                return None;
            }
            self.pools[pool][index].paint(at, mapped, Paint::Free);
            self.peak_reserved = self.peak_reserved.max(reserved);
        }
        Some((index, first, wanted))
    }

    fn place(&mut self, pool: usize, wanted: u64) -> (usize, u64) {
        for (index, range) in self.pools[pool].iter().enumerate() {
            let parts: Vec<_> = range.parts().collect();
            for (number, part) in parts.iter().enumerate() {
                if part.2 != Paint::Unmapped {
                    continue;
                }
                let before = number.checked_sub(1).filter(|&n| parts[n].2 == Paint::Free);
                let start = before.unwrap_or(number);
                let open = parts[start..].iter();
                let open = open.take_while(|part| !matches!(part.2, Paint::Live(_)));
                if open.map(|part| part.1).sum::<u64>() >= wanted {
                    return (index, parts[start].0);
                }
            }
        }
        let bytes = self.range.max(wanted).next_multiple_of(SlowExpandable::page(pool));
        self.pools[pool].push(Range(vec![(bytes, Paint::Unmapped)]));
        (self.pools[pool].len() - 1, 0)
    }

    /// Unmaps every page that is free.
    fn give_back(&mut self) {
        for (pool, ranges) in self.pools.iter_mut().enumerate() {
            let page = SlowExpandable::page(pool);
            for range in ranges {
                for (first, bytes, paint) in range.parts().collect::<Vec<_>>() {
                    let from = first.next_multiple_of(page);
                    let to = (first + bytes) / page * page;
                    if paint == Paint::Free && from < to {
                        range.paint(from, to - from, Paint::Unmapped);
                    }
                }
            }
        }
    }
}
