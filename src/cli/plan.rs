//! `oomph plan`: micro-batch and accumulation for an effective batch.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::fits::{OnAll, OnDevice, kinds, weakest};
use crate::cli::job::{Job, WithoutGpu};
use crate::cli::output::{Answer, Style};
use crate::cli::probing::Probing;
use crate::cli::settings::Target;
use crate::cli::setup::ModelArgs;
use crate::cli::target::ChosenGpu;
use crate::plan::capacity::Capacity;
use crate::plan::result::{Goal, Method, Plan, PlanGpu};
use crate::plan::solver::{Solution, Unsolvable};
use crate::plan::together::{Wish, solve_with};
use crate::probe::target::Sharing;
use crate::report;
use crate::report::text::Paint;
use crate::units::{AccumulationSteps, EffectiveBatch, MicroBatch};

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
  oomph plan gpt2 --precision fp32 --effective-batch 96 --exact --gpu sim:24GiB")]
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
}

/// Runs `oomph plan`.
///
/// # Errors
/// When the setup cannot be worked with, or no GPU answers.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    let mut job = Job::prepare(&args.model, WithoutGpu::AskDriver)?;
    let target = job.settings.effective_batch()?;
    job.check_kernels()?;
    let plan = answer(&job, target, args.probe)?;
    let text = if style.json {
        report::json::plan(&plan)
    } else {
        report::plan::render(&plan, Paint { on: style.color })
    };
    let code = match &plan.solution {
        None => exit::DOES_NOT_FIT,
        Some(solution) if args.exact && !solution.exact => exit::NO_EXACT_PLAN,
        Some(_) => exit::OK,
    };
    Ok(Answer { text, code })
}

/// Works the plan out: probed on real GPUs as `--probe` says, else on the estimate.
fn answer(job: &Job, target: Option<EffectiveBatch>, probe: ProbeWhen) -> Result<Plan, CliError> {
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
        return compose(job, &wish, &all.kinds, solved, Method::Estimated);
    };
    let mut probing = Probing::new(job, &mut all, sharing)?;
    let solved = solve_with(&wish, &mut probing)?;
    let Probing { given_up, probed, warnings, .. } = probing;
    let method = if probed && given_up.is_none() { Method::Probed } else { Method::Estimated };
    let mut plan = compose(job, &wish, &all.kinds, solved, method)?;
    plan.estimate.notes.extend(given_up);
    plan.estimate.notes.extend(warnings);
    Ok(plan)
}

/// Puts a plan together from what was solved, with the estimate at its sizes.
fn compose(
    job: &Job,
    wish: &Wish,
    devices: &[OnDevice],
    solved: Result<Solution, Unsolvable>,
    method: Method,
) -> Result<Plan, CliError> {
    let weakest = weakest(devices).ok_or_else(|| CliError::usage("no GPU was chosen"))?;
    let (micro_batch, accumulation, largest) = match &solved {
        Ok(solution) => {
            let best = &solution.best;
            (best.micro_batch, best.accumulation, solution.largest_micro_batch)
        }
        Err(unsolvable) => refused_at(unsolvable, wish)?,
    };
    let solution = solved.ok();
    let mut estimate = weakest.planned(micro_batch, accumulation)?;
    estimate.largest_micro_batch = Some(largest);
    if solution.is_none() {
        estimate.hints = weakest.hints(micro_batch, accumulation)?;
    }
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
    Ok(Plan { gpus, data_parallel, goal, solution, method, estimate })
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

fn plan_gpu(gpu: &ChosenGpu, capacity: Capacity) -> PlanGpu {
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
    let mut notes = Vec::new();
    if solution.is_some_and(|solution| solution.best.accumulation > AccumulationSteps::ONE) {
        notes.push(
            "accumulation equals one large batch only if the loss is normalised over all tokens \
             of the optimizer step (transformers 4.46 and later do)"
                .to_owned(),
        );
    }
    let kinds = kinds(&job.gpus);
    if let (Some(weakest), true) = (kinds.iter().min_by_key(|gpu| gpu.free), kinds.len() > 1) {
        notes.push(format!(
            "the GPUs differ: all take the micro-batch of the weakest, GPU {} ({})",
            weakest.index, weakest.name
        ));
    }
    if job.data_parallel().get() > 1 {
        notes.push(
            "several devices: allowances for NCCL and for the gradient buckets of \
             DistributedDataParallel are taken off; its trace comes later"
                .to_owned(),
        );
    }
    notes
}
