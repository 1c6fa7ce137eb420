//! `oomph gpus`: what each GPU has free, and who holds the rest.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::gpu_select::{GpuSelector, SelectError, select};
use crate::cli::output::{self, Answer, Style};
use crate::cli::run::duration;
use crate::cli::values::count;
use crate::cli::{gpus_pick, gpus_watch};
use crate::device::nvml::list_gpus;
use crate::device::nvml_failure::NvmlFailure;
use crate::device::sim::SimInventory;
use crate::probe::free::MinFree;
use crate::probe::{GpuList, Inventory};
use crate::profile::simulated::SimulatedGpus;
use crate::report;

/// Arguments of `oomph gpus`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  oomph gpus --watch\n  \
    oomph gpus --select 2 --min-free 20GiB\n  \
    oomph gpus --gpu sim:h100-80gb*2 --format prometheus")]
pub struct Args {
    /// Choose GPUs: all, 0,2, a UUID, or a simulated one: sim:h100-80gb, sim:a100-40gb*8
    /// [default: all that CUDA_VISIBLE_DEVICES leaves]
    #[arg(long, value_name = "GPU")]
    pub gpu: Option<GpuSelector>,
    /// Print a CUDA_VISIBLE_DEVICES value: the N GPUs with the most free memory, by UUID
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    #[arg(conflicts_with_all = ["watch", "format"])]
    pub select: Option<u64>,
    /// Select only GPUs with this much free: 20GiB, or 80% of the total [default: any]
    #[arg(long, value_name = "SIZE", requires = "select", allow_hyphen_values = true)]
    pub min_free: Option<MinFree>,
    /// Read again and again, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// Read this often [default: 2s]
    #[arg(long, value_name = "TIME", requires = "watch", value_parser = duration)]
    #[arg(allow_hyphen_values = true)]
    pub interval: Option<Duration>,
    /// Print for this reader [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    pub format: Option<GpusFormat>,
    /// Write to this file instead of stdout, each time whole
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub out: Option<PathBuf>,
}

/// The value of `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GpusFormat {
    /// A table for people.
    Text,
    /// The same as `--json`.
    Json,
    /// Prometheus' text format, as node_exporter's textfile collector reads it.
    Prometheus,
}

impl Args {
    pub(super) fn format(&self, style: Style) -> GpusFormat {
        let json = if style.json { GpusFormat::Json } else { GpusFormat::Text };
        self.format.unwrap_or(json)
    }
}

/// Runs `oomph gpus`.
///
/// # Errors
/// When there is no driver, or no such GPU. A GPU that fails is a row, not an error.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    if style.json && !matches!(args.format, None | Some(GpusFormat::Json)) {
        return Err(CliError::usage("--json and --format ask for different things")
            .hint("leave one of them out"));
    }
    if args.watch {
        return gpus_watch::run(args, style);
    }
    let list = chosen(args.gpu.as_ref())?;
    let (text, code) = match args.select {
        Some(wanted) => (gpus_pick::run(&list.rows, wanted, args.min_free, style)?, exit::OK),
        None => (render(&list, args.format(style)), code(&list)),
    };
    match &args.out {
        Some(path) => {
            output::write_file(path, &text).map(|()| Answer { text: String::new(), code })
        }
        None => Ok(Answer { text, code }),
    }
}

fn render(list: &GpuList, format: GpusFormat) -> String {
    match format {
        GpusFormat::Text => report::gpus::table(list),
        GpusFormat::Json => report::gpus::json(list),
        GpusFormat::Prometheus => report::prometheus::metrics(list),
    }
}

/// Returns the exit code of a reading: one GPU that answers is enough.
pub(super) fn code(list: &GpuList) -> u8 {
    let any = list.rows.iter().any(|row| row.gpu.is_ok());
    if any { exit::OK } else { exit::NOT_MEASURED }
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
        let fact = failure.to_string();
        let error = match failure {
            NvmlFailure::Silent { .. } => CliError::new(exit::NOT_MEASURED, fact),
            _ => CliError::gpu_missing(fact),
        };
        error.cause(failure.cause()).hint(failure.hint())
    }
}

impl From<SelectError> for CliError {
    fn from(error: SelectError) -> CliError {
        let fact = error.to_string();
        match error {
            SelectError::NoSuchGpu { .. } => CliError::gpu_missing(fact)
                .hint("`oomph gpus` lists them; --gpu takes an index, a UUID, or sim:h100-80gb"),
            SelectError::Ambiguous { .. } => {
                CliError::usage(fact).hint("write more of the one that is meant")
            }
            SelectError::NoGpus => CliError::gpu_missing(fact)
                .cause("NVML counts 0 GPUs: none is there, or none is passed into this container")
                .hint("start the container with `--gpus all`, or use --gpu sim:h100-80gb"),
            SelectError::AllHidden(_) => CliError::gpu_missing(fact)
                .hint("unset CUDA_VISIBLE_DEVICES, or name a GPU: --gpu 0"),
        }
    }
}
