//! Modules and functions of the driver: any code is taken, any name is there, nothing runs.

use std::ffi::c_void;

use super::{error, generation};
use crate::c::{In, Out, Text};
use crate::call::{Call, Outcome};
use crate::memory::unfollowed;
use crate::runtime::{self, state};

impl Call<'_> {
    /// Returns a new handle, which looks like an address.
    fn hand_out(&mut self, out: &Out<u64>) -> Outcome {
        self.cuda.handles += 1;
        Ok(out.set(0xf00d_0000 + self.cuda.handles * 16)?)
    }
}

/// `cuModuleLoadData`, `cuModuleLoadFatBinary`, `cuModuleLoad`
pub fn load(call: &mut Call, module: Out<u64>, image: u64) -> Outcome {
    call.current_context()?;
    if image == 0 { Err(error::INVALID_VALUE) } else { call.hand_out(&module) }
}

/// `cuModuleLoadDataEx`, `cuLibraryLoadData`
pub fn load_with(call: &mut Call, module: Out<u64>, image: u64) -> Outcome {
    load(call, module, image)
}

/// `cuModuleUnload`, `cuLibraryUnload`
pub fn unload(call: &mut Call, module: u64) -> Outcome {
    call.current_context()?;
    if module == 0 { Err(error::INVALID_HANDLE) } else { Ok(()) }
}

/// `cuModuleGetFunction`, `cuLibraryGetKernel`
pub fn get(call: &mut Call, function: Out<u64>, module: u64, name: Text) -> Outcome {
    let name = name.get()?;
    call.note("name", name);
    call.current_context()?;
    if module == 0 { Err(error::INVALID_HANDLE) } else { call.hand_out(&function) }
}

/// `cuModuleGetGlobal_v2`: a variable of 64 KiB at most; its size in the code is not read.
pub fn global(
    call: &mut Call,
    address: Out<u64>,
    bytes: Out<usize>,
    module: u64,
    name: Text,
) -> Outcome {
    const ROOM: u64 = 64 << 10;
    name.get()?;
    call.current_context()?;
    if module == 0 {
        return Err(error::INVALID_HANDLE);
    }
    let start = call.address_space(ROOM).ok_or(error::OUT_OF_MEMORY)?;
    address.set_if_wanted(start);
    bytes.set_if_wanted(ROOM as usize);
    Ok(())
}

/// `cuFuncGetAttribute`, `cuKernelGetAttribute`: of a usual kernel, made for this card.
pub fn attribute(call: &mut Call, value: Out<i32>, attribute: u32, function: u64) -> Outcome {
    let (_, place) = call.current_context()?;
    if function == 0 {
        return Err(error::INVALID_HANDLE);
    }
    let (major, minor) = call.scenario.gpu_at(place).capability;
    let answer = match attribute {
        0 => 1024,
        4 => 32,
        5 | 6 => (major * 10 + minor) as i32,
        8 => 48 << 10,
        1..=3 | 7 | 9..=15 => 0,
        _ => return Err(error::INVALID_VALUE),
    };
    Ok(value.set(answer)?)
}

/// `cuFuncSetAttribute`, `cuFuncSetCacheConfig`, `cuKernelSetAttribute`
pub fn set_attribute(call: &mut Call, function: u64) -> Outcome {
    call.current_context()?;
    if function == 0 { Err(error::INVALID_HANDLE) } else { Ok(()) }
}

/// `cuFuncGetModule`, `cuKernelGetFunction`: any handle.
pub fn owner(call: &mut Call, owner: Out<u64>, function: u64) -> Outcome {
    call.current_context()?;
    if function == 0 { Err(error::INVALID_HANDLE) } else { Ok(owner.set(function)?) }
}

/// `cuLogsRegisterCallback`: there is nothing to log.
pub fn log_callback(call: &mut Call, callback: u64, _data: u64, handle: Out<u64>) -> Outcome {
    call.initialized()?;
    if callback == 0 { Err(error::INVALID_VALUE) } else { call.hand_out(&handle) }
}

/// `cuLogsUnregisterCallback`
pub fn log_callback_end(call: &mut Call, _handle: u64) -> Outcome {
    call.initialized().map(drop)
}

/// `CUlaunchConfig`, as far as it is looked at: grid, block, shared memory, stream.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LaunchConfig {
    sides: [u32; 6],
    shared_memory: u32,
    stream: u64,
}

/// `cuLaunchKernelEx`
pub fn launch_by_config(
    call: &mut Call,
    config: In<LaunchConfig>,
    function: u64,
    arguments: u64,
    extra: u64,
) -> Outcome {
    let config = config.get(0)?;
    started(call, config.sides, config.stream, function)?;
    given(arguments, extra);
    Ok(())
}

