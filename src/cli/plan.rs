//! `oomph plan`: micro-batch and accumulation for an effective batch.

use std::path::PathBuf;

use clap::builder::PossibleValue;

use crate::cli::composing::{Solved, compose};
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::fits::{Detail, OnDevice};
use crate::cli::job::{Job, WithoutGpu};
use crate::cli::launching::Probing;
use crate::cli::on_all::OnAll;
use crate::cli::output::{self, Answer, Style};
use crate::cli::scheduling;
use crate::cli::setup::ModelArgs;
use crate::export::decided::{Decided, DecidedSchedule};
use crate::export::emit;
use crate::export::format::Format;
use crate::plan::result::{Method, Plan};
use crate::plan::together::{Fits, Wish, solve_with};
use crate::probe::target::Sharing;
use crate::report;
use crate::report::text::Paint;
use crate::units::{AccumulationSteps, Bytes, EffectiveBatch, MicroBatch};

/// When `plan` makes allocations on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProbeWhen {
    /// On a real GPU that nobody else uses.
    Auto,
    /// On any real GPU.
    Always,
    /// Never: plan on the estimate.
    Never,
}

/// Arguments of `oomph plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  oomph plan llama-3.2-1b --seq-len 2048 --precision bf16 --effective-batch 256 --gpu sim:h100-80gb
  oomph plan llama-3.1-8b --precision bf16 --effective-tokens 1048576 --gpu sim:b200 --json
  oomph plan gpt2 --effective-batch 264 --exact --gpu sim:l4*4 --emit hf-args")]
pub struct Args {
    /// The model and its setup.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Make allocations on the GPU: auto (when nobody else uses it), always or never
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = "Device")]
    pub probe: ProbeWhen,
    /// Exit with code 6 when no exact plan reaches the effective batch
    #[arg(long)]
    pub exact: bool,
    /// Print the plan as a framework's configuration: only the keys that it decides
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    pub emit: Option<EmitArg>,
    /// Write the answer to this file instead of stdout
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub out: Option<PathBuf>,
}

/// A value of `--emit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmitArg(pub Format);

