//! `oomph probe`: the largest micro-batch that fits, by allocations on the device.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::output::{Answer, Style};
use crate::cli::setup::ModelArgs;

/// Arguments of `oomph probe`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  oomph probe llama-3.2-1b --precision bf16 --seq-len 2048\n  \
    oomph probe gpt2 --precision fp32 --gpu sim:rtx-3090")]
pub struct Args {
    /// The model and its setup.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Runs `oomph probe`.
///
/// # Errors
/// Always, in this commit: the device's side is written on another branch.
pub fn run(_args: &Args, _style: Style) -> Result<Answer, CliError> {
    Err(CliError::new(exit::BROKEN, "`oomph probe` is not built in this commit"))
}
