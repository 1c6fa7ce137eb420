//! In the place of `cli/launching/`, where there is no Unix: nothing is started or allocated here,
//! and whoever asks for it is told.

use std::ffi::OsString;
use std::marker::PhantomData;

use crate::cli;
use crate::cli::error::CliError;
use crate::cli::fits::OnDevice;
use crate::cli::job::Job;
use crate::cli::on_all::OnAll;
use crate::cli::output::{Answer, Style};
use crate::plan::result::Method;
use crate::probe::target::Sharing;
use crate::units::AccumulationSteps;

/// Returns nothing: this oomph starts no processes.
pub(super) fn helper(_: &[OsString]) -> Option<u8> {
    None
}

/// Refuses `oomph run`.
pub(super) fn run(_: &cli::run::Args, _: Style) -> Result<Answer, CliError> {
    Err(not_here("`oomph run`", "starts a command on simulated GPUs"))
}

/// Refuses `oomph trial`.
pub(super) fn trial(_: &cli::trial::Args, _: Style) -> Result<Answer, CliError> {
    Err(not_here("`oomph trial`", "starts a command"))
}

/// Refuses `oomph probe`.
pub(super) fn probe(_: &cli::probe::Args, _: Style) -> Result<Answer, CliError> {
    Err(not_here("`oomph probe`", "allocates on a GPU"))
}

/// In the place of the GPUs: none may be probed here.
pub struct Probing<'a>(PhantomData<&'a Job>);

impl<'a> Probing<'a> {
    /// Takes no GPU.
    ///
    /// # Errors
    /// When probes are asked for.
    pub fn new(_: &'a Job, sharing: Sharing) -> Result<Probing<'a>, CliError> {
        if sharing == Sharing::Allowed {
            return Err(not_here("`oomph plan --probe always`", "allocates on a GPU"));
        }
        Ok(Probing(PhantomData))
    }

    /// Leaves the answer to the estimate.
    ///
    /// # Errors
    /// None.
    pub fn largest(
        &mut self,
        _: &mut OnAll<OnDevice>,
        _: AccumulationSteps,
    ) -> Result<Option<u64>, CliError> {
        Ok(None)
    }

    /// Says that nothing was probed.
    pub fn finish(self) -> (Method, Vec<String>) {
        let note = "no GPU was probed: oomph does so on Linux alone".to_owned();
        (Method::Estimated, vec![note])
    }
}

fn not_here(what: &str, does: &str) -> CliError {
    CliError::usage(format!("{what} is not here: this oomph is one for {}", std::env::consts::OS))
        .cause(format!("it {does}, which oomph knows how to on Linux alone"))
        .hint("`oomph estimate`, `plan`, `advise` and `check` work here; WSL has all of it")
}
