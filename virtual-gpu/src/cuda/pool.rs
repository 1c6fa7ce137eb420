//! Memory pools, from which stream-ordered allocations come (`cudaMallocAsync`).
//!
//! A pool grows by chunks of 32 MiB, or by what is asked for where that is more or all there is
//! left; it takes the smallest gap that fits. NVIDIA does not document either. What nobody uses is
//! given back to the card beyond the release threshold, and when memory runs out.

use std::collections::BTreeMap;

use super::error;
use crate::c::NullPointer;
use crate::call::{Call, Code, Outcome};
use crate::memory::arena;

/// What a pool grows by.
const CHUNK: u64 = 32 << 20;
/// Alignment of allocations.
const ALIGNMENT: u64 = 512;
/// Handles of devices' own pools, by place; others follow.
const DEFAULT: u64 = 0x9001_0000;

/// A process' pools.
#[derive(Default)]
pub struct Pools {
    live: BTreeMap<u64, Pool>,
    /// The pool that a device allocates from, where it is not its own.
    current: BTreeMap<usize, u64>,
    made: u64,
}

/// One pool.
#[derive(Default)]
pub struct Pool {
    place: usize,
    /// What it may keep unused.
    pub threshold: u64,
    chunks: BTreeMap<u64, u64>,
    gaps: BTreeMap<u64, u64>,
    used: BTreeMap<u64, u64>,
    /// Reuse policies, which change nothing here.
    pub policies: [u32; 3],
    /// Bytes of chunks, and the most so far.
    pub reserved: (u64, u64),
    /// Bytes of allocations, and the most so far.
    pub in_use: (u64, u64),
}

impl Pool {
    /// Takes the smallest gap that fits.
    fn take(&mut self, bytes: u64) -> Option<u64> {
        let fitting = self.gaps.iter().filter(|(_, room)| **room >= bytes);
        let (start, room) = fitting.min_by_key(|(start, room)| (**room, **start))?;
        let (start, room) = (*start, *room);
        self.gaps.remove(&start);
        if room > bytes {
            self.gaps.insert(start + bytes, room - bytes);
        }
        self.used.insert(start, bytes);
        self.in_use.0 += bytes;
        self.in_use.1 = self.in_use.1.max(self.in_use.0);
        Some(start)
    }

    fn give_back(&mut self, start: u64) -> Option<u64> {
        let bytes = self.used.remove(&start)?;
        self.in_use.0 -= bytes;
        self.gaps.insert(start, bytes);
        self.join(start);
        Some(bytes)
    }

    /// Joins a gap with its neighbours of the same chunk.
    fn join(&mut self, start: u64) {
        let (chunk, length) =
            self.chunks.range(..=start).next_back().map_or((0, 0), |c| (*c.0, *c.1));
        let mut first = start;
        let mut end = start + self.gaps[&start];
        if let Some((before, room)) = self.gaps.range(chunk..start).next_back()
            && before + room == start
        {
            first = *before;
        }
        if end < chunk + length
            && let Some(room) = self.gaps.remove(&end)
        {
            end += room;
        }
        self.gaps.remove(&start);
        self.gaps.insert(first, end - first);
    }

    /// Lets go of unused chunks until `keep` bytes are left; returns what is given back.
    fn trim(&mut self, keep: u64) -> u64 {
        let mut given = 0;
        let unused = |pool: &Pool| {
            let mut chunks = pool.chunks.iter();
            chunks.find(|(start, bytes)| pool.gaps.get(start) == Some(bytes)).map(|(s, b)| (*s, *b))
        };
        while self.reserved.0 > keep
            && let Some((start, bytes)) = unused(self)
        {
            self.chunks.remove(&start);
            self.gaps.remove(&start);
            self.reserved.0 -= bytes;
            arena::discard(start, bytes);
            given += bytes;
        }
        given
    }
}

impl Pools {
    /// Makes a pool on a place; returns its handle.
    pub fn create(&mut self, place: usize) -> u64 {
        self.made += 1;
        let handle = DEFAULT + (1 << 12) * 16 + self.made * 16;
        self.live.insert(handle, Pool { place, policies: [1; 3], ..Pool::default() });
        handle
    }

    /// Returns the handle of a place's own pool.
    pub fn default_of(&mut self, place: usize) -> u64 {
        let handle = DEFAULT + place as u64 * 16;
        self.live.entry(handle).or_insert(Pool { place, policies: [1; 3], ..Pool::default() });
        handle
    }

    /// Returns the handle of the pool that a place allocates from.
    pub fn current_of(&mut self, place: usize) -> u64 {
        match self.current.get(&place) {
            Some(handle) => *handle,
            None => self.default_of(place),
        }
    }

    /// Chooses the pool that a place allocates from.
    pub fn set_current(&mut self, place: usize, handle: u64) {
        self.current.insert(place, handle);
    }

    /// Returns a pool.
    pub fn get(&mut self, handle: u64) -> Result<&mut Pool, Code> {
        self.live.get_mut(&handle).ok_or(error::INVALID_VALUE)
    }

    /// Returns the place of the pool that an address is allocated from.
    pub fn place_around(&self, address: u64) -> Option<usize> {
        let holds = |pool: &&Pool| {
            let before = pool.used.range(..=address).next_back();
            before.is_some_and(|(start, bytes)| address - start < *bytes)
        };
        self.live.values().find(holds).map(|pool| pool.place)
    }

