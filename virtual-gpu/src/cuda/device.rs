//! Devices: which there are, and what they are like.

use std::ffi::c_char;

use super::{error, generation, limit, visible};
use crate::c::{Out, Text};
use crate::call::{Call, Code, Outcome};
use crate::machine::Gpu;

/// `cuInit`
pub fn init(call: &mut Call, flags: u32) -> Outcome {
    if flags != 0 {
        return Err(error::INVALID_VALUE);
    }
    if call.scenario.cuda_init != 0 {
        return Err(Code(call.scenario.cuda_init));
    }
    if call.cuda.visible.is_none() {
        let wanted = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let order = std::env::var("CUDA_DEVICE_ORDER").ok();
        let seen = visible::devices(call.scenario, wanted.as_deref(), order.as_deref());
        if seen.is_empty() {
            return Err(error::NO_DEVICE);
        }
        call.cuda.visible = Some(seen);
    }
    Ok(())
}

/// `cuDriverGetVersion`: needs no `cuInit`.
pub fn driver_version(call: &mut Call, version: Out<i32>) -> Outcome {
    Ok(version.set(call.scenario.cuda_version as i32)?)
}

/// `cuDeviceGetCount`
pub fn count(call: &mut Call, count: Out<i32>) -> Outcome {
    let visible = call.initialized()?.len();
    Ok(count.set(visible as i32)?)
}

/// `cuDeviceGet`
pub fn get(call: &mut Call, device: Out<i32>, ordinal: i32) -> Outcome {
    call.device(ordinal)?;
    Ok(device.set(ordinal)?)
}

/// `cuDeviceGetName`: cut to the room there is.
pub fn name(call: &mut Call, name: Out<c_char>, length: i32, device: i32) -> Outcome {
    let place = call.device(device)?;
    name.set_text(&call.scenario.name(place), usize::try_from(length).unwrap_or(0))?;
    Ok(())
}

/// `cuDeviceGetUuid_v2`: of the MIG instance, where the device is one.
pub fn uuid(call: &mut Call, uuid: Out<[u8; 16]>, device: i32) -> Outcome {
    let place = call.device(device)?;
    Ok(uuid.set(uuid_bytes(call.scenario.uuid(place)))?)
}

/// `cuDeviceGetUuid`: of the card, always.
pub fn card_uuid(call: &mut Call, uuid: Out<[u8; 16]>, device: i32) -> Outcome {
    let place = call.device(device)?;
    Ok(uuid.set(uuid_bytes(&call.scenario.gpu_at(place).uuid))?)
}

/// Returns the sixteen bytes that `GPU-` or `MIG-` and 32 hexadecimal digits spell.
pub fn uuid_bytes(text: &str) -> [u8; 16] {
    let digits: Vec<u8> =
        text[4.min(text.len())..].chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    bytes
}

/// `cuDeviceTotalMem_v2`: CUDA does not count what the driver keeps.
pub fn total_memory(call: &mut Call, bytes: Out<usize>, device: i32) -> Outcome {
    let place = call.device(device)?;
    Ok(bytes.set(limit::total(call.scenario, place) as usize)?)
}

/// The memory clock that goes with the bandwidth: two transfers a cycle.
pub fn memory_clock_khz(gpu: &Gpu) -> u64 {
    gpu.bandwidth * 8 / (2 * u64::from(gpu.bus_bits)) / 1000
}

/// `cuDeviceGetAttribute`: what the scenario says, common values of today's cards, or zero.
pub fn attribute(call: &mut Call, value: Out<i32>, attribute: u32, device: i32) -> Outcome {
    call.note("attribute", attribute);
    let place = call.device(device)?;
    let of = &call.scenario.places[place];
    let gpu = &call.scenario.gpus[of.gpu];
    let sms = of.mig.as_ref().map_or(gpu.sms, |mig| mig.sms);
    let limits = generation::limits(gpu.capability);
    // Numbers: cuda.h, CUdevice_attribute.
    let answer = match attribute {
        0 | 160.. => return Err(error::INVALID_VALUE),
        1..=3 => 1024,
        4 => 64,
        5 => i32::MAX,
        6 | 7 => 65535,
        8 => 49152,
        9 => 65536,
        10 => 32,
        11 => i32::MAX,
        12 | 82 => 65536,
        13 => (gpu.clock_mhz * 1000) as i32,
        14 => 512,
        16 => sms as i32,
        18 => i32::from(gpu.integrated),
        20 => gpu.compute_mode as i32,
        33 => of.gpu as i32 + 1,
        36 => memory_clock_khz(gpu) as i32,
        37 => gpu.bus_bits as i32,
        38 => gpu.l2 as i32,
        39 => limits.threads as i32,
        // Kernels at once, an address space for all, priorities, managed memory, preemption,
        // cooperative launches, virtual memory, pools.
        15 | 19 | 31 | 41 | 78 | 79 | 80 | 83 | 89 | 90 | 91 | 95 | 99 | 102 | 115 => 1,
        40 => 3,
        75 => gpu.capability.0 as i32,
        76 => gpu.capability.1 as i32,
        81 => limits.shared_memory as i32,
        97 => limits.shared_memory_of_block as i32,
        106 => limits.blocks as i32,
        108 => (gpu.l2 * 3 / 4) as i32,
        109 => 128 << 20,
        111 => limits.shared_memory_reserved as i32,
        // Clusters of blocks and tensor maps came with Hopper.
        120 | 127 => i32::from(gpu.capability.0 >= 9),
        _ => 0,
    };
    Ok(value.set(answer)?)
}

/// `cuDeviceGetPCIBusId`
pub fn pci_bus_id(call: &mut Call, text: Out<c_char>, length: i32, device: i32) -> Outcome {
    let place = call.device(device)?;
    let address = call.scenario.pci_address(call.scenario.places[place].gpu);
    match text.set_text(&address, usize::try_from(length).unwrap_or(0))? {
        true => Ok(()),
        false => Err(error::INVALID_VALUE),
    }
}

/// `cuDeviceGetByPCIBusId`
pub fn by_pci_bus_id(call: &mut Call, device: Out<i32>, text: Text) -> Outcome {
    let text = text.get()?.to_ascii_lowercase();
    let scenario = call.scenario;
    let visible = call.initialized()?;
    let found =
        visible.iter().position(|place| scenario.pci_address(scenario.places[*place].gpu) == text);
    let ordinal = found.ok_or(error::INVALID_DEVICE)?;
    Ok(device.set(ordinal as i32)?)
}
