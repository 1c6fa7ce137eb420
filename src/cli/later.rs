//! Commands whose names are settled and whose work comes later: they say so, and what to use now.

use std::ffi::OsString;

use crate::cli::error::CliError;

/// Whatever follows the command; it is not looked at.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ignored.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ANYTHING")]
    pub rest: Vec<OsString>,
}

/// Returns the error for a command that is not there yet, with what to use instead.
pub fn not_yet(command: &str, instead: &str) -> CliError {
    CliError::not_yet(format!("`oomph {command}`")).hint(instead)
}