/// `cuLaunchKernel`
#[expect(clippy::too_many_arguments, reason = "the header's")]
pub fn launch(
    call: &mut Call,
    function: u64,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    _shared_memory: u32,
    stream: u64,
    arguments: u64,
    extra: u64,
) -> Outcome {
    let sides = [grid_x, grid_y, grid_z, block_x, block_y, block_z];
    started(call, sides, stream, function)?;
    given(arguments, extra);
    Ok(())
}

/// `cuLaunchCooperativeKernel`, which has no `extra`.
#[expect(clippy::too_many_arguments, reason = "the header's")]
pub fn launch_together(
    call: &mut Call,
    function: u64,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    _shared_memory: u32,
    stream: u64,
    arguments: u64,
) -> Outcome {
    let sides = [grid_x, grid_y, grid_z, block_x, block_y, block_z];
    started(call, sides, stream, function)?;
    given(arguments, 0);
    Ok(())
}

/// What these kernels are given is all that is known of them: Triton's and NVRTC's have no types.
fn given(arguments: u64, extra: u64) {
    // SAFETY: null, or an array of addresses, of nobody says how many.
    unsafe { unfollowed::launched_by_driver(arguments) };
    unfollowed::launched_with_buffer(extra);
}

fn started(call: &mut Call, sides: [u32; 6], stream: u64, function: u64) -> Outcome {
    let (_, place) = call.current_context()?;
    call.works_at(place)?;
    let threads: u64 = sides[3..].iter().map(|side| u64::from(*side)).product();
    if function == 0 {
        return Err(error::INVALID_HANDLE);
    }
    if sides.contains(&0) || threads > 1024 {
        return Err(error::INVALID_VALUE);
    }
    runtime::captured(stream);
    Ok(())
}

/// `cuOccupancyMaxActiveBlocksPerMultiprocessor`
pub fn occupancy(
    call: &mut Call,
    blocks: Out<i32>,
    _function: u64,
    threads: i32,
    shared_memory: usize,
) -> Outcome {
    let (_, place) = call.current_context()?;
    let limits = generation::limits(call.scenario.gpu_at(place).capability);
    let threads = u32::try_from(threads).ok().filter(|threads| *threads > 0);
    let threads = threads.ok_or(error::INVALID_VALUE)?;
    Ok(blocks.set(limits.blocks_of(threads, shared_memory as u64) as i32)?)
}

/// `cuOccupancyMaxActiveClusters`: one can always run.
pub fn clusters(call: &mut Call, clusters: Out<i32>) -> Outcome {
    call.current_context()?;
    Ok(clusters.set(1)?)
}

/// `cuTensorMapEncodeTiled`, `...Im2col`: a description that no kernel will read; the tensor's
/// address stands in it, for those who look for what a launch was given.
pub fn tensor_map(_: &mut Call, map: Out<c_void>, _type: u32, _rank: u32, address: u64) -> Outcome {
    let mut bytes = [0; 128];
    bytes[..8].copy_from_slice(&address.to_ne_bytes());
    Ok(map.set_bytes(&bytes)?)
}

/// `cuPointerGetAttribute`
pub fn pointer_attribute(
    call: &mut Call,
    value: Out<c_void>,
    attribute: u32,
    address: u64,
) -> Outcome {
    call.initialized()?;
    let range = call.range_around(address);
    let device = call.device_around(address);
    let pinned = crate::memory::host::is_pinned(address);
    if device.is_none() && !pinned && !call.is_managed(address) {
        return Err(error::INVALID_VALUE);
    }
    let word = |value: u64| value.to_ne_bytes().to_vec();
    let int = |value: u32| value.to_ne_bytes().to_vec();
    // Numbers: cuda.h, CUpointer_attribute.
    let answer = match attribute {
        1 => word(call.current_context()?.0),
        2 => int(if device.is_some() { 2 } else { 1 }),
        3 | 4 => word(address),
        6 | 10 | 15 => int(0),
        7 => word(range.map_or(address, |(start, ..)| start)),
        8 => int(u32::from(call.is_managed(address))),
        9 => int(device.unwrap_or_else(state::device) as u32),
        11 | 19 => word(range.map_or(address, |(start, ..)| start)),
        12 | 18 => word(range.map_or(0, |(_, bytes, _)| bytes)),
        13 => int(1),
        14 => word(0),
        16 => int(3),
        17 => word(0),
        _ => return Err(error::INVALID_VALUE),
    };
    Ok(value.set_bytes(&answer)?)
}
