//! A trial's answer, as text and as JSON (`oomph.trial/1`): the plan, and the runs it rests on.

use serde_json::{Value, json};

use crate::plan::solver::{BoundBy, Solution};
use crate::report::json::{alternative, bound_by, gpu};
use crate::report::text::{Paint, labelled, lines, section, table};
use crate::report::{plan, run};
use crate::trial::answer::{Bounds, TrialAnswer};
use crate::trial::outcome::{GpuPeak, Outcome, Verdict};
use crate::trial::trial::Run;
use crate::units::Bytes;

/// How the answer is known.
fn method(answer: &TrialAnswer) -> &'static str {
    match answer.gpus.as_slice() {
        [] => "tried: the command itself ran, on a GPU that could not be asked",
        [gpu, ..] if gpu.simulated => {
            "tried, on a simulated GPU: the command itself ran, and kernels did nothing"
        }
        _ => "tried: the command itself ran, on the GPU",
    }
}

/// Returns a verdict in words; one who left too little free has not simply run.
pub fn verdict(outcome: &Outcome) -> String {
    match outcome.verdict {
        Verdict::Ran if outcome.met_out_of_memory => "out of memory, went on".to_owned(),
        Verdict::Ran if !outcome.within_free() => "ran, into the headroom".to_owned(),
        verdict => verdict.name().replace('_', " "),
    }
}

/// Renders the answer: the plan first, then the runs.
pub fn render(answer: &TrialAnswer, paint: Paint) -> String {
    let mut text = match &answer.solution {
        Ok(solution) => plan::headline(answer.data_parallel, answer.goal, solution, paint),
        Err(unsolvable) => format!("{}\n", paint.bold(&format!("does not fit: {unsolvable}"))),
    };
    text.push('\n');
    let on = match answer.gpus.as_slice() {
        [] => "a GPU that could not be asked".to_owned(),
        gpus => plan::gpus(gpus),
    };
    text.push_str(&labelled("on", &on));
    text.push_str(&labelled("command", &answer.command.join(" ")));
    if let Ok(solution) = &answer.solution {
        // What runs are held against: a peak has the context and NCCL in it.
        let gpus = answer.runs.last().map_or(&[][..], |run| &run.outcome.gpus);
        let may = gpus.iter().map(|gpu| gpu.free_bytes).min().map_or(String::new(), |free| {
            format!(" in the {free} that the command may take, context and NCCL included")
        });
        text.push_str(&labelled("why", &why(answer, solution, &may)));
    }
    text.push_str(&labelled("method", method(answer)));
    if let Some(versions) = answer.runs.last().map(|run| &run.outcome.versions)
        && !versions.is_empty()
    {
        let versions: Vec<String> =
            versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        text.push_str(&labelled("met", &versions.join(", ")));
    }
    text.push_str(&runs(&answer.runs, answer.reused, paint));
    if let Ok(solution) = &answer.solution {
        text.push_str(&plan::alternatives(answer.goal, solution, paint));
    }
    text.push_str(&section("Keep in mind", &notes(answer), paint));
    text
}

/// Says what keeps the plan from fewer micro-steps, and how it is known.
fn why(answer: &TrialAnswer, solution: &Solution, may: &str) -> String {
    let largest = solution.largest_micro_batch;
    let used = solution.best.micro_batch.get();
    let chosen = match used < largest {
        true if solution.exact => format!("; {used} divides the batch"),
        true => format!("; {used} comes nearest to the batch"),
        false => String::new(),
    };
    match (answer.bounds, solution.bound_by) {
        (Bounds::Command(size), BoundBy::Memory) if size == largest => format!(
            "the command: its memory grows up to micro-batch {size}, and no further{chosen}"
        ),
        (Bounds::Limit(size), BoundBy::Memory) if size == largest => {
            format!(
                "--micro-batch-max: micro-batch {size} ran{may}, and none above it was tried{chosen}"
            )
        }
        (Bounds::SearchEnd(size), BoundBy::Memory) if size == largest => format!(
            "the search's end: micro-batch {size} ran{may}, and none above it was tried, which \
             --micro-batch-max N would{chosen}"
        ),
        _ => plan::bound(solution, may),
    }
}

