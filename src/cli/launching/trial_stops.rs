//! Why a trial has no answer: what is said, and what to type.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::gpu_select::GpuSelector;
use crate::cli::launching::trying::Tried;
use crate::cli::output::{Style, write_stderr};
use crate::cli::trial::Args;
use crate::report;
use crate::report::text::Paint;
use crate::trial::outcome::{Outcome, Verdict};
use crate::trial::trial::{Run, Trial, TrialError};

/// Says why a trial stopped; its runs so far and the end of the command's output go before it.
pub fn explain(
    error: TrialError<CliError>,
    args: &Args,
    trial: &Trial<Tried>,
    style: Style,
) -> CliError {
    show_runs(trial, style);
    match error {
        TrialError::Machine(error) => error,
        TrialError::NoVerdict(run) => {
            write_stderr(&report::run::tail(&run.outcome.tail, Paint { on: style.color }));
            no_verdict(&run, args)
        }
        TrialError::Idle(run) => idle(&run.outcome, args),
        TrialError::SameAtEverySize => {
            unused(args, &trial.runs).unwrap_or_else(|| same_at_every_size(&trial.runs, args))
        }
    }
    .known("runs", report::trial::runs_value(&trial.runs))
}

/// Refuses an answer of runs on real GPUs in none of which all that count as replicas were seen to be
/// used.
///
/// # Errors
/// When that is so.
pub fn check_used(args: &Args, trial: &Trial<Tried>, style: Style) -> Result<(), CliError> {
    let Some(error) = unused(args, &trial.runs) else { return Ok(()) };
    show_runs(trial, style);
    Err(error.known("runs", report::trial::runs_value(&trial.runs)))
}

/// What there is to say where no run was seen to use all GPUs that count as replicas.
fn unused(args: &Args, runs: &[Run]) -> Option<CliError> {
    if runs.iter().all(|run| run.outcome.left_gpus_alone()) {
        let fact = "the command was never seen to use a GPU";
        return Some(CliError::new(exit::NOT_MEASURED, fact)
            .cause("no run had memory on one for as long as a look takes (a fiftieth of a second)")
            .hint(
                "name the GPU that it uses (--gpu 0), or see what the command prints (--keep DIR)",
            ));
    }
    let most = used_most(runs).filter(|_| args.world_size.is_none())?;
    most.outcome.idle_gpus().next().is_some().then(|| idle(&most.outcome, args))
}

/// Returns the run that was seen to use the most GPUs, of those that came to their end.
fn used_most(runs: &[Run]) -> Option<&Run> {
    let ran = runs.iter().filter(|run| run.outcome.verdict == Verdict::Ran);
    ran.min_by_key(|run| run.outcome.idle_gpus().count())
}

/// Shows the runs of a trial that has no answer.
fn show_runs(trial: &Trial<Tried>, style: Style) {
    if !style.json && !trial.runs.is_empty() {
        let paint = Paint { on: style.color };
        write_stderr(&report::trial::runs(&trial.runs, trial.machine().reused, paint));
    }
}

fn no_verdict(run: &Run, args: &Args) -> CliError {
    let (sizes, outcome) = (&run.sizes, &run.outcome);
    let micro_steps = match sizes.accumulation.get() {
        1 => "one micro-step".to_owned(),
        n => format!("{n} micro-steps"),
    };
    let fact = format!(
        "the trial stops: at micro-batch {} and {micro_steps} the command {}",
        sizes.micro_batch,
        outcome.verdict.name().replace('_', " "),
    );
    let line = typed(outcome.command.iter().map(String::as_str));
    let alone = match &args.gpu {
        GpuSelector::Simulated(spec) => {
            format!("oomph run --gpu {} -- {line}", typed([spec.as_str()]))
        }
        _ => line,
    };
    let in_words = args.command.iter().any(|word| word.to_string_lossy().contains("{micro_batch}"));
    let sizes = match in_words {
        true => String::new(),
        false => format!(
            "OOMPH_MICRO_BATCH={} OOMPH_ACCUMULATION_STEPS={} OOMPH_EFFECTIVE_BATCH={} ",
            sizes.micro_batch, sizes.accumulation, sizes.effective_batch
        ),
    };
    CliError::new(exit::NOT_MEASURED, fact)
        .cause(format!("{}, which says nothing about memory", outcome.reason))
        .hint(format!("try it alone: {sizes}{alone}"))
}

