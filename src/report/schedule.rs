//! A schedule's stages, for people and for programs.

use serde_json::{Value, json};

use crate::plan::schedule::{Scheduled, Stage, StagePlan};
use crate::report::text::{Paint, grouped, item, lines, table};
use crate::units::{DataParallelSize, EffectiveBatch, MicroBatch};

/// The most stages that are shown at either end; JSON has all.
const SHOWN: usize = 5;

/// Says which stage the plan is for.
pub fn line(schedule: &Scheduled) -> String {
    let Stage { seq_len, effective_batch, .. } = schedule.stages[schedule.ruling].stage;
    let batch =
        effective_batch.map(|batch| format!("{} samples an optimizer step", grouped(batch.get())));
    let tokens = (seq_len > 1).then(|| format!("{} tokens a sample", grouped(seq_len)));
    let what: Vec<String> = batch.into_iter().chain(tokens).collect();
    format!("{} of {} rules: {}", schedule.ruling + 1, schedule.stages.len(), what.join(", "))
}

/// Renders the stages as a table.
pub fn render(schedule: &Scheduled, data_parallel: DataParallelSize, paint: Paint) -> String {
    let together = schedule.one.map_or(String::new(), |one| format!("steps of {one}"));
    let header = ["", "from sample", "tokens", "batch", "alone", together.as_str()];
    let mut table = table(&header, &[0, 1, 2, 3, 4, 5]);
    let all = schedule.stages.iter().enumerate();
    let last = schedule.stages.len().saturating_sub(SHOWN);
    let shown = all.filter(|(at, _)| *at < SHOWN || *at >= last || *at == schedule.ruling);
    table.add_rows(shown.clone().map(|(at, plan)| row(schedule, data_parallel, at, plan)));
    let heading = paint.bold("Schedule: micro-batch x micro-steps of each stage");
    let mut text = format!("\n{heading}\n{}", lines(&table));
    let hidden = schedule.stages.len() - shown.count();
    if hidden > 0 {
        text.push_str(&format!("  and {hidden} stages between: --json lists all\n"));
    }
    let aimed = schedule.stages.iter().any(|plan| plan.stage.effective_batch.is_some());
    text.extend(aimed.then(|| item(&together_line(schedule.one))));
    text
}

/// Says what one micro-batch for all stages does.
fn together_line(one: Option<MicroBatch>) -> String {
    match one {
        Some(one) => format!(
            "micro-batch {one} does every stage: what changes is the number of micro-steps, which \
             is all that most frameworks can change"
        ),
        None => "no micro-batch to choose from does every stage exactly: a framework with one for \
                 all of them stops, or floors a stage silently"
            .to_owned(),
    }
}

fn row(
    schedule: &Scheduled,
    data_parallel: DataParallelSize,
    at: usize,
    plan: &StagePlan,
) -> [String; 6] {
    let Stage { from_sample, seq_len, effective_batch, .. } = plan.stage;
    let alone = match &plan.solved {
        Ok(solution) => {
            let best = &solution.best;
            let reached = best.effective_batch;
            let near = if solution.exact || effective_batch == Some(reached) {
                String::new()
            } else {
                format!(" = {}", grouped(reached.get()))
            };
            format!("{} x {}{near}", best.micro_batch, best.accumulation)
        }
        Err(_) => "does not fit".to_owned(),
    };
    [
        (at + 1).to_string(),
        from_sample.map_or(String::new(), grouped),
        if seq_len > 1 { grouped(seq_len) } else { String::new() },
        effective_batch.map_or(String::new(), |batch| grouped(batch.get())),
        alone,
        steps_of_one(schedule, data_parallel, plan).map_or(String::new(), grouped),
    ]
}

/// Returns the micro-steps that a stage takes with the micro-batch of all stages.
fn steps_of_one(
    schedule: &Scheduled,
    data_parallel: DataParallelSize,
    plan: &StagePlan,
) -> Option<u64> {
    let batch = plan.stage.effective_batch.map(EffectiveBatch::get)?;
    Some(batch / data_parallel.get() / schedule.one?.get())
}

/// Returns the object of a plan's `schedule`.
pub fn value(schedule: &Scheduled, data_parallel: DataParallelSize) -> Value {
    let stage = |plan: &StagePlan| {
        let Stage { from_sample, seq_len, effective_batch, whole } = plan.stage;
        let solution = plan.solved.as_ref().ok();
        let best = solution.map(|solution| &solution.best);
        json!({
            "from_sample": from_sample,
            "seq_len": seq_len,
            "target_effective_batch": effective_batch,
            "fits": solution.is_some(),
            "exact": whole && solution.is_some_and(|solution| solution.exact),
            "micro_batch": best.map(|best| best.micro_batch),
            "accumulation_steps": best.map(|best| best.accumulation),
            "effective_batch": best.map(|best| best.effective_batch),
            "largest_micro_batch": solution.map(|solution| solution.largest_micro_batch),
            "accumulation_steps_of_one": steps_of_one(schedule, data_parallel, plan),
        })
    };
    json!({
        "ruling_stage": schedule.ruling,
        "one_micro_batch": schedule.one,
        "stages": schedule.stages.iter().map(stage).collect::<Vec<_>>(),
    })
}
