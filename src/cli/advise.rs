//! `oomph advise`: what to change, ranked, when a step does not fit or could fit better.

use crate::cli::advising::Bench;
use crate::cli::composing::plan_gpu;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::fits::{OnDevice, kinds, weakest};
use crate::cli::job::{Job, WithoutGpu};
use crate::cli::output::{Answer, Style};
use crate::cli::pasted::Typed;
use crate::cli::setup::ModelArgs;
use crate::parallel::both;
use crate::plan::advise::advice::{Advice, Suggestion};
use crate::plan::advise::change::Change;
use crate::plan::advise::front::ranked;
use crate::plan::advise::lattice::{Lattice, Point};
use crate::plan::advise::search::{Found, Seen, search};
use crate::plan::advise::undo::{fewer_micro_steps, undone};
use crate::report;
use crate::report::text::Paint;
use crate::units::{AccumulationSteps, EffectiveBatch, MicroBatch};

/// Arguments of `oomph advise`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 0: the setup asked for fits; 3: it does not, whatever is advised.

Examples:
  oomph advise llama-3.1-8b --gpu sim:rtx-4090
  oomph advise llama-3.2-1b --precision bf16 --micro-batch 8 --effective-batch 64 --gpu sim:a10
  oomph advise gpt2 --checkpointing full --gpu sim:h100-80gb --json"
)]
pub struct Args {
    /// The model and its setup.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// The most suggestions whose largest micro-batch is looked for.
const LOOKED_FOR: usize = 8;

/// Runs `oomph advise`.
///
/// # Errors
/// When the setup cannot be worked with, or no GPU answers.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    let mut job = Job::prepare(&args.model, WithoutGpu::AskDriver)?;
    let target = job.settings.effective_batch()?;
    job.check_kernels()?;
    let advice = answer(&job, target)?;
    let typed = Typed::of_process("advise");
    let command = if target.is_some() { "plan" } else { "estimate" };
    let pasted = |changes: &[Change]| typed.with(command, changes, target.is_some());
    let text = if style.json {
        report::advise_json::render(&advice, &pasted)
    } else {
        report::advise::render(&advice, &pasted, Paint { on: style.color })
    };
    Ok(Answer { text, code: if advice.fits() { exit::OK } else { exit::DOES_NOT_FIT } })
}

/// Works the advice out.
///
/// # Errors
/// When the setup asked for cannot be worked with.
pub fn answer(job: &Job, target: Option<EffectiveBatch>) -> Result<Advice, CliError> {
    let devices: Vec<OnDevice> = match job.gpus.as_slice() {
        [] => vec![OnDevice::new(job, None)?],
        gpus => kinds(gpus)
            .into_iter()
            .map(|gpu| OnDevice::new(job, Some(gpu)))
            .collect::<Result<_, _>>()?,
    };
    let device = weakest(&devices).ok_or_else(|| CliError::usage("no GPU was chosen"))?;
    let capacity = device.capacity.ok_or_else(|| {
        CliError::usage("there is nothing to fit into").hint("--gpu sim:a100-40gb")
    })?;
    let (micro_batch, accumulation) = sizes(job, target);
    let mut estimate = device.estimate(micro_batch, accumulation)?;
    if job.settings.micro_batch.is_none() {
        estimate.assumptions.insert(0, "--micro-batch 1 (default)".to_owned());
    }
    let bench = Bench::new(device, (micro_batch, accumulation));
    let lattice = Lattice::of(&job.model.config, &bench.base);
    let found = search(&lattice, |way| Ok::<_, CliError>(bench.look(way)))?;
    let fits = estimate.fits() == Some(true);
    let mut to_fit = if fits { Vec::new() } else { fitting(&bench, &lattice, &found) };
    add_largest(&bench, &mut to_fit);
    let nearest = (!fits && to_fit.is_empty()).then(|| nearest(&bench, &lattice)).flatten();
    let alone = worked_out(&bench, &lattice, &lattice.single());
    let mut back = Vec::new();
    if fits {
        estimate.largest_micro_batch = bench.largest(&bench.base);
        back = given_back(&bench, estimate.largest_micro_batch.unwrap_or(0));
    }
    let card = bench.smallest_card(&bench.base)?;
    let card_with =
        to_fit.first().or(nearest.as_ref()).map(|one| bench.smallest_card(&one.way)).transpose()?;
    let gpu = device.gpu.map(|gpu| plan_gpu(gpu, capacity));
    let tally = found.tally;
    let mut advice =
        Advice { estimate, gpu, capacity, to_fit, tally, nearest, alone, back, card, card_with };
    let taken = advice.taken();
    advice.alone.retain(|one| one.taken < taken);
    advice.alone.sort_by_key(|one| one.taken);
    add_largest(&bench, &mut advice.alone);
    Ok(advice)
}

