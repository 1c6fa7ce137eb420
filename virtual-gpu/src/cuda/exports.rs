//! The exported names of libcuda.so.1, as cuda.h of CUDA 13 has them.

use std::ffi::{c_char, c_void};

use super::{context, device, error, memory, proc_address, virtual_memory};
use crate::c::{In, Out, Text};
use crate::exports::exports;
use virtual_memory::{AccessDescription, AllocationProperties, Location};

exports! {
    cuInit(flags: u32) => device::init;
    cuDriverGetVersion(version: Out<i32>) => device::driver_version;
    cuDeviceGetCount(count: Out<i32>) => device::count;
    cuDeviceGet(device: Out<i32>, ordinal: i32) => device::get;
    cuDeviceGetName(name: Out<c_char>, length: i32, device: i32) => device::name;
    cuDeviceGetUuid(uuid: Out<[u8; 16]>, device: i32) => device::card_uuid;
    cuDeviceGetUuid_v2(uuid: Out<[u8; 16]>, device: i32) => device::uuid;
    cuDeviceTotalMem_v2(bytes: Out<usize>, device: i32) => device::total_memory;
    cuDeviceGetAttribute(value: Out<i32>, attribute: u32, device: i32) => device::attribute;
    cuDeviceGetPCIBusId(text: Out<c_char>, length: i32, device: i32) => device::pci_bus_id;
    cuDeviceGetByPCIBusId(device: Out<i32>, text: Text) => device::by_pci_bus_id;

    cuDevicePrimaryCtxRetain(context: Out<u64>, device: i32) => context::retain_primary;
    cuDevicePrimaryCtxRelease(device: i32) => context::release_primary;
    cuDevicePrimaryCtxRelease_v2(device: i32) => context::release_primary;
    cuDevicePrimaryCtxReset(device: i32) => context::reset_primary;
    cuDevicePrimaryCtxReset_v2(device: i32) => context::reset_primary;
    cuDevicePrimaryCtxGetState(device: i32, flags: Out<u32>, active: Out<i32>)
        => context::primary_state;
    cuDevicePrimaryCtxSetFlags(device: i32, flags: u32) => context::set_primary_flags;
    cuDevicePrimaryCtxSetFlags_v2(device: i32, flags: u32) => context::set_primary_flags;
    cuCtxCreate_v2(context: Out<u64>, flags: u32, device: i32) => context::create;
    cuCtxCreate_v3(context: Out<u64>, affinities: In<c_void>, count: i32, flags: u32, device: i32)
        => context::create_v3;
    cuCtxCreate_v4(context: Out<u64>, parameters: In<c_void>, flags: u32, device: i32)
        => context::create_v4;
    cuCtxDestroy_v2(context: u64) => context::destroy;
    cuCtxSetCurrent(context: u64) => context::set_current;
    cuCtxGetCurrent(context: Out<u64>) => context::current;
    cuCtxPushCurrent_v2(context: u64) => context::push;
    cuCtxPopCurrent_v2(context: Out<u64>) => context::pop;
    cuCtxGetDevice(device: Out<i32>) => context::device;
    cuCtxGetFlags(flags: Out<u32>) => context::flags;
    cuCtxGetApiVersion(context: u64, version: Out<u32>) => context::api_version;
    cuCtxSynchronize() => context::synchronize;

    cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) => memory::info;
    cuMemAlloc_v2(address: Out<u64>, bytes: usize) => memory::allocate;
    cuMemFree_v2(address: u64) => memory::free;
    cuMemGetAddressRange_v2(base: Out<u64>, bytes: Out<usize>, address: u64)
        => memory::address_range;

    cuMemGetAllocationGranularity(bytes: Out<usize>, properties: In<AllocationProperties>, kind: u32)
        => virtual_memory::granularity;
    cuMemAddressReserve(address: Out<u64>, bytes: usize, alignment: usize, wish: u64, flags: u64)
        => virtual_memory::reserve;
    cuMemAddressFree(address: u64, bytes: usize) => virtual_memory::free_addresses;
    cuMemCreate(handle: Out<u64>, bytes: usize, properties: In<AllocationProperties>, flags: u64)
        => virtual_memory::create;
    cuMemRelease(handle: u64) => virtual_memory::release;
    cuMemMap(address: u64, bytes: usize, offset: usize, handle: u64, flags: u64)
        => virtual_memory::map;
    cuMemUnmap(address: u64, bytes: usize) => virtual_memory::unmap;
    cuMemSetAccess(address: u64, bytes: usize, descriptions: In<AccessDescription>, count: usize)
        => virtual_memory::set_access;
    cuMemGetAccess(flags: Out<u64>, location: In<Location>, address: u64)
        => virtual_memory::access;

    cuGetErrorName(code: u32, text: Out<*const c_char>) => error::name;
    cuGetErrorString(code: u32, text: Out<*const c_char>) => error::description;
    cuGetProcAddress(symbol: Text, function: Out<*const ()>, version: i32, flags: u64)
        => proc_address::find_v1;
    cuGetProcAddress_v2(symbol: Text, function: Out<*const ()>, version: i32, flags: u64, status: Out<u32>)
        => proc_address::find;
}
