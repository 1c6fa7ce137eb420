//! A plan put together from what was solved: the estimate at its sizes, and what stands beside it.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::fits::{Detail, OnDevice};
use crate::cli::job::Job;
use crate::cli::on_all::weakest;
use crate::cli::settings::Target;
use crate::cli::target::ChosenGpu;
use crate::memory::trace::Category;
use crate::plan::capacity::{Capacity, Outside};
use crate::plan::result::{Estimate, Goal, Method, Plan, PlanGpu, UnequalGpus};
use crate::plan::same::{self, Training};
use crate::plan::schedule::Scheduled;
use crate::plan::solver::{Limits, Solution, Unsolvable};
use crate::plan::sync::{Sizes, Sync, When, traffic};
use crate::plan::together::{Fits, Wish};
use crate::plan::unequal::unequal;
use crate::step::setup::Precision;
use crate::units::{AccumulationSteps, Bytes, DataParallelSize, MicroBatch};

/// What was solved.
#[derive(Debug)]
pub struct Solved {
    /// The plan's batches, or why there are none.
    pub batches: Result<Solution, Unsolvable>,
    /// The schedule that they are the worst stage of, if there is one.
    pub schedule: Option<Scheduled>,
    /// How it is known.
    pub method: Method,
}

/// Puts a plan together from what was solved, with the estimate at its sizes.
///
/// # Errors
/// When what was asked for cannot be met by any plan, or the step cannot be estimated.
pub fn compose(
    job: &Job,
    wish: &Wish,
    devices: &mut [OnDevice],
    solved: Solved,
    detail: Detail,
) -> Result<Plan, CliError> {
    let Solved { batches: solved, schedule, method } = solved;
    let unequal = match &solved {
        Ok(solution) => unequal_gpus(job, wish, devices, solution)?,
        Err(_) => None,
    };
    let weakest = weakest(devices).ok_or_else(|| CliError::usage("no GPU was chosen"))?;
    let (micro_batch, accumulation, largest) = match &solved {
        Ok(solution) => {
            let best = &solution.best;
            (best.micro_batch, best.accumulation, solution.largest_micro_batch)
        }
        Err(unsolvable) => refused_at(unsolvable, wish)?,
    };
    let mut solution = solved.ok();
    if let (Some(solution), Some(Target::Tokens(tokens))) = (&mut solution, job.settings.target) {
        // The nearest number of samples is not the number of tokens that was asked for.
        solution.exact &= tokens.is_multiple_of(job.settings.setup.seq_len);
    }
    if let (Some(solution), Some(schedule)) = (&mut solution, &schedule) {
        solution.exact &= schedule.exact();
    }
    let mut estimate = match solution {
        Some(_) => weakest.planned(micro_batch, accumulation, detail)?,
        None => weakest.refused(micro_batch, accumulation)?,
    };
    estimate.largest_micro_batch = Some(largest);
    estimate.notes.extend(notes(job, solution.as_ref()));
    let goal = wish.target.map(|effective_batch| Goal {
        effective_batch,
        tokens: match job.settings.target {
            Some(Target::Tokens(tokens)) => Some(tokens),
            _ => None,
        },
    });
    let gpus = job.gpus.iter().filter_map(|gpu| {
        let capacity = job.capacity_on(Some(gpu), &job.outside(Some(gpu), weakest.gradients))?;
        Some(plan_gpu(gpu, capacity))
    });
    let mut gpus: Vec<PlanGpu> = gpus.collect();
    gpus.sort_by_key(|gpu| gpu.capacity.bytes);
    let data_parallel = wish.data_parallel;
    let world = job.world.clone();
    let sync = sync(job, &estimate, weakest.gradients);
    Ok(Plan {
        gpus,
        world,
        data_parallel,
        goal,
        solution,
        schedule,
        unequal,
        sync,
        method,
        estimate,
    })
}

/// Works out what each of several kinds of GPU could do by itself.
fn unequal_gpus(
    job: &Job,
    wish: &Wish,
    devices: &mut [OnDevice],
    solution: &Solution,
) -> Result<Option<UnequalGpus>, CliError> {
    if devices.len() < 2 {
        return Ok(None);
    }
    let steps = solution.best.accumulation;
    let mut known = Vec::new();
    for device in devices.iter_mut() {
        known.push((device.gpu, device.largest(steps)?));
    }
    let of = |gpu: &ChosenGpu| {
        let alike =
            |(kind, _): &&(Option<&ChosenGpu>, u64)| kind.is_some_and(|kind| kind.is_alike(gpu));
        known.iter().find(alike).map_or(0, |(_, largest)| *largest)
    };
    let largest: Vec<(u32, u64)> = job.gpus.iter().map(|gpu| (gpu.index, of(gpu))).collect();
    let limits: Vec<Limits> = largest
        .iter()
        .map(|(_, largest)| Limits { single: *largest, accumulated: *largest })
        .collect();
    // Of nodes that are not here nothing is known.
    let all_here = wish.data_parallel.get() == job.gpus.len() as u64;
    let plan = wish
        .target
        .filter(|_| all_here)
        .and_then(|target| unequal(&limits, target.get(), steps.get()));
    Ok(Some(UnequalGpus { largest, plan }))
}