/// Renders the runs of a trial, `reused` of which an earlier one has made, as a table.
pub fn runs(runs: &[Run], reused: usize, paint: Paint) -> String {
    let header = ["micro-batch", "micro-steps", "", "peak on a GPU", "of", "time"];
    let mut table = table(&header, &[0, 1, 3, 4, 5]);
    for run in runs {
        let gpu = run.outcome.tightest();
        let or_none = |bytes: Option<Bytes>| bytes.map_or("-".to_owned(), |b| b.to_string());
        table.add_row(vec![
            run.sizes.micro_batch.to_string(),
            run.sizes.accumulation.to_string(),
            verdict(&run.outcome),
            or_none(gpu.and_then(GpuPeak::peak)),
            or_none(gpu.map(|gpu| gpu.free_bytes)),
            format!("{:.1} s", run.outcome.seconds),
        ]);
    }
    let kept = match reused {
        0 => String::new(),
        n => format!(" ({n} kept from an earlier trial)"),
    };
    format!("\n{}\n{}", paint.bold(&format!("Runs{kept}")), lines(&table))
}

/// Returns what to keep in mind: the trial's own notes, then what its runs could not be trusted in.
fn notes(answer: &TrialAnswer) -> Vec<String> {
    let mut notes = answer.notes.clone();
    let planned = answer.planned().or(answer.runs.last());
    for warning in planned.iter().flat_map(|run| &run.outcome.warnings) {
        if !notes.contains(warning) {
            notes.push(warning.clone());
        }
    }
    notes
}

/// Renders the JSON text; every key is always there.
pub fn json(answer: &TrialAnswer) -> String {
    let object = json!({
        "schema": "oomph.trial/1",
        "command": answer.command,
        "largest_micro_batch": answer.largest(),
        "runs": runs_value(&answer.runs),
        "reused_runs": answer.reused,
        "plan": plan_value(answer),
    });
    format!("{object:#}\n")
}

/// Returns the runs, each as `oomph run` has it, with its sizes.
pub fn runs_value(runs: &[Run]) -> Value {
    runs.iter().map(one).collect()
}

fn one(run: &Run) -> Value {
    let mut value = run::value(&run.outcome);
    value["micro_batch"] = json!(run.sizes.micro_batch);
    value["accumulation_steps"] = json!(run.sizes.accumulation);
    value["effective_batch"] = json!(run.sizes.effective_batch);
    value
}

/// The word for what bounds a plan: as in other plans, and what only a trial meets.
fn bound(answer: &TrialAnswer, solution: &Solution) -> &'static str {
    match (answer.bounds, solution.bound_by) {
        (Bounds::Command(size), BoundBy::Memory) if size == solution.largest_micro_batch => {
            "command"
        }
        (Bounds::Limit(size), BoundBy::Memory) if size == solution.largest_micro_batch => {
            "micro_batch_max"
        }
        (Bounds::SearchEnd(size), BoundBy::Memory) if size == solution.largest_micro_batch => {
            "search_limit"
        }
        (_, bound) => bound_by(bound),
    }
}

/// The plan with the keys that `oomph plan` has; what a trial does not know is null.
fn plan_value(answer: &TrialAnswer) -> Value {
    let solution = answer.solution.as_ref().ok();
    let best = solution.map(|solution| &solution.best);
    json!({
        "schema": "oomph.plan/1",
        "model": null,
        "fits": solution.is_some(),
        "micro_batch": best.map(|best| best.micro_batch),
        "accumulation_steps": best.map(|best| best.accumulation),
        "data_parallel_size": answer.data_parallel,
        "effective_batch": best.map(|best| best.effective_batch),
        "effective_tokens": null,
        "target_effective_batch": answer.goal.map(|goal| goal.effective_batch),
        "exact": solution.is_some_and(|solution| solution.exact),
        "largest_micro_batch": answer.largest(),
        "bound_by": solution.map_or("memory", |solution| bound(answer, solution)),
        "method": "tried",
        "gpus": answer.gpus.iter().map(gpu).collect::<Vec<_>>(),
        "alternatives": solution
            .map(|solution| {
                let others = solution.alternatives.iter();
                others.map(|other| alternative(answer.goal, other)).collect::<Vec<_>>()
            })
            .unwrap_or_default(),
        "hints": [],
        "notes": notes(answer),
        "estimate": null,
    })
}
