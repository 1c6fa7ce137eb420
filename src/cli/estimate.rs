//! `oomph estimate`: the memory of one training step.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::output::{Answer, Style};
use crate::cli::setup::ModelArgs;

/// Arguments of `oomph estimate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  oomph estimate llama-3.2-1b --precision bf16 --seq-len 2048 --micro-batch 2
  oomph estimate gpt2 --precision fp32 --capacity 20GiB --micro-batch auto
  oomph estimate llama-3.1-8b --precision bf16 --checkpointing full --gpu sim:h100-80gb --json")]
pub struct Args {
    /// The model and its setup.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Runs `oomph estimate`.
///
/// # Errors
/// When the setup cannot be worked with.
pub fn run(_args: &Args, _style: Style) -> Result<Answer, CliError> {
    Err(CliError::new(exit::BROKEN, "`oomph estimate` is not built in this commit"))
}