/// Works out what devices send each other at the sizes of an estimate, also where they do not fit:
/// that is when sharing is looked at.
fn sync(job: &Job, estimate: &Estimate, gradients: Bytes) -> Sync {
    let replicas = job.data_parallel();
    let chosen = job.settings.grad_sync;
    let (when, by_default) = (chosen.unwrap_or(When::Once), chosen.is_none());
    if replicas == DataParallelSize::ONE {
        return Sync { when, by_default, all: Vec::new(), room_when_sharded: None };
    }
    let at_peak = |category| estimate.footprint.at_peak.get(&category).copied().unwrap_or_default();
    let divided: Bytes = [
        Category::Parameters,
        Category::Gradients,
        Category::OptimizerState,
        Category::OptimizerTemp,
    ]
    .into_iter()
    .map(at_peak)
    .sum();
    let need = estimate.need().saturating_sub(divided) + Bytes::new(divided.get() / replicas.get());
    // DDP's buckets are not there then.
    let buckets: Bytes = estimate
        .outside
        .terms
        .iter()
        .filter(|(kind, _)| *kind == Outside::DdpBuckets)
        .map(|(_, bytes)| *bytes)
        .sum();
    let room = estimate.capacity.map(|capacity| {
        let outside = capacity.outside.saturating_sub(buckets);
        capacity.free.saturating_sub(outside).saturating_sub(capacity.headroom).saturating_sub(need)
    });
    let parameters = at_peak(Category::Parameters);
    let sizes = Sizes { gradients, parameters, room_when_sharded: room };
    let all = traffic(sizes, replicas, estimate.setup.accumulation);
    Sync { when, by_default, all, room_when_sharded: room }
}

/// Returns the sizes whose estimate explains why there is no plan, and the largest that fits.
fn refused_at(
    unsolvable: &Unsolvable,
    wish: &Wish,
) -> Result<(MicroBatch, AccumulationSteps, u64), CliError> {
    match *unsolvable {
        Unsolvable::NothingFits => {
            Ok((MicroBatch::ONE, wish.accumulation.unwrap_or(AccumulationSteps::ONE), 0))
        }
        Unsolvable::DoesNotFit { wanted, accumulation, largest } => Ok((
            MicroBatch::new(wanted).unwrap_or(MicroBatch::ONE),
            AccumulationSteps::new(accumulation)
                .unwrap_or(AccumulationSteps::ONE)
                .min(AccumulationSteps::TWO),
            largest,
        )),
        Unsolvable::FewerThanReplicas { replicas, .. } => {
            Err(CliError::usage(unsolvable.to_string())
                .hint(format!("--effective-batch {replicas} or more, or fewer GPUs")))
        }
        Unsolvable::BrokenEquation { .. } => {
            Err(CliError::new(exit::NO_EXACT_PLAN, unsolvable.to_string())
                .hint("leave one of --micro-batch, --accumulation and --effective-batch out"))
        }
    }
}

/// Returns a GPU as an answer shows it.
pub fn plan_gpu(gpu: &ChosenGpu, capacity: Capacity) -> PlanGpu {
    PlanGpu {
        index: gpu.index,
        name: gpu.name.clone(),
        uuid: gpu.uuid.clone(),
        simulated: gpu.simulated,
        total: gpu.total,
        free: gpu.free,
        capacity,
    }
}

/// What to keep in mind about a plan.
fn notes(job: &Job, solution: Option<&Solution>) -> Vec<String> {
    let model = &job.model.config;
    let setup = &job.settings.setup;
    let training = Training {
        sequences: model.image_size().is_none(),
        batch_norm: model.has_batch_norm(),
        loss_scaling: setup.precision == Precision::AmpFp16,
        clipping: setup.clip.is_some(),
        data_parallel: job.data_parallel(),
    };
    let mut notes = solution.map_or(Vec::new(), |solution| same::notes(&training, &solution.best));
    if job.data_parallel().get() > 1 {
        notes.push(
            "several devices: allowances for NCCL and for the gradient buckets of \
             DistributedDataParallel are taken off; its trace comes later"
                .to_owned(),
        );
    }
    notes
}
