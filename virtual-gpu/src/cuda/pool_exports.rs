//! The driver's names for memory pools, which are the runtime's.

use std::ffi::c_void;

use super::error;
use crate::c::Out;
use crate::call::{Call, Outcome};
use crate::exports::exports;
use crate::runtime::pools;

exports! {
    cuMemAllocAsync(address: Out<u64>, bytes: usize, stream: u64) => allocate;
    cuMemFreeAsync(address: u64, stream: u64) => pools::free;
    cuDeviceGetDefaultMemPool(pool: Out<u64>, device: i32) => default_pool;
    cuDeviceGetMemPool(pool: Out<u64>, device: i32) => current_pool;
    cuMemPoolTrimTo(pool: u64, keep: usize) => trim;
    cuMemPoolGetAttribute(pool: u64, attribute: u32, value: Out<c_void>) => pools::attribute;
    cuMemPoolSetAttribute(pool: u64, attribute: u32, value: Out<u64>) => pools::set_attribute;
}

/// Nothing is an invalid value, as with `cuMemAlloc`.
fn allocate(call: &mut Call, address: Out<u64>, bytes: usize, stream: u64) -> Outcome {
    match bytes {
        0 => Err(error::INVALID_VALUE),
        _ => pools::allocate(call, address, bytes, stream),
    }
}

fn default_pool(call: &mut Call, pool: Out<u64>, device: i32) -> Outcome {
    let place = call.device(device)?;
    Ok(pool.set(call.cuda.pools.default_of(place))?)
}

fn current_pool(call: &mut Call, pool: Out<u64>, device: i32) -> Outcome {
    let place = call.device(device)?;
    Ok(pool.set(call.cuda.pools.current_of(place))?)
}

fn trim(call: &mut Call, pool: u64, keep: usize) -> Outcome {
    call.trim(pool, keep as u64)
}
