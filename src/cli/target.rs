//! The GPUs that an answer is for: simulated, real, or none but a capacity.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::gpu_select::{GpuId, GpuSelector};
use crate::cli::gpus;
use crate::probe::GpuRow;
use crate::probe::target::{Obstacle, Sharing, Target};
use crate::profile::gpu::GpuProfile;
use crate::profile::simulated::{MOST_GPUS, SimulatedGpus};
use crate::step::setup::GpuArch;
use crate::units::Bytes;

/// What a context takes where no profile says it: the largest allowance of the built-in ones is
/// not far from it.
///
/// Source: 0.3 to 0.6 GB with lazily loaded kernels (oracle/README.md, "not covered").
pub const CONTEXT_ALLOWANCE: Bytes = Bytes::mib(600);

/// One GPU that was chosen, as planning sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ChosenGpu {
    /// NVML's index, or the number of the simulated one.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// UUID; a simulated one has a name of its own.
    pub uuid: String,
    /// Whether oomph made it up.
    pub simulated: bool,
    /// All of its memory.
    pub total: Bytes,
    /// What CUDA reports as its memory: all but what the driver keeps.
    pub usable: Bytes,
    /// What is free now.
    pub free: Bytes,
    /// What decides kernels and scratch.
    pub arch: GpuArch,
    /// What a CUDA context takes.
    pub context: Bytes,
}

impl ChosenGpu {
    /// Whether another differs in no respect that memory depends on.
    pub fn is_alike(&self, other: &ChosenGpu) -> bool {
        (self.arch, self.total, self.usable, self.free, self.context)
            == (other.arch, other.total, other.usable, other.free, other.context)
    }
}

/// Returns the simulated GPUs that `sim:...` names, or `sim:...,sim:...` for several kinds.
///
/// # Errors
/// When the specification cannot be read, or names more than one job is planned for.
pub fn simulated(spec: &str) -> Result<Vec<ChosenGpu>, CliError> {
    let mut gpus = Vec::new();
    for (at, part) in spec.split(",sim:").enumerate() {
        let kind = if at == 0 { part.to_owned() } else { format!("sim:{part}") };
        gpus.extend(of_one_kind(&kind)?);
    }
    if gpus.len() > MOST_GPUS as usize {
        let fact = format!("--gpu {spec}: {} GPUs are too many", gpus.len());
        return Err(CliError::usage(fact).hint(format!("{MOST_GPUS} at most")));
    }
    for (index, gpu) in (0..).zip(&mut gpus) {
        gpu.index = index;
    }
    Ok(gpus)
}

fn of_one_kind(spec: &str) -> Result<Vec<ChosenGpu>, CliError> {
    let gpus = SimulatedGpus::parse(spec).map_err(|error| {
        let fact = format!("--gpu {spec}: {error}");
        CliError::usage(fact).hint(error.hint())
    })?;
    let free = gpus.free_each();
    let GpuProfile { name, product_name, total, reserved, arch, context, .. } = &gpus.profile;
    let one = |index| ChosenGpu {
        index,
        name: product_name.clone(),
        uuid: format!("SIM-{}-{index}", name.replace(' ', "")),
        simulated: true,
        total: *total,
        usable: total.saturating_sub(*reserved),
        free,
        arch: *arch,
        context: *context,
    };
    Ok((0..gpus.count).map(one).collect())
}

/// Returns the GPUs that `--gpu` means.
///
/// # Errors
/// When the specification cannot be read, there is no driver, no such GPU, or one of those chosen
/// cannot be planned for: to leave it out is the user's decision.
pub fn chosen(selector: &GpuSelector) -> Result<Vec<ChosenGpu>, CliError> {
    match selector {
        GpuSelector::Simulated(spec) => simulated(spec),
        _ => targets(selector)?.into_iter().map(real).collect(),
    }
}

/// Returns the real GPUs that `--gpu` means, or their MIG instances; obstacles are the caller's.
///
/// # Errors
/// When there is no driver, no such GPU, or one of those chosen does not answer.
pub fn targets(selector: &GpuSelector) -> Result<Vec<Target>, CliError> {
    let ids = match selector {
        GpuSelector::These(ids) => ids.as_slice(),
        GpuSelector::All | GpuSelector::Simulated(_) => &[],
    };
    let list = gpus::chosen(Some(selector))?;
    let rows = list.rows.into_iter().enumerate();
    rows.map(|(at, row)| {
        let prefix = match ids.get(at) {
            Some(GpuId::Uuid(uuid)) => Some(uuid.as_str()),
            _ => None,
        };
        target(row, prefix)
    })
    .collect()
}

fn refuse(index: u32, code: u8, why: String, hint: String) -> CliError {
    CliError::new(code, format!("GPU {index} cannot be planned for")).cause(why).hint(hint)
}

/// Takes a GPU that answered, or the MIG instance of it whose UUID begins with `prefix`.
fn target(row: GpuRow, prefix: Option<&str>) -> Result<Target, CliError> {
    let index = row.index;
    let gpu = row.gpu.map_err(|reason| {
        let hint = "name those that work (--gpu 0,2), or use --gpu sim:h100-80gb".to_owned();
        refuse(index, exit::NO_GPU, reason, hint)
    })?;
    let instance = prefix.and_then(|prefix| {
        gpu.mig_instances.iter().find(|instance| instance.uuid.starts_with(prefix)).cloned()
    });
    Ok(Target { index, gpu, instance })
}

/// Returns the exit code of an obstacle: what passes, or was not to be learned, could not be measured;
/// else the GPU is none to use.
pub fn code_of(obstacle: &Obstacle) -> u8 {
    match obstacle {
        Obstacle::MemoryUnknown(_) | Obstacle::ExclusiveInUse(_) | Obstacle::InUse(_) => {
            exit::NOT_MEASURED
        }
        Obstacle::MigParent { .. } | Obstacle::Prohibited => exit::NO_GPU,
    }
}

/// Takes a GPU that can be planned for.
fn real(target: Target) -> Result<ChosenGpu, CliError> {
    let index = target.index;
    let refuse = |code, why, hint| refuse(index, code, why, hint);
    // Whether others use it decides about a probe, not about a plan.
    if let Some(obstacle) = target.obstacle(Sharing::Allowed).filter(|o| !o.is_passing()) {
        return Err(refuse(code_of(&obstacle), obstacle.to_string(), obstacle.hint()));
    }
    let memory = target.memory().map_err(|reason| {
        refuse(exit::NOT_MEASURED, reason.to_owned(), "--capacity 40GiB".to_owned())
    })?;
    let profile = GpuProfile::of_product(&target.gpu.name);
    let assumed = profile.as_ref().map_or(GpuArch::A100, |profile| profile.arch);
    Ok(ChosenGpu {
        index,
        uuid: target.uuid().to_owned(),
        simulated: false,
        total: memory.total,
        usable: memory.total.saturating_sub(memory.reserved.unwrap_or_default()),
        free: memory.free,
        arch: GpuArch {
            compute_capability: target.gpu.compute_capability.unwrap_or(assumed.compute_capability),
            sm_count: target.gpu.sm_count.unwrap_or(assumed.sm_count),
        },
        context: profile.map_or(CONTEXT_ALLOWANCE, |profile| profile.context),
        name: target.gpu.name,
    })
}
