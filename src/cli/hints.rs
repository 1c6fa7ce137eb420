//! What to try when a step does not fit, each with what it would need.

use crate::cli::error::CliError;
use crate::cli::fits::{OnDevice, SETTLED};
use crate::cli::pasted::Typed;
use crate::memory::fit::{Need, need_on};
use crate::parallel::both;
use crate::plan::advise::change::{Change, Way};
use crate::plan::advise::lattice::Lattice;
use crate::plan::capacity::Capacity;
use crate::plan::result::Estimate;
use crate::step::setup::{Allocator, Setup};
use crate::units::{AccumulationSteps, Bytes, MicroBatch};

impl OnDevice<'_> {
    /// Returns the memory of a step that does not fit, with what to try instead.
    ///
    /// # Errors
    /// When the setup is not modelled yet, or asks for more than any device has.
    pub fn refused(
        &self,
        micro_batch: MicroBatch,
        accumulation: AccumulationSteps,
    ) -> Result<Estimate, CliError> {
        let sizes = (micro_batch, accumulation);
        let (estimate, hints) =
            self.hints_beside(sizes, || self.estimate(micro_batch, accumulation));
        Ok(Estimate { hints: hints?, ..estimate? })
    }

    /// Returns what to try when a step of these sizes does not fit, with what it would need.
    ///
    /// # Errors
    /// When the setup is not modelled yet.
    pub fn hints(
        &self,
        micro_batch: MicroBatch,
        accumulation: AccumulationSteps,
    ) -> Result<Vec<String>, CliError> {
        self.hints_beside((micro_batch, accumulation), || ()).1
    }

    /// Does something that takes about as long as one hint, while hints are worked out.
    fn hints_beside<T>(
        &self,
        (micro_batch, accumulation): (MicroBatch, AccumulationSteps),
        first: impl FnOnce() -> T,
    ) -> (T, Result<Vec<String>, CliError>) {
        if let Some(hint) = self.all_is_headroom() {
            return (first(), Ok(vec![hint]));
        }
        let settled = AccumulationSteps::new(SETTLED).unwrap_or(AccumulationSteps::ONE);
        let remedies = self.remedies(self.setup(micro_batch, accumulation.min(settled)));
        let (job, capacity) = (self.job, self.capacity_bytes());
        let hint = |(flag, setup): &(String, Setup)| -> Result<(bool, String), CliError> {
            Ok(match need_on(&job.trace(setup)?, capacity)? {
                Need::Takes(bytes) => (true, format!("{flag}: takes {bytes}, fits")),
                Need::AtLeast(bytes) => {
                    (false, format!("{flag}: needs over {bytes}, too much as well"))
                }
                Need::From(bytes) => (false, format!("{flag}: needs {bytes}, too much as well")),
            })
        };
        let asked = self.job.settings.setup.allocator;
        // Fragments are seldom what is too much: another allocator is named where it helps.
        let is_worth_naming = |(_, setup): &&(String, Setup), (fits, _): &(bool, String)| {
            *fits || setup.allocator == asked
        };
        let (some, others) = remedies.split_at(remedies.len() / 2);
        let all = |remedies: &[_]| remedies.iter().map(hint).collect::<Vec<Result<_, _>>>();
        let ((first, mut hints), more) = both(|| (first(), all(some)), || all(others));
        hints.extend(more);
        let hints = hints.into_iter().collect::<Result<Vec<_>, _>>().map(|hints| {
            let none = !hints.iter().any(|(fits, _)| *fits);
            let together = none.then(together);
            let named =
                remedies.iter().zip(hints).filter(|(remedy, hint)| is_worth_naming(remedy, hint));
            named.map(|(_, (_, hint))| hint).chain(together).collect()
        });
        (first, hints)
    }

    /// What to try where nothing is left for the allocator, since the headroom takes it all.
    fn all_is_headroom(&self) -> Option<String> {
        let Capacity { bytes, headroom, free, outside, given } = self.capacity?;
        let there = if given { free } else { free.saturating_sub(outside) };
        (bytes == Bytes::ZERO && there > Bytes::ZERO).then(|| {
            format!("a smaller --headroom: {headroom} is to stay free, and {there} is there in all")
        })
    }

    /// Returns what takes less memory than a setup, with the flag that asks for it: what `oomph advise`
    /// would look at first.
    fn remedies(&self, setup: Setup) -> Vec<(String, Setup)> {
        let base = Way { setup, tuning: self.job.settings.tuning.clone() };
        let first = Lattice::of(&self.job.model.config, &base).first_aid();
        let remedy = |change: Change| match change {
            Change::MicroBatch(micro_batch, _) => {
                (format!("--micro-batch {micro_batch}"), Setup { micro_batch, ..setup })
            }
            Change::Allocator(allocator) => {
                let flag = format!("{} ({})", change.typed(), Allocator::IN_ENVIRONMENT);
                (flag, Setup { allocator, ..setup })
            }
            _ => (change.typed(), change.applied(&base).setup),
        };
        first.into_iter().map(remedy).collect()
    }
}

/// Says how to look at several changes together, with the command where it is known.
pub fn together() -> String {
    match Typed::advise() {
        Some(command) => format!("several changes together: {command}"),
        None => "oomph advise: several changes together".to_owned(),
    }
}