    /// Forgets the pools of a place whose context has ended.
    pub fn forget_place(&mut self, place: usize) {
        self.live.retain(|_, pool| pool.place != place);
        self.current.remove(&place);
    }
}

impl Call<'_> {
    /// Allocates from a pool.
    pub fn allocate_from(&mut self, handle: u64, bytes: u64) -> Result<u64, Code> {
        let bytes = bytes.checked_next_multiple_of(ALIGNMENT).ok_or(error::OUT_OF_MEMORY)?;
        if bytes == 0 {
            return Err(error::INVALID_VALUE);
        }
        if self.cuda.pools.get(handle)?.take_fits(bytes) {
            return self.cuda.pools.get(handle)?.take(bytes).ok_or(error::OUT_OF_MEMORY);
        }
        self.grow(handle, bytes)?;
        self.cuda.pools.get(handle)?.take(bytes).ok_or(error::OUT_OF_MEMORY)
    }

    /// Adds a chunk with room for `bytes`.
    fn grow(&mut self, handle: u64, bytes: u64) -> Outcome {
        let place = self.cuda.pools.get(handle)?.place;
        // Only what is asked for in the end is a request that may be noted as refused.
        let asked = if self.has_room(place, bytes.max(CHUNK)) { bytes.max(CHUNK) } else { bytes };
        if !self.has_room(place, asked) {
            self.trim(handle, 0)?;
        }
        let taken = self.take(place, asked)?;
        let granularity = self.scenario.gpu_at(place).granularity;
        let Some(start) = self.cuda.addresses.take(taken, granularity) else {
            self.machine.give_back(place, taken);
            return Err(error::OUT_OF_MEMORY);
        };
        let pool = self.cuda.pools.get(handle)?;
        pool.chunks.insert(start, taken);
        pool.gaps.insert(start, taken);
        pool.reserved.0 += taken;
        pool.reserved.1 = pool.reserved.1.max(pool.reserved.0);
        Ok(())
    }

    /// Gives an allocation back to its pool, and the pool's surplus to the card.
    pub fn free_in_pool(&mut self, address: u64) -> Outcome {
        let mut pools = self.cuda.pools.live.iter_mut();
        let found = pools.find_map(|(handle, pool)| {
            pool.give_back(address).map(|bytes| (*handle, pool.threshold, bytes))
        });
        let (handle, threshold, bytes) = found.ok_or(error::INVALID_VALUE)?;
        self.note("bytes", bytes);
        self.trim(handle, threshold)
    }

    /// Lets a pool go of what it does not use beyond `keep` bytes.
    pub fn trim(&mut self, handle: u64, keep: u64) -> Outcome {
        let pool = self.cuda.pools.get(handle)?;
        let (place, given) = (pool.place, pool.trim(keep));
        if given > 0 {
            self.machine.give_back(place, given);
        }
        Ok(())
    }

    /// Ends a pool; what is allocated from it goes with it.
    pub fn destroy_pool(&mut self, handle: u64) -> Outcome {
        let pool = self.cuda.pools.live.remove(&handle).ok_or(error::INVALID_VALUE)?;
        self.machine.give_back(pool.place, pool.reserved.0);
        self.cuda.pools.current.retain(|_, current| *current != handle);
        Ok(())
    }
}

impl Pool {
    fn take_fits(&self, bytes: u64) -> bool {
        self.gaps.values().any(|room| *room >= bytes)
    }

    /// Where the pool's memory is.
    pub fn place(&self) -> usize {
        self.place
    }

    /// Answers `cudaMemPoolGetAttribute` by its number: four bytes for policies, else eight.
    pub fn attribute(&self, attribute: u32) -> Result<Attribute, Code> {
        Ok(match attribute {
            1..=3 => Attribute::Flag(self.policies[attribute as usize - 1]),
            4 => Attribute::Bytes(self.threshold),
            5 => Attribute::Bytes(self.reserved.0),
            6 => Attribute::Bytes(self.reserved.1),
            7 => Attribute::Bytes(self.in_use.0),
            8 => Attribute::Bytes(self.in_use.1),
            _ => return Err(error::INVALID_VALUE),
        })
    }

    /// Sets an attribute; the most so far can only be set back to what is now.
    pub fn set_attribute(&mut self, attribute: u32, value: Attribute) -> Outcome {
        match (attribute, value) {
            (1..=3, Attribute::Flag(flag)) => self.policies[attribute as usize - 1] = flag,
            (4, Attribute::Bytes(bytes)) => self.threshold = bytes,
            (6, Attribute::Bytes(0)) => self.reserved.1 = self.reserved.0,
            (8, Attribute::Bytes(0)) => self.in_use.1 = self.in_use.0,
            _ => return Err(error::INVALID_VALUE),
        }
        Ok(())
    }
}

/// An attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// An `int`.
    Flag(u32),
    /// A `cuuint64_t`.
    Bytes(u64),
}

/// Reads an attribute's value as the caller passes it.
pub fn read(attribute: u32, value: &crate::c::Out<u64>) -> Result<Attribute, NullPointer> {
    let read = value.get()?;
    Ok(match attribute {
        1..=3 => Attribute::Flag(read as u32),
        _ => Attribute::Bytes(read),
    })
}
