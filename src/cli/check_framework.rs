//! `oomph check` of a framework's configuration: what it says, completed by flags and `oomph.toml`.

use crate::cli::check::{Args, NoGpu, Only};
use crate::cli::check_memory::{caution, memory, unanswered};
use crate::cli::check_subject::FrameworkFile;
use crate::cli::config_file;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::gpu_select::GpuSelector;
use crate::cli::job::world;
use crate::cli::setup::SetupArgs;
use crate::cli::target;
use crate::cli::values::MicroBatchArg;
use crate::ingest::framework::claims::{Amount, Claim, Claims};
use crate::ingest::framework::judge::{Given, Judged, judge};
use crate::plan::finding::{Check, Finding, Level, Memory};
use crate::plan::world::{World, WorldFrom};

/// Answers both questions of a framework's configuration, as far as they are asked.
///
/// # Errors
/// When what is asked cannot be worked with at all.
pub fn check(
    args: &Args,
    file: &FrameworkFile,
    job: config_file::Loaded,
) -> Result<Check, CliError> {
    let claims = &file.configuration.claims;
    let said = settings(claims, true, &file.name)?;
    let default = settings(claims, false, &file.name)?;
    let setup = args.setup.clone().or(said).or(job.setup).or(default);
    let only_batch = args.only == Some(Only::Batch);
    let world = match find_world(args, &setup, claims) {
        Ok(world) => world,
        Err(error) if error.gpu_missing && args.no_gpu == NoGpu::Skip => {
            return Ok(skipped(file, "no GPU here, and nothing says how many devices train"));
        }
        Err(error) => return Err(error),
    };
    let given = open_filled(given(&setup)?, &args.setup, claims);
    let mut judged = judge(&file.configuration, world.size, &given);
    for (at, line) in world.disagreements.iter().enumerate() {
        judged.findings.insert(at, caution(line.clone()));
    }
    let memory = if only_batch {
        match judged.open.take() {
            Some(open) => Memory::Unanswered {
                code: exit::USAGE,
                fact: "the batch equation cannot be checked".to_owned(),
                cause: Some(open),
                hint: Some("the flags say what the file leaves open".to_owned()),
            },
            None => Memory::NotAsked("--only batch".to_owned()),
        }
    } else {
        let (memory, findings) = of_claims(args, file, setup, job.model, &judged, &world);
        judged.findings.extend(findings);
        memory
    };
    let Judged { findings, batch, data_parallel, .. } = judged;
    Ok(Check {
        subject: file.name.clone(),
        kind: claims.dialect.name().to_owned(),
        world: Some(world),
        data_parallel,
        batch,
        findings,
        memory,
        differences: Vec::new(),
        code: exit::OK,
    })
}

fn skipped(file: &FrameworkFile, why: &str) -> Check {
    Check {
        subject: file.name.clone(),
        kind: file.configuration.claims.dialect.name().to_owned(),
        world: None,
        data_parallel: None,
        batch: None,
        findings: vec![caution(format!("skipped: {why}"))],
        memory: Memory::NotAsked(format!("skipped: {why}")),
        differences: Vec::new(),
        code: exit::OK,
    }
}

/// Judges the memory of what a configuration says.
fn of_claims(
    args: &Args,
    file: &FrameworkFile,
    setup: SetupArgs,
    job_model: Option<String>,
    judged: &Judged,
    world: &World,
) -> (Memory, Vec<Finding>) {
    let claims = &file.configuration.claims;
    let named = claims.model.as_ref().map(|claim| claim.value.clone());
    let Some(model) = file.model.clone().or(job_model).or(named) else {
        let error = CliError::usage(format!("{} names no model", file.name))
            .hint("MODEL beside it, or --only batch");
        return (unanswered(error), Vec::new());
    };
    if let Some(beyond) = claims.beyond.first() {
        let place = file.configuration.document.place(beyond.at);
        let fact = format!("not yet: `{}` at {}:{}", beyond.key, file.name, place.line);
        let error = CliError::usage(fact).cause(beyond.value.clone()).hint("--only batch");
        return (unanswered(error), Vec::new());
    }
    let split = |claim: &&Claim<Amount>| !matches!(claim.value, Amount::Number(..=1));
    if let Some(split) = claims.model_parallel.iter().find(split) {
        let place = file.configuration.document.place(split.at);
        let fact = format!("not yet: `{}` at {}:{}", split.key, file.name, place.line);
        let cause = "what each device holds of a model in parts is not worked out";
        return (unanswered(CliError::usage(fact).cause(cause).hint("--only batch")), Vec::new());
    }
    let Some(batch) = judged.batch else {
        if judged.findings.iter().any(|finding| finding.level == Level::Error) {
            // The gate fails by the finding, and by its exit code.
            return (Memory::NotAsked("the batch has to be mended first".to_owned()), Vec::new());
        }
        let error = CliError::usage("whether it fits cannot be said")
            .cause(judged.open.clone().unwrap_or("its micro-batch is not known".to_owned()))
            .hint("mend the batch first; --micro-batch says what the file leaves open");
        return (unanswered(error), Vec::new());
    };
    let setup = SetupArgs {
        micro_batch: Some(MicroBatchArg::Fixed(batch.micro_batch)),
        accumulation: Some(batch.accumulation),
        world_size: Some(world.size),
        effective_batch: None,
        effective_tokens: None,
        ramp_up: None,
        ..setup
    };
    let (memory, findings, _) = memory(args, &model, setup);
    (memory, findings)
}

