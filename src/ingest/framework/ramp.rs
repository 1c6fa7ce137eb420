//! Megatron-LM's batches that change while the job runs: read, and held against the micro-batch.

use crate::ingest::framework::Configuration;
use crate::ingest::framework::claims::{Amount, Claim, Claims, is_on, said};
use crate::ingest::framework::document::{Document, Entry, Scalar, Span};
use crate::ingest::framework::edit::Edit;
use crate::plan::equation::Solved;
use crate::plan::finding::{Finding, Level, Verdict};
use crate::plan::schedule::{NoRamp, RampUp};

/// How the batch changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ramp {
    /// `--rampup-batch-size START INCREMENT SAMPLES`, up to core 0.17.
    Linear(RampUp),
    /// `--step-batch-size-schedule "TOKENS:BATCH ..."`, since core 0.18: tokens and batches.
    Steps(Vec<(u64, u64)>),
    /// What Megatron itself refuses, in words.
    Wrong(String),
}

/// Notes what a command says about a batch that changes.
///
/// Source: Megatron-LM, `core/num_microbatches_calculator.py` of core 0.17 and 0.19, and
/// `training/arguments.py`, which refuses the newer schedule beside `--global-batch-size`.
pub fn claims(claims: &mut Claims, document: &Document) {
    if let Some(entry) = document.get("rampup_batch_size") {
        claims.ramp = Some(Claim { value: linear(entry), key: entry.path.clone(), at: entry.at });
        let fate =
            "Megatron-LM ignores it since core 0.18: --step-batch-size-schedule says it there";
        claims.warnings.push(said(entry, fate));
    }
    let Some(entry) = document.get("step_batch_size_schedule") else { return };
    let stages = match claims.whole {
        Some(_) => Err("Megatron refuses it beside global_batch_size".to_owned()),
        None => steps(document, entry),
    };
    if let Ok(stages) = &stages
        && let Some(Step { batch, at, .. }) = stages.last()
    {
        claims.whole = Some(Claim {
            value: i64::try_from(*batch).map_or(Amount::Number(i64::MAX), Amount::Number),
            key: entry.path.clone(),
            at: *at,
        });
    }
    let value = match stages {
        Ok(stages) => Ramp::Steps(stages.iter().map(|step| (step.from, step.batch)).collect()),
        Err(wrong) => Ramp::Wrong(wrong),
    };
    claims.ramp = Some(Claim { value, key: entry.path.clone(), at: entry.at });
}

