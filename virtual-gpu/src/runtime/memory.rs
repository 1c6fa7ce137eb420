//! The runtime's allocations: of the device, of pinned host memory, managed.

use std::ffi::c_void;

use super::pools;
use crate::c::Out;
use crate::call::{Call, Outcome};
use crate::cuda::{error, limit};
use crate::memory::{arena, host};

/// `cudaErrorHostMemoryAlreadyRegistered`
const ALREADY_REGISTERED: u32 = 712;
/// `cudaErrorHostMemoryNotRegistered`
const NOT_REGISTERED: u32 = 713;

/// `cudaMalloc`: nothing is a null pointer.
pub fn allocate(call: &mut Call, address: Out<u64>, bytes: usize) -> Outcome {
    call.note("bytes", bytes);
    let (context, place) = call.runtime_context()?;
    call.works_at(place)?;
    if address.is_null() {
        return Err(error::INVALID_VALUE);
    }
    let start = match bytes {
        0 => 0,
        _ => call.allocate_in(context, place, bytes as u64)?,
    };
    Ok(address.set(start)?)
}

/// `cudaMallocPitch`: rows of 512 bytes.
pub fn allocate_rows(
    call: &mut Call,
    address: Out<u64>,
    pitch: Out<usize>,
    width: usize,
    height: usize,
) -> Outcome {
    let row = width.checked_next_multiple_of(512).ok_or(error::INVALID_VALUE)?;
    let bytes = row.checked_mul(height).ok_or(error::OUT_OF_MEMORY)?;
    allocate(call, address, bytes)?;
    Ok(pitch.set(row)?)
}

/// `cudaFree`: also of what a pool or `cudaMallocManaged` gave; of null it makes the context.
pub fn free(call: &mut Call, address: u64) -> Outcome {
    call.note_address(address);
    let (_, place) = call.runtime_context()?;
    call.works_at(place)?;
    if address == 0 || call.cuda.managed.remove(&address).is_some() {
        return Ok(());
    }
    if call.range_around(address).is_none() {
        return pools::give_back(call, address);
    }
    call.free_at(address)
}

/// `cudaMallocManaged`: on the host until a kernel asks for it, so that no device is charged.
pub fn allocate_managed(call: &mut Call, address: Out<u64>, bytes: usize, _flags: u32) -> Outcome {
    call.note("bytes", bytes);
    call.runtime_context()?;
    if bytes == 0 {
        return Err(error::INVALID_VALUE);
    }
    let start = call.address_space(bytes as u64).ok_or(error::OUT_OF_MEMORY)?;
    call.cuda.managed.insert(start, bytes as u64);
    Ok(address.set(start)?)
}

/// `cudaMemGetInfo`
pub fn info(call: &mut Call, free: Out<usize>, total: Out<usize>) -> Outcome {
    let (_, place) = call.runtime_context()?;
    call.works_at(place)?;
    call.machine.reap();
    let available = call.available(place);
    call.note("free", available);
    free.set(available as usize)?;
    Ok(total.set(limit::total(call.scenario, place) as usize)?)
}

/// `cudaHostAlloc`
pub fn allocate_host(call: &mut Call, address: Out<u64>, bytes: usize, _flags: u32) -> Outcome {
    call.note("bytes", bytes);
    call.runtime_context()?;
    let start = match bytes {
        0 => 0,
        _ => host::allocate(bytes as u64).ok_or(error::OUT_OF_MEMORY)?,
    };
    Ok(address.set(start)?)
}

/// `cudaMallocHost`
pub fn allocate_host_plain(call: &mut Call, address: Out<u64>, bytes: usize) -> Outcome {
    allocate_host(call, address, bytes, 0)
}

/// `cudaFreeHost`
pub fn free_host(call: &mut Call, address: u64) -> Outcome {
    call.runtime_context()?;
    if address == 0 || host::free(address) { Ok(()) } else { Err(error::INVALID_VALUE) }
}

