//! `oomph plan`: micro-batch and accumulation for an effective batch.

use std::path::PathBuf;

use clap::builder::PossibleValue;

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::fits::{Detail, OnAll, OnDevice, kinds, weakest};
use crate::cli::job::{Job, WithoutGpu};
use crate::cli::launching;
use crate::cli::output::{self, Answer, Style};
use crate::cli::settings::Target;
use crate::cli::setup::ModelArgs;
use crate::cli::target::ChosenGpu;
use crate::export::decided::Decided;
use crate::export::emit;
use crate::export::format::Format;
use crate::memory::trace::Category;
use crate::plan::capacity::Capacity;
use crate::plan::result::{Estimate, Goal, Method, Plan, PlanGpu, UnequalGpus};
use crate::plan::same::{self, Training};
use crate::plan::solver::{Limits, Solution, Unsolvable};
use crate::plan::sync::{Sizes, Traffic, traffic};
use crate::plan::together::{Fits, Wish, solve_with};
use crate::plan::unequal::unequal;
use crate::probe::target::Sharing;
use crate::report;
use crate::report::text::Paint;
use crate::step::setup::Precision;
use crate::units::{AccumulationSteps, Bytes, DataParallelSize, EffectiveBatch, MicroBatch};

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
            .hint(
                estimate.hints.first().cloned().unwrap_or("the same without --emit".to_owned()),
            ));
    };
    if format == Format::TorchtitanTokens && plan.estimate.setup.seq_len <= 1 {
        return Err(CliError::usage("--emit torchtitan@tokens counts tokens")
            .cause(format!("{} has none", plan.estimate.model))
            .hint("another --emit FORMAT"));
    }
    let decided = Decided::of(plan, solution);
    if decided.missed.is_some() {
        output::write_stderr(&format!("warning: no exact plan: {}\n", decided.equation()));
    }
    Ok(emit(format, &decided))
}

/// What came of a wish, and what that rests on.
pub(super) struct Solved {
    /// The solution, or why there is none.
    pub solved: Result<Solution, Unsolvable>,
    /// Probed, or estimated after all.
    pub method: Method,
    /// What to keep in mind, each a line.
    pub notes: Vec<String>,
}

/// Works the plan out: probed on real GPUs as `--probe` says, else on the estimate.
fn answer(
    job: &Job,
    target: Option<EffectiveBatch>,
    probe: ProbeWhen,
    detail: Detail,
) -> Result<Plan, CliError> {
    let devices: Vec<OnDevice> = match job.gpus.as_slice() {
        [] => vec![OnDevice::new(job, None)?],
        gpus => kinds(gpus)
            .into_iter()
            .map(|gpu| OnDevice::new(job, Some(gpu)))
            .collect::<Result<_, _>>()?,
    };
    let mut all = OnAll { kinds: devices };
    let wish = Wish {
        data_parallel: job.data_parallel(),
        target,
        micro_batch: job.settings.micro_batch,
        accumulation: job.settings.accumulation,
    };
    let sharing = match probe {
        ProbeWhen::Never => None,
        ProbeWhen::Auto => Some(Sharing::Refused),
        ProbeWhen::Always => Some(Sharing::Allowed),
    };
    let real = job.capacity.is_none() && job.gpus.iter().any(|gpu| !gpu.simulated);
    let Some(sharing) = sharing.filter(|_| real) else {
        let solved = solve_with(&wish, &mut all)?;
        return compose(job, &wish, &mut all.kinds, solved, (Method::Estimated, detail));
    };
    let Solved { solved, method, notes } = launching::solve(job, &wish, &mut all, sharing)?;
    let mut plan = compose(job, &wish, &mut all.kinds, solved, (method, detail))?;
    plan.estimate.notes.extend(notes);
    Ok(plan)
}

/// Puts a plan together from what was solved, with the estimate at its sizes.
fn compose(
    job: &Job,
    wish: &Wish,
    devices: &mut [OnDevice],
    solved: Result<Solution, Unsolvable>,
    (method, detail): (Method, Detail),
) -> Result<Plan, CliError> {
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
    let sync = sync(&estimate, weakest.gradients, data_parallel, solution.as_ref());
    Ok(Plan { gpus, world, data_parallel, goal, solution, unequal, sync, method, estimate })
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
        let alike = |(kind, _): &&(Option<&ChosenGpu>, u64)| {
            kind.is_some_and(|kind| kinds(&[kind.clone(), gpu.clone()]).len() == 1)
        };
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

/// Works out what devices send each other at a plan's sizes.
fn sync(
    estimate: &Estimate,
    gradients: Bytes,
    data_parallel: DataParallelSize,
    solution: Option<&Solution>,
) -> Vec<Traffic> {
    let Some(solution) = solution.filter(|_| data_parallel.get() > 1) else { return Vec::new() };
    let parameters = estimate.footprint.at_peak.get(&Category::Parameters);
    let sizes = Sizes { gradients, parameters: parameters.copied().unwrap_or_default() };
    traffic(sizes, data_parallel, solution.best.accumulation)
}

/// Returns the sizes whose estimate explains why there is no plan, and the largest that fits.
fn refused_at(
    unsolvable: &Unsolvable,
    wish: &Wish,
) -> Result<(MicroBatch, AccumulationSteps, u64), CliError> {
    let two = AccumulationSteps::new(2).unwrap_or(AccumulationSteps::ONE);
    match *unsolvable {
        Unsolvable::NothingFits => {
            Ok((MicroBatch::ONE, wish.accumulation.unwrap_or(AccumulationSteps::ONE), 0))
        }
        Unsolvable::DoesNotFit { wanted, accumulation, largest } => Ok((
            MicroBatch::new(wanted).unwrap_or(MicroBatch::ONE),
            AccumulationSteps::new(accumulation).unwrap_or(AccumulationSteps::ONE).min(two),
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
