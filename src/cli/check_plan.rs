//! An earlier plan, held against the machine as it is now.

use serde_json::Value;

use crate::cli::check::Args;
use crate::cli::check_memory::{memory, own_equation, uneven_stage};
use crate::cli::config_file::{self, Loaded};
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::job::Job;
use crate::cli::setup::SetupArgs;
use crate::cli::values::MicroBatchArg;
use crate::memory::footprint::Footprint;
use crate::plan::equation::Solved;
use crate::plan::finding::{Check, Finding, Level, Memory, Verdict};
use crate::plan::result::Estimate;
use crate::step::setup::{GpuArch, Setup};
use crate::units::{AccumulationSteps, Bytes};

/// Keys of a plan's setup that are flags by the same name, but for their hyphens.
const SETUP: [&str; 15] = [
    "task",
    "image_size",
    "seq_len",
    "label_len",
    "precision",
    "optimizer",
    "zero_grad",
    "clip",
    "freeze",
    "quantize",
    "checkpointing",
    "attention",
    "attention_mask",
    "loss",
    "allocator",
];

/// Checks a plan that `oomph plan --json` printed.
///
/// # Errors
/// When it lacks what a plan has, or a flag contradicts it.
pub fn check(
    args: &Args,
    name: &str,
    plan: &Value,
    model: Option<&str>,
    job: Loaded,
) -> Result<Check, CliError> {
    let broken = |key: &str| {
        CliError::usage(format!("`{name}` is a plan without `{key}`"))
            .hint("make it anew: oomph plan ... --json")
    };
    if plan["fits"] == false {
        return Err(CliError::new(exit::DOES_NOT_FIT, format!("`{name}` says that nothing fits"))
            .hint("make another plan: `oomph plan`"));
    }
    let number = |key: &str| plan[key].as_u64().filter(|n| *n > 0).ok_or_else(|| broken(key));
    let [micro_batch, accumulation, replicas, effective] = [
        number("micro_batch")?,
        number("accumulation_steps")?,
        number("data_parallel_size")?,
        number("effective_batch")?,
    ];
    let named = plan["model"].as_str().map(str::to_owned);
    let model = model.map(str::to_owned).or(named).ok_or_else(|| broken("model"))?;
    let planned = setup(plan, name)?;
    refuse_contradictions(&args.setup, micro_batch, accumulation)?;
    let setup = args.setup.clone().or(planned).or(job.setup);
    let target = setup.effective_batch;
    let world = setup.world_size.unwrap_or(replicas);
    let setup = SetupArgs {
        micro_batch: Some(MicroBatchArg::Fixed(micro_batch)),
        accumulation: Some(accumulation),
        world_size: Some(world),
        effective_batch: None,
        effective_tokens: None,
        ramp_up: None,
        ..setup
    };
    let (memory, mut findings, job) = memory(args, &model, setup);
    let mut equation = own_equation([micro_batch, accumulation, world], target.or(Some(effective)));
    equation.key = Some("effective_batch".to_owned());
    findings.insert(0, equation);
    if let Some(one) = plan["schedule"]["one_micro_batch"].as_u64() {
        let stages = plan["schedule"]["stages"].as_array().into_iter().flatten();
        let batches: Vec<u64> =
            stages.filter_map(|stage| stage["target_effective_batch"].as_u64()).collect();
        findings.extend(uneven_stage(&batches, one, world));
    }
    if let (Some(job), Memory::Answered(estimate)) = (&job, &memory) {
        findings.extend(another_setup(plan, estimate, job));
        findings.extend(changed(plan, estimate.capacity.map(|capacity| capacity.bytes.get())));
        if job.gpus.iter().any(|gpu| gpu.simulated) {
            findings.push(note("the GPU is simulated: nothing was asked of the machine"));
        }
    }
    let batch = Solved {
        micro_batch,
        accumulation,
        effective: micro_batch.saturating_mul(accumulation).saturating_mul(world),
    };
    Ok(Check {
        subject: name.to_owned(),
        kind: "plan".to_owned(),
        world: job.map(|job| job.world),
        data_parallel: Some(world),
        batch: Some(batch),
        findings,
        memory,
        differences: Vec::new(),
        code: exit::OK,
    })
}

/// A plan is checked as it is: another micro-batch is another plan.
fn refuse_contradictions(
    flags: &SetupArgs,
    micro_batch: u64,
    accumulation: u64,
) -> Result<(), CliError> {
    let other_size = !matches!(flags.micro_batch, None | Some(MicroBatchArg::Auto))
        && flags.micro_batch != Some(MicroBatchArg::Fixed(micro_batch));
    let other_steps = flags.accumulation.is_some_and(|steps| steps != accumulation);
    if !other_size && !other_steps {
        return Ok(());
    }
    let fact = format!("the plan is micro-batch {micro_batch}, accumulation {accumulation}");
    Err(CliError::usage(fact)
        .cause("flags say otherwise")
        .hint("leave them out, or check a job: oomph check MODEL --micro-batch N"))
}

