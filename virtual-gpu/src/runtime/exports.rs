//! The runtime's calls that look at what a process or the machine holds.

use std::ffi::{c_char, c_void};

use super::state::runtime;
use super::{device, memory, properties};
use crate::c::{Out, Text};

runtime! {
    cudaGetDeviceCount(count: Out<i32>) => device::count;
    cudaSetDevice(device: i32) => device::set;
    cudaInitDevice(device: i32, device_flags: u32, flags: u32) => device::init;
    cudaDeviceReset() => device::reset;
    cudaDriverGetVersion(version: Out<i32>) => device::driver_version;
    cudaRuntimeGetVersion(version: Out<i32>) => device::runtime_version;
    cudaGetDeviceProperties(properties: Out<c_void>, device: i32) => properties::get_plain;
    cudaGetDeviceProperties_v2(properties: Out<c_void>, device: i32) => properties::get_v2;
    cudaDeviceGetAttribute(value: Out<i32>, attribute: u32, device: i32) => device::attribute;
    cudaDeviceGetPCIBusId(text: Out<c_char>, length: i32, device: i32) => device::pci_bus_id;
    cudaDeviceGetByPCIBusId(device: Out<i32>, text: Text) => device::by_pci_bus_id;
    cudaDeviceGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) => device::priorities;
    cudaDeviceCanAccessPeer(answer: Out<i32>, device: i32, peer: i32) => device::can_access_peer;
    cudaDeviceEnablePeerAccess(peer: i32, flags: u32) => device::enable_peer_access;
    cudaDeviceGetP2PAttribute(value: Out<i32>, attribute: u32, device: i32, peer: i32)
        => device::peer_attribute;
    cudaDeviceGetLimit(value: Out<usize>, limit: u32) => device::limit;
    cudaDeviceSetLimit(limit: u32, value: usize) => device::set_limit;
    cudaGetDeviceFlags(flags: Out<u32>) => device::flags;
    cudaSetDeviceFlags(flags: u32) => device::set_flags;
    cudaDeviceGetGraphMemAttribute(device: i32, attribute: u32, value: Out<u64>)
        => device::graph_memory;
    cudaDeviceSetGraphMemAttribute(device: i32) => device::set_graph_memory;
    cudaDeviceGraphMemTrim(device: i32) => device::set_graph_memory;
    cudaMemPrefetchAsync(address: u64, bytes: usize) => device::advise;
    cudaMemPrefetchAsync_v2(address: u64, bytes: usize) => device::advise;
    cudaMemAdvise(address: u64, bytes: usize) => device::advise;
    cudaMemAdvise_v2(address: u64, bytes: usize) => device::advise;
    cudaGetDriverEntryPoint(symbol: Text, function: Out<*const ()>, flags: u64, status: Out<u32>)
        => device::entry_point;
    cudaGetDriverEntryPointByVersion(symbol: Text, function: Out<*const ()>, version: u32, flags: u64, status: Out<u32>)
        => device::entry_point_by_version;

    cudaMalloc(address: Out<u64>, bytes: usize) => memory::allocate;
    cudaMallocPitch(address: Out<u64>, pitch: Out<usize>, width: usize, height: usize)
        => memory::allocate_rows;
    cudaMallocManaged(address: Out<u64>, bytes: usize, flags: u32) => memory::allocate_managed;
    cudaFree(address: u64) => memory::free;
    cudaMemGetInfo(free: Out<usize>, total: Out<usize>) => memory::info;
    cudaHostAlloc(address: Out<u64>, bytes: usize, flags: u32) => memory::allocate_host;
    cudaMallocHost(address: Out<u64>, bytes: usize) => memory::allocate_host_plain;
    cudaFreeHost(address: u64) => memory::free_host;
    cudaHostRegister(address: u64, bytes: usize, flags: u32) => memory::register_host;
    cudaHostUnregister(address: u64) => memory::unregister_host;
    cudaHostGetDevicePointer(device: Out<u64>, address: u64, flags: u32)
        => memory::host_device_pointer;
    cudaHostGetFlags(flags: Out<u32>, address: u64) => memory::host_flags;
    cudaPointerGetAttributes(attributes: Out<c_void>, address: u64) => memory::attributes;
}
