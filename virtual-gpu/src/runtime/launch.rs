//! Launches: nothing is computed, but a kernel that the card cannot run fails as it would there.

use std::ffi::c_void;

use super::capture::{Work, captures};
use super::state::Ready;
use super::stream::INVALID_VALUE;
use crate::c::{In, Out};
use crate::cuda::generation::Limits;
use crate::image::{self, Verdict};
use crate::machine::notes::Kind;
use crate::memory::question::Question;
use crate::memory::unfollowed;
use crate::note;

/// `cudaErrorNoKernelImageForDevice`
const NO_KERNEL_IMAGE: u32 = 209;

/// `dim3`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Dim3 {
    x: u32,
    y: u32,
    z: u32,
}

/// `cudaLaunchConfig_t`, as far as it is looked at.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LaunchConfig {
    grid: Dim3,
    block: Dim3,
    shared_memory: usize,
    stream: u64,
}

/// Checks a kernel by the address of its host function, counts it where it is captured, and keeps
/// what it answers.
fn launch(ready: Ready, function: u64, blocks: u32, arguments: u64, stream: u64) -> u32 {
    match image::kernel(function as usize, ready.architecture) {
        Verdict::NoImage(images) => return no_image(ready, &images),
        Verdict::Runs(image::Kernel { question, parameters, .. }) => {
            // SAFETY: what the program passes as this kernel's arguments.
            let answer = |question: Question| unsafe { question.answer(arguments, blocks) };
            let followed = question.is_some_and(answer);
            if !followed {
                // SAFETY: likewise.
                unsafe { unfollowed::launched(arguments, parameters) };
            }
        }
        // SAFETY: likewise.
        Verdict::Unknown => unsafe { unfollowed::launched(arguments, None) },
    }
    captures(stream, Work::Device);
    0
}

/// Says which code there is for a kernel that the card cannot run.
fn no_image(ready: Ready, images: &[image::Image]) -> u32 {
    let have = images.iter().map(|image| {
        let kind = if image.machine_code { "sm" } else { "compute" };
        format!("{kind}_{}", image.architecture)
    });
    let have = have.collect::<Vec<_>>().join(",");
    note::write(Kind::NoKernelImage, &format!("sm_{} has {have}", ready.architecture));
    NO_KERNEL_IMAGE
}

/// `cudaLaunchKernel`, `cudaLaunchCooperativeKernel`, `__cudaLaunchKernel`
pub fn kernel(
    ready: Ready,
    function: u64,
    grid: Dim3,
    block: Dim3,
    arguments: u64,
    _shared_memory: usize,
    stream: u64,
) -> u32 {
    shaped(ready, function, (grid, block), arguments, stream)
}

/// `cudaLaunchKernelExC`
pub fn kernel_by_config(
    ready: Ready,
    config: In<LaunchConfig>,
    function: u64,
    arguments: u64,
) -> u32 {
    match config.get(0) {
        Ok(config) => {
            shaped(ready, function, (config.grid, config.block), arguments, config.stream)
        }
        Err(_) => INVALID_VALUE,
    }
}

/// `cudaErrorInvalidConfiguration`
const INVALID_CONFIGURATION: u32 = 9;

fn shaped(
    ready: Ready,
    function: u64,
    (grid, block): (Dim3, Dim3),
    arguments: u64,
    stream: u64,
) -> u32 {
    let threads = u64::from(block.x) * u64::from(block.y) * u64::from(block.z);
    let blocks = [grid.x, grid.y, grid.z].iter().all(|side| *side > 0);
    // An empty or too large shape fails on every card.
    if !blocks || threads == 0 || threads > 1024 || grid.y > 65535 || grid.z > 65535 {
        return INVALID_CONFIGURATION;
    }
    launch(ready, function, grid.x, arguments, stream)
}

/// `cudaFuncGetAttributes`: 144 bytes in every version. What the code was made for is known; the
/// rest is a usual kernel's.
pub fn attributes(ready: Ready, attributes: Out<c_void>, function: u64) -> u32 {
    let architecture = match image::kernel(function as usize, ready.architecture) {
        Verdict::NoImage(images) => return no_image(ready, &images),
        Verdict::Runs(kernel) => kernel.architecture,
        Verdict::Unknown => ready.architecture,
    };
    let mut bytes = [0u8; 144];
    // Offsets of driver_types.h: maxThreadsPerBlock, numRegs, ptxVersion, binaryVersion,
    // maxDynamicSharedSizeBytes.
    let values = [(24, 1024), (28, 32), (32, architecture), (36, architecture), (44, 48 << 10)];
    for (at, value) in values {
        bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    if attributes.set_bytes(&bytes).is_ok() { 0 } else { INVALID_VALUE }
}

/// `cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags`: by threads and shared memory; the
/// registers of a kernel are not known.
pub fn occupancy(
    ready: Ready,
    blocks: Out<i32>,
    _function: u64,
    threads: i32,
    shared_memory: usize,
    _flags: u32,
) -> u32 {
    let Ok(threads @ 1..) = u32::try_from(threads) else {
        return INVALID_VALUE;
    };
    let limits: Limits =
        crate::cuda::generation::limits((ready.architecture / 10, ready.architecture % 10));
    let fitting = limits.blocks_of(threads, shared_memory as u64) as i32;
    if blocks.set(fitting).is_ok() { 0 } else { INVALID_VALUE }
}

/// `cudaOccupancyMaxActiveBlocksPerMultiprocessor`
pub fn occupancy_plain(
    ready: Ready,
    blocks: Out<i32>,
    function: u64,
    threads: i32,
    shared_memory: usize,
) -> u32 {
    occupancy(ready, blocks, function, threads, shared_memory, 0)
}

/// `cudaLaunchHostFunc`: called at once, or at each replay of what captures it.
pub fn host_function(_: Ready, stream: u64, function: u64, data: u64) -> u32 {
    if function == 0 {
        return INVALID_VALUE;
    }
    if !captures(stream, Work::Host(function, data)) {
        call_host(function, data);
    }
    0
}

/// Calls a `cudaHostFn_t`.
pub fn call_host(function: u64, data: u64) {
    let function: *const () = std::ptr::with_exposed_provenance(function as usize);
    // SAFETY: what the program passed as a function of this type, which it wants called.
    let function: extern "C" fn(u64) = unsafe { std::mem::transmute(function) };
    function(data);
}

/// `cudaStreamAddCallback`: called at once, with success.
pub fn callback(_: Ready, stream: u64, function: u64, data: u64, _flags: u32) -> u32 {
    if function == 0 {
        return INVALID_VALUE;
    }
    let function: *const () = std::ptr::with_exposed_provenance(function as usize);
    // SAFETY: a cudaStreamCallback_t, as the header asks.
    let function: extern "C" fn(u64, u32, u64) = unsafe { std::mem::transmute(function) };
    function(stream, 0, data);
    0
}
