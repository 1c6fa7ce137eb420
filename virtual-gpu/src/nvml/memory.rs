//! Memory, and the processes that hold it.

use super::{Handle, error};
use crate::c::Out;
use crate::call::{Call, Outcome};
use crate::machine::{Holding, Kind};

/// `nvmlMemory_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

/// `nvmlMemory_v2_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MemoryV2 {
    version: u32,
    total: u64,
    reserved: u64,
    free: u64,
    used: u64,
}

/// `nvmlProcessInfo_v1_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ProcessInfoV1 {
    pid: u32,
    used: u64,
}

/// `nvmlProcessInfo_v2_t`, which the third version of the calls takes too.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ProcessInfo {
    pid: u32,
    used: u64,
    gpu_instance: u32,
    compute_instance: u32,
}

const _: () = assert!(size_of::<Memory>() == 24);
const _: () = assert!(size_of::<MemoryV2>() == 40);
const _: () = assert!(size_of::<ProcessInfoV1>() == 16);
const _: () = assert!(size_of::<ProcessInfo>() == 24);

/// nvml.h: NVML_STRUCT_VERSION(Memory, 2)
const MEMORY_V2: u32 = 0x0200_0028;
/// nvml.h: NVML_VALUE_NOT_AVAILABLE
const NOT_AVAILABLE: u64 = u64::MAX;
/// "0xFFFFFFFF otherwise": no instance.
const NO_INSTANCE: u32 = u32::MAX;

/// `nvmlDeviceGetMemoryInfo`: used includes what the driver keeps.
pub fn info(call: &mut Call, device: Handle, memory: Out<Memory>) -> Outcome {
    let place = call.handle(device)?;
    call.machine.reap();
    let (total, _) = call.scenario.memory(place);
    let free = call.machine.free(place);
    Ok(memory.set(Memory { total, free, used: total - free })?)
}

/// `nvmlDeviceGetMemoryInfo_v2`: total = reserved + used + free.
pub fn info_v2(call: &mut Call, device: Handle, memory: Out<MemoryV2>) -> Outcome {
    let place = call.handle(device)?;
    let version = memory.get()?.version;
    if version != MEMORY_V2 {
        return Err(error::ARGUMENT_VERSION_MISMATCH);
    }
    call.machine.reap();
    let (total, reserved) = call.scenario.memory(place);
    let free = call.machine.free(place);
    call.note("free", free);
    Ok(memory.set(MemoryV2 { version, total, reserved, free, used: total - reserved - free })?)
}

/// `nvmlDeviceGetComputeRunningProcesses` and so on, as their names say whose processes.
///
/// A list that is too short learns the count and gets 7.
pub fn processes<T: From<ProcessInfo>>(
    call: &mut Call,
    device: Handle,
    count: Out<u32>,
    list: Out<T>,
) -> Outcome {
    let kind = match call.name {
        name if name.contains("Graphics") => Kind::Graphics,
        name if name.contains("MPS") => Kind::Mps,
        _ => Kind::Compute,
    };
    let place = call.handle(device)?;
    call.machine.reap();
    let mut holdings = call.machine.holdings(place);
    holdings.retain(|holding| holding.kind == kind);
    let room = count.get()?;
    count.set(holdings.len() as u32)?;
    if (room as usize) < holdings.len() {
        return Err(error::INSUFFICIENT_SIZE);
    }
    for (index, holding) in holdings.iter().enumerate() {
        list.set_at(index, describe(call, holding).into())?;
    }
    Ok(())
}

fn describe(call: &Call, holding: &Holding) -> ProcessInfo {
    let known = call.scenario.gpu_at(holding.place).process_memory;
    let mig = call.scenario.places[holding.place].mig.as_ref();
    ProcessInfo {
        pid: holding.pid,
        used: if known { holding.bytes } else { NOT_AVAILABLE },
        gpu_instance: mig.map_or(NO_INSTANCE, |mig| mig.index + 1),
        compute_instance: mig.map_or(NO_INSTANCE, |_| 0),
    }
}

impl From<ProcessInfo> for ProcessInfoV1 {
    fn from(info: ProcessInfo) -> ProcessInfoV1 {
        ProcessInfoV1 { pid: info.pid, used: info.used }
    }
}
