//! `oomph trial`: the plan, with the training command itself as the judge.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::gpu_select::GpuSelector;
use crate::cli::output::{Answer, Style, write_stderr};
use crate::cli::run::{EndArgs, check_command, simulated};
use crate::cli::trying::Tried;
use crate::cli::values::{Headroom, count};
use crate::plan::capacity::{Capacity, Outside, OutsideAllocator};
use crate::plan::result::{Goal, PlanGpu};
use crate::plan::solver::Unsolvable;
use crate::plan::together::{Wish, solve_with};
use crate::profile::simulated::SimulatedGpus;
use crate::report;
use crate::report::text::Paint;
use crate::trial::answer::TrialAnswer;
use crate::trial::kept::Kept;
use crate::trial::outcome::Verdict;
use crate::trial::scenario;
use crate::trial::simulated::SimulatedMachine;
use crate::trial::template::Template;
use crate::trial::trial::{Run, Trial, TrialError};
use crate::units::{Bytes, DataParallelSize, EffectiveBatch, MicroBatch};

/// The largest micro-batch that is tried where neither flag bounds it: a program's own data loader
/// has to make that many samples.
const LARGEST: u64 = 4096;

/// Arguments of `oomph trial`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  oomph trial --gpu sim:l4 --effective-batch 64 -- python train.py --bs {micro_batch}
  oomph trial --gpu sim:a10*4 --effective-batch 256 -- torchrun train.py {micro_batch}
  oomph trial --gpu sim:t4 --shell -- 'cd . && python train.py $OOMPH_MICRO_BATCH'")]
