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
    /// ZeRO stage 3: weights too.
    Zero3,
    /// FSDP's full sharding: as ZeRO stage 3, and with a `no_sync()`.
    Fsdp,
}

impl Sharing {
    /// Every kind, in the order of what they divide.
    pub const ALL: [Sharing; 5] =
        [Sharing::Ddp, Sharing::Zero1, Sharing::Zero2, Sharing::Zero3, Sharing::Fsdp];

    /// Returns the name used in JSON and of `--parallel`.
    pub const fn name(self) -> &'static str {
        match self {
            Sharing::Ddp => "ddp",
            Sharing::Zero1 => "zero1",
            Sharing::Zero2 => "zero2",
            Sharing::Zero3 => "zero3",
            Sharing::Fsdp => "fsdp",
        }
    }

    /// Whether gradients may be summed in the last micro-step alone.
    ///
    /// Source: deepspeed 0.19.8, `runtime/engine.py`: `no_sync` asserts that gradients are not
    /// partitioned, which they are from stage 2 on.
    pub const fn has_no_sync(self) -> bool {
        matches!(self, Sharing::Ddp | Sharing::Zero1 | Sharing::Fsdp)
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
    /// Whether it is the better one of its sharing: it sends less, and what it keeps has room.
    pub best: bool,
}

/// The policies of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// When the job sums its gradients.
    pub when: When,
    /// Whether that is the default.
    pub by_default: bool,
    /// What each policy sends and keeps; nothing on one device.
    pub all: Vec<Traffic>,
    /// What a device would have left were weights, gradients and optimizer state divided; `None`
    /// where its capacity is not known.
    pub room_when_sharded: Option<Bytes>,
}

/// Sizes of the model that is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Gradients of one device, not divided: as large as the weights that they belong to.
    pub gradients: Bytes,
    /// Weights of one device, not divided, frozen ones included.
    pub parameters: Bytes,
    /// As [`Sync::room_when_sharded`].
    pub room_when_sharded: Option<Bytes>,
}

