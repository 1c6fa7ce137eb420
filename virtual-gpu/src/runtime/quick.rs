//! The runtime's calls that a training step makes by the thousand: no lock, no shared state.

use std::ffi::{CStr, c_char, c_void};

use super::state::{self, Ready, quick};
use super::{capture, copies, error, event, graph, launch, libraries, stream};
use crate::c::{In, Out, Text};
use crate::call::{self, Code};
use launch::{Dim3, LaunchConfig};

/// Runs a quick call: at once, or counted and logged where calls are watched.
pub fn run(name: &'static str, ready: Ready, body: impl FnOnce() -> u32) -> u32 {
    if !call::is_watched() {
        return body();
    }
    call::dispatch(name, |call| {
        call.works_at(ready.place)?;
        match body() {
            0 => Ok(()),
            code => Err(Code(code)),
        }
    })
}

quick! {
    cudaLaunchKernel(function: u64, grid: Dim3, block: Dim3, arguments: u64, shared: usize, stream: u64)
        => launch::kernel;
    cudaLaunchKernel_ptsz(function: u64, grid: Dim3, block: Dim3, arguments: u64, shared: usize, stream: u64)
        => launch::kernel;
    __cudaLaunchKernel(function: u64, grid: Dim3, block: Dim3, arguments: u64, shared: usize, stream: u64)
        => launch::kernel;
    __cudaLaunchKernel_ptsz(function: u64, grid: Dim3, block: Dim3, arguments: u64, shared: usize, stream: u64)
        => launch::kernel;
    cudaLaunchCooperativeKernel(function: u64, grid: Dim3, block: Dim3, arguments: u64, shared: usize, stream: u64)
        => launch::kernel;
    cudaLaunchKernelExC(config: In<LaunchConfig>, function: u64, arguments: u64)
        => launch::kernel_by_config;
    cudaLaunchKernelExC_ptsz(config: In<LaunchConfig>, function: u64, arguments: u64)
        => launch::kernel_by_config;
    cudaFuncGetAttributes(attributes: Out<c_void>, function: u64) => launch::attributes;
    cudaFuncSetAttribute(function: u64, attribute: i32, value: i32) => done3;
    cudaFuncSetCacheConfig(function: u64, config: i32) => done2;
    cudaFuncSetSharedMemConfig(function: u64, config: i32) => done2;
    cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks: Out<i32>, function: u64, threads: i32, shared: usize)
        => launch::occupancy_plain;
    cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks: Out<i32>, function: u64, threads: i32, shared: usize, flags: u32)
        => launch::occupancy;
    cudaOccupancyMaxActiveClusters(clusters: Out<i32>, function: u64, config: Out<c_void>)
        => libraries::clusters;
    cudaLaunchHostFunc(stream: u64, function: u64, data: u64) => launch::host_function;
    cudaStreamAddCallback(stream: u64, function: u64, data: u64, flags: u32) => launch::callback;

    cudaMemcpy(to: u64, from: u64, bytes: usize, kind: u32) => copies::copy_now;
    cudaMemcpyAsync(to: u64, from: u64, bytes: usize, kind: u32, stream: u64) => copies::copy_on;
    cudaMemcpyPeer(to: u64, to_device: i32, from: u64, from_device: i32, bytes: usize)
        => copies::copy_peer_now;
    cudaMemcpyPeerAsync(to: u64, to_device: i32, from: u64, from_device: i32, bytes: usize, stream: u64)
        => copies::copy_peer;
    cudaMemcpy2D(to: u64, to_pitch: usize, from: u64, from_pitch: usize, width: usize, height: usize, kind: u32)
        => copies::copy_rows;
    cudaMemcpy2DAsync(to: u64, to_pitch: usize, from: u64, from_pitch: usize, width: usize, height: usize, kind: u32, stream: u64)
        => copies::copy_rows_on;
    cudaMemset(to: u64, value: i32, bytes: usize) => copies::fill;
    cudaMemsetAsync(to: u64, value: i32, bytes: usize, stream: u64) => copies::fill_on;
    cudaGetSymbolAddress(address: Out<u64>, symbol: u64) => copies::symbol_address;
    cudaGetSymbolSize(bytes: Out<usize>, symbol: u64) => copies::symbol_size;
    cudaMemcpyToSymbol(symbol: u64, from: u64, bytes: usize, offset: usize, kind: u32)
        => copies::copy_to_symbol;
    cudaMemcpyToSymbolAsync(symbol: u64, from: u64, bytes: usize, offset: usize, kind: u32, stream: u64)
        => copies::copy_to_symbol_on;
    cudaMemcpyFromSymbol(to: u64, symbol: u64, bytes: usize, offset: usize, kind: u32)
        => copies::copy_from_symbol;

    cudaStreamCreate(stream: Out<u64>) => stream::create_plain;
    cudaStreamCreateWithFlags(stream: Out<u64>, flags: u32) => stream::create_with_flags;
    cudaStreamCreateWithPriority(stream: Out<u64>, flags: u32, priority: i32) => stream::create;
    cudaStreamDestroy(stream: u64) => stream::destroy;
    cudaStreamSynchronize(stream: u64) => stream::synchronize;
    cudaStreamQuery(stream: u64) => stream::synchronize;
    cudaStreamGetPriority(stream: u64, priority: Out<i32>) => stream::priority;
    cudaStreamGetFlags(stream: u64, flags: Out<u32>) => stream::flags;
    cudaStreamGetDevice(stream: u64, device: Out<i32>) => stream::device;
    cudaStreamGetId(stream: u64, id: Out<u64>) => stream::id;
    cudaStreamWaitEvent(stream: u64, event: u64, flags: u32) => capture::wait;
    cudaStreamAttachMemAsync(stream: u64, address: u64, bytes: usize, flags: u32) => done4;
    cudaDeviceSynchronize() => done0;
    cudaThreadSynchronize() => done0;
    cudaCtxResetPersistingL2Cache() => done0;
    cudaProfilerStart() => done0;
    cudaProfilerStop() => done0;

    cudaEventCreate(event: Out<u64>) => event::create_plain;
    cudaEventCreateWithFlags(event: Out<u64>, flags: u32) => event::create;
    cudaEventDestroy(event: u64) => event::destroy;
    cudaEventRecord(event: u64, stream: u64) => capture::record_plain;
    cudaEventRecordWithFlags(event: u64, stream: u64, flags: u32) => capture::record;
    cudaEventQuery(event: u64) => event::query;
    cudaEventSynchronize(event: u64) => event::query;
    cudaEventElapsedTime(milliseconds: Out<f32>, start: u64, end: u64) => event::elapsed;
    cudaEventElapsedTime_v2(milliseconds: Out<f32>, start: u64, end: u64) => event::elapsed;

    cudaStreamBeginCapture(stream: u64, mode: i32) => capture::begin;
    cudaStreamBeginCaptureToGraph(stream: u64, graph: u64, dependencies: u64, edges: u64, count: usize, mode: i32)
        => capture::begin_to_graph;
    cudaStreamEndCapture(stream: u64, graph: Out<u64>) => capture::end;
    cudaStreamIsCapturing(stream: u64, status: Out<i32>) => capture::is_capturing;
    cudaStreamGetCaptureInfo(stream: u64, status: Out<i32>, id: Out<u64>, graph: Out<u64>, dependencies: Out<u64>, edges: Out<u64>, count: Out<usize>)
        => capture::info;
    cudaStreamGetCaptureInfo_v2(stream: u64, status: Out<i32>, id: Out<u64>, graph: Out<u64>, dependencies: Out<u64>, count: Out<usize>)
        => capture::info_v2;
    cudaStreamGetCaptureInfo_v3(stream: u64, status: Out<i32>, id: Out<u64>, graph: Out<u64>, dependencies: Out<u64>, edges: Out<u64>, count: Out<usize>)
        => capture::info_v3;
    cudaStreamUpdateCaptureDependencies(stream: u64) => capture::update_dependencies;
    cudaStreamUpdateCaptureDependencies_v2(stream: u64) => capture::update_dependencies;
    cudaThreadExchangeStreamCaptureMode(mode: Out<i32>) => capture::exchange_mode;

    cudaGraphCreate(graph: Out<u64>, flags: u32) => graph::create;
    cudaGraphGetNodes(graph: u64, nodes: Out<u64>, count: Out<usize>) => graph::nodes;
    cudaGraphInstantiate(executable: Out<u64>, graph: u64) => graph::instantiate;
    cudaGraphInstantiateWithFlags(executable: Out<u64>, graph: u64) => graph::instantiate;
    cudaGraphInstantiateWithParams(executable: Out<u64>, graph: u64) => graph::instantiate;
    cudaGraphLaunch(executable: u64, stream: u64) => graph::launch;
    cudaGraphUpload(executable: u64, stream: u64) => graph::upload;
    cudaGraphDestroy(graph: u64) => graph::destroy;
    cudaGraphExecDestroy(executable: u64) => graph::destroy_executable;
    cudaUserObjectCreate(object: Out<u64>, data: u64, function: u64, count: u32, flags: u32)
        => graph::create_object;
    cudaUserObjectRetain(object: u64, count: u32) => graph::retain_object;
    cudaUserObjectRelease(object: u64, count: u32) => graph::release_object;
    cudaGraphRetainUserObject(graph: u64, object: u64, count: u32, flags: u32)
        => graph::keep_object;

    cudaLibraryLoadData(library: Out<u64>, code: u64) => libraries::load;
    cudaLibraryLoadFromFile(library: Out<u64>, file: u64) => libraries::load;
    cudaLibraryUnload(library: u64) => libraries::unload;
    cudaLibraryGetKernel(kernel: Out<u64>, library: u64, name: Text) => libraries::kernel;
    cudaGetKernel(kernel: Out<u64>, symbol: u64) => libraries::by_symbol;
    cudaGetFuncBySymbol(function: Out<u64>, symbol: u64) => libraries::by_symbol;
    cudaKernelSetAttributeForDevice(kernel: u64, attribute: i32, value: i32) => done3;
}

