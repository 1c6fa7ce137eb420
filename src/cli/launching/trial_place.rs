//! Where a trial's command runs: simulated GPUs, real ones, or whatever it finds by itself.

use std::sync::Arc;

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::gpu_select::GpuSelector;
use crate::cli::launching::run::simulated;
use crate::cli::target::targets;
use crate::cli::trial::Args;
use crate::cli::values::Headroom;
use crate::device::lock::{self, GpuLock};
use crate::device::meter::NvmlMeter;
use crate::plan::capacity::{Capacity, Outside, OutsideAllocator};
use crate::plan::result::PlanGpu;
use crate::probe::meter::Meter;
use crate::probe::target::{Obstacle, Sharing, Target};
use crate::profile::simulated::SimulatedGpus;
use crate::trial::installed::content_name;
use crate::trial::outcome::Outcome;
use crate::trial::real::{RealGpu, RealMachine};
use crate::trial::scenario;
use crate::trial::search::Peaks;
use crate::trial::simulated::{Request, RunError, SimulatedMachine};
use crate::units::Bytes;

/// What else there is where no GPU can be asked.
const OTHERWISE: &str = "--no-gpu skip goes by the command's verdicts alone";

/// The GPUs of a trial, in the two ways in which they differ: the launcher, and the source of peaks.
pub enum Machine {
    /// Made up.
    Simulated(SimulatedMachine),
    /// The ones that are there.
    Real(RealMachine),
}

impl Machine {
    /// Returns what the command may take of each GPU.
    pub fn free(&self) -> Bytes {
        match self {
            Machine::Simulated(machine) => machine.free(),
            Machine::Real(machine) => machine.free(),
        }
    }

    /// Returns how well peaks are known.
    pub fn peaks(&self) -> Peaks {
        match self {
            Machine::Simulated(_) => Peaks::Exact,
            Machine::Real(machine) if machine.is_metered() => Peaks::Sampled,
            Machine::Real(_) => Peaks::Unknown,
        }
    }

    /// Runs a command once.
    ///
    /// # Errors
    /// When it could not be started or was interrupted.
    pub fn run(&self, request: Request) -> Result<Outcome, RunError> {
        match self {
            Machine::Simulated(machine) => machine.run(request),
            Machine::Real(machine) => machine.run(request),
        }
    }

    /// Returns a kept outcome if it says the same today.
    pub fn as_of_now(&self, kept: Outcome) -> Option<Outcome> {
        match self {
            Machine::Simulated(_) => Some(kept),
            Machine::Real(machine) => machine.as_of_now(kept),
        }
    }
}

/// A place for a trial.
pub struct Place {
    /// The GPUs, to run commands on.
    pub machine: Machine,
    /// The GPUs, as the plan names them.
    pub gpus: Vec<PlanGpu>,
    /// What decides a run beside the command, for runs that are kept.
    pub decides: String,
    /// Why no GPU was asked, where that was let pass.
    pub skipped: Option<String>,
    /// No other oomph probes or tries on these GPUs meanwhile.
    _locks: Vec<GpuLock>,
}

/// Prepares the place that `--gpu` names.
///
/// # Errors
/// When there is no such GPU, or the command had better not run there.
pub fn prepare(args: &Args) -> Result<Place, CliError> {
    if matches!(args.gpu, GpuSelector::Simulated(_)) {
        return on_simulated(args);
    }
    match on_real(args) {
        Err(refused) if refused.skippable && args.no_gpu.skips() => {
            let machine = RealMachine::new(Vec::new(), None, refused.visible)?;
            Ok(Place {
                machine: Machine::Real(machine),
                gpus: Vec::new(),
                decides: "no GPU".to_owned(),
                skipped: Some(refused.error.fact),
                _locks: Vec::new(),
            })
        }
        Err(refused) if refused.skippable => {
            let hint = match &refused.error.hint {
                Some(hint) => format!("{hint}; {OTHERWISE}"),
                None => OTHERWISE.to_owned(),
            };
            Err(refused.error.hint(hint))
        }
        other => other.map_err(|refused| *refused.error),
    }
}

fn on_simulated(args: &Args) -> Result<Place, CliError> {
    let gpus = simulated(&args.gpu, "trial")?;
    let headroom = args.headroom.unwrap_or(Headroom::DEFAULT).of(gpus.profile.total);
    let decides = format!("{} {}", scenario::text(&gpus, headroom), content_name());
    Ok(Place {
        gpus: simulated_gpus(&gpus, headroom),
        machine: Machine::Simulated(SimulatedMachine::new(gpus, headroom)?),
        decides,
        skipped: None,
        _locks: Vec::new(),
    })
}

