//! What a check found: as text for people, as JSON and as variables for programs.

use serde_json::{Value, json};

use crate::plan::finding::{Check, Difference, Finding, Level, Memory};
use crate::report::json::estimate_value;
use crate::report::text::{Paint, grouped, item, labelled, to_try};

/// Renders a check: the verdict first, then each finding where it stands, then the memory.
pub fn render(check: &Check, paint: Paint) -> String {
    let mut text = format!("{}\n", paint.bold(&headline(check)));
    for finding in &check.findings {
        text.push_str(&one(&check.subject, finding, paint));
    }
    if let Memory::Unanswered { fact, cause, hint, .. } = &check.memory {
        text.push_str(&format!("\n{}\n", paint.color(31, "not answered")));
        text.push_str(&item(fact));
        text.extend(cause.iter().map(|cause| item(&format!("cause: {cause}"))));
        text.extend(hint.iter().map(|hint| item(&format!("hint: {hint}"))));
    }
    text.push('\n');
    if let Some(world) = &check.world {
        let replicas = check.data_parallel.filter(|replicas| *replicas != world.size);
        let replicas = replicas.map_or(String::new(), |n| format!(", {n} replicas"));
        let line = format!("{}{replicas}, from {}", grouped(world.size), world.from.words());
        text.push_str(&labelled("devices", &line));
    }
    match &check.memory {
        Memory::Answered(estimate) => {
            for hint in &estimate.hints {
                text.push_str(&to_try(hint));
            }
            text.push_str(&labelled("method", "estimated: nothing was allocated"));
            for line in &estimate.assumptions {
                text.push_str(&labelled("assumed", line));
            }
        }
        Memory::NotAsked(why) => {
            text.push_str(&labelled("memory", &format!("not asked: {why}")));
        }
        Memory::Unanswered { .. } => {}
    }
    for difference in &check.differences {
        text.push_str(&labelled("base", &change(difference)));
    }
    text
}

/// Returns the one line that says it all.
pub fn headline(check: &Check) -> String {
    let count = |level: Level, word: &str| match check.count(level) {
        0 => None,
        1 => Some(format!("1 {word}")),
        n => Some(format!("{n} {word}s")),
    };
    let mut parts: Vec<String> = Vec::new();
    parts.extend(count(Level::Error, "error"));
    parts.extend(count(Level::Warning, "warning"));
    if matches!(check.memory, Memory::Unanswered { .. }) {
        parts.push("1 question not answered".to_owned());
    }
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    let word = if check.code == 0 { "passes" } else { "fails" };
    format!("{} ({}) {word}{parts}", check.subject, check.kind)
}

fn one(subject: &str, finding: &Finding, paint: Paint) -> String {
    let place = match finding.place {
        Some(place) => format!("{subject}:{}:{}: ", place.line, place.column),
        None => String::new(),
    };
    let color = match finding.level {
        Level::Fine => 32,
        Level::Warning => 33,
        Level::Error => 31,
    };
    let level = paint.color(color, finding.level.name());
    let kind = match finding.level {
        Level::Fine => String::new(),
        _ => format!(" [{}]", finding.verdict.name()),
    };
    let value = match (&finding.key, &finding.value) {
        (Some(key), Some(value)) => format!("{key} = {value}: "),
        (Some(key), None) => format!("{key}: "),
        _ => String::new(),
    };
    let mut text = format!("  {place}{level}{kind}\n");
    text.push_str(&labelled("", &format!("{value}{}", finding.message)));
    for (key, value) in &finding.repairs {
        text.push_str(&labelled("", &format!("repair: {key} = {value}")));
    }
    text
}

/// Returns a size against an earlier one, in words.
pub fn change(difference: &Difference) -> String {
    let Difference { name, before, now } = difference;
    let name = name.trim_end_matches("_bytes").replace('_', " ");
    if before == now {
        return format!("{name} {now}, as before");
    }
    let percent = if before.get() == 0 {
        String::new()
    } else {
        let ratio = now.get() as f64 / before.get() as f64;
        format!(" ({:+.1} %)", (ratio - 1.0) * 100.0)
    };
    let sign = if now > before { "+" } else { "-" };
    let by = now.saturating_sub(*before).max(before.saturating_sub(*now));
    format!("{name} {now}: {sign}{by}{percent} against {before}")
}

/// Renders a check (`oomph.check/1`).
pub fn json(check: &Check) -> String {
    let batch = check.batch.as_ref();
    let estimate = match &check.memory {
        Memory::Answered(estimate) => Some(estimate_value(estimate)),
        _ => None,
    };
    let value = json!({
        "schema": "oomph.check/1",
        "subject": check.subject,
        "kind": check.kind,
        "exit_code": check.code,
        "passes": check.code == 0,
        "world_size": check.world.as_ref().map(|world| world.size),
        "world_from": check.world.as_ref().map(|world| world.from.name()),
        "data_parallel_size": check.data_parallel,
        "micro_batch": batch.map(|batch| batch.micro_batch),
        "accumulation_steps": batch.map(|batch| batch.accumulation),
        "effective_batch": batch.map(|batch| batch.effective),
        "fits": fits(check),
        "memory": memory(&check.memory),
        "findings": check.findings.iter().map(|f| finding(&check.subject, f)).collect::<Vec<_>>(),
        "baseline": check.differences.iter().map(|difference| json!({
            "name": difference.name,
            "before_bytes": difference.before,
            "now_bytes": difference.now,
        })).collect::<Vec<_>>(),
        "estimate": estimate,
    });
    format!("{value:#}\n")
}

/// Returns whether the step fits, where that was answered.
pub fn fits(check: &Check) -> Option<bool> {
    match &check.memory {
        Memory::Answered(estimate) => estimate.fits(),
        _ => None,
    }
}

fn memory(memory: &Memory) -> Value {
    match memory {
        Memory::Answered(_) => json!({"answered": true}),
        Memory::NotAsked(why) => json!({"answered": false, "not_asked": why}),
        Memory::Unanswered { code, fact, cause, hint } => json!({
            "answered": false, "exit_code": code, "error": fact, "cause": cause, "hint": hint,
        }),
    }
}

fn finding(subject: &str, finding: &Finding) -> Value {
    let repairs: serde_json::Map<String, Value> =
        finding.repairs.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    json!({
        "verdict": finding.verdict.name(),
        "level": finding.level.name(),
        "file": finding.place.map(|_| subject),
        "line": finding.place.map(|place| place.line),
        "column": finding.place.map(|place| place.column),
        "key": finding.key,
        "value": finding.value,
        "message": finding.message,
        "repaired": repairs,
    })
}

/// Renders a check as variables, for GitLab's `reports:dotenv` and for a shell.
pub fn dotenv(check: &Check) -> String {
    let mut text = String::new();
    for (name, value) in variables(check) {
        text.push_str(&format!("OOMPH_{}={value}\n", name.to_ascii_uppercase()));
    }
    text
}

/// Returns what a later step may want to know, by name; none of the values holds a newline.
pub fn variables(check: &Check) -> Vec<(&'static str, String)> {
    let mut variables = Vec::new();
    if let Some(batch) = &check.batch {
        variables.push(("micro_batch", batch.micro_batch.to_string()));
        variables.push(("accumulation_steps", batch.accumulation.to_string()));
        variables.push(("effective_batch", batch.effective.to_string()));
    }
    let fits = fits(check).map_or("unknown", |fits| if fits { "true" } else { "false" });
    variables.push(("fits", fits.to_owned()));
    variables.push(("passes", (check.code == 0).to_string()));
    variables.push(("exit_code", check.code.to_string()));
    variables
}
