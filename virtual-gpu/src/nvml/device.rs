//! What a card is: name, UUID, address, modes.

use std::ffi::c_char;

use super::system::answer;
use super::{Handle, error};
use crate::c::{Out, Text};
use crate::call::{Call, Outcome};

/// `nvmlPciInfo_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PciInfo {
    bus_id_legacy: [u8; 16],
    domain: u32,
    bus: u32,
    device: u32,
    device_id: u32,
    subsystem_id: u32,
    bus_id: [u8; 32],
}

/// `nvmlDeviceAttributes_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Attributes {
    multiprocessors: u32,
    /// Copy, decoder, encoder, JPEG and OFA engines.
    engines: [u32; 5],
    gpu_instance_slices: u32,
    compute_instance_slices: u32,
    memory_mib: u64,
}

const _: () = assert!(size_of::<PciInfo>() == 68);
const _: () = assert!(size_of::<Attributes>() == 40);

/// `nvmlDeviceGetCount_v2`
pub fn count(call: &mut Call, count: Out<u32>) -> Outcome {
    call.nvml_initialized()?;
    Ok(count.set(call.scenario.gpus.len() as u32)?)
}

/// `nvmlDeviceGetHandleByIndex_v2`: NVML's order, whatever CUDA_VISIBLE_DEVICES says.
pub fn by_index(call: &mut Call, index: u32, device: Out<Handle>) -> Outcome {
    call.note("index", index);
    call.nvml_initialized()?;
    let place = index as usize;
    if place >= call.scenario.gpus.len() {
        return Err(error::INVALID_ARGUMENT);
    }
    call.works_at(place)?;
    Ok(device.set(Handle::new(place))?)
}

/// `nvmlDeviceGetHandleByUUID`: of a card or a MIG instance.
pub fn by_uuid(call: &mut Call, uuid: Text, device: Out<Handle>) -> Outcome {
    let uuid = uuid.get()?;
    call.note("uuid", &uuid);
    call.nvml_initialized()?;
    let mut places = 0..call.scenario.places.len();
    let place = places.find(|place| call.scenario.uuid(*place) == uuid);
    let place = place.ok_or(error::NOT_FOUND)?;
    call.works_at(place)?;
    Ok(device.set(Handle::new(place))?)
}

/// `nvmlDeviceGetHandleByPciBusId_v2`
pub fn by_pci_bus_id(call: &mut Call, address: Text, device: Out<Handle>) -> Outcome {
    let address = address.get()?.to_ascii_lowercase();
    call.nvml_initialized()?;
    let mut cards = 0..call.scenario.gpus.len();
    let place = cards.find(|card| address.ends_with(&call.scenario.pci_address(*card)));
    let place = place.ok_or(error::NOT_FOUND)?;
    call.works_at(place)?;
    Ok(device.set(Handle::new(place))?)
}

/// `nvmlDeviceGetName`
pub fn name(call: &mut Call, device: Handle, text: Out<c_char>, length: u32) -> Outcome {
    let place = call.handle(device)?;
    answer(&text, length, &call.scenario.name(place))
}

/// `nvmlDeviceGetUUID`
pub fn uuid(call: &mut Call, device: Handle, text: Out<c_char>, length: u32) -> Outcome {
    let place = call.handle(device)?;
    answer(&text, length, call.scenario.uuid(place))
}

/// `nvmlDeviceGetIndex` and `nvmlDeviceGetMinorNumber`: of a MIG instance, the one on its card.
pub fn index(call: &mut Call, device: Handle, index: Out<u32>) -> Outcome {
    let place = call.handle(device)?;
    let of = &call.scenario.places[place];
    Ok(index.set(of.mig.as_ref().map_or(of.gpu as u32, |mig| mig.index))?)
}

/// `nvmlDeviceGetPciInfo_v3`
pub fn pci_info(call: &mut Call, device: Handle, pci: Out<PciInfo>) -> Outcome {
    let place = call.handle(device)?;
    let card = call.scenario.places[place].gpu;
    let legacy = call.scenario.pci_address(card);
    Ok(pci.set(PciInfo {
        bus_id_legacy: padded(&legacy),
        domain: 0,
        bus: card as u32 + 1,
        device: 0,
        device_id: 0x20b0_10de,
        subsystem_id: 0x1450_10de,
        bus_id: padded(&format!("0000{legacy}")),
    })?)
}

fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

/// `nvmlDeviceGetComputeMode`
pub fn compute_mode(call: &mut Call, device: Handle, mode: Out<u32>) -> Outcome {
    let place = call.handle(device)?;
    Ok(mode.set(call.scenario.gpu_at(place).compute_mode)?)
}

/// `nvmlDeviceGetCudaComputeCapability`
pub fn compute_capability(
    call: &mut Call,
    device: Handle,
    major: Out<i32>,
    minor: Out<i32>,
) -> Outcome {
    let place = call.handle(device)?;
    let capability = call.scenario.gpu_at(place).capability;
    major.set(capability.0 as i32)?;
    Ok(minor.set(capability.1 as i32)?)
}

/// `nvmlDeviceGetPersistenceMode`: on.
pub fn persistence_mode(call: &mut Call, device: Handle, mode: Out<u32>) -> Outcome {
    call.handle(device)?;
    Ok(mode.set(1)?)
}

/// `nvmlDeviceGetNumGpuCores`: FP32 lanes.
///
/// Source: CUDA C++ Programming Guide, "Arithmetic Instructions": 64 a multiprocessor on compute
/// capability 6.0, 7.x and 8.0, 128 on 6.1, 8.6 and later.
pub fn cores(call: &mut Call, device: Handle, cores: Out<u32>) -> Outcome {
    let place = call.handle(device)?;
    let gpu = call.scenario.gpu_at(place);
    let lanes = if matches!(gpu.capability, (6, 0) | (7, _) | (8, 0)) { 64 } else { 128 };
    Ok(cores.set(gpu.sms * lanes)?)
}

/// `nvmlDeviceGetArchitecture`: nvml.h, NVML_DEVICE_ARCH_*.
pub fn architecture(call: &mut Call, device: Handle, architecture: Out<u32>) -> Outcome {
    let place = call.handle(device)?;
    Ok(architecture.set(match call.scenario.gpu_at(place).capability {
        (7, 0..=4) => 5,
        (7, _) => 6,
        (8, 0..=8) => 7,
        (8, _) => 8,
        (9, _) => 9,
        (10.., _) => 10,
        _ => 4,
    })?)
}

/// `nvmlDeviceGetAttributes_v2`: of MIG instances only.
pub fn attributes(call: &mut Call, device: Handle, attributes: Out<Attributes>) -> Outcome {
    let place = call.handle(device)?;
    let mig = call.scenario.places[place].mig.as_ref().ok_or(error::NOT_SUPPORTED)?;
    let slices = mig.profile.split('g').next().and_then(|text| text.parse().ok()).unwrap_or(1);
    Ok(attributes.set(Attributes {
        multiprocessors: mig.sms,
        engines: [1, 0, 0, 0, 0],
        gpu_instance_slices: slices,
        compute_instance_slices: slices,
        memory_mib: mig.total >> 20,
    })?)
}