/// Returns the micro-batch and the micro-steps that the advice is for.
fn sizes(job: &Job, target: Option<EffectiveBatch>) -> (MicroBatch, AccumulationSteps) {
    let micro_batch = job.settings.micro_batch.unwrap_or(MicroBatch::ONE);
    let solved = target.and_then(|target| {
        let at_once = micro_batch.get().saturating_mul(job.data_parallel().get());
        AccumulationSteps::new(target.get().div_ceil(at_once))
    });
    (micro_batch, job.settings.accumulation.or(solved).unwrap_or(AccumulationSteps::ONE))
}

/// Makes suggestions of points, on two cores; those that are refused are left out.
fn suggestions<T: Sync>(
    points: &[T],
    make: impl Fn(&T) -> Option<Suggestion> + Sync,
) -> Vec<Suggestion> {
    let all = |points: &[T]| points.iter().filter_map(&make).collect::<Vec<Suggestion>>();
    let (first, second) = points.split_at(points.len() / 2);
    let (mut first, second) = both(|| all(first), || all(second));
    first.extend(second);
    first
}

/// Returns what fits, ranked.
fn fitting(bench: &Bench, lattice: &Lattice, found: &Found) -> Vec<Suggestion> {
    ranked(suggestions(&found.fitting, |(point, taken)| {
        bench.fitting(lattice.changes(point), lattice.way(point), *taken)
    }))
}

/// Works out what points take and cost.
fn worked_out(bench: &Bench, lattice: &Lattice, points: &[Point]) -> Vec<Suggestion> {
    suggestions(points, |point| bench.suggestion(lattice.changes(point), lattice.way(point)))
}

/// Looks for the largest micro-batch of the first suggestions.
fn add_largest(bench: &Bench, suggestions: &mut [Suggestion]) {
    let shown = suggestions.len().min(LOOKED_FOR);
    let (first, second) = suggestions[..shown].split_at_mut(shown / 2);
    let all = |some: &mut [Suggestion]| {
        for one in some {
            one.largest = bench.largest(&one.way);
        }
    };
    both(|| all(first), || all(second));
}

/// Returns what takes the least of all that goes as far as there is to go.
fn nearest(bench: &Bench, lattice: &Lattice) -> Option<Suggestion> {
    let farthest = lattice.farthest(|point| bench.look(&lattice.way(point)) == Seen::Refused);
    worked_out(bench, lattice, &farthest).into_iter().min_by_key(|one| one.taken)
}

/// Returns what the room that is left could be spent on.
fn given_back(bench: &Bench, largest: u64) -> Vec<Suggestion> {
    let larger = fewer_micro_steps(&bench.base, largest).map(|change| vec![change]);
    let all = larger.into_iter().chain(undone(&bench.base));
    let applied = |changes: Vec<Change>| {
        let way = changes.iter().fold(bench.base.clone(), |way, change| change.applied(&way));
        bench.suggestion(changes, way)
    };
    all.filter_map(applied).filter(|one| one.fits).collect()
}
