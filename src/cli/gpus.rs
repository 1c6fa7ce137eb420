//! `oomph gpus`: what each GPU has free, and who holds the rest.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::gpu_select::{GpuSelector, SelectError, select};
use crate::cli::output::{Answer, Style};
use crate::device::nvml::list_gpus;
use crate::device::nvml_failure::NvmlFailure;
use crate::device::sim::SimInventory;
use crate::probe::{GpuList, Inventory};
use crate::profile::simulated::SimulatedGpus;
use crate::report;

/// Arguments of `oomph gpus`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  oomph gpus\n  oomph gpus --json --gpu sim:h100-80gb*2")]
pub struct Args {
    /// Choose GPUs: all, 0,2, a UUID, or a simulated one: sim:h100-80gb, sim:a100-40gb*8
    #[arg(long, value_name = "GPU")]
    pub gpu: Option<GpuSelector>,
}

/// Runs `oomph gpus`.
///
/// # Errors
/// When there is no driver, or no such GPU. A GPU that fails is a row, not an error.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    let list = chosen(args.gpu.as_ref())?;
    let text = if style.json { report::gpus::json(&list) } else { report::gpus::table(&list) };
    let any = list.rows.iter().any(|row| row.gpu.is_ok());
    Ok(Answer { text, code: if any { exit::OK } else { exit::NOT_MEASURED } })
}

/// Asks every GPU and keeps the rows that `--gpu` (or CUDA_VISIBLE_DEVICES) means.
///
/// # Errors
/// When there is no driver, or no such GPU.
pub fn chosen(selector: Option<&GpuSelector>) -> Result<GpuList, CliError> {
    let all = GpuSelector::All;
    let selector = selector.unwrap_or(&all);
    let list = match selector {
        GpuSelector::Simulated(text) => {
            let gpus = SimulatedGpus::parse(text).map_err(|error| {
                CliError::usage(format!("--gpu {text}: {error}")).hint(error.hint())
            })?;
            let Ok(list) = SimInventory::new(gpus).list();
            list
        }
        GpuSelector::All | GpuSelector::These(_) => list_gpus()?,
    };
    let visible = match selector {
        GpuSelector::Simulated(_) => None,
        _ => std::env::var("CUDA_VISIBLE_DEVICES").ok(),
    };
    let rows = select(&list, selector, visible.as_deref())?;
    Ok(GpuList { rows, ..list })
}

impl From<NvmlFailure> for CliError {
    fn from(failure: NvmlFailure) -> CliError {
        let code = match failure {
            NvmlFailure::Silent { .. } => exit::NOT_MEASURED,
            _ => exit::NO_GPU,
        };
        CliError::new(code, failure.to_string()).cause(failure.cause()).hint(failure.hint())
    }
}

impl From<SelectError> for CliError {
    fn from(error: SelectError) -> CliError {
        let fact = error.to_string();
        match error {
            SelectError::NoSuchGpu { .. } => CliError::new(exit::NO_GPU, fact)
                .hint("`oomph gpus` lists them; --gpu takes an index, a UUID, or sim:h100-80gb"),
            SelectError::NoGpus => CliError::new(exit::NO_GPU, fact)
                .cause("NVML counts 0 GPUs: none is there, or none is passed into this container")
                .hint("start the container with `--gpus all`, or use --gpu sim:h100-80gb"),
            SelectError::AllHidden(_) => CliError::new(exit::NO_GPU, fact)
                .hint("unset CUDA_VISIBLE_DEVICES, or name a GPU: --gpu 0"),
        }
    }
}
