//! `oomph gpus`: what each GPU has free, and who holds the rest; `--select` picks the freest.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::gpu_select::{GpuSelector, SelectError, select};
use crate::cli::output::{Answer, Style};
use crate::cli::values::count;
use crate::device::nvml::list_gpus;
use crate::device::nvml_failure::NvmlFailure;
use crate::device::sim::SimInventory;
use crate::probe::free::{MinFree, freest};
use crate::probe::{GpuList, GpuRow, Inventory};
use crate::profile::simulated::SimulatedGpus;
use crate::report;
use crate::report::wait::{stands, visible_devices};
use crate::units::Bytes;

/// Arguments of `oomph gpus`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  oomph gpus\n  oomph gpus --select 2 --min-free 20GiB\n  \
    oomph gpus --json --gpu sim:h100-80gb*2")]
pub struct Args {
    /// Choose GPUs: all, 0,2, a UUID, or a simulated one: sim:h100-80gb, sim:a100-40gb*8
    #[arg(long, value_name = "GPU")]
    pub gpu: Option<GpuSelector>,
    /// Print a CUDA_VISIBLE_DEVICES value: the N GPUs with the most free memory, by UUID
    #[arg(long, value_name = "N", value_parser = count)]
    pub select: Option<u64>,
    /// Select only GPUs with this much free: 20GiB, or 80% of the total
    #[arg(long, value_name = "SIZE", requires = "select")]
    pub min_free: Option<MinFree>,
}

/// Runs `oomph gpus`.
///
/// # Errors
/// When there is no driver, or no such GPU. A GPU that fails is a row, not an error.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    let list = chosen(args.gpu.as_ref())?;
    if let Some(wanted) = args.select {
        let min = args.min_free.unwrap_or(MinFree::Size(Bytes::ZERO));
        let picked = pick(&list.rows, wanted, min)?;
        let text = if style.json {
            report::gpus::selection_json(&picked)
        } else {
            format!("{}\n", visible_devices(picked.into_iter()))
        };
        return Ok(Answer { text, code: exit::OK });
    }
    let text = if style.json { report::gpus::json(&list) } else { report::gpus::table(&list) };
    let any = list.rows.iter().any(|row| row.gpu.is_ok());
    Ok(Answer { text, code: if any { exit::OK } else { exit::NOT_MEASURED } })
}

/// Picks the freest GPUs that have enough free memory.
///
/// # Errors
/// When there are not that many, or they are simulated: CUDA knows no UUID of theirs.
fn pick(rows: &[GpuRow], wanted: u64, min: MinFree) -> Result<Vec<&GpuRow>, CliError> {
    if rows.iter().any(|row| row.gpu.as_ref().is_ok_and(|gpu| gpu.simulated)) {
        return Err(CliError::usage("--select picks among GPUs that are in this machine")
            .cause("a simulated GPU has no UUID that CUDA_VISIBLE_DEVICES could name")
            .hint("leave --gpu sim:... out; `oomph run --gpu sim:...` starts a program on it"));
    }
    let freest = freest(rows, min);
    let enough = freest.len();
    match usize::try_from(wanted) {
        Ok(wanted) if wanted <= enough => {
            Ok(freest.into_iter().take(wanted).map(|at| &rows[at]).collect())
        }
        _ => {
            let others = (0..rows.len()).filter(|at| !freest.contains(at));
            let said: Vec<String> = others.map(|at| stands(&rows[at], min)).collect();
            let said = match said.as_slice() {
                [] => format!("there are {} GPUs here", rows.len()),
                said => said.join("; "),
            };
            let any = rows.iter().any(|row| row.gpu.is_ok());
            let code = if any { exit::DOES_NOT_FIT } else { exit::NOT_MEASURED };
            let fact = format!("{wanted} GPUs are to be selected, and {enough} have enough free");
            let hint = format!("`oomph wait --gpu any:{wanted} --min-free SIZE` waits for them");
            Err(CliError::new(code, fact).cause(said).hint(hint))
        }
    }
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
