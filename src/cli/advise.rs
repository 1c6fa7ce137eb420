//! `oomph advise`: what to change, ranked, when a step does not fit or could fit better.

use std::collections::BTreeSet;

use crate::cli::advise_cards;
use crate::cli::advising::Bench;
use crate::cli::composing::plan_gpu;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::job::{Job, WithoutGpu};
use crate::cli::on_all::{OnAll, weakest};
use crate::cli::output::{Answer, Style};
use crate::cli::pasted::Typed;
use crate::cli::setup::ModelArgs;
use crate::memory::fit::Taken;
use crate::parallel::each;
use crate::plan::advise::advice::{Advice, Standing, Suggestion};
use crate::plan::advise::change::{Change, Way};
use crate::plan::advise::front::ranked;
use crate::plan::advise::lattice::{Lattice, Point};
use crate::plan::advise::search::{Found, Seen, search};
use crate::plan::advise::undo::{fewer_micro_steps, larger_batches, undone};
use crate::report;
use crate::report::text::Paint;
use crate::units::{AccumulationSteps, EffectiveBatch, MicroBatch};

/// Arguments of `oomph advise`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  oomph advise llama-3.1-8b --gpu sim:rtx-4090
  oomph advise llama-3.2-1b --precision bf16 --micro-batch 8 --effective-batch 64 --gpu sim:a10
  oomph advise gpt2 --checkpointing full --gpu sim:h100-80gb --json
  oomph advise qwen2.5-0.5b --micro-batch 8 --gpu sim:l4 --all-gpus")]
pub struct Args {
    /// The model and its setup.
    #[command(flatten)]
    pub model: ModelArgs,

    /// Say for each built-in card what fits, and the cheapest change where the setup does not
    #[arg(long)]
    pub all_gpus: bool,
}

/// So many suggestions are a choice: fewer are filled up with what changes more.
pub const ENOUGH: usize = 5;

/// The most suggestions that are listed.
const LISTED: usize = 8;

/// The most suggestions whose largest micro-batch is looked for.
const LOOKED_FOR: usize = ENOUGH;

/// Runs `oomph advise`.
///
/// # Errors
/// When the setup cannot be worked with, or no GPU answers.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    let mut job = Job::prepare(&args.model, WithoutGpu::AskDriver)?;
    let target = job.settings.effective_batch()?;
    job.check_kernels()?;
    let advice = answer(&job, target, args.all_gpus)?;
    let typed = Typed::of_process("advise");
    let command = if target.is_some() { "plan" } else { "estimate" };
    let pasted = |changes: &[Change], gpu: Option<&str>| {
        let on = gpu.map(|gpu| typed.on(gpu, job.gpus.len()));
        on.as_ref().unwrap_or(&typed).with(command, changes, target.is_some())
    };
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
pub fn answer(
    job: &Job,
    target: Option<EffectiveBatch>,
    all_gpus: bool,
) -> Result<Advice, CliError> {
    let devices = OnAll::of(job)?.kinds;
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
    let lattice = bench.lattice();
    let found = search(&lattice, |way| Ok::<_, CliError>(bench.look(way)))?;
    let fits = estimate.fits() == Some(true);
    let mut to_fit = if fits { Vec::new() } else { fitting(&bench, &lattice, &found) };
    add_largest(&bench, &mut to_fit);
    let nearest = (!fits && to_fit.is_empty()).then(|| nearest(&bench, &lattice)).flatten();
    let alone = worked_out(&bench, &lattice, &lattice.single());
    let mut back = Vec::new();
    if fits {
        estimate.largest_micro_batch = bench.largest(&bench.base);
        back = given_back(&bench, target, estimate.largest_micro_batch.unwrap_or(0));
    }
    let idle = advise_cards::cards(&bench)?;
    let card = advise_cards::smallest(&bench, &idle, &bench.base);
    let with: Vec<&Way> = to_fit.iter().take(ENOUGH).chain(&nearest).map(|one| &one.way).collect();
    let cards_with = each(&with, |way| advise_cards::smallest(&bench, &idle, way));
    let cards = if all_gpus { advise_cards::all(&bench, idle, &lattice) } else { Vec::new() };
    let gpu = device.gpu.map(|gpu| plan_gpu(gpu, capacity));
    let tally = found.tally;
    let mut advice = Advice {
        estimate,
        gpu,
        capacity,
        to_fit,
        tally,
        nearest,
        alone,
        back,
        card,
        cards_with,
        cards,
    };
    let taken = advice.taken();
    advice.alone.retain(|one| one.taken < taken);
    advice.alone.sort_by_key(|one| one.taken);
    add_largest(&bench, &mut advice.alone);
    Ok(advice)
}

