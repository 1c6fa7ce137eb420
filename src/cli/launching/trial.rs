//! `oomph trial`: trying sizes, and the plan that comes of it.

use std::ffi::OsString;
use std::io::IsTerminal;

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::launching::run::check_command;
use crate::cli::launching::trial_notes::{self, Found};
use crate::cli::launching::trial_place;
use crate::cli::launching::trial_stops::{check_used, explain};
use crate::cli::launching::trying::Tried;
use crate::cli::output::{Answer, Style, write_stderr};
use crate::cli::trial::Args;
use crate::plan::result::Goal;
use crate::plan::solver::Unsolvable;
use crate::plan::together::{Wish, solve_with};
use crate::profile::names::nearest;
use crate::report;
use crate::report::text::Paint;
use crate::trial::answer::{Bounds, TrialAnswer};
use crate::trial::kept::Kept;
use crate::trial::search::Peaks;
use crate::trial::template::Template;
use crate::trial::trial::{Run, Trial};
use crate::units::{Bytes, DataParallelSize, EffectiveBatch, MicroBatch};

/// The largest micro-batch that is tried where neither flag bounds it: a program's own data loader
/// has to make that many samples.
const LARGEST: u64 = 4096;

/// Runs `oomph trial`.
///
/// # Errors
/// When the command cannot be started, fails for a reason that is not memory, or a signal came.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    let template = Template::new(args.command.clone(), args.shell);
    let accumulates = template.names_accumulation()
        || reads_the_environment(&template, "OOMPH_ACCUMULATION_STEPS")
        || reads_the_environment(&template, "OOMPH_EFFECTIVE_BATCH");
    check(&template)?;
    let kept = args.keep.as_deref().map(open).transpose()?;
    let place = trial_place::prepare(args)?;
    if place.machine.peaks() != Peaks::Unknown && place.machine.free() == Bytes::ZERO {
        return Err(CliError::new(exit::DOES_NOT_FIT, "nothing is left for the command")
            .cause("--headroom is as much as a GPU has free, or more")
            .hint("a smaller --headroom; `oomph gpus` says what is free"));
    }
    let gpus = place.gpus.clone();
    let data_parallel = args.world_size.unwrap_or(gpus.len().max(1) as u64);
    let wish = Wish {
        data_parallel: DataParallelSize::new(data_parallel).unwrap_or(DataParallelSize::ONE),
        target: args.effective_batch.and_then(EffectiveBatch::new),
        micro_batch: None,
        accumulation: None,
    };
    let told = std::io::stderr().is_terminal();
    let machine = Tried { place, kept, end: args.end.clone(), reused: 0, told };
    let samples = args.effective_batch.map(|target| target / wish.data_parallel.get());
    let limit = args.micro_batch_max.or(samples).unwrap_or(LARGEST);
    let limit = MicroBatch::new(limit).unwrap_or(MicroBatch::ONE);
    // Every GPU counts as a replica unless the user counts.
    let counted = if args.world_size.is_some() { 0 } else { gpus.len() };
    let trial = Trial::new(machine, template, wish.data_parallel, limit, samples);
    let mut trial = trial.counting(counted);
    let solution = match solve_with(&wish, &mut trial) {
        Ok(solution) => solution,
        Err(error) => return Err(explain(error, args, &trial, style)),
    };
    if let Err(unsolvable @ Unsolvable::FewerThanReplicas { replicas, .. }) = solution {
        return Err(CliError::usage(unsolvable.to_string())
            .hint(format!("--effective-batch {replicas} or more, or fewer GPUs")));
    }
    if solution.is_ok() {
        check_used(args, &trial, style)?;
    }
    let found =
        Found { trial: &trial, solution: solution.as_ref().ok(), limit, samples, accumulates };
    let answer = TrialAnswer {
        command: args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        gpus,
        data_parallel: wish.data_parallel,
        goal: wish.target.map(|effective_batch| Goal { effective_batch, tokens: None }),
        notes: trial_notes::notes(&found),
        bounds: bounds(&trial, limit, args.micro_batch_max.is_some()),
        reused: trial.machine().reused,
        runs: trial.runs,
        solution,
    };
    let text = if style.json {
        report::trial::json(&answer)
    } else {
        report::trial::render(&answer, Paint { on: style.color })
    };
    let code = match &answer.solution {
        Err(_) => exit::DOES_NOT_FIT,
        Ok(solution) if args.exact && !solution.exact => exit::NO_EXACT_PLAN,
        Ok(_) => exit::OK,
    };
    Ok(Answer { text, code })
}

/// What kept the trial from larger micro-batches than `limit`, which is the user's own where `asked`.
fn bounds(trial: &Trial<Tried>, limit: MicroBatch, asked: bool) -> Bounds {
    let ran = |run: &Run| run.sizes.micro_batch == limit && run.outcome.fits();
    match trial.grown_to() {
        Some(size) => Bounds::Command(size),
        None if trial.runs.iter().any(ran) && asked => Bounds::Limit(limit.get()),
        None if trial.runs.iter().any(ran) => Bounds::SearchEnd(limit.get()),
        None => Bounds::Memory,
    }
}

/// Refuses a command that cannot be tried.
fn check(template: &Template) -> Result<(), CliError> {
    for unknown in template.unknown() {
        let known = Template::placeholders();
        // One that is near was meant; another may be the command's own.
        if let Some(near) = nearest(&unknown, known) {
            return Err(CliError::usage(format!("{unknown} is no placeholder"))
                .cause(format!("these are filled in: {}", known.join(", ")))
                .hint(near));
        }
        let all = known.join(", ");
        write_stderr(&format!("warning: {unknown} stays as it is; {all} are filled in\n"));
    }
    if !template.names_micro_batch() && !reads_the_environment(template, "OOMPH_MICRO_BATCH") {
        return Err(CliError::usage("{micro_batch} is nowhere in the command")
            .cause("each run would have the same size")
            .hint(
                "-- python train.py --batch-size {micro_batch} --accumulate {accumulation_steps}",
            ));
    }
    let program: Vec<OsString> = template.program().map(Into::into).into_iter().collect();
    check_command(&program)
}

/// Whether a word names a file in which the variable's name stands: a script that reads it.
fn reads_the_environment(template: &Template, name: &str) -> bool {
    const MOST: u64 = 1 << 20;
    template.words().iter().any(|word| {
        std::fs::metadata(word).is_ok_and(|found| found.is_file() && found.len() <= MOST)
            && std::fs::read(word)
                .is_ok_and(|text| text.windows(name.len()).any(|part| part == name.as_bytes()))
    })
}

fn open(folder: &std::path::Path) -> Result<Kept, CliError> {
    Kept::open(folder).map_err(|error| {
        CliError::usage(format!("--keep {} cannot be used", folder.display()))
            .cause(error.to_string())
            .hint("--keep DIR names a folder that may be written")
    })
}
