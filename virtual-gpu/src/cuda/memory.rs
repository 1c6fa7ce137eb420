//! `cuMemAlloc` and what belongs to it: ranges of addresses, charged in granules.

use std::collections::BTreeMap;

use super::{error, limit};
use crate::c::Out;
use crate::call::{Call, Code, Outcome};
use crate::memory::arena;

/// A process' allocations, by address.
#[derive(Default)]
pub struct Allocations(BTreeMap<u64, Allocation>);

#[derive(Clone, Copy)]
struct Allocation {
    bytes: u64,
    /// Bytes in granules.
    taken: u64,
    context: u64,
    place: usize,
}

impl Allocations {
    /// Forgets the allocations of a context; returns what each had taken.
    pub fn remove_all_of(&mut self, context: u64) -> Vec<u64> {
        let gone = self.0.values().filter(|a| a.context == context).map(|a| a.taken).collect();
        self.0.retain(|_, allocation| allocation.context != context);
        gone
    }

    fn around(&self, address: u64) -> Option<(u64, u64)> {
        let (base, allocation) = self.0.range(..=address).next_back()?;
        (address - base < allocation.bytes).then_some((*base, allocation.bytes))
    }
}

/// `cuMemGetInfo_v2`: what this process can still get; the total without what the driver keeps.
pub fn info(call: &mut Call, free: Out<usize>, total: Out<usize>) -> Outcome {
    let (_, place) = call.current_context()?;
    call.works_at(place)?;
    call.machine.reap();
    let available = call.available(place);
    call.note("free", available);
    free.set(available as usize)?;
    Ok(total.set(limit::total(call.scenario, place) as usize)?)
}

/// `cuMemAlloc_v2`: nothing is an invalid value, too much is out of memory.
pub fn allocate(call: &mut Call, address: Out<u64>, bytes: usize) -> Outcome {
    call.note("bytes", bytes);
    let (context, place) = call.current_context()?;
    call.works_at(place)?;
    if bytes == 0 || address.is_null() {
        return Err(error::INVALID_VALUE);
    }
    let start = call.allocate_in(context, place, bytes as u64)?;
    Ok(address.set(start)?)
}

impl Call<'_> {
    /// Takes memory in a context; returns its address.
    pub fn allocate_in(&mut self, context: u64, place: usize, bytes: u64) -> Result<u64, Code> {
        let taken = self.take(place, bytes)?;
        let granularity = self.scenario.gpu_at(place).granularity;
        let Some(start) = self.cuda.addresses.take(taken, granularity) else {
            self.machine.give_back(place, taken);
            return Err(error::OUT_OF_MEMORY);
        };
        self.note("taken", taken);
        self.note_address(start);
        self.cuda.memory.0.insert(start, Allocation { bytes, taken, context, place });
        Ok(start)
    }

    /// Gives an allocation back by its start.
    pub fn free_at(&mut self, address: u64) -> Outcome {
        let allocation = self.cuda.memory.0.remove(&address).ok_or(error::INVALID_VALUE)?;
        self.machine.give_back(allocation.place, allocation.taken);
        arena::discard(address, allocation.taken);
        Ok(())
    }

    /// Returns the allocation that an address lies in: start, bytes and place.
    pub fn range_around(&self, address: u64) -> Option<(u64, u64, usize)> {
        let (base, bytes) = self.cuda.memory.around(address)?;
        Some((base, bytes, self.cuda.memory.0[&base].place))
    }
}

/// `cuMemFree_v2`: an address that is not the start of an allocation is an invalid value.
pub fn free(call: &mut Call, address: u64) -> Outcome {
    call.note_address(address);
    let (_, place) = call.current_context()?;
    call.works_at(place)?;
    call.free_at(address)
}

/// `cuMemGetAddressRange_v2`
pub fn address_range(call: &mut Call, base: Out<u64>, bytes: Out<usize>, address: u64) -> Outcome {
    call.note_address(address);
    call.current_context()?;
    let found =
        call.cuda.memory.around(address).or_else(|| call.cuda.virtual_memory.around(address));
    let (start, length) = found.ok_or(error::NOT_FOUND)?;
    if !base.is_null() {
        base.set(start)?;
    }
    if !bytes.is_null() {
        bytes.set(length as usize)?;
    }
    Ok(())
}