/// What a run says that left GPUs alone, all of them or some that count as replicas.
fn idle(outcome: &Outcome, args: &Args) -> CliError {
    let idle: Vec<String> = outcome.idle_gpus().map(|gpu| gpu.index.to_string()).collect();
    let all = outcome.gpus.len();
    let used = all - idle.len();
    if used == 0 {
        return CliError::new(exit::NOT_MEASURED, "the command never used a GPU")
            .cause(outcome.unused_because())
            .hint("`oomph run` with the same command shows what it prints");
    }
    let peaks: Vec<String> =
        outcome.gpus.iter().map(|gpu| format!("GPU {}: {}", gpu.index, gpu.peak_bytes)).collect();
    let fewer = match &args.gpu {
        GpuSelector::Simulated(spec) => format!("--gpu {}", typed([of_count(spec, used).as_str()])),
        _ => {
            let used = outcome.gpus.iter().filter(|gpu| gpu.peak_bytes.get() > 0);
            let used: Vec<String> = used.map(|gpu| gpu.index.to_string()).collect();
            format!("--gpu {}", used.join(","))
        }
    };
    let plural = if idle.len() == 1 { "" } else { "s" };
    CliError::new(
        exit::NOT_MEASURED,
        format!(
            "the command left GPU{plural} {} alone, and the plan would count {all} replicas",
            idle.join(", ")
        ),
    )
    .cause(format!("the most in use was: {}", peaks.join(", ")))
    .hint(format!(
        "{fewer}; or one process for each GPU (torchrun --nproc-per-node {all}); or --world-size \
         N, where a replica has several GPUs or they are not all here"
    ))
}

/// The same simulated GPUs, of another count.
fn of_count(spec: &str, count: usize) -> String {
    let (gpus, options) = spec.split_once(',').map_or((spec, None), |(a, b)| (a, Some(b)));
    let name = gpus.split_once('*').map_or(gpus, |(name, _)| name);
    let count = if count == 1 { String::new() } else { format!("*{count}") };
    let options = options.map_or(String::new(), |options| format!(",{options}"));
    format!("{name}{count}{options}")
}

fn same_at_every_size(runs: &[Run], args: &Args) -> CliError {
    let ran = || runs.iter().filter(|run| run.outcome.fits());
    let mut sizes: Vec<u64> = ran().map(|run| run.sizes.micro_batch.get()).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let sizes: Vec<String> = sizes.iter().map(u64::to_string).collect();
    let tightest = |run: &Run| run.outcome.tightest().and_then(|gpu| gpu.peak());
    let peak = ran().find_map(|run| run.outcome.most_allocated().or_else(|| tightest(run)));
    let peak = peak.map_or(String::new(), |peak| format!(" ({peak})"));
    let named = args.command.iter().any(|word| word.to_string_lossy().contains("{micro_batch}"));
    let size = if named { "{micro_batch}" } else { "OOMPH_MICRO_BATCH" };
    CliError::new(
        exit::NOT_MEASURED,
        format!(
            "micro-batches {} took the same memory{peak}: none can be said to fit",
            sizes.join(", ")
        ),
    )
    .cause(format!(
        "{size} does not reach the command's batches; or its data set has fewer samples than a \
         batch (drop_last drops those); or what all sizes need (an optimizer's step) is more than \
         the samples do"
    ))
    .hint(
        "print a batch's shape; with a larger --effective-batch larger ones are tried, which show",
    )
}

/// A command as a shell takes it.
fn typed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    let quoted = |word: &str| match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::launching::trial_notes::tests::run;

    #[test]
    fn a_command_is_typed_as_a_shell_takes_it_and_gpus_are_counted_anew() {
        assert_eq!(
            typed(["python", "train.py", "--name=a b", "it's", ""]),
            r"python train.py '--name=a b' 'it'\''s' ''"
        );
        assert_eq!(of_count("sim:rtx-4090*2", 1), "sim:rtx-4090");
        assert_eq!(of_count("sim:24GiB*8,free=20GiB", 4), "sim:24GiB*4,free=20GiB");
    }

    #[test]
    fn of_runs_that_leave_gpus_alone_the_one_that_used_the_most_is_described() {
        let runs = [run(1, 2, &[7, 0, 0]), run(5, 2, &[7, 7, 0]), run(9, 2, &[0, 7, 0])];
        assert_eq!(used_most(&runs).map(|run| run.sizes.micro_batch.get()), Some(5));
        assert!(used_most(&[]).is_none());
    }
}