/// Returns every policy that there is.
///
/// A ring sends (n - 1) / n of what it gathers or reduces and scatters, and twice that of what it
/// sums everywhere. Per step DDP sums the gradients; stages 1 and 2 scatter their sum and gather
/// the trained weights once; full sharding gathers all weights for each forward and each backward,
/// and scatters the sums. DDP keeps its buckets under either policy: they are made with it.
///
/// Source: Rajbhandari et al. 2019, arXiv:1910.02054, section 7; PyTorch's
/// `FullyShardedDataParallel.no_sync`, which "results in higher memory usage"; Accelerate's guide
/// to gradient synchronisation, where Mixtral 8x7B on 8 A100 runs at 69 GB without it and goes out
/// of memory with it.
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
    let bytes = |sum: u128| Bytes::new(u64::try_from(sum).unwrap_or(u64::MAX));
    let one = |sharing, when| {
        let sums = if when == When::Once { 1 } else { steps };
        let sent = match sharing {
            Sharing::Ddp => ring(sizes.gradients, 2 * sums),
            Sharing::Zero1 | Sharing::Zero2 => {
                ring(sizes.gradients, sums) + ring(sizes.gradients, 1)
            }
            Sharing::Zero3 | Sharing::Fsdp => {
                ring(sizes.gradients, sums) + ring(sizes.parameters, 2 * steps)
            }
        };
        let whole = sharing == Sharing::Fsdp && when == When::Once && steps > 1;
        let kept = if whole { bytes(ring(sizes.gradients, 1)) } else { Bytes::ZERO };
        Traffic { sharing, when, sent: bytes(sent), kept, best: false }
    };
    let mut all = Vec::new();
    for sharing in Sharing::ALL {
        let mut each = one(sharing, When::EachMicroStep);
        let mut once = sharing.has_no_sync().then(|| one(sharing, When::Once));
        let has_room = |once: &Traffic| {
            once.kept == Bytes::ZERO
                || sizes.room_when_sharded.is_some_and(|room| once.kept <= room)
        };
        match &mut once {
            Some(once) if has_room(once) => once.best = true,
            _ => each.best = true,
        }
        all.extend([Some(each), once].into_iter().flatten());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(gradients: u64, parameters: u64, devices: u64, steps: u64) -> Vec<Traffic> {
        let sizes = Sizes {
            gradients: Bytes::new(gradients),
            parameters: Bytes::new(parameters),
            room_when_sharded: Some(Bytes::new(699)),
        };
        let devices = DataParallelSize::new(devices).expect("not zero");
        traffic(sizes, devices, AccumulationSteps::new(steps).expect("not zero"))
    }

    fn find(all: &[Traffic], sharing: Sharing, when: When) -> Traffic {
        let found = all.iter().find(|one| one.sharing == sharing && one.when == when);
        *found.expect("there")
    }

    #[test]
    fn a_step_of_one_micro_step_sends_what_the_zero_paper_says() {
        // Weights and gradients of 800 bytes on 8 devices: 2, 2, 2, 3 and 3 times 700.
        let all = of(800, 800, 8, 1);
        let sent: Vec<u64> =
            Sharing::ALL.map(|s| find(&all, s, When::EachMicroStep).sent.get()).to_vec();
        assert_eq!(sent, [1400, 1400, 1400, 2100, 2100]);
        assert!(all.iter().all(|one| one.kept == Bytes::ZERO));
    }

    #[test]
    fn no_sync_sends_gradients_once_and_full_sharding_pays_in_memory() {
        let all = of(800, 800, 8, 10);
        assert_eq!(find(&all, Sharing::Ddp, When::EachMicroStep).sent.get(), 14_000);
        assert_eq!(find(&all, Sharing::Ddp, When::Once).sent.get(), 1_400);
        assert_eq!(find(&all, Sharing::Zero1, When::EachMicroStep).sent.get(), 7_000 + 700);
        assert_eq!(find(&all, Sharing::Zero1, When::Once).sent.get(), 1_400);
        let full = find(&all, Sharing::Fsdp, When::Once);
        assert_eq!((full.sent.get(), full.kept.get()), (14_000 + 700, 700));
        for refuses in [Sharing::Zero2, Sharing::Zero3] {
            assert!(!all.iter().any(|one| one.sharing == refuses && one.when == When::Once));
        }
    }

    #[test]
    fn adapters_alone_are_summed_and_stages_1_and_2_gather_no_more() {
        let all = of(80, 8000, 8, 1);
        assert_eq!(find(&all, Sharing::Ddp, When::Once).sent.get(), 140);
        assert_eq!(find(&all, Sharing::Zero2, When::EachMicroStep).sent.get(), 140);
        assert_eq!(find(&all, Sharing::Fsdp, When::EachMicroStep).sent.get(), 14_000 + 70);
    }

    #[test]
    fn the_best_policy_sends_less_where_what_it_keeps_has_room() {
        let all = of(800, 800, 8, 10);
        let best = |sharing| {
            let mut of_it = all.iter().filter(|one| one.sharing == sharing && one.best);
            let found = of_it.next().expect("one is best").when;
            assert!(of_it.next().is_none(), "one alone is best");
            found
        };
        assert_eq!(best(Sharing::Ddp), When::Once);
        assert_eq!(best(Sharing::Zero1), When::Once);
        assert_eq!(best(Sharing::Zero2), When::EachMicroStep);
        assert_eq!(best(Sharing::Fsdp), When::EachMicroStep, "700 bytes, and 699 are there");
        let roomy = of(798, 800, 8, 10);
        assert_eq!(find(&roomy, Sharing::Fsdp, When::Once).kept.get(), 699);
        assert!(find(&roomy, Sharing::Fsdp, When::Once).best);
    }
}
