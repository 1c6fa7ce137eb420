//! MIG: a card cut into instances, each with memory of its own.

use super::{Handle, error};
use crate::c::Out;
use crate::call::{Call, Outcome};

/// As many instances as any card of today can have.
const MOST_INSTANCES: u32 = 7;

/// `nvmlDeviceGetMigMode`: not supported where the card has none.
pub fn mode(call: &mut Call, device: Handle, current: Out<u32>, pending: Out<u32>) -> Outcome {
    let place = call.handle(device)?;
    let mode = u32::from(call.scenario.gpu_at(place).mig.ok_or(error::NOT_SUPPORTED)?);
    current.set(mode)?;
    Ok(pending.set(mode)?)
}

/// `nvmlDeviceGetMaxMigDeviceCount`: how many there could be, not how many there are.
pub fn max_count(call: &mut Call, device: Handle, count: Out<u32>) -> Outcome {
    let place = call.handle(device)?;
    let has_mig = call.scenario.gpu_at(place).mig.is_some();
    Ok(count.set(if has_mig { MOST_INSTANCES } else { 0 })?)
}

/// `nvmlDeviceGetMigDeviceHandleByIndex`: not found where a number is free.
pub fn by_index(call: &mut Call, device: Handle, index: u32, instance: Out<Handle>) -> Outcome {
    let card = call.handle(device)?;
    if call.scenario.gpu_at(card).mig != Some(true) {
        return Err(error::NOT_SUPPORTED);
    }
    if index >= MOST_INSTANCES {
        return Err(error::INVALID_ARGUMENT);
    }
    let place = call.scenario.places.iter().position(|place| {
        place.gpu == card && place.mig.as_ref().is_some_and(|mig| mig.index == index)
    });
    Ok(instance.set(Handle::new(place.ok_or(error::NOT_FOUND)?))?)
}

/// `nvmlDeviceGetDeviceHandleFromMigDeviceHandle`
pub fn parent(call: &mut Call, instance: Handle, device: Out<Handle>) -> Outcome {
    let place = call.handle(instance)?;
    let of = &call.scenario.places[place];
    if of.mig.is_none() {
        return Err(error::INVALID_ARGUMENT);
    }
    Ok(device.set(Handle::new(of.gpu))?)
}

/// `nvmlDeviceIsMigDeviceHandle`
pub fn is_instance(call: &mut Call, device: Handle, is_instance: Out<u32>) -> Outcome {
    let place = call.handle(device)?;
    Ok(is_instance.set(u32::from(call.scenario.places[place].mig.is_some()))?)
}

/// `nvmlDeviceGetGpuInstanceId`
pub fn gpu_instance_id(call: &mut Call, device: Handle, id: Out<u32>) -> Outcome {
    let place = call.handle(device)?;
    let mig = call.scenario.places[place].mig.as_ref().ok_or(error::NOT_SUPPORTED)?;
    Ok(id.set(mig.index + 1)?)
}

/// `nvmlDeviceGetComputeInstanceId`
pub fn compute_instance_id(call: &mut Call, device: Handle, id: Out<u32>) -> Outcome {
    let place = call.handle(device)?;
    call.scenario.places[place].mig.as_ref().ok_or(error::NOT_SUPPORTED)?;
    Ok(id.set(0)?)
}
