//! What to keep in mind about a trial.

use crate::cli::launching::trial_place::Machine;
use crate::cli::launching::trying::Tried;
use crate::plan::solver::{Batches, Solution};
use crate::trial::outcome::{PeakSource, Verdict};
use crate::trial::sampler::EVERY;
use crate::trial::template::Sizes;
use crate::trial::trial::{Run, Trial};
use crate::units::{AccumulationSteps, MicroBatch};

/// What a trial has found.
pub struct Found<'a> {
    /// The trial, over.
    pub trial: &'a Trial<Tried>,
    /// The plan, if there is one.
    pub solution: Option<&'a Solution>,
    /// No micro-batch above this was tried.
    pub limit: MicroBatch,
    /// Samples of a replica in an optimizer step, where there is a target.
    pub samples: Option<u64>,
    /// Whether the command is told how often to accumulate.
    pub accumulates: bool,
}

/// Returns the notes, each a line.
pub fn notes(found: &Found<'_>) -> Vec<String> {
    let runs = &found.trial.runs;
    let mut notes = place(found.trial);
    let micro_steps = match found.trial.machine().place.machine {
        Machine::Simulated(_) => "runs have the plan's micro-steps, six at most",
        Machine::Real(_) => "runs have two micro-steps where the plan has more",
    };
    notes.push(format!(
        "{micro_steps}: their peaks are the same; let the command do two optimizer steps at least, \
         as the first one makes the optimizer's state, and meet its longest samples"
    ));
    notes.extend(by_the_line(found));
    notes.extend(into_the_headroom(runs));
    notes.extend(went_on(runs));
    notes.extend(found.trial.grown_to().map(|size| {
        format!(
            "above micro-batch {size} the command took no more: its data set has fewer samples \
             than such a batch (drop_last drops those), or it bounds its batches itself; what a \
             larger one takes is not known"
        )
    }));
    if runs.iter().any(|run| run.outcome.contended) {
        notes.push(
            "contended: others took memory of the GPUs meanwhile, so the answer is what fitted \
             beside them, not what fits"
                .to_owned(),
        );
    }
    let ran_at = |run: &Run| run.sizes.micro_batch == found.limit && run.outcome.fits();
    if runs.iter().any(ran_at) && found.samples != Some(found.limit.get()) {
        let limit = found.limit;
        notes.push(format!("nothing above micro-batch {limit} was tried (--micro-batch-max)"));
    }
    notes.extend(found.solution.and_then(|solution| not_run(runs, &solution.best)));
    let several = found.solution.is_some_and(|solution| solution.best.accumulation.get() > 1);
    if several && !found.accumulates {
        notes.push(
            "the command is not told {accumulation_steps}: if its runs did not accumulate, the \
             plan, whose gradients stay alive meanwhile, may take more than they did"
                .to_owned(),
        );
    }
    notes
}

/// What the place is worth.
fn place(trial: &Trial<Tried>) -> Vec<String> {
    let place = &trial.machine().place;
    if matches!(place.machine, Machine::Simulated(_)) {
        return vec![
            "simulated: no GPU was used. Allocations are the program's own; kernels did nothing, \
             so values are zeros and times mean nothing"
                .to_owned(),
        ];
    }
    let mut notes = Vec::new();
    if let Some(why) = &place.skipped {
        notes.push(format!(
            "skipped: {why}. No peak is known; the answer goes by the command's verdicts alone, \
             and no headroom is left"
        ));
    } else {
        notes.push(format!(
            "peaks were read {} times a second: what was held for less between two readings is \
             not in them, which the headroom is for",
            1_000 / EVERY.as_millis()
        ));
    }
    let by_device = |run: &Run| run.outcome.gpus.iter().any(|g| g.source == PeakSource::Device);
    if trial.runs.iter().any(by_device) {
        notes.push(
            "the driver does not say here what each process holds (a container, MIG or WSL): peaks \
             are what the GPU had in use beyond what it had before, whoever took it"
                .to_owned(),
        );
    }
    if is_wsl() {
        notes.push(
            "WSL: allocations succeed past the card's memory, slowly; only the peaks decide here"
                .to_owned(),
        );
    }
    notes
}

/// Whether the kernel is that of Windows' subsystem, which says so in its version.
fn is_wsl() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.to_ascii_lowercase().contains("microsoft")
}

/// The size above the largest, where the line through the peaks alone speaks against it.
fn by_the_line(found: &Found<'_>) -> Option<String> {
    let best = found.solution?.best.accumulation;
    let (size, needs) = found.trial.beyond_by_line(best.min(AccumulationSteps::TWO))?;
    let has = found.trial.machine().place.machine.free();
    Some(format!(
        "micro-batch {size} was not run: by the line through the peaks it takes {needs}, and there \
         are {has}"
    ))
}