/// `cudaHostRegister`
pub fn register_host(call: &mut Call, address: u64, bytes: usize, _flags: u32) -> Outcome {
    call.runtime_context()?;
    if address == 0 || bytes == 0 {
        return Err(error::INVALID_VALUE);
    }
    match host::register(address, bytes as u64) {
        true => Ok(()),
        false => Err(crate::call::Code(ALREADY_REGISTERED)),
    }
}

/// `cudaHostUnregister`
pub fn unregister_host(call: &mut Call, address: u64) -> Outcome {
    call.runtime_context()?;
    match host::unregister(address) {
        true => Ok(()),
        false => Err(crate::call::Code(NOT_REGISTERED)),
    }
}

/// `cudaHostGetDevicePointer`: one address space for all.
pub fn host_device_pointer(
    call: &mut Call,
    device: Out<u64>,
    address: u64,
    _flags: u32,
) -> Outcome {
    call.runtime_context()?;
    match host::is_pinned(address) {
        true => Ok(device.set(address)?),
        false => Err(error::INVALID_VALUE),
    }
}

/// `cudaHostGetFlags`: mapped and portable, as all pinned memory is with one address space.
pub fn host_flags(call: &mut Call, flags: Out<u32>, address: u64) -> Outcome {
    call.runtime_context()?;
    match host::is_pinned(address) {
        true => Ok(flags.set(1 | 2)?),
        false => Err(error::INVALID_VALUE),
    }
}

/// `struct cudaPointerAttributes`, without what CUDA 13 reserves at its end.
#[repr(C)]
struct PointerAttributes {
    kind: u32,
    device: i32,
    device_pointer: u64,
    host_pointer: u64,
}

// cudaMemoryType
const UNREGISTERED: u32 = 0;
const HOST: u32 = 1;
const DEVICE: u32 = 2;
const MANAGED: u32 = 3;
/// `cudaInvalidDeviceId`
const NO_DEVICE: i32 = -2;

/// `cudaPointerGetAttributes`: memory that CUDA does not know of is no failure.
pub fn attributes(call: &mut Call, attributes: Out<c_void>, address: u64) -> Outcome {
    call.runtime_init()?;
    let device = call.device_around(address);
    let answer = if call.is_managed(address) {
        let device = super::state::device();
        PointerAttributes { kind: MANAGED, device, device_pointer: address, host_pointer: address }
    } else if arena::holds(address) || device.is_some() {
        let device = device.unwrap_or_else(super::state::device);
        PointerAttributes { kind: DEVICE, device, device_pointer: address, host_pointer: 0 }
    } else if host::is_pinned(address) {
        let device = super::state::device();
        PointerAttributes { kind: HOST, device, device_pointer: address, host_pointer: address }
    } else {
        PointerAttributes {
            kind: UNREGISTERED,
            device: NO_DEVICE,
            device_pointer: 0,
            host_pointer: address,
        }
    };
    let mut bytes = Vec::with_capacity(size_of::<PointerAttributes>());
    bytes.extend(answer.kind.to_ne_bytes());
    bytes.extend(answer.device.to_ne_bytes());
    bytes.extend(answer.device_pointer.to_ne_bytes());
    bytes.extend(answer.host_pointer.to_ne_bytes());
    Ok(attributes.set_bytes(&bytes)?)
}

impl Call<'_> {
    /// Returns addresses that no device is charged for.
    pub fn address_space(&mut self, bytes: u64) -> Option<u64> {
        self.cuda.addresses.take(bytes, 512)
    }

    /// Whether an address is in managed memory.
    pub fn is_managed(&self, address: u64) -> bool {
        let before = self.cuda.managed.range(..=address).next_back();
        before.is_some_and(|(start, bytes)| address - start < *bytes)
    }

    /// Returns the ordinal of the device that an address was allocated on.
    pub fn device_around(&self, address: u64) -> Option<i32> {
        let place = self
            .range_around(address)
            .map(|(.., place)| place)
            .or_else(|| self.cuda.pools.place_around(address))
            .or_else(|| self.cuda.virtual_memory.place_around(address))?;
        let visible = self.initialized().ok()?;
        visible.iter().position(|seen| *seen == place).map(|ordinal| ordinal as i32)
    }
}
