//! What devices send each other in an optimizer step, by how they share the work and whether
//! gradients are summed once a step or once a micro-step. Arithmetic, not a measurement.

use crate::units::{AccumulationSteps, Bytes, DataParallelSize};

/// How replicas share gradients, optimizer state and weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// DistributedDataParallel: every device holds everything.
    Ddp,
    /// ZeRO stage 1: optimizer state is divided.
    Zero1,
    /// ZeRO stage 2: gradients too.
    Zero2,
    /// ZeRO stage 3, or FSDP's full sharding: weights too.
    Full,
}

impl Sharing {
    /// Every kind, in the order of what they divide.
    pub const ALL: [Sharing; 4] = [Sharing::Ddp, Sharing::Zero1, Sharing::Zero2, Sharing::Full];

    /// Returns the name used in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Sharing::Ddp => "ddp",
            Sharing::Zero1 => "zero1",
            Sharing::Zero2 => "zero2",
            Sharing::Full => "zero3_or_fsdp",
        }
    }
}

/// When gradients are summed over the devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In every micro-step.
    EachMicroStep,
    /// In the last one: the others run under `no_sync()`.
    Once,
}

/// What one policy sends and keeps, on one device and for one optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// How devices share.
    pub sharing: Sharing,
    /// When they sum.
    pub when: When,
    /// Bytes that a device sends, by rings.
    pub sent: Bytes,
    /// Bytes that it keeps beyond the other policy of the same sharing: whole gradients where they
    /// would be divided.
    pub kept: Bytes,
}

/// Sizes of the model that is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Gradients of one device, not divided.
    pub gradients: Bytes,
    /// Weights of one device, not divided.
    pub parameters: Bytes,
}

/// Returns every policy that there is; ZeRO stage 2 has no `no_sync` (DeepSpeed refuses it).
///
/// A ring sends (n - 1) / n of what it gathers or reduces and scatters, and twice that of what it
/// sums everywhere. Per step DDP sums the gradients; stages 1 and 2 scatter their sum and gather
/// the weights once; full sharding gathers the weights for each forward and each backward, and
/// scatters the sums.
///
/// Source: Rajbhandari et al. 2019, arXiv:1910.02054, section 7; PyTorch's
/// `FullyShardedDataParallel.no_sync`, which "results in higher memory usage".
pub fn traffic(
    sizes: Sizes,
    replicas: DataParallelSize,
    accumulation: AccumulationSteps,
) -> Vec<Traffic> {
    let (devices, steps) = (replicas.get(), accumulation.get());
    // Rounded up: a part of a byte is sent as one.
    let ring = |bytes: Bytes, times: u64| -> u128 {
        (u128::from(bytes.get()) * u128::from(devices - 1)).div_ceil(u128::from(devices))
            * u128::from(times)
    };
    let one = |sharing, when| {
        let sums = if when == When::Once { 1 } else { steps };
        let sent = match sharing {
            Sharing::Ddp => ring(sizes.gradients, 2 * sums),
            Sharing::Zero1 | Sharing::Zero2 => {
                ring(sizes.gradients, sums) + ring(sizes.parameters, 1)
            }
            Sharing::Full => ring(sizes.gradients, sums) + ring(sizes.parameters, 2 * steps),
        };
        let whole = sharing == Sharing::Full && when == When::Once && steps > 1;
        let bytes = |sum: u128| Bytes::new(u64::try_from(sum).unwrap_or(u64::MAX));
        let kept = if whole { bytes(ring(sizes.gradients, 1)) } else { Bytes::ZERO };
        Traffic { sharing, when, sent: bytes(sent), kept }
    };
    let mut all = Vec::new();
    for sharing in Sharing::ALL {
        all.push(one(sharing, When::EachMicroStep));
        if sharing != Sharing::Zero2 {
            all.push(one(sharing, When::Once));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(gradients: u64, parameters: u64, devices: u64, steps: u64) -> Vec<Traffic> {
        let sizes = Sizes { gradients: Bytes::new(gradients), parameters: Bytes::new(parameters) };
        let devices = DataParallelSize::new(devices).expect("not zero");
        traffic(sizes, devices, AccumulationSteps::new(steps).expect("not zero"))
    }

    fn find(all: &[Traffic], sharing: Sharing, when: When) -> Traffic {
        let found = all.iter().find(|one| one.sharing == sharing && one.when == when);
        *found.expect("there")
    }

    #[test]
    fn a_step_of_one_micro_step_sends_what_the_zero_paper_says() {
        // Weights and gradients of 800 bytes on 8 devices: 2, 2, 2 and 3 times 700.
        let all = of(800, 800, 8, 1);
        let sent: Vec<u64> =
            Sharing::ALL.map(|s| find(&all, s, When::EachMicroStep).sent.get()).to_vec();
        assert_eq!(sent, [1400, 1400, 1400, 2100]);
        assert!(all.iter().all(|one| one.kept == Bytes::ZERO));
    }

    #[test]
    fn no_sync_sends_gradients_once_and_full_sharding_pays_in_memory() {
        let all = of(800, 800, 8, 10);
        assert_eq!(find(&all, Sharing::Ddp, When::EachMicroStep).sent.get(), 14_000);
        assert_eq!(find(&all, Sharing::Ddp, When::Once).sent.get(), 1_400);
        let full = find(&all, Sharing::Full, When::Once);
        assert_eq!((full.sent.get(), full.kept.get()), (14_000 + 700, 700));
        assert!(!all.iter().any(|one| one.sharing == Sharing::Zero2 && one.when == When::Once));
    }

    #[test]
    fn mixtral_on_eight_a100_runs_out_of_memory_with_no_sync() {
        // 46.7 billion parameters in 16 bits; the run without it stood at 69 of 80 GB.
        let bytes = 46_702_792_704 * 2;
        let full = find(&of(bytes, bytes, 8, 4), Sharing::Full, When::Once);
        assert!(full.kept > Bytes::new(11_000_000_000), "{}", full.kept);
    }
}
