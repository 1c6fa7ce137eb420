//! The two questions of `oomph check`: does the batch equation hold, and does the step fit.

use crate::cli::advise::sizes;
use crate::cli::check::{Args, NoGpu};
use crate::cli::check_framework;
use crate::cli::check_plan;
use crate::cli::check_subject::Subject;
use crate::cli::config_file;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::fits::Detail;
use crate::cli::job::{Job, WithoutGpu};
use crate::cli::on_all::{OnAll, weakest};
use crate::cli::settings::Target;
use crate::cli::setup::SetupArgs;
use crate::cli::values::{Headroom, MicroBatchArg};
use crate::ingest::source::ModelSource;
use crate::plan::equation::Solved;
use crate::plan::finding::{Check, Finding, Level, Memory, Verdict};
use crate::plan::result::Estimate;
use crate::units::{AccumulationSteps, Bytes, MicroBatch, counted};

/// Answers both questions, as far as they are asked.
///
/// # Errors
/// When what is asked cannot be worked with at all.
pub fn check(args: &Args, subject: &Subject, job: config_file::Loaded) -> Result<Check, CliError> {
    match subject {
        Subject::Framework(file) => check_framework::check(args, file, job),
        Subject::Plan { name, plan, model } => {
            check_plan::check(args, name, plan, model.as_deref(), job)
        }
        Subject::Job { model } => of_job(args, model.as_deref(), job),
    }
}

/// A job of flags and `oomph.toml`.
fn of_job(args: &Args, model: Option<&str>, job: config_file::Loaded) -> Result<Check, CliError> {
    let Some(model) = model.map(str::to_owned).or(job.model) else {
        return Err(CliError::usage("there is nothing to check")
            .cause("no FILE, no MODEL, and no oomph.toml that names a `model`")
            .hint("oomph check FILE MODEL, or oomph check MODEL --micro-batch 8"));
    };
    let setup = args.setup.clone().or(job.setup);
    let micro_batch = match setup.micro_batch {
        Some(MicroBatchArg::Fixed(size)) => size,
        Some(MicroBatchArg::Auto) | None => {
            ModelSource::resolve(&model)?;
            return Err(CliError::usage("check judges one micro-batch, and none is said")
                .hint("--micro-batch 8; `oomph plan` finds the largest"));
        }
    };
    let mut check = Check {
        subject: model.clone(),
        kind: "job".to_owned(),
        world: None,
        data_parallel: None,
        batch: None,
        findings: Vec::new(),
        memory: Memory::NotAsked(String::new()),
        differences: Vec::new(),
        code: exit::OK,
    };
    let target = setup.effective_batch;
    // What a ramp leaves open is the number of micro-steps.
    let asked = target.filter(|_| setup.ramp_up.is_some());
    let (memory, findings, job) =
        memory(args, &model, SetupArgs { effective_batch: asked, ..setup });
    (check.memory, check.findings) = (memory, findings);
    if let Some(job) = job {
        let replicas = job.data_parallel().get();
        let accumulation = sizes_of(&job).1.get();
        let effective = micro_batch.saturating_mul(accumulation).saturating_mul(replicas);
        let target = target.or_else(|| {
            let tokens = args.setup.effective_tokens?;
            Some(tokens / job.settings.setup.seq_len)
        });
        check.findings.push(own_equation([micro_batch, accumulation, replicas], target));
        let ramp = job.settings.ramp_up.zip(target);
        let stages = ramp.and_then(|(ramp, target)| ramp.stages(target).ok());
        let batches: Vec<u64> = stages.into_iter().flatten().map(|(_, batch)| batch).collect();
        check.findings.extend(uneven_stage(&batches, micro_batch, replicas));
        check.batch = Some(Solved { micro_batch, accumulation, effective });
        check.data_parallel = Some(replicas);
        check.world = Some(job.world);
    }
    Ok(check)
}

/// Holds numbers of our own against the effective batch that is asked for.
pub fn own_equation(numbers: [u64; 3], target: Option<u64>) -> Finding {
    let [micro_batch, accumulation, replicas] = numbers;
    let effective = micro_batch.saturating_mul(accumulation).saturating_mul(replicas);
    let devices = counted(replicas, "device");
    let equation = format!("micro-batch {micro_batch} x accumulation {accumulation} x {devices}");
    let wrong = target.filter(|target| *target != effective);
    Finding {
        verdict: if wrong.is_some() { Verdict::Equation } else { Verdict::Ok },
        level: if wrong.is_some() { Level::Error } else { Level::Fine },
        place: None,
        key: None,
        value: None,
        message: match wrong {
            Some(target) => format!("{equation} is {effective}, not {target}"),
            None => format!("{equation} = {effective}"),
        },
        repairs: Vec::new(),
    }
}