fn went_on(runs: &[Run]) -> Option<String> {
    let met = |run: &&Run| run.outcome.met_out_of_memory;
    let least = runs.iter().filter(met).map(|run| run.sizes.micro_batch).min()?;
    Some(format!(
        "micro-batch {least} ran out of memory, and the command went on by itself, with less or \
         without that batch: it does not fit"
    ))
}

/// Where the plan's own size was not run as the plan has it, but one that takes more was: with more
/// samples, or with several micro-steps in place of one.
fn not_run(runs: &[Run], best: &Batches) -> Option<String> {
    let several = |accumulation: AccumulationSteps| accumulation > AccumulationSteps::ONE;
    let as_planned = |run: &&Run| several(run.sizes.accumulation) == several(best.accumulation);
    let fitted = || runs.iter().filter(|run| run.outcome.fits());
    if fitted().filter(as_planned).any(|run| run.sizes.micro_batch == best.micro_batch) {
        return None;
    }
    let takes_more = fitted()
        .filter(|run| run.sizes.micro_batch >= best.micro_batch)
        .filter(|run| as_planned(run) || several(run.sizes.accumulation))
        .min_by_key(|run| (run.sizes.micro_batch, run.sizes.accumulation))?;
    let Sizes { micro_batch, accumulation, .. } = takes_more.sizes;
    Some(format!(
        "micro-batch {} with accumulation {} itself was not run: {micro_batch} with {accumulation} \
         ran, which takes more",
        best.micro_batch, best.accumulation
    ))
}

fn into_the_headroom(runs: &[Run]) -> Option<String> {
    let into = |run: &&Run| {
        let outcome = &run.outcome;
        outcome.verdict == Verdict::Ran && !outcome.met_out_of_memory && !outcome.within_free()
    };
    let least = runs.iter().filter(into).map(|run| run.sizes.micro_batch).min()?;
    Some(format!(
        "micro-batch {least} ran too, with less than the headroom left: --headroom decides that \
         it does not count"
    ))
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::trial::outcome::Outcome;
    use crate::units::EffectiveBatch;

    /// A run of these sizes that came to its end, with so many bytes at the peak of each GPU.
    pub fn run(micro_batch: u64, accumulation: u64, peaks: &[u64]) -> Run {
        let gpus = peaks.iter().enumerate().map(|(index, peak)| {
            json!({"index": index, "name": "card", "uuid": "u", "simulated": true,
                   "total_bytes": 1000, "free_bytes": 1000, "peak_bytes": peak})
        });
        let outcome = json!({
            "command": ["train"], "ending": {"exit": 0}, "verdict": "ran", "reason": "",
            "seconds": 0.0, "gpus": gpus.collect::<Vec<_>>(), "processes": [], "versions": {},
            "warnings": [], "tail": [],
        });
        let outcome: Outcome = serde_json::from_value(outcome).expect("an outcome");
        let effective_batch = micro_batch * accumulation;
        Run { sizes: Sizes { effective_batch, ..sizes(micro_batch, accumulation) }, outcome }
    }

    fn sizes(micro_batch: u64, accumulation: u64) -> Sizes {
        let micro_batch = MicroBatch::new(micro_batch).expect("not zero");
        let accumulation = AccumulationSteps::new(accumulation).expect("not zero");
        Sizes { micro_batch, accumulation, effective_batch: 1 }
    }

    fn planned(micro_batch: u64, accumulation: u64) -> Batches {
        let Sizes { micro_batch, accumulation, .. } = sizes(micro_batch, accumulation);
        let effective_batch = EffectiveBatch::new(micro_batch.get() * accumulation.get());
        let effective_batch = effective_batch.expect("not zero");
        Batches { micro_batch, accumulation, last_micro_batch: None, effective_batch }
    }

    #[test]
    fn a_plan_that_was_not_run_names_a_run_that_takes_more() {
        let runs = [run(1, 2, &[10]), run(9, 2, &[90]), run(8, 1, &[50]), run(12, 2, &[1001])];
        let said = |micro_batch, accumulation| not_run(&runs, &planned(micro_batch, accumulation));
        // Run with one micro-step alone, which keeps no gradients: that says nothing here.
        assert_eq!(
            said(8, 4).as_deref(),
            Some(
                "micro-batch 8 with accumulation 4 itself was not run: 9 with 2 ran, which takes \
                 more"
            )
        );
        // One micro-step takes less than several of the same size.
        assert!(said(9, 1).is_some_and(|note| note.contains(": 9 with 2 ran")));
        // It was run; nothing larger was, or only what did not fit.
        assert_eq!([said(9, 7), said(8, 1), said(10, 2), said(20, 2)], [None, None, None, None]);
    }
}