/// Returns the micro-batch and the micro-steps of a job that is to be judged at one size: as many as
/// do the target, where they are not said.
pub fn sizes(job: &Job, target: Option<EffectiveBatch>) -> (MicroBatch, AccumulationSteps) {
    let micro_batch = job.settings.micro_batch.unwrap_or(MicroBatch::ONE);
    let solved = target.and_then(|target| {
        let at_once = micro_batch.get().saturating_mul(job.data_parallel().get());
        AccumulationSteps::new(target.get().div_ceil(at_once))
    });
    (micro_batch, job.settings.accumulation.or(solved).unwrap_or(AccumulationSteps::ONE))
}

/// Makes suggestions of points; those that are refused are left out.
fn suggestions<T: Sync>(
    points: &[T],
    make: impl Fn(&T) -> Option<Suggestion> + Sync,
) -> Vec<Suggestion> {
    each(points, make).into_iter().flatten().collect()
}

/// Returns what fits, ranked; where it is little, with what goes farther than it has to.
fn fitting(bench: &Bench, lattice: &Lattice, found: &Found) -> Vec<Suggestion> {
    let all = ranked(suggestions(&found.fitting, |(point, taken)| {
        bench.fitting(lattice.changes(point), lattice.way(point), taken.bytes)
    }));
    let seen = |one: &Suggestion| {
        let same = |(point, _): &&(Point, Taken)| lattice.way(point) == one.way;
        found.fitting.iter().find(same).map(|(_, taken)| *taken)
    };
    let listed = &all[..all.len().min(LISTED)];
    let mut all = suggestions(listed, |one| {
        seen(one).is_some_and(|taken| bench.is_sure(&one.way, taken)).then(|| one.clone())
    });
    if all.len() < ENOUGH {
        let points = found.fitting.iter().map(|(point, _)| lattice.farther(point));
        let points: BTreeSet<Point> = points.flatten().collect();
        let more = worked_out(bench, lattice, &Vec::from_iter(points));
        let more = more.into_iter().filter(|one| {
            // What takes no less has no use for what it changes more.
            one.fits && all.iter().all(|least| one.taken < least.taken)
        });
        let missing = ENOUGH - all.len();
        let more: Vec<Suggestion> = ranked(more.collect()).into_iter().take(missing).collect();
        all.extend(
            more.into_iter().map(|one| Suggestion { standing: Standing::MoreThanNeeded, ..one }),
        );
    }
    all
}

/// Works out what points take and cost.
fn worked_out(bench: &Bench, lattice: &Lattice, points: &[Point]) -> Vec<Suggestion> {
    suggestions(points, |point| bench.suggestion(lattice.changes(point), lattice.way(point)))
}

/// Looks for the largest micro-batch of the first suggestions.
fn add_largest(bench: &Bench, suggestions: &mut [Suggestion]) {
    let shown = suggestions.len().min(LOOKED_FOR);
    let largest = each(&suggestions[..shown], |one| match one.way.setup.micro_batch {
        MicroBatch::ONE if !one.fits => Some(0),
        _ => bench.largest(&one.way),
    });
    for (one, largest) in suggestions.iter_mut().zip(largest) {
        one.largest = largest;
    }
}

/// Returns what takes the least of all that goes as far as there is to go.
fn nearest(bench: &Bench, lattice: &Lattice) -> Option<Suggestion> {
    let farthest = lattice.farthest(|point| bench.look(&lattice.way(point)) == Seen::Refused);
    worked_out(bench, lattice, &farthest).into_iter().min_by_key(|one| one.taken)
}

/// So many of the largest micro-batches are tried, of which one fits: some run on this capacity and not
/// on a little more.
const TRIED: usize = 4;

/// Returns what the room that is left could be spent on.
fn given_back(bench: &Bench, target: Option<EffectiveBatch>, largest: u64) -> Vec<Suggestion> {
    let applied = |changes: &Vec<Change>| {
        let way = changes.iter().fold(bench.base.clone(), |way, change| change.applied(&way));
        bench.suggestion(changes.clone(), way).filter(|one| one.fits)
    };
    let larger = fewer_micro_steps(&bench.base, largest).map(|change| vec![change]);
    let all: Vec<Vec<Change>> = larger.into_iter().chain(undone(&bench.base)).collect();
    let mut all = suggestions(&all, applied);
    if target.is_none() {
        let larger = larger_batches(&bench.base, largest).into_iter().take(TRIED);
        all.extend(larger.map(|change| vec![change]).find_map(|changes| applied(&changes)));
    }
    all
}