/// Names the first stage of a schedule that is no whole number of micro-steps.
pub fn uneven_stage(batches: &[u64], micro_batch: u64, replicas: u64) -> Option<Finding> {
    let once = micro_batch.saturating_mul(replicas);
    let batch = batches.iter().find(|batch| !batch.is_multiple_of(once))?;
    Some(Finding {
        message: format!(
            "the schedule's stage of {} is no multiple of {micro_batch} x {}",
            counted(*batch, "sample"),
            counted(replicas, "device")
        ),
        ..own_equation([micro_batch, 1, replicas], Some(*batch))
    })
}

/// Makes a warning of a line.
pub fn caution(message: String) -> Finding {
    Finding {
        verdict: Verdict::Caution,
        level: Level::Warning,
        place: None,
        key: None,
        value: None,
        message,
        repairs: Vec::new(),
    }
}

/// Turns an error into a question that stays open.
pub fn unanswered(error: CliError) -> Memory {
    let CliError { code, fact, cause, hint, .. } = error;
    Memory::Unanswered { code, fact, cause, hint }
}

/// Works out whether a job fits, on the weakest of its GPUs.
pub fn memory(args: &Args, model: &str, setup: SetupArgs) -> (Memory, Vec<Finding>, Option<Job>) {
    let job = match prepared(model, setup) {
        Ok(job) => job,
        Err(error) if error.gpu_missing && args.no_gpu == NoGpu::Skip => {
            let why = format!("skipped: {}", error.fact);
            return (Memory::NotAsked(why.clone()), vec![caution(why)], None);
        }
        Err(error) => return (unanswered(error), Vec::new(), None),
    };
    match judged(args, &job) {
        Ok((estimate, findings)) => (Memory::Answered(Box::new(estimate)), findings, Some(job)),
        Err(error) => (unanswered(error), Vec::new(), Some(job)),
    }
}

fn prepared(model: &str, setup: SetupArgs) -> Result<Job, CliError> {
    let job = Job::of(model, setup, WithoutGpu::AskDriver)?;
    job.check_kernels()?;
    Ok(job)
}

/// Returns the sizes that are judged: only a job that ramps up comes here with an effective batch.
fn sizes_of(job: &Job) -> (MicroBatch, AccumulationSteps) {
    let target = match job.settings.target {
        Some(Target::Samples(batch)) => Some(batch),
        Some(Target::Tokens(_)) | None => None,
    };
    sizes(job, target)
}

fn judged(args: &Args, job: &Job) -> Result<(Estimate, Vec<Finding>), CliError> {
    let devices = OnAll::of(job)?.kinds;
    let weakest = weakest(&devices).ok_or_else(|| CliError::usage("no GPU was chosen"))?;
    let (micro_batch, accumulation) = sizes_of(job);
    let mut estimate = weakest.planned(micro_batch, accumulation, Detail::All)?;
    if estimate.fits() != Some(true) {
        estimate.hints = weakest.hints(micro_batch, accumulation)?;
    }
    let total = weakest.gpu.map(|gpu| gpu.total).or(job.capacity);
    let finding = fit(&estimate, args.min_headroom.zip(total));
    Ok((estimate, vec![finding]))
}

/// Says whether a step fits, and whether it leaves what must stay free.
fn fit(estimate: &Estimate, least: Option<(Headroom, Bytes)>) -> Finding {
    let need = estimate.need();
    let sizes = format!(
        "micro-batch {}, accumulation {}",
        estimate.setup.micro_batch, estimate.setup.accumulation
    );
    let (may, left) = estimate.capacity.map_or_else(Default::default, |capacity| {
        let all = capacity.free.saturating_sub(capacity.outside);
        (capacity.bytes, all.saturating_sub(need))
    });
    let mut finding = Finding {
        verdict: Verdict::Ok,
        level: Level::Fine,
        place: None,
        key: None,
        value: None,
        message: format!("{} fits: {sizes} needs {need} of {may}", estimate.model),
        repairs: Vec::new(),
    };
    let short = least.map(|(least, of)| (least, least.of(of))).filter(|(_, bytes)| left < *bytes);
    if estimate.fits() != Some(true) {
        finding.message = format!(
            "{} does not fit: {sizes} needs {need}, {} more than it may take",
            estimate.model,
            need.saturating_sub(may)
        );
    } else if let Some((least, bytes)) = short {
        finding.message =
            format!("{sizes} leaves {left} free, less than --min-headroom {least} ({bytes})");
    } else {
        return finding;
    }
    Finding { verdict: Verdict::DoesNotFit, level: Level::Error, ..finding }
}