fn words(entry: &Entry) -> String {
    match &entry.scalar {
        Some(Scalar::Text(text)) => text.clone(),
        Some(Scalar::Integer(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn linear(entry: &Entry) -> Ramp {
    let words = words(entry);
    let numbers: Option<Vec<u64>> = words.split_whitespace().map(|w| w.parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[start, increment, samples]) if start > 0 && increment > 0 => {
            Ramp::Linear(RampUp { start, increment, samples })
        }
        _ => Ramp::Wrong("expected a start, an increment and samples".to_owned()),
    }
}

/// A stage of a schedule by steps.
struct Step {
    /// The token that it begins with.
    from: u64,
    /// Its samples.
    batch: u64,
    /// Where these stand.
    at: Span,
}

/// Reads a schedule by steps: the first stage first, however they are written. What is wrong with it
/// is said in words.
fn steps(document: &Document, entry: &Entry) -> Result<Vec<Step>, String> {
    let text = words(entry);
    let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    let written = document.slice(entry.at);
    let mut behind = 0;
    let mut stages = Vec::new();
    for word in words {
        let stage = word.split_once(':').and_then(|(from, batch)| {
            let samples = with_suffix(batch).filter(|samples| *samples > 0)?;
            Some((with_suffix(from)?, samples, batch.len()))
        });
        let (from, batch, digits) = stage.ok_or_else(|| format!("`{word}` is no TOKENS:BATCH"))?;
        // Quotes, escapes and line breaks stand between the words.
        let found = written[behind..].find(word);
        let found = found.ok_or_else(|| format!("`{word}` is not written out"))?;
        behind += found + word.len();
        let end = entry.at.start + behind;
        stages.push(Step { from, batch, at: Span { start: end - digits, end } });
    }
    stages.sort_by_key(|step| step.from);
    if stages.first().is_none_or(|step| step.from != 0) {
        return Err("its first stage must begin at 0".to_owned());
    }
    match stages.windows(2).find(|pair| pair[0].from == pair[1].from) {
        Some(pair) => Err(format!("two stages begin at {}", pair[0].from)),
        None => Ok(stages),
    }
}

/// Reads a number with `K`, `M`, `B` or `T` behind it, as Megatron's float does.
fn with_suffix(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_uppercase();
    let suffixes = [('K', 1e3), ('M', 1e6), ('B', 1e9), ('T', 1e12)];
    let found =
        suffixes.iter().find_map(|(suffix, times)| Some((text.strip_suffix(*suffix)?, *times)));
    let (digits, times) = found.unwrap_or((&text, 1.0));
    let number = digits.parse::<f64>().ok()? * times;
    (number.is_finite() && (0.0..1e18).contains(&number)).then_some(number as u64)
}

/// Judges the stages before the last, whose batch is the equation's own.
pub fn judge(
    configuration: &Configuration,
    solved: &Solved,
    replicas: u64,
) -> Option<(Finding, Option<Edit>)> {
    let Configuration { document, claims, .. } = configuration;
    let claim = claims.ramp.as_ref()?;
    let once = solved.micro_batch.saturating_mul(replicas);
    let (verdict, message, mended) = match &claim.value {
        Ramp::Wrong(what) => (Verdict::Invalid, what.clone(), None),
        Ramp::Linear(ramp) => match ramp.stages(solved.effective) {
            // Limits of oomph's own, not of Megatron's.
            Err(error @ (NoRamp::TooShort { .. } | NoRamp::TooLong { .. })) => {
                (Verdict::Caution, format!("its stages are not checked: {error}"), None)
            }
            Err(error @ (NoRamp::StartsTooHigh { .. } | NoRamp::MissesTheTarget { .. })) => {
                let whole = claims.whole.is_some();
                let cure = if whole { "" } else { ", and no global_batch_size is said" };
                (Verdict::Equation, format!("Megatron stops: {error}{cure}"), None)
            }
            Ok(stages) => (
                Verdict::Equation,
                uneven(&stages, "sample", once, solved.micro_batch, replicas)?,
                mended(*ramp, solved.effective, once),
            ),
        },
        Ramp::Steps(stages) => {
            let what = uneven(stages, "token", once, solved.micro_batch, replicas)?;
            (Verdict::Equation, format!("{what}, and Megatron floors it silently"), None)
        }
    };
    if verdict == Verdict::Equation && is_on(document, "decrease_batch_size_if_needed") {
        return None;
    }
    let finding = Finding {
        verdict,
        level: if verdict == Verdict::Caution { Level::Warning } else { Level::Error },
        place: Some(document.place(claim.at)),
        key: Some(claim.key.clone()),
        value: Some(document.slice(claim.at).to_owned()),
        message,
        repairs: mended.iter().map(|text| (claim.key.clone(), text.clone())).collect(),
    };
    Some((finding, mended.map(|text| Edit { at: claim.at, text })))
}

/// Names the first stage that devices do not share evenly, and says how many there are.
fn uneven(
    stages: &[(u64, u64)],
    unit: &str,
    once: u64,
    micro_batch: u64,
    replicas: u64,
) -> Option<String> {
    let mut odd = stages.iter().filter(|(_, batch)| !batch.is_multiple_of(once));
    let (from, batch) = odd.next()?;
    let more = match odd.count() {
        0 => String::new(),
        more => format!(", and so are {more} more"),
    };
    Some(format!(
        "the stage from {unit} {from} on has {batch} samples, no multiple of {micro_batch} x \
         {replicas} devices{more}"
    ))
}

/// Returns the nearest ramp above whose stages are all multiples of `once`.
fn mended(ramp: RampUp, target: u64, once: u64) -> Option<String> {
    let start = ramp.start.checked_next_multiple_of(once)?;
    let gap = target.checked_sub(start).filter(|gap| *gap > 0 && gap.is_multiple_of(once))?;
    let least = ramp.increment.checked_next_multiple_of(once)?;
    let steps = (1..=gap / least).rev().find(|steps| (gap / once).is_multiple_of(*steps))?;
    let mended = RampUp { start, increment: gap / steps, samples: ramp.samples };
    mended.stages(target).ok()?;
    Some(format!("{start} {} {}", gap / steps, ramp.samples))
}