pub struct Args {
    /// The simulated GPUs: sim:NAME, sim:NAME*8, sim:24GiB
    #[arg(long, value_name = "GPU", required = true, help_heading = "Device")]
    pub gpu: GpuSelector,
    /// Leave this much free on each GPU: a size, or a percentage of its total [default: 3%]
    #[arg(
        long,
        value_name = "SIZE|PERCENT",
        allow_negative_numbers = true,
        help_heading = "Device"
    )]
    pub headroom: Option<Headroom>,
    /// Reach N samples in an optimizer step, over all devices
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub effective_batch: Option<u64>,
    /// Try no micro-batch above N
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub micro_batch_max: Option<u64>,
    /// Train on N devices in all [default: the number of GPUs]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub world_size: Option<u64>,
    /// Exit with code 6 when no exact plan reaches the effective batch
    #[arg(long)]
    pub exact: bool,
    /// Keep each run's log and outcome in DIR; a trial that finds them there uses them again
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Let a shell read the command: `sh -c CMD`
    #[arg(long)]
    pub shell: bool,
    /// When the command is ended before it ends by itself.
    #[command(flatten)]
    pub end: EndArgs,
    /// The command after `--`, with {micro_batch}, {accumulation_steps} and {effective_batch} in
    /// its arguments (and OOMPH_MICRO_BATCH, ... in its environment)
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Runs `oomph trial`.
///
/// # Errors
/// When the command cannot be started, fails for a reason that is not memory, or a signal came.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    let gpus = simulated(&args.gpu, "trial")?;
    let template = Template::new(args.command.clone(), args.shell);
    let accumulates = template.names_accumulation()
        || reads_the_environment(&template, "OOMPH_ACCUMULATION_STEPS")
        || reads_the_environment(&template, "OOMPH_EFFECTIVE_BATCH");
    check(&template)?;
    let data_parallel = args.world_size.unwrap_or(u64::from(gpus.count));
    let wish = Wish {
        data_parallel: DataParallelSize::new(data_parallel).unwrap_or(DataParallelSize::ONE),
        target: args.effective_batch.and_then(EffectiveBatch::new),
        micro_batch: None,
        accumulation: None,
    };
    let headroom = args.headroom.unwrap_or(Headroom::DEFAULT).of(gpus.profile.total);
    let kept = args.keep.as_deref().map(open).transpose()?;
    let machine = Tried {
        machine: SimulatedMachine::new(gpus.clone(), headroom)?,
        decides: scenario::text(&gpus, headroom),
        kept,
        end: args.end.clone(),
        reused: 0,
        told: std::io::stderr().is_terminal(),
    };
    let samples = args.effective_batch.map(|target| target / wish.data_parallel.get());
    let limit = args.micro_batch_max.or(samples).unwrap_or(LARGEST);
    let limit = MicroBatch::new(limit).unwrap_or(MicroBatch::ONE);
    let mut trial = Trial::new(machine, template, wish.data_parallel, limit, samples);
    let solution = match solve_with(&wish, &mut trial) {
        Ok(solution) => solution,
        Err(error) => return Err(explain(error, &trial.runs, trial.machine().reused, style)),
    };
    if let Err(unsolvable @ Unsolvable::FewerThanReplicas { replicas, .. }) = solution {
        return Err(CliError::usage(unsolvable.to_string())
            .hint(format!("--effective-batch {replicas} or more, or fewer GPUs")));
    }
    let mut notes = notes(&trial.runs, limit, samples);
    let several = solution.as_ref().is_ok_and(|solution| solution.best.accumulation.get() > 1);
    if several && !accumulates {
        notes.push(
            "the command is not told {accumulation_steps}: if its runs did not accumulate, the \
             plan, whose gradients stay alive meanwhile, may take more than they did"
                .to_owned(),
        );
    }
    let answer = TrialAnswer {
        command: args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        gpus: plan_gpus(&gpus, headroom),
        data_parallel: wish.data_parallel,
        goal: wish.target.map(|effective_batch| Goal { effective_batch, tokens: None }),
        notes,
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

/// Refuses a command that cannot be tried.
fn check(template: &Template) -> Result<(), CliError> {
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

/// Says why a trial stopped; its runs so far and the end of the command's output go before it.
fn explain(error: TrialError<CliError>, runs: &[Run], reused: usize, style: Style) -> CliError {
    let paint = Paint { on: style.color };
    if !style.json && !runs.is_empty() {
        write_stderr(&report::trial::runs(runs, reused, paint));
    }
    match error {
        TrialError::Machine(error) => error,
        TrialError::NoVerdict(run) => {
            write_stderr(&report::run::tail(&run.outcome.tail, paint));
            no_verdict(&run)
        }
    }
    .known("runs", report::trial::runs_value(runs))
}

fn no_verdict(run: &Run) -> CliError {
    let fact = format!(
        "the trial stops: at micro-batch {} and {} micro-step(s) the command {}",
        run.sizes.micro_batch,
        run.sizes.accumulation,
        run.outcome.verdict.name().replace('_', " "),
    );
    let line = run.outcome.command.join(" ");
    CliError::new(exit::NOT_MEASURED, fact)
        .cause(format!("{}, which says nothing about memory", run.outcome.reason))
        .hint(format!("try it alone: oomph run --gpu sim:... -- {line}"))
}

fn plan_gpus(gpus: &SimulatedGpus, headroom: Bytes) -> Vec<PlanGpu> {
    let profile = &gpus.profile;
    let mut outside = OutsideAllocator { terms: vec![(Outside::CudaContext, profile.context)] };
    let nccl = scenario::nccl(gpus);
    if nccl > Bytes::ZERO {
        outside.terms.push((Outside::Nccl, nccl));
    }
    let capacity = Capacity::of_device(gpus.free_each(), &outside, headroom);
    let one = |index| PlanGpu {
        index,
        name: profile.product_name.clone(),
        uuid: format!("SIM-{}-{index}", profile.name.replace(' ', "")),
        simulated: true,
        total: profile.total,
        free: gpus.free_each(),
        capacity,
    };
    (0..gpus.count).map(one).collect()
}

/// What to keep in mind about a trial.
fn notes(runs: &[Run], limit: MicroBatch, samples: Option<u64>) -> Vec<String> {
    let mut notes = vec![
        "simulated: no GPU was used. Allocations are the program's own; kernels did nothing, so \
         values are zeros and times mean nothing"
            .to_owned(),
        "runs have two micro-steps where the plan has more: their peaks are the same; let the \
         command do two optimizer steps at least, as the first one makes the optimizer's state"
            .to_owned(),
    ];
    let at_limit = runs
        .iter()
        .any(|run| run.sizes.micro_batch == limit && run.outcome.verdict == Verdict::Ran);
    if at_limit && samples != Some(limit.get()) {
        notes.push(format!("nothing above micro-batch {limit} was tried (--micro-batch-max)"));
    }
    let peaks = || runs.iter().filter_map(|run| run.outcome.tightest()).map(|gpu| gpu.peak_bytes);
    let sizes =
        runs.iter().map(|run| run.sizes.micro_batch).collect::<std::collections::BTreeSet<_>>();
    if sizes.len() > 1 && peaks().min() == peaks().max() {
        notes.push(
            "every size took the same memory: does the command use the micro-batch that it is \
             given?"
                .to_owned(),
        );
    }
    notes
}
