//! Virtual memory calls: addresses are reserved, physical memory is created, the two are mapped.
//!
//! Memory is taken at `cuMemCreate` and given back when its handle is released and nothing maps it
//! any more. None of these calls needs a context.
//!
//! Source: CUDA Driver API, "Virtual Memory Management".

use std::collections::BTreeMap;

use super::error;
use crate::c::{In, Out};
use crate::call::{Call, Code, Outcome};
use crate::memory::arena;

/// `CUmemLocation`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Location {
    kind: u32,
    id: i32,
}

/// `CUmemAllocationProp`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AllocationProperties {
    kind: u32,
    handle_types: u32,
    location: Location,
    win32: usize,
    flags: [u8; 8],
}

/// `CUmemAccessDesc`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AccessDescription {
    location: Location,
    flags: u32,
}

const _: () = assert!(size_of::<AllocationProperties>() == 32);
const _: () = assert!(size_of::<AccessDescription>() == 12);

// cuda.h: CU_MEM_ALLOCATION_TYPE_PINNED, CU_MEM_LOCATION_TYPE_DEVICE
const PINNED: u32 = 1;
const DEVICE: u32 = 1;
/// Reservations are in pages of the host ("size ... must be a multiple of the host page size").
const HOST_PAGE: u64 = 4096;

/// What a process has reserved, created and mapped.
#[derive(Default)]
pub struct VirtualMemory {
    /// Reserved bytes, by address.
    reserved: BTreeMap<u64, u64>,
    physical: BTreeMap<u64, Physical>,
    mapped: BTreeMap<u64, Mapping>,
    made: u64,
}

struct Physical {
    bytes: u64,
    place: usize,
    released: bool,
}

struct Mapping {
    bytes: u64,
    handle: u64,
    /// What `cuMemSetAccess` allowed the memory's own device.
    access: u32,
}

impl VirtualMemory {
    /// Returns the mapping that `address` lies in: start and bytes.
    pub fn around(&self, address: u64) -> Option<(u64, u64)> {
        let (start, mapping) = self.mapped.range(..=address).next_back()?;
        (address - start < mapping.bytes).then_some((*start, mapping.bytes))
    }

    /// Returns the place of the memory that is mapped at an address.
    pub fn place_around(&self, address: u64) -> Option<usize> {
        let (start, _) = self.around(address)?;
        self.physical.get(&self.mapped[&start].handle).map(|physical| physical.place)
    }

    /// Whether the whole range lies in one reservation.
    fn is_reserved(&self, address: u64, bytes: u64) -> bool {
        let Some((start, length)) = self.reserved.range(..=address).next_back() else {
            return false;
        };
        (address - start).checked_add(bytes).is_some_and(|end| end <= *length)
    }

    /// Returns the starts of the mappings that make up exactly this range.
    fn mappings(&self, address: u64, bytes: u64) -> Result<Vec<u64>, Code> {
        let end = address.checked_add(bytes).ok_or(error::INVALID_VALUE)?;
        let mut next = address;
        let mut starts = Vec::new();
        while next < end {
            let mapping = self.mapped.get(&next).ok_or(error::INVALID_VALUE)?;
            starts.push(next);
            next += mapping.bytes;
        }
        if next == end && bytes > 0 { Ok(starts) } else { Err(error::INVALID_VALUE) }
    }

    fn overlaps_a_mapping(&self, address: u64, bytes: u64) -> bool {
        let before = self.mapped.range(..address + bytes).next_back();
        before.is_some_and(|(start, mapping)| start + mapping.bytes > address)
    }
}

impl Call<'_> {
    /// Checks what memory is asked for; returns the place and its granularity.
    fn wanted(&mut self, properties: &AllocationProperties) -> Result<(usize, u64), Code> {
        self.initialized()?;
        if properties.kind != PINNED || properties.location.kind != DEVICE {
            return Err(error::INVALID_VALUE);
        }
        let place = self.device(properties.location.id)?;
        self.works_at(place)?;
        Ok((place, self.scenario.gpu_at(place).granularity))
    }

    /// Gives physical memory back if nobody can reach it any more.
    fn settle(&mut self, handle: u64) {
        let memory = &mut self.cuda.virtual_memory;
        let mapped = memory.mapped.values().any(|mapping| mapping.handle == handle);
        let released = memory.physical.get(&handle).is_some_and(|physical| physical.released);
        if released
            && !mapped
            && let Some(physical) = memory.physical.remove(&handle)
        {
            self.machine.give_back(physical.place, physical.bytes);
        }
    }
}

/// `cuMemGetAllocationGranularity`: the recommended one is the minimum.
pub fn granularity(
    call: &mut Call,
    bytes: Out<usize>,
    properties: In<AllocationProperties>,
    kind: u32,
) -> Outcome {
    let (_, granularity) = call.wanted(&properties.get(0)?)?;
    if kind > 1 {
        return Err(error::INVALID_VALUE);
    }
    Ok(bytes.set(granularity as usize)?)
}

/// `cuMemAddressReserve`: a wished address is not granted.
pub fn reserve(
    call: &mut Call,
    address: Out<u64>,
    bytes: usize,
    alignment: usize,
    _wish: u64,
    flags: u64,
) -> Outcome {
    call.note("bytes", bytes);
    call.initialized()?;
    let (bytes, alignment) = (bytes as u64, alignment as u64);
    let aligned =
        alignment == 0 || (alignment.is_power_of_two() && alignment.is_multiple_of(HOST_PAGE));
    if bytes == 0 || !bytes.is_multiple_of(HOST_PAGE) || !aligned || flags != 0 || address.is_null()
    {
        return Err(error::INVALID_VALUE);
    }
    let start = call.cuda.addresses.take(bytes, alignment.max(2 << 20));
    let start = start.ok_or(error::OUT_OF_MEMORY)?;
    call.note_address(start);
    call.cuda.virtual_memory.reserved.insert(start, bytes);
    Ok(address.set(start)?)
}

