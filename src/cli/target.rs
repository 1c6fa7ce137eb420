//! The GPUs that an answer is for: simulated, real, or none but a capacity.

use crate::cli::error::CliError;
use crate::cli::gpu_select::GpuSelector;
use crate::profile::gpu::GpuProfile;
use crate::profile::simulated::SimulatedGpus;
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
    /// What is free now.
    pub free: Bytes,
    /// What decides kernels and scratch.
    pub arch: GpuArch,
    /// What a CUDA context takes.
    pub context: Bytes,
}

/// Returns the simulated GPUs that `sim:...` names.
///
/// # Errors
/// When the specification cannot be read.
pub fn simulated(spec: &str) -> Result<Vec<ChosenGpu>, CliError> {
    let gpus = SimulatedGpus::parse(spec).map_err(|error| {
        let fact = format!("--gpu {spec}: {error}");
        CliError::usage(fact).hint(error.hint())
    })?;
    let free = gpus.free_each();
    let GpuProfile { name, product_name, total, arch, context, .. } = &gpus.profile;
    let one = |index| ChosenGpu {
        index,
        name: product_name.clone(),
        uuid: format!("SIM-{}-{index}", name.replace(' ', "")),
        simulated: true,
        total: *total,
        free,
        arch: *arch,
        context: *context,
    };
    Ok((0..gpus.count).map(one).collect())
}

/// Returns the GPUs that `--gpu` means.
///
/// # Errors
/// When the specification cannot be read, there is no driver, or no such GPU.
pub fn chosen(selector: &GpuSelector) -> Result<Vec<ChosenGpu>, CliError> {
    match selector {
        GpuSelector::Simulated(spec) => simulated(spec),
        GpuSelector::All | GpuSelector::These(_) => {
            Err(CliError::new(crate::cli::exit::NO_GPU, "real GPUs are not asked in this commit")
                .hint("--gpu sim:h100-80gb plans for a simulated one"))
        }
    }
}
