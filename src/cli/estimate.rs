//! `oomph estimate`: the memory of one training step.

use clap::builder::PossibleValue;

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::job::{Job, WithoutGpu};
use crate::cli::on_all::{OnAll, weakest};
use crate::cli::output::{Answer, Style};
use crate::cli::setup::ModelArgs;
use crate::memory::explain::{self, By};
use crate::plan::result::Estimate;
use crate::plan::together::Fits;
use crate::report;
use crate::report::explain::{COLUMNS, Explained};
use crate::report::text::Paint;
use crate::units::{AccumulationSteps, MicroBatch};

/// Arguments of `oomph estimate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  oomph estimate llama-3.2-1b --precision bf16 --seq-len 2048 --micro-batch 2
  oomph estimate gpt2 --precision fp32 --seq-len 512 --by layer --timeline
  oomph estimate llama-3.1-8b --precision bf16 --checkpointing full --gpu sim:h200 --json")]
pub struct Args {
    /// The model and its setup.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Show who holds the bytes at the peak: by layer, module, phase or tensor
    #[arg(long, value_name = "WHAT", help_heading = "Output")]
    pub by: Option<ByArg>,
    /// Show how bytes come and go while the model is loaded and two steps run
    #[arg(long, help_heading = "Output")]
    pub timeline: bool,
}

/// A value of `--by`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByArg(pub By);

impl clap::ValueEnum for ByArg {
    fn value_variants<'a>() -> &'a [ByArg] {
        const ALL: [ByArg; By::ALL.len()] =
            [ByArg(By::ALL[0]), ByArg(By::ALL[1]), ByArg(By::ALL[2]), ByArg(By::ALL[3])];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}

/// Runs `oomph estimate`.
///
/// # Errors
/// When the setup cannot be worked with.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    let job = Job::prepare(&args.model, WithoutGpu::Assume)?;
    job.check_kernels()?;
    let (estimate, explained) = answer(&job, args)?;
    let text = if style.json {
        report::json::estimate(&estimate, &explained)
    } else {
        report::estimate::render(&estimate, &explained, Paint { on: style.color })
    };
    let code = if estimate.fits() == Some(false) { exit::DOES_NOT_FIT } else { exit::OK };
    Ok(Answer { text, code })
}

/// Works the estimate out: at the micro-batch given, else 1, or the largest that fits for `auto`.
fn answer(job: &Job, args: &Args) -> Result<(Estimate, Explained), CliError> {
    let mut all = OnAll::of(job)?;
    let settings = &job.settings;
    let accumulation = settings.accumulation.unwrap_or(AccumulationSteps::ONE);
    let mut largest = None;
    if settings.auto {
        if all.kinds.iter().any(|device| device.capacity.is_none()) {
            return Err(CliError::usage("--micro-batch auto needs something to fit into")
                .hint("--capacity 40GiB, or --gpu sim:a100-40gb"));
        }
        largest = Some(all.largest(accumulation)?);
    }
    let found = largest.and_then(MicroBatch::new);
    let micro_batch = settings.micro_batch.or(found).unwrap_or(MicroBatch::ONE);
    let weakest = weakest(&all.kinds).ok_or_else(|| CliError::usage("no GPU was chosen"))?;
    let mut estimate = weakest.estimate(micro_batch, accumulation)?;
    estimate.largest_micro_batch = largest;
    let mut assumed = Vec::new();
    if settings.micro_batch.is_none() && !settings.auto {
        assumed.push("--micro-batch 1 (default)".to_owned());
    }
    if settings.accumulation.is_none() {
        assumed.push("--accumulation 1 (default)".to_owned());
    }
    estimate.assumptions.splice(0..0, assumed);
    if estimate.fits() == Some(false) {
        estimate.hints = weakest.hints(micro_batch, accumulation)?;
    }
    if settings.target.is_some() {
        let note = "the effective batch plays no part in an estimate: `oomph plan` solves for it";
        estimate.notes.push(note.to_owned());
    }
    let trace = weakest.trace(micro_batch, accumulation)?;
    let parts = args.by.map(|ByArg(by)| explain::at_peak(&trace, by).map(|parts| (by, parts)));
    let timeline = args.timeline.then(|| explain::timeline(&trace, COLUMNS));
    let explained = Explained { parts: parts.transpose()?, timeline: timeline.transpose()? };
    Ok((estimate, explained))
}