/// Turns the setup of a plan's estimate into flags.
fn setup(plan: &Value, name: &str) -> Result<SetupArgs, CliError> {
    let setup = plan["estimate"]["setup"].as_object().ok_or_else(|| {
        CliError::usage(format!("`{name}` is a plan without `estimate.setup`"))
            .hint("make it anew: oomph plan ... --json")
    })?;
    let images = setup.get("image_size").is_some_and(Value::is_u64);
    let own_length = images || setup.get("task").is_some_and(|task| task == "speech-seq2seq");
    let mut text = String::new();
    for (key, value) in setup {
        if key == "gpu" || value.is_null() {
            continue;
        }
        // A model of images or of audio has its own length and no mask, and no flags for them.
        if own_length && ["seq_len", "attention_mask"].contains(&key.as_str()) {
            continue;
        }
        if let ("lora", Some(lora)) = (key.as_str(), value.as_object()) {
            let parts: Vec<String> = ["r", "targets", "dropout"]
                .into_iter()
                .filter_map(|name| Some((name, lora.get(name).filter(|value| !value.is_null())?)))
                .map(|(name, value)| match value.as_str() {
                    Some(word) => format!("{name}={word}"),
                    None => format!("{name}={value}"),
                })
                .collect();
            text.push_str(&format!("lora = \"{}\"\n", parts.join(",")));
            continue;
        }
        if !SETUP.contains(&key.as_str()) {
            return Err(CliError::usage(format!("`{name}` has a setup with `{key}`"))
                .cause("this oomph cannot check that in a plan")
                .hint("check it as a job: oomph check MODEL with the same flags"));
        }
        text.push_str(&format!("{} = {value}\n", key.replace('_', "-")));
    }
    let versions = &plan["estimate"]["versions"];
    for key in ["torch", "transformers"] {
        if let Some(version) = versions[key].as_str() {
            text.push_str(&format!("{key} = \"{version}\"\n"));
        }
    }
    config_file::parse(&text, name).map(|loaded| loaded.setup)
}

/// Finds a plan whose own estimate is not that of its setup on the GPU that it was made for: the model
/// of its name, or this oomph, is another by now.
fn another_setup(plan: &Value, estimate: &Estimate, job: &Job) -> Option<Finding> {
    let then = plan["estimate"]["peak_allocated_bytes"].as_u64()?;
    let now = peak_on(gpu(plan), estimate, job).get();
    if then == now {
        return None;
    }
    let [then, now] = [then, now].map(Bytes::new);
    Some(Finding {
        verdict: Verdict::Invalid,
        level: Level::Error,
        message: format!(
            "the plan's estimate is {then} allocated and its setup's {now}: it was made for \
             another model of that name, or by another version of oomph; make it anew"
        ),
        ..note("")
    })
}

/// Returns the kind of GPU that a plan was made for, where it says one.
fn gpu(plan: &Value) -> Option<GpuArch> {
    let gpu = &plan["estimate"]["setup"]["gpu"];
    let (major, minor) = gpu["compute_capability"].as_str()?.split_once('.')?;
    Some(GpuArch {
        compute_capability: (major.parse().ok()?, minor.parse().ok()?),
        sm_count: gpu["sm_count"].as_u64()?.try_into().ok()?,
    })
}

/// Returns the peak of an estimate's step on another kind of GPU, whose kernels and scratch are others.
fn peak_on(gpu: Option<GpuArch>, estimate: &Estimate, job: &Job) -> Bytes {
    let here = estimate.setup;
    let other = gpu.filter(|gpu| *gpu != here.gpu).and_then(|gpu| {
        // Two micro-steps have the peaks of any more.
        let accumulation = here.accumulation.min(AccumulationSteps::TWO);
        let trace = job.trace(&Setup { gpu, accumulation, ..here }).ok()?;
        Some(Footprint::peaks_of(&trace).ok()?.peak_allocated)
    });
    other.unwrap_or(estimate.footprint.peak_allocated)
}

/// Says how much less the allocator may take than when the plan was made.
fn changed(plan: &Value, now: Option<u64>) -> Option<Finding> {
    let before = plan["estimate"]["capacity"]["capacity_bytes"].as_u64()?;
    let now = now.filter(|now| *now < before)?;
    let [before, now] = [before, now].map(Bytes::new);
    Some(note(&format!("the allocator may take {now}; when the plan was made it was {before}")))
}

fn note(message: &str) -> Finding {
    Finding {
        verdict: Verdict::Caution,
        level: Level::Fine,
        place: None,
        key: None,
        value: None,
        message: message.to_owned(),
        repairs: Vec::new(),
    }
}
