//! Simulated GPUs as a scenario of the virtual GPU (format: virtual-gpu/README.md).

use std::fmt::Write as _;

use crate::plan::capacity::NCCL_ALLOWANCE;
use crate::profile::simulated::SimulatedGpus;
use crate::units::Bytes;

/// The process id under which what is not for the command is held: no program is asked for it.
const HOLDER: u32 = 1;

/// Returns the text of a scenario: the GPUs with all that programs can ask about them, and a
/// neighbour that holds what the command may not have (`headroom`, and what is not `free=`).
pub fn text(gpus: &SimulatedGpus, headroom: Bytes) -> String {
    let profile = &gpus.profile;
    let (major, minor) = profile.arch.compute_capability;
    let name = profile.product_name.replace(['"', '\n'], " ");
    let held = held(gpus, headroom);
    let mut text = String::new();
    for index in 0..gpus.count {
        let _ = write!(
            text,
            "gpu name=\"{name}\" total={} reserved={} context={} capability={major}.{minor} sms={} \
             l2={} clock={} bandwidth={} nccl={}",
            profile.total.get(),
            profile.reserved.get(),
            profile.context.get(),
            profile.arch.sm_count,
            profile.l2.get(),
            profile.clock_mhz,
            profile.memory_bandwidth,
            nccl(gpus).get(),
        );
        text.push('\n');
        if held > Bytes::ZERO {
            let bytes = held.get();
            let _ = writeln!(text, "process gpu={index} pid={HOLDER} bytes={bytes} name=headroom");
        }
    }
    text
}

/// Returns what of each GPU is neither the driver's nor the command's.
pub fn held(gpus: &SimulatedGpus, headroom: Bytes) -> Bytes {
    let idle = gpus.profile.total.saturating_sub(gpus.profile.reserved);
    idle.saturating_sub(gpus.free_each().saturating_sub(headroom))
}

/// Returns what NCCL takes on each of several GPUs, an allowance.
pub fn nccl(gpus: &SimulatedGpus) -> Bytes {
    if gpus.count > 1 { NCCL_ALLOWANCE } else { Bytes::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_has_the_properties_of_its_profile_and_a_neighbour_has_the_rest() {
        let gpus = SimulatedGpus::parse("sim:h100-80gb*2,free=60GiB").unwrap();
        let text = text(&gpus, Bytes::gib(1));
        assert_eq!(text.matches("gpu name=\"NVIDIA H100 80GB HBM3\"").count(), 2);
        assert!(text.contains("capability=9.0 sms=132"), "{text}");
        let idle = 85_520_809_984 - 577_765_376;
        assert!(text.contains(&format!("bytes={}", idle - (59u64 << 30))), "{text}");
        let whole = SimulatedGpus::parse("sim:t4").unwrap();
        assert!(!super::text(&whole, Bytes::ZERO).contains("process"));
    }
}