impl clap::ValueEnum for EmitArg {
    fn value_variants<'a>() -> &'a [EmitArg] {
        const ALL: [EmitArg; Format::ALL.len()] = {
            let mut all = [EmitArg(Format::HfArgs); Format::ALL.len()];
            let mut at = 0;
            while at < all.len() {
                all[at] = EmitArg(Format::ALL[at]);
                at += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}

/// Runs `oomph plan`.
///
/// # Errors
/// When the setup cannot be worked with, or no GPU answers.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    let mut job = Job::prepare(&args.model, WithoutGpu::AskDriver)?;
    let target = job.settings.effective_batch()?;
    if style.json && args.emit.is_some() {
        return Err(CliError::usage("--json cannot be used with --emit").hint("leave one out"));
    }
    job.check_kernels()?;
    let detail = if style.json { Detail::All } else { Detail::Peaks };
    let plan = answer(&job, target, args.probe, detail)?;
    let text = if let Some(EmitArg(format)) = args.emit {
        emitted(format, &plan)?
    } else if style.json {
        report::json::plan(&plan)
    } else {
        report::plan::render(&plan, Paint { on: style.color })
    };
    let code = match &plan.solution {
        None => exit::DOES_NOT_FIT,
        Some(solution) if args.exact && !solution.exact => exit::NO_EXACT_PLAN,
        Some(_) => exit::OK,
    };
    match &args.out {
        Some(path) => {
            output::write_file(path, &text).map(|()| Answer { text: String::new(), code })
        }
        None => Ok(Answer { text, code }),
    }
}

/// Returns the first thing to try that fits, else the last: several changes together.
fn what_fits(hints: &[String]) -> Option<String> {
    hints.iter().find(|hint| hint.ends_with(", fits")).or(hints.last()).cloned()
}

/// Renders a plan in a framework's format; what its syntax cannot say goes to stderr.
fn emitted(format: Format, plan: &Plan) -> Result<String, CliError> {
    let Some(solution) = &plan.solution else {
        let estimate = &plan.estimate;
        let need = estimate.need();
        let fact = format!("no {} to emit: nothing fits", format.name());
        let may = estimate.capacity.map_or(Bytes::ZERO, |capacity| capacity.bytes);
        return Err(CliError::new(exit::DOES_NOT_FIT, fact)
            .cause(format!(
                "micro-batch {} needs {need}, and the allocator may take {may}",
                estimate.setup.micro_batch
            ))
            .hint(what_fits(&estimate.hints).unwrap_or("the same without --emit".to_owned())));
    };
    if format == Format::TorchtitanTokens && plan.estimate.setup.seq_len <= 1 {
        return Err(CliError::usage("--emit torchtitan@tokens counts tokens")
            .cause(format!("{} has none", plan.estimate.model))
            .hint("another --emit FORMAT"));
    }
    let mut decided = Decided::of(plan, solution);
    if format.takes_uneven() && solution.exact && plan.schedule.is_none() {
        decided = decided.uneven(solution);
        if decided.last_micro_batch.is_some() {
            let what = format!("{} shortens the last micro-batch by itself", format.name());
            output::write_stderr(&format!("note: {what}: {}\n", decided.equation()));
        }
    }
    if !solution.exact {
        let tokens = plan.goal.and_then(|goal| goal.tokens).filter(|_| decided.missed.is_none());
        let asked = tokens.map_or(String::new(), |tokens| format!(", not {tokens} tokens"));
        output::write_stderr(&format!("warning: no exact plan: {}{asked}\n", decided.equation()));
    }
    if let Some(DecidedSchedule { batches, whole, .. }) = &decided.schedule {
        if !whole {
            let fact = "no one micro-batch does every stage of the schedule exactly";
            output::write_stderr(&format!("warning: {fact}\n"));
        }
        if !format.ramps() || batches.is_empty() {
            let name = format.name();
            let fact = format!("{name} has no key for this schedule: its worst stage is written");
            output::write_stderr(&format!("warning: {fact}\n"));
        }
    }
    Ok(emit(format, &decided))
}

/// Works the plan out: probed on real GPUs as `--probe` says, else on the estimate.
fn answer(
    job: &Job,
    target: Option<EffectiveBatch>,
    probe: ProbeWhen,
    detail: Detail,
) -> Result<Plan, CliError> {
    let wish = Wish {
        data_parallel: job.data_parallel(),
        target,
        micro_batch: job.settings.micro_batch,
        accumulation: job.settings.accumulation,
    };
    if job.settings.ramp_up.is_some() || !job.settings.lengths.is_empty() {
        return scheduling::plan(job, &wish, probe, detail);
    }
    let mut all = OnAll::of(job)?;
    let mut judge = Judge::new(job, &mut all, probe)?;
    let mut batches = solve_with(&wish, &mut judge)?;
    let (method, notes) = judge.finish();
    if let Ok(solution) = &mut batches
        && !solution.exact
        && let Some(wish) = wish.unless_fixed()
    {
        let unfixed = solve_with(&wish, &mut all)?.ok().filter(|unfixed| unfixed.exact);
        solution.unless_fixed = unfixed.map(|unfixed| unfixed.best);
    }
    let solved = Solved { batches, schedule: None, method };
    let mut plan = compose(job, &wish, &mut all.kinds, solved, detail)?;
    plan.estimate.notes.extend(notes);
    Ok(plan)
}

/// Who says what runs: the estimate, and before it the GPUs themselves, where they are asked.
pub struct Judge<'a, 'b> {
    estimated: &'b mut OnAll<OnDevice<'a>>,
    probing: Option<Probing<'a>>,
}

impl<'a, 'b> Judge<'a, 'b> {
    /// Takes the GPUs where they are real and `--probe` lets it.
    ///
    /// # Errors
    /// When signals cannot be watched for.
    pub fn new(
        job: &'a Job,
        estimated: &'b mut OnAll<OnDevice<'a>>,
        probe: ProbeWhen,
    ) -> Result<Judge<'a, 'b>, CliError> {
        let sharing = match probe {
            ProbeWhen::Never => None,
            ProbeWhen::Auto => Some(Sharing::Refused),
            ProbeWhen::Always => Some(Sharing::Allowed),
        };
        let real = job.capacity.is_none() && job.gpus.iter().any(|gpu| !gpu.simulated);
        let probing = sharing.filter(|_| real).map(|sharing| Probing::new(job, sharing));
        Ok(Judge { estimated, probing: probing.transpose()? })
    }

    /// Returns how its answers are known, and what there is to say about that.
    pub fn finish(self) -> (Method, Vec<String>) {
        self.probing.map_or((Method::Estimated, Vec::new()), Probing::finish)
    }
}

impl Fits for Judge<'_, '_> {
    type Error = CliError;

    fn largest(&mut self, accumulation: AccumulationSteps) -> Result<u64, CliError> {
        let probed = match &mut self.probing {
            Some(probing) => probing.largest(self.estimated, accumulation)?,
            None => None,
        };
        probed.map_or_else(|| self.estimated.largest(accumulation), Ok)
    }

    fn runs(
        &mut self,
        micro_batch: MicroBatch,
        accumulation: AccumulationSteps,
    ) -> Result<bool, CliError> {
        self.estimated.runs(micro_batch, accumulation)
    }
}