/// Turns what a configuration says about memory into setup flags, by the flags' own parsers.
fn settings(claims: &Claims, said: bool, name: &str) -> Result<SetupArgs, CliError> {
    let lines = claims.settings.iter().filter(|setting| setting.key.is_some() == said);
    let text: String = lines
        .map(|setting| format!("{} = {}\n", setting.flag, toml_string(&setting.value)))
        .collect();
    let shown = if said { name.to_owned() } else { format!("{name}, a default") };
    config_file::parse(&text, &shown).map(|loaded| loaded.setup)
}

/// Quotes a text as a TOML string; JSON's escapes are TOML's.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Returns what flags say about the batch.
///
/// # Errors
/// When they contradict each other.
pub fn given(setup: &SetupArgs) -> Result<Given, CliError> {
    let micro_batch = match setup.micro_batch {
        Some(MicroBatchArg::Fixed(size)) => Some(size),
        _ => None,
    };
    let target = match (setup.effective_batch, setup.effective_tokens) {
        (Some(_), Some(_)) => {
            return Err(CliError::usage("--effective-batch and --effective-tokens are both given")
                .hint("leave one of them out"));
        }
        (Some(batch), None) => Some(batch),
        (None, Some(tokens)) => {
            let seq_len = setup.seq_len.ok_or_else(|| {
                CliError::usage("--effective-tokens needs the tokens of a sample")
                    .hint("--seq-len N")
            })?;
            if !tokens.is_multiple_of(seq_len) {
                return Err(CliError::new(
                    exit::NO_EXACT_PLAN,
                    format!("{tokens} tokens are no whole samples of {seq_len}"),
                )
                .hint(format!("--effective-tokens {}", (tokens / seq_len).max(1) * seq_len)));
            }
            Some(tokens / seq_len)
        }
        (None, None) => None,
    };
    let accumulation = setup.accumulation;
    Ok(Given { micro_batch, accumulation, target, seq_len: setup.seq_len })
}

/// Leaves what the file itself says to the file: `oomph.toml` fills what is open, and only flags
/// contradict.
fn open_filled(given: Given, flags: &SetupArgs, claims: &Claims) -> Given {
    let says = |claim: &Option<Claim<Amount>>| {
        claim.as_ref().is_some_and(|claim| matches!(claim.value, Amount::Number(_)))
    };
    let size_is_flag = matches!(flags.micro_batch, Some(MicroBatchArg::Fixed(_)));
    let size_open = size_is_flag || !says(&claims.micro_batch);
    let steps_open = flags.accumulation.is_some() || !says(&claims.accumulation);
    Given {
        micro_batch: given.micro_batch.filter(|_| size_open),
        accumulation: given.accumulation.filter(|_| steps_open),
        ..given
    }
}

/// Decides on the number of devices: the flag, the launcher, the file, the GPUs.
fn find_world(args: &Args, setup: &SetupArgs, claims: &Claims) -> Result<World, CliError> {
    let file = claims.world.as_ref().and_then(|claim| match claim.value {
        Amount::Number(number) if number > 0 => Some((claim.key.as_str(), number.unsigned_abs())),
        _ => None,
    });
    let known = world(setup.world_size, file, 0)?;
    if known.from != WorldFrom::Assumed {
        return Ok(known);
    }
    let chosen = match &setup.gpu {
        Some(selector) => target::chosen(selector),
        None if setup.capacity.is_some() && args.only.is_none() => return Ok(known),
        None => target::chosen(&GpuSelector::All),
    };
    let gpus = chosen.map_err(|error| CliError {
        fact: format!("nothing says how many devices train, and {}", error.fact),
        hint: Some("--world-size N".to_owned()),
        ..error
    })?;
    world(None, None, gpus.len())
}
