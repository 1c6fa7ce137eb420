//! In the place of `cli/launching/`, where there is no Unix: nothing is started or allocated here,
//! and whoever asks for it is told.

use std::ffi::OsString;

use crate::cli;
use crate::cli::error::CliError;
use crate::cli::fits::{OnAll, OnDevice};
use crate::cli::job::Job;
use crate::cli::output::{Answer, Style};
use crate::plan::result::Method;
use crate::plan::together::Fits;
use crate::probe::target::Sharing;
use crate::units::{AccumulationSteps, MicroBatch};

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

/// Answers by the estimate, as no GPU may be probed here.
///
/// # Errors
/// When probes are asked for.
pub(super) fn judge<'a, 'b>(
    _: &'a Job,
    estimated: &'b mut OnAll<OnDevice<'a>>,
    sharing: Sharing,
) -> Result<Probing<'a, 'b>, CliError> {
    if sharing == Sharing::Allowed {
        return Err(not_here("`oomph plan --probe always`", "allocates on a GPU"));
    }
    Ok(Probing { estimated })
}

/// The estimate, in the place of the GPUs.
pub struct Probing<'a, 'b> {
    estimated: &'b mut OnAll<OnDevice<'a>>,
}

impl Probing<'_, '_> {
    /// Says that nothing was probed.
    pub fn finish(self) -> (Method, Vec<String>) {
        let note = "no GPU was probed: oomph does so on Linux alone".to_owned();
        (Method::Estimated, vec![note])
    }
}

impl Fits for Probing<'_, '_> {
    type Error = CliError;

    fn largest(&mut self, accumulation: AccumulationSteps) -> Result<u64, CliError> {
        self.estimated.largest(accumulation)
    }

    fn runs(
        &mut self,
        micro_batch: MicroBatch,
        accumulation: AccumulationSteps,
    ) -> Result<bool, CliError> {
        self.estimated.runs(micro_batch, accumulation)
    }
}

fn not_here(what: &str, does: &str) -> CliError {
    CliError::usage(format!("{what} is not here: this oomph is one for {}", std::env::consts::OS))
        .cause(format!("it {does}, which oomph knows how to on Linux alone"))
        .hint("`oomph estimate`, `plan`, `advise` and `check` work here; WSL has all of it")
}
