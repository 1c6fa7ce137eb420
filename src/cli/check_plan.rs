//! An earlier plan, held against the machine as it is now.

use serde_json::Value;

use crate::cli::check::Args;
use crate::cli::check_memory::{memory, own_equation, uneven_stage};
use crate::cli::config_file::{self, Loaded};
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::setup::SetupArgs;
use crate::cli::values::MicroBatchArg;
use crate::plan::equation::Solved;
use crate::plan::finding::{Check, Finding, Level, Memory, Verdict};
use crate::plan::result::Estimate;
use crate::units::Bytes;

/// Keys of a plan's setup that are flags by the same name, but for their hyphens.
const SETUP: [&str; 13] = [
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
        findings.extend(another_setup(plan, estimate));
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
    let mut text = String::new();
    for (key, value) in setup {
        if key == "gpu" || value.is_null() {
            continue;
        }
        // A model of images has a length of one, and no flag for it.
        if key == "seq_len" && value == 1 {
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
        let images = setup.get("seq_len").is_some_and(|tokens| tokens == 1);
        if images && key == "attention_mask" {
            continue;
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

/// Finds a plan whose own estimate is not that of its setup: what its JSON does not say (a task, the
/// size of images) was another. Between unlike GPUs scratch differs, so a twentieth is let pass.
fn another_setup(plan: &Value, estimate: &Estimate) -> Option<Finding> {
    let then = plan["estimate"]["peak_allocated_bytes"].as_u64()?;
    let now = estimate.footprint.peak_allocated.get();
    let (major, minor) = estimate.setup.gpu.compute_capability;
    let gpu = &plan["estimate"]["setup"]["gpu"];
    let alike = gpu["compute_capability"] == format!("{major}.{minor}")
        && gpu["sm_count"] == estimate.setup.gpu.sm_count;
    let allowed = if alike { 0 } else { then / 20 };
    if then.abs_diff(now) <= allowed {
        return None;
    }
    let [then, now] = [then, now].map(Bytes::new);
    Some(Finding {
        verdict: Verdict::Invalid,
        level: Level::Error,
        message: format!(
            "the plan's estimate is {then} allocated and its setup's {now}: it was made for \
             another task, image size or version of oomph; make it anew, or say so by flags"
        ),
        ..note("")
    })
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
