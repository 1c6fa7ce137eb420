//! The runtime's devices: how many, which one a thread is on, what they can do.

use std::ffi::c_char;

use super::state;
use super::version::version;
use crate::c::{Out, Text};
use crate::call::{Call, Outcome};
use crate::cuda::{device, error, proc_address};

/// `cudaGetDeviceCount`
pub fn count(call: &mut Call, count: Out<i32>) -> Outcome {
    let started = call.runtime_init();
    if started.is_err() {
        count.set_if_wanted(0);
    }
    started?;
    device::count(call, count)
}

/// `cudaSetDevice`: makes the device's context, as from CUDA 12 on.
pub fn set(call: &mut Call, ordinal: i32) -> Outcome {
    call.runtime_init()?;
    call.device(ordinal)?;
    let before = state::device();
    state::set_device(ordinal);
    let made = call.enter_primary(ordinal).and_then(|_| call.runtime_context());
    if made.is_err() {
        state::set_device(before);
    }
    made.map(drop)
}

/// `cudaInitDevice`
pub fn init(call: &mut Call, ordinal: i32, _device_flags: u32, _flags: u32) -> Outcome {
    set(call, ordinal)
}

/// `cudaDeviceReset`: ends the device's context with all that it holds.
pub fn reset(call: &mut Call) -> Outcome {
    call.runtime_init()?;
    let place = call.device(state::device())?;
    call.end_primary(place);
    Ok(())
}

/// `cudaDriverGetVersion`: 0 without a driver is no failure, but here there is one.
pub fn driver_version(call: &mut Call, answer: Out<i32>) -> Outcome {
    device::driver_version(call, answer)
}

/// `cudaRuntimeGetVersion`
pub fn runtime_version(_: &mut Call, answer: Out<i32>) -> Outcome {
    Ok(answer.set(version())?)
}

/// `cudaDeviceGetAttribute`: the driver's numbers.
pub fn attribute(call: &mut Call, value: Out<i32>, attribute: u32, ordinal: i32) -> Outcome {
    call.runtime_init()?;
    device::attribute(call, value, attribute, ordinal)
}

/// `cudaDeviceGetPCIBusId`
pub fn pci_bus_id(call: &mut Call, text: Out<c_char>, length: i32, ordinal: i32) -> Outcome {
    call.runtime_init()?;
    device::pci_bus_id(call, text, length, ordinal)
}

/// `cudaDeviceGetByPCIBusId`
pub fn by_pci_bus_id(call: &mut Call, ordinal: Out<i32>, text: Text) -> Outcome {
    call.runtime_init()?;
    device::by_pci_bus_id(call, ordinal, text)
}

/// `cudaDeviceGetStreamPriorityRange`
pub fn priorities(_: &mut Call, least: Out<i32>, greatest: Out<i32>) -> Outcome {
    least.set_if_wanted(0);
    greatest.set_if_wanted(-5);
    Ok(())
}

/// `cudaDeviceCanAccessPeer`: no peer reaches another, as over plain PCI Express with ACS.
pub fn can_access_peer(call: &mut Call, answer: Out<i32>, one: i32, other: i32) -> Outcome {
    call.runtime_init()?;
    call.device(one)?;
    call.device(other)?;
    Ok(answer.set(0)?)
}

/// `cudaDeviceEnablePeerAccess`
pub fn enable_peer_access(call: &mut Call, other: i32, _flags: u32) -> Outcome {
    call.runtime_init()?;
    call.device(other)?;
    Err(error::PEER_ACCESS_UNSUPPORTED)
}

/// `cudaDeviceGetP2PAttribute`: none.
pub fn peer_attribute(
    call: &mut Call,
    value: Out<i32>,
    _attribute: u32,
    one: i32,
    other: i32,
) -> Outcome {
    can_access_peer(call, value, one, other)
}

/// `cudaDeviceGetLimit`: what the driver starts with (stack, printf, heap, ...).
pub fn limit(call: &mut Call, value: Out<usize>, limit: u32) -> Outcome {
    call.runtime_init()?;
    let answer = match limit {
        0 => 1024,
        1 => 1 << 20,
        2 => 8 << 20,
        3 => 2,
        4 => 2048,
        5 => 128,
        6 => 0,
        _ => return Err(error::INVALID_VALUE),
    };
    Ok(value.set(answer)?)
}

/// `cudaDeviceSetLimit`
pub fn set_limit(call: &mut Call, limit: u32, _value: usize) -> Outcome {
    call.runtime_init()?;
    if limit <= 6 { Ok(()) } else { Err(error::INVALID_VALUE) }
}

/// `cudaGetDeviceFlags`
pub fn flags(call: &mut Call, flags: Out<u32>) -> Outcome {
    call.runtime_init()?;
    Ok(flags.set(0)?)
}

/// `cudaSetDeviceFlags`
pub fn set_flags(call: &mut Call, _flags: u32) -> Outcome {
    call.runtime_init()
}

/// `cudaDeviceGetGraphMemAttribute`: graphs hold no memory of their own here.
pub fn graph_memory(call: &mut Call, device: i32, attribute: u32, value: Out<u64>) -> Outcome {
    call.runtime_init()?;
    call.device(device)?;
    if attribute > 3 { Err(error::INVALID_VALUE) } else { Ok(value.set(0)?) }
}

/// `cudaDeviceSetGraphMemAttribute`, `cudaDeviceGraphMemTrim`
pub fn set_graph_memory(call: &mut Call, device: i32) -> Outcome {
    call.runtime_init()?;
    call.device(device).map(drop)
}

/// `cudaMemPrefetchAsync`, `cudaMemAdvise`: managed memory is nowhere in particular.
pub fn advise(call: &mut Call, address: u64, _bytes: usize) -> Outcome {
    call.runtime_context()?;
    if call.is_managed(address) { Ok(()) } else { Err(error::INVALID_VALUE) }
}

/// `cudaGetDriverEntryPointByVersion`: a name that is not there is said so by `status`.
pub fn entry_point_by_version(
    _: &mut Call,
    symbol: Text,
    function: Out<*const ()>,
    version: u32,
    _flags: u64,
    status: Out<u32>,
) -> Outcome {
    const NOT_FOUND: u32 = 1;
    let symbol = symbol.get()?;
    let found = proc_address::address(&symbol, version as i32);
    function.set(found.unwrap_or(std::ptr::null()))?;
    if found.is_none() {
        crate::note::unanswered(&symbol);
    }
    status.set_if_wanted(if found.is_some() { 0 } else { NOT_FOUND });
    Ok(())
}

/// `cudaGetDriverEntryPoint`: of the runtime's own version.
pub fn entry_point(
    call: &mut Call,
    symbol: Text,
    function: Out<*const ()>,
    flags: u64,
    status: Out<u32>,
) -> Outcome {
    entry_point_by_version(call, symbol, function, version() as u32, flags, status)
}
