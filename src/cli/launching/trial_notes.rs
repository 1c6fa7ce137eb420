//! What to keep in mind about a trial.

use crate::cli::launching::trial_place::Machine;
use crate::cli::launching::trying::Tried;
use crate::plan::solver::Solution;
use crate::trial::outcome::{PeakSource, Verdict};
use crate::trial::sampler::EVERY;
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
    notes.extend(found.solution.and_then(|solution| not_run(runs, solution)));
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

/// Where the plan's own size was not run as the plan has it, but others around it were.
fn not_run(runs: &[Run], solution: &Solution) -> Option<String> {
    let best = &solution.best;
    let several = best.accumulation.get() > 1;
    let is_it = |run: &Run| {
        run.sizes.micro_batch == best.micro_batch
            && (run.sizes.accumulation.get() > 1) == several
            && run.outcome.fits()
    };
    (!runs.iter().any(is_it)).then(|| {
        format!(
            "micro-batch {} itself was not run: {} ran, which takes more",
            best.micro_batch, solution.largest_micro_batch
        )
    })
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
