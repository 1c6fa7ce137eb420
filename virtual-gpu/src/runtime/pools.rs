//! Stream-ordered allocations: `cudaMallocAsync` and the pools that they come from.
//!
//! Nothing is ever under way, so a stream's order is the program's own.

use std::ffi::c_void;

use super::state::runtime;
use crate::c::{In, Out};
use crate::call::{Call, Outcome};
use crate::cuda::error;
use crate::cuda::pool::{self, Attribute};

/// `cudaMemPoolProps` and `CUmemPoolProps`, as far as they are looked at.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PoolProperties {
    allocation: u32,
    handles: u32,
    location: u32,
    device: i32,
}

runtime! {
    cudaMallocAsync(address: Out<u64>, bytes: usize, stream: u64) => allocate;
    cudaMallocAsync_ptsz(address: Out<u64>, bytes: usize, stream: u64) => allocate;
    cudaMallocFromPoolAsync(address: Out<u64>, bytes: usize, pool: u64, stream: u64)
        => allocate_from;
    cudaFreeAsync(address: u64, stream: u64) => free;
    cudaFreeAsync_ptsz(address: u64, stream: u64) => free;
    cudaDeviceGetDefaultMemPool(pool: Out<u64>, device: i32) => default_pool;
    cudaDeviceGetMemPool(pool: Out<u64>, device: i32) => current_pool;
    cudaDeviceSetMemPool(device: i32, pool: u64) => set_current_pool;
    cudaMemPoolCreate(pool: Out<u64>, properties: In<PoolProperties>) => create;
    cudaMemPoolDestroy(pool: u64) => destroy;
    cudaMemPoolTrimTo(pool: u64, keep: usize) => trim;
    cudaMemPoolGetAttribute(pool: u64, kind: u32, value: Out<c_void>) => attribute;
    cudaMemPoolSetAttribute(pool: u64, kind: u32, value: Out<u64>) => set_attribute;
    cudaMemPoolSetAccess(pool: u64, descriptions: u64, count: usize) => set_access;
    cudaMemPoolGetAccess(flags: Out<u32>, pool: u64, location: u64) => access;
}

/// `cudaMallocAsync`
pub fn allocate(call: &mut Call, address: Out<u64>, bytes: usize, _stream: u64) -> Outcome {
    call.note("bytes", bytes);
    let (_, place) = call.runtime_context()?;
    call.works_at(place)?;
    let pool = call.cuda.pools.current_of(place);
    give(call, address, pool, bytes)
}

/// `cudaMallocFromPoolAsync`
pub fn allocate_from(
    call: &mut Call,
    address: Out<u64>,
    bytes: usize,
    pool: u64,
    _stream: u64,
) -> Outcome {
    call.note("bytes", bytes);
    call.runtime_context()?;
    give(call, address, pool, bytes)
}

fn give(call: &mut Call, address: Out<u64>, pool: u64, bytes: usize) -> Outcome {
    if address.is_null() {
        return Err(error::INVALID_VALUE);
    }
    let start = match bytes {
        0 => 0,
        _ => call.allocate_from(pool, bytes as u64)?,
    };
    call.note_address(start);
    Ok(address.set(start)?)
}

/// `cudaFreeAsync`: also of what `cudaMalloc` gave.
pub fn free(call: &mut Call, address: u64, _stream: u64) -> Outcome {
    call.note_address(address);
    call.runtime_context()?;
    match address {
        0 => Ok(()),
        _ if call.range_around(address).is_some() => call.free_at(address),
        _ => give_back(call, address),
    }
}

/// Gives what a pool gave back.
pub fn give_back(call: &mut Call, address: u64) -> Outcome {
    call.free_in_pool(address)
}

fn default_pool(call: &mut Call, pool: Out<u64>, device: i32) -> Outcome {
    call.runtime_init()?;
    let place = call.device(device)?;
    Ok(pool.set(call.cuda.pools.default_of(place))?)
}

fn current_pool(call: &mut Call, pool: Out<u64>, device: i32) -> Outcome {
    call.runtime_init()?;
    let place = call.device(device)?;
    Ok(pool.set(call.cuda.pools.current_of(place))?)
}

fn set_current_pool(call: &mut Call, device: i32, pool: u64) -> Outcome {
    call.runtime_init()?;
    let place = call.device(device)?;
    if call.cuda.pools.get(pool)?.place() != place {
        return Err(error::INVALID_VALUE);
    }
    call.cuda.pools.set_current(place, pool);
    Ok(())
}

/// Only pools of a device's memory.
fn create(call: &mut Call, pool: Out<u64>, properties: In<PoolProperties>) -> Outcome {
    const DEVICE: u32 = 1;
    call.runtime_init()?;
    let properties = properties.get(0)?;
    if properties.location != DEVICE {
        crate::note::unanswered("cudaMemPoolCreate (of host memory)");
        return Err(error::NOT_SUPPORTED);
    }
    let place = call.device(properties.device)?;
    Ok(pool.set(call.cuda.pools.create(place))?)
}

fn destroy(call: &mut Call, pool: u64) -> Outcome {
    call.destroy_pool(pool)
}

fn trim(call: &mut Call, pool: u64, keep: usize) -> Outcome {
    call.trim(pool, keep as u64)
}

/// The pool's.
pub fn attribute(call: &mut Call, pool: u64, attribute: u32, value: Out<c_void>) -> Outcome {
    match call.cuda.pools.get(pool)?.attribute(attribute)? {
        Attribute::Flag(flag) => Ok(value.set_bytes(&flag.to_ne_bytes())?),
        Attribute::Bytes(bytes) => Ok(value.set_bytes(&bytes.to_ne_bytes())?),
    }
}

/// The pool's.
pub fn set_attribute(call: &mut Call, pool: u64, attribute: u32, value: Out<u64>) -> Outcome {
    let value = pool::read(attribute, &value)?;
    call.cuda.pools.get(pool)?.set_attribute(attribute, value)
}

fn set_access(call: &mut Call, pool: u64, _descriptions: u64, _count: usize) -> Outcome {
    call.cuda.pools.get(pool).map(drop)
}

/// Read and write for all: whoever may is not kept.
fn access(call: &mut Call, flags: Out<u32>, pool: u64, _location: u64) -> Outcome {
    call.cuda.pools.get(pool)?;
    Ok(flags.set(3)?)
}
