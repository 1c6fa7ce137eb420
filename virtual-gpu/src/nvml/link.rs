//! Links between cards, of which there are none, and what a card does, which is nothing.

use std::ffi::c_void;

use super::{Handle, error};
use crate::c::Out;
use crate::call::{Call, Outcome};

/// `nvmlDeviceGetNvLinkState` and what else asks about NVLink: cards without it say 3.
pub fn none(call: &mut Call, device: Handle) -> Outcome {
    call.handle(device)?;
    Err(error::NOT_SUPPORTED)
}

/// `nvmlDeviceGetP2PStatus`: the chipset does not support it.
pub fn peer_status(
    call: &mut Call,
    device: Handle,
    peer: Handle,
    _index: u32,
    status: Out<u32>,
) -> Outcome {
    const CHIPSET_NOT_SUPPORTED: u32 = 1;
    call.handle(device)?;
    call.handle(peer)?;
    Ok(status.set(CHIPSET_NOT_SUPPORTED)?)
}

/// `nvmlDeviceGetUtilizationRates`: two percentages.
pub fn utilization(call: &mut Call, device: Handle, rates: Out<c_void>) -> Outcome {
    call.handle(device)?;
    Ok(rates.set_bytes(&[0; 8])?)
}

/// `nvmlDeviceGetPowerUsage`, `...Temperature`, `...ClockInfo`: nothing is measured.
pub fn unmeasured(call: &mut Call, device: Handle) -> Outcome {
    call.handle(device)?;
    Err(error::NOT_SUPPORTED)
}