/// `cuMemAddressFree`: a whole reservation in which nothing is mapped.
pub fn free_addresses(call: &mut Call, address: u64, bytes: usize) -> Outcome {
    call.note("bytes", bytes);
    call.note_address(address);
    call.initialized()?;
    let memory = &mut call.cuda.virtual_memory;
    let whole = memory.reserved.get(&address) == Some(&(bytes as u64));
    if !whole || memory.overlaps_a_mapping(address, bytes as u64) {
        return Err(error::INVALID_VALUE);
    }
    memory.reserved.remove(&address);
    Ok(())
}

/// `cuMemCreate`: whole granules only.
pub fn create(
    call: &mut Call,
    handle: Out<u64>,
    bytes: usize,
    properties: In<AllocationProperties>,
    flags: u64,
) -> Outcome {
    call.note("bytes", bytes);
    let (place, granularity) = call.wanted(&properties.get(0)?)?;
    let bytes = bytes as u64;
    if bytes == 0 || !bytes.is_multiple_of(granularity) || flags != 0 || handle.is_null() {
        return Err(error::INVALID_VALUE);
    }
    call.take(place, bytes)?;
    let memory = &mut call.cuda.virtual_memory;
    memory.made += 1;
    let made = 0xfeed_0000 + memory.made * 16;
    memory.physical.insert(made, Physical { bytes, place, released: false });
    call.note("handle", made);
    Ok(handle.set(made)?)
}

/// `cuMemRelease`: memory that is mapped stays until it is unmapped.
pub fn release(call: &mut Call, handle: u64) -> Outcome {
    call.note("handle", handle);
    call.initialized()?;
    match call.cuda.virtual_memory.physical.get_mut(&handle) {
        Some(physical) if !physical.released => physical.released = true,
        _ => return Err(error::INVALID_VALUE),
    }
    call.settle(handle);
    Ok(())
}

/// `cuMemMap`: all of a handle's memory, at reserved addresses that nothing is mapped at.
pub fn map(
    call: &mut Call,
    address: u64,
    bytes: usize,
    offset: usize,
    handle: u64,
    flags: u64,
) -> Outcome {
    call.note("bytes", bytes);
    call.note_address(address);
    call.note("handle", handle);
    call.initialized()?;
    let bytes = bytes as u64;
    let memory = &mut call.cuda.virtual_memory;
    let physical = memory.physical.get(&handle).filter(|physical| !physical.released);
    let physical = physical.ok_or(error::INVALID_VALUE)?;
    let granularity = call.scenario.gpu_at(physical.place).granularity;
    let fits =
        offset == 0 && flags == 0 && bytes == physical.bytes && address.is_multiple_of(granularity);
    if !fits || !memory.is_reserved(address, bytes) || memory.overlaps_a_mapping(address, bytes) {
        return Err(error::INVALID_VALUE);
    }
    memory.mapped.insert(address, Mapping { bytes, handle, access: 0 });
    Ok(())
}

/// `cuMemUnmap`: whole mappings, one or several next to each other.
pub fn unmap(call: &mut Call, address: u64, bytes: usize) -> Outcome {
    call.note("bytes", bytes);
    call.note_address(address);
    call.initialized()?;
    for start in call.cuda.virtual_memory.mappings(address, bytes as u64)? {
        if let Some(mapping) = call.cuda.virtual_memory.mapped.remove(&start) {
            arena::discard(start, mapping.bytes);
            call.settle(mapping.handle);
        }
    }
    Ok(())
}

/// `cuMemSetAccess`: on whole mappings, for devices that this process sees.
pub fn set_access(
    call: &mut Call,
    address: u64,
    bytes: usize,
    descriptions: In<AccessDescription>,
    count: usize,
) -> Outcome {
    call.note("bytes", bytes);
    call.note_address(address);
    call.initialized()?;
    let starts = call.cuda.virtual_memory.mappings(address, bytes as u64)?;
    for index in 0..count {
        let AccessDescription { location, flags } = descriptions.get(index)?;
        if location.kind != DEVICE || !matches!(flags, 0 | 1 | 3) {
            return Err(error::INVALID_VALUE);
        }
        let place = call.device(location.id)?;
        let memory = &mut call.cuda.virtual_memory;
        for start in &starts {
            if let Some(mapping) = memory.mapped.get_mut(start)
                && memory.physical.get(&mapping.handle).is_some_and(|p| p.place == place)
            {
                mapping.access = flags;
            }
        }
    }
    Ok(())
}

/// `cuMemGetAccess`: of the memory's own device; others have none.
pub fn access(call: &mut Call, flags: Out<u64>, location: In<Location>, address: u64) -> Outcome {
    call.note_address(address);
    let location = location.get(0)?;
    let place = call.device(location.id)?;
    let memory = &call.cuda.virtual_memory;
    let (start, _) = memory.around(address).ok_or(error::INVALID_VALUE)?;
    let mapping = &memory.mapped[&start];
    let own = memory.physical.get(&mapping.handle).is_some_and(|p| p.place == place);
    Ok(flags.set(if own { u64::from(mapping.access) } else { 0 })?)
}
