//! The driver's exported names for code, launches, copies, streams and events.

use std::ffi::c_void;

use super::function::{self, LaunchConfig};
use super::{error, work};
use crate::c::{In, Out, Text};
use crate::call::{Call, Outcome};
use crate::exports::exports;

exports! {
    cuModuleLoad(module: Out<u64>, image: u64) => function::load;
    cuModuleLoadData(module: Out<u64>, image: u64) => function::load;
    cuModuleLoadFatBinary(module: Out<u64>, image: u64) => function::load;
    cuModuleLoadDataEx(module: Out<u64>, image: u64) => function::load_with;
    cuModuleUnload(module: u64) => function::unload;
    cuModuleGetFunction(function: Out<u64>, module: u64, name: Text) => function::get;
    cuModuleGetGlobal_v2(address: Out<u64>, bytes: Out<usize>, module: u64, name: Text)
        => function::global;
    cuLibraryLoadData(library: Out<u64>, image: u64) => function::load_with;
    cuLibraryUnload(library: u64) => function::unload;
    cuLibraryGetKernel(kernel: Out<u64>, library: u64, name: Text) => function::get;
    cuLibraryGetModule(module: Out<u64>, library: u64) => function::owner;
    cuKernelGetFunction(function: Out<u64>, kernel: u64) => function::owner;
    cuFuncGetModule(module: Out<u64>, function: u64) => function::owner;
    cuFuncGetAttribute(value: Out<i32>, attribute: u32, function: u64) => function::attribute;
    cuKernelGetAttribute(value: Out<i32>, attribute: u32, kernel: u64) => function::attribute;
    cuFuncSetAttribute(function: u64) => function::set_attribute;
    cuFuncSetCacheConfig(function: u64) => function::set_attribute;
    cuFuncLoad(function: u64) => function::set_attribute;
    cuLaunchKernelEx(config: In<LaunchConfig>, function: u64, arguments: u64, extra: u64)
        => function::launch_by_config;
    cuLaunchKernel(
        function: u64, grid_x: u32, grid_y: u32, grid_z: u32,
        block_x: u32, block_y: u32, block_z: u32, shared: u32, stream: u64, arguments: u64, extra: u64
    ) => function::launch;
    cuLaunchCooperativeKernel(
        function: u64, grid_x: u32, grid_y: u32, grid_z: u32,
        block_x: u32, block_y: u32, block_z: u32, shared: u32, stream: u64, arguments: u64
    ) => function::launch_together;
    cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks: Out<i32>, function: u64, threads: i32, shared: usize)
        => function::occupancy;
    cuOccupancyMaxActiveClusters(clusters: Out<i32>) => function::clusters;
    cuTensorMapEncodeTiled(map: Out<c_void>, kind: u32, rank: u32, address: u64)
        => function::tensor_map;
    cuTensorMapEncodeIm2col(map: Out<c_void>, kind: u32, rank: u32, address: u64)
        => function::tensor_map;
    cuPointerGetAttribute(value: Out<c_void>, attribute: u32, address: u64)
        => function::pointer_attribute;
    cuLaunchHostFunc(stream: u64, function: u64, data: u64) => work::host_function;

    cuLogsRegisterCallback(callback: u64, data: u64, handle: Out<u64>) => function::log_callback;
    cuLogsUnregisterCallback(handle: u64) => function::log_callback_end;

    cuCtxGetLimit(value: Out<usize>, kind: u32) => limit;
    cuCtxSetLimit(kind: u32, value: usize) => set_limit;
    cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) => priorities;
    cuDeviceCanAccessPeer(answer: Out<i32>, device: i32, peer: i32) => can_access_peer;

    cuMemcpy(to: u64, from: u64, bytes: usize) => work::copy;
    cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: u64) => work::copy_on;
    cuMemcpyHtoD_v2(to: u64, from: u64, bytes: usize) => work::copy;
    cuMemcpyDtoH_v2(to: u64, from: u64, bytes: usize) => work::copy;
    cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) => work::copy;
    cuMemcpyHtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) => work::copy_on;
    cuMemcpyDtoHAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) => work::copy_on;
    cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) => work::copy_on;
    cuMemsetD8_v2(to: u64, value: u8, count: usize) => work::fill8;
    cuMemsetD8Async(to: u64, value: u8, count: usize, stream: u64) => work::fill8_on;
    cuMemsetD32_v2(to: u64, value: u32, count: usize) => work::fill32;
    cuMemsetD32Async(to: u64, value: u32, count: usize, stream: u64) => work::fill32_on;
    cuStreamWriteValue32_v2(stream: u64, to: u64, value: u32) => work::write32;
    cuStreamWriteValue32(stream: u64, to: u64, value: u32) => work::write32;
    cuMemHostAlloc(address: Out<u64>, bytes: usize, flags: u32) => work::allocate_host;
    cuMemAllocHost_v2(address: Out<u64>, bytes: usize) => work::allocate_host_plain;
    cuMemFreeHost(address: u64) => work::free_host;
    cuMemHostGetDevicePointer_v2(device: Out<u64>, address: u64, flags: u32)
        => work::host_device_pointer;

    cuStreamCreate(stream: Out<u64>, flags: u32) => work::create_stream;
    cuStreamCreateWithPriority(stream: Out<u64>, flags: u32, priority: i32)
        => work::create_stream_with_priority;
    cuStreamDestroy_v2(stream: u64) => work::destroy_stream;
    cuStreamSynchronize(stream: u64) => work::synchronize;
    cuStreamQuery(stream: u64) => work::synchronize;
    cuStreamWaitEvent(stream: u64, event: u64, flags: u32) => work::wait;
    cuStreamIsCapturing(stream: u64, status: Out<i32>) => work::is_capturing;
    cuEventCreate(event: Out<u64>, flags: u32) => work::create_event;
    cuEventDestroy_v2(event: u64) => work::destroy_event;
    cuEventRecord(event: u64, stream: u64) => work::record;
    cuEventQuery(event: u64) => work::query;
    cuEventSynchronize(event: u64) => work::query;
    cuEventElapsedTime(milliseconds: Out<f32>, start: u64, end: u64) => work::elapsed;
}

fn limit(call: &mut Call, value: Out<usize>, limit: u32) -> Outcome {
    crate::runtime::limit(call, value, limit)
}

fn set_limit(call: &mut Call, limit: u32, _value: usize) -> Outcome {
    call.current_context()?;
    if limit <= 6 { Ok(()) } else { Err(error::UNSUPPORTED_LIMIT) }
}

fn priorities(call: &mut Call, least: Out<i32>, greatest: Out<i32>) -> Outcome {
    call.current_context()?;
    least.set_if_wanted(0);
    greatest.set_if_wanted(-5);
    Ok(())
}

/// No peer reaches another.
fn can_access_peer(call: &mut Call, answer: Out<i32>, device: i32, peer: i32) -> Outcome {
    call.device(device)?;
    call.device(peer)?;
    Ok(answer.set(0)?)
}