fn done0(_: Ready) -> u32 {
    0
}

fn done2(_: Ready, _: u64, _: i32) -> u32 {
    0
}

fn done3(_: Ready, _: u64, _: i32, _: i32) -> u32 {
    0
}

fn done4(_: Ready, _: u64, _: u64, _: usize, _: u32) -> u32 {
    0
}

/// `cudaGetDevice`: a thread's own note; without a driver the code of that.
///
/// # Safety
///
/// The pointer is null or good for an `int`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaGetDevice(device: Out<i32>) -> u32 {
    let code = match device.set(state::device()) {
        Ok(()) => call::enter("cudaGetDevice", |_| Ok(())),
        Err(_) => stream::INVALID_VALUE,
    };
    state::remember(code)
}

/// `cudaGetLastError`
#[unsafe(no_mangle)]
pub extern "C" fn cudaGetLastError() -> u32 {
    state::take_last_error()
}

/// `cudaPeekAtLastError`
#[unsafe(no_mangle)]
pub extern "C" fn cudaPeekAtLastError() -> u32 {
    state::last_error()
}

const UNKNOWN: &CStr = c"unrecognized error code";

/// `cudaGetErrorString`
#[unsafe(no_mangle)]
pub extern "C" fn cudaGetErrorString(code: u32) -> *const c_char {
    error::words(code).unwrap_or(UNKNOWN).as_ptr()
}

/// `cudaGetErrorName`
#[unsafe(no_mangle)]
pub extern "C" fn cudaGetErrorName(code: u32) -> *const c_char {
    error::name(code).unwrap_or(UNKNOWN).as_ptr()
}