fn simulated_gpus(gpus: &SimulatedGpus, headroom: Bytes) -> Vec<PlanGpu> {
    let profile = &gpus.profile;
    let mut outside = OutsideAllocator { terms: vec![(Outside::CudaContext, profile.context)] };
    let nccl = scenario::nccl(gpus);
    if nccl > Bytes::ZERO {
        outside.terms.push((Outside::Nccl, nccl));
    }
    let capacity = Capacity::of_device(gpus.free_each(), &outside, headroom);
    let one = |index| PlanGpu {
        index,
        name: profile.product_name.clone(),
        uuid: format!("SIM-{}-{index}", profile.name.replace(' ', "")),
        simulated: true,
        total: profile.total,
        free: gpus.free_each(),
        capacity,
    };
    (0..gpus.count).map(one).collect()
}

/// Why a trial does not run on real GPUs.
struct Refused {
    error: Box<CliError>,
    /// Whether `--no-gpu skip` lets it pass.
    skippable: bool,
    /// The GPUs that are meant all the same, for CUDA_VISIBLE_DEVICES.
    visible: Option<String>,
}

impl<E: Into<CliError>> From<E> for Refused {
    fn from(error: E) -> Refused {
        Refused { error: Box::new(error.into()), skippable: false, visible: None }
    }
}

fn on_real(args: &Args) -> Result<Place, Refused> {
    // A GPU that was named and is not there is a mistake; none at all is a machine without any.
    let all = matches!(args.gpu, GpuSelector::All);
    let targets = targets(&args.gpu)
        .map_err(|error| Refused { skippable: all && error.gpu_missing, ..error.into() })?;
    let uuids: Vec<String> = targets.iter().map(|target| target.uuid().to_owned()).collect();
    // What the user has set stays as it is: some launchers take numbers alone.
    let visible = (!all).then(|| uuids.join(","));
    let sharing = if args.shared { Sharing::Allowed } else { Sharing::Refused };
    for target in &targets {
        if let Some(obstacle) = target.obstacle(sharing) {
            return Err(Refused { visible, ..refused(target.index, &obstacle) });
        }
    }
    let locks = uuids.iter().map(|uuid| lock(uuid)).collect::<Result<_, _>>()?;
    let gpus: Vec<RealGpu> = targets.iter().map(|target| real(args, target)).collect();
    let meter = NvmlMeter::open(uuids)?;
    let meter: Arc<dyn Meter> = Arc::new(meter);
    let named = |gpu: &RealGpu| format!("{} {} {}", gpu.uuid, gpu.total.get(), gpu.headroom.get());
    let decides = gpus.iter().map(named).collect::<Vec<_>>().join(";");
    let machine = RealMachine::new(gpus, Some(meter), visible)?;
    let plan_gpus = machine.free_at_first().map(|(gpu, free)| PlanGpu {
        index: gpu.index,
        name: gpu.name.clone(),
        uuid: gpu.uuid.clone(),
        simulated: false,
        total: gpu.total,
        free,
        // The peak of a run has the context and all else in it.
        capacity: Capacity::of_device(free, &OutsideAllocator::default(), gpu.headroom),
    });
    Ok(Place {
        gpus: plan_gpus.collect(),
        machine: Machine::Real(machine),
        decides,
        skipped: None,
        _locks: locks,
    })
}

fn real(args: &Args, target: &Target) -> RealGpu {
    let total = target.memory().map_or(Bytes::ZERO, |memory| memory.total);
    RealGpu {
        index: target.index,
        name: target.gpu.name.clone(),
        uuid: target.uuid().to_owned(),
        total,
        headroom: args.headroom.unwrap_or(Headroom::DEFAULT).of(total),
    }
}

fn refused(index: u32, obstacle: &Obstacle) -> Refused {
    let (code, skippable, hint) = match obstacle {
        // A trial has no use for a budget: what it runs takes what it takes.
        Obstacle::MemoryUnknown(_) => (exit::NOT_MEASURED, true, OTHERWISE.to_owned()),
        obstacle if obstacle.is_passing() => (exit::NOT_MEASURED, false, obstacle.hint()),
        obstacle => (exit::NO_GPU, false, obstacle.hint()),
    };
    let error = CliError::new(code, format!("nothing is tried on GPU {index}"));
    let error = error.cause(obstacle.to_string()).hint(hint);
    Refused { error: Box::new(error), skippable, visible: None }
}

fn lock(uuid: &str) -> Result<GpuLock, CliError> {
    GpuLock::take(&lock::default_folder(), uuid, std::time::Duration::ZERO, || false).map_err(
        |error| {
            CliError::new(exit::NOT_MEASURED, "the GPU cannot be had for a trial")
                .cause(error.to_string())
                .hint(error.hint())
        },
    )
}
