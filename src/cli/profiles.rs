//! `oomph profiles`: what is built in.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::output::{Answer, Style};

/// Arguments of `oomph profiles`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  oomph profiles list\n  oomph profiles show h100-80gb --json")]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with the profiles.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// List every model and GPU that is built in
    #[command(after_help = "Examples:\n  oomph profiles list\n  oomph profiles list --json")]
    List,
    /// Show one model or GPU
    #[command(
        after_help = "Examples:\n  oomph profiles show gpt2\n  oomph profiles show t4 --json"
    )]
    Show {
        /// Its name
        name: String,
    },
}

/// Runs `oomph profiles`.
///
/// # Errors
/// When there is no profile of that name.
pub fn run(_args: &Args, _style: Style) -> Result<Answer, CliError> {
    Err(CliError::new(exit::BROKEN, "`oomph profiles` is not built in this commit"))
}
