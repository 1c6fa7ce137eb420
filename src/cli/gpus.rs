//! `oomph gpus`: what each GPU has free, and who holds the rest.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::gpu_select::GpuSelector;
use crate::cli::output::{Answer, Style};

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
/// Always, in this commit: the driver's side is written on another branch.
pub fn run(_args: &Args, _style: Style) -> Result<Answer, CliError> {
    Err(CliError::new(exit::BROKEN, "`oomph gpus` is not built in this commit"))
}
