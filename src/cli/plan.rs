//! `oomph plan`: micro-batch and accumulation for an effective batch.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::output::{Answer, Style};
use crate::cli::setup::ModelArgs;

/// When `plan` makes allocations on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProbeWhen {
    /// On a real GPU that nobody else uses.
    Auto,
    /// On any real GPU.
    Always,
    /// Never: plan on the estimate.
    Never,
}

/// Arguments of `oomph plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  oomph plan llama-3.2-1b --seq-len 2048 --precision bf16 --effective-batch 256 --gpu sim:h100-80gb
  oomph plan llama-3.1-8b --precision bf16 --checkpointing full --effective-tokens 1048576 --gpu sim:b200 --json
  oomph plan gpt2 --precision fp32 --effective-batch 96 --exact --gpu sim:24GiB")]
pub struct Args {
    /// The model and its setup.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Make allocations on the GPU: auto (when nobody else uses it), always or never
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = "Device")]
    pub probe: ProbeWhen,
    /// Exit with code 6 when no exact plan reaches the effective batch
    #[arg(long)]
    pub exact: bool,
}

/// Runs `oomph plan`.
///
/// # Errors
/// When the setup cannot be worked with, or no GPU answers.
pub fn run(_args: &Args, _style: Style) -> Result<Answer, CliError> {
    Err(CliError::new(exit::BROKEN, "`oomph plan` is not built in this commit"))
}
