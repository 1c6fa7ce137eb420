//! A plan as text for people: the answer first, then why, the memory, the alternatives.

use comfy_table::{CellAlignment, Table, presets};

use crate::plan::capacity::Capacity;
use crate::plan::result::{Goal, Method, Plan, PlanGpu};
use crate::plan::solver::{Alternative, Batches, BoundBy, Kind, Solution};
use crate::report::estimate::{closing, describe, memory};
use crate::report::text::{Paint, grouped, labelled};
use crate::units::DataParallelSize;

/// The most alternatives that are shown; JSON has all.
const SHOWN: usize = 6;

/// Renders a plan.
pub fn render(plan: &Plan, paint: Paint) -> String {
    let mut text = match &plan.solution {
        Some(solution) => headline(plan.data_parallel, plan.goal, solution, paint),
        None => format!("{}\n", paint.bold(&does_not_fit(plan))),
    };
    text.push('\n');
    text.push_str(&labelled("on", &gpus(&plan.gpus)));
    let model = format!("{}, {}", plan.estimate.model, describe(&plan.estimate.setup));
    text.push_str(&labelled("model", &model));
    text.push_str(&labelled("why", &why(plan)));
    for hint in &plan.estimate.hints {
        text.push_str(&labelled("try", hint));
    }
    text.push_str(&labelled("method", &method(plan)));
    text.push_str(&memory(&plan.estimate, paint));
    if let Some(solution) = &plan.solution {
        text.push_str(&alternatives(plan.goal, solution, paint));
    }
    text.push_str(&closing(&plan.estimate, paint));
    text
}

/// Returns the line that is the plan.
pub fn headline(
    data_parallel: DataParallelSize,
    goal: Option<Goal>,
    solution: &Solution,
    paint: Paint,
) -> String {
    let best = &solution.best;
    let devices = match data_parallel.get() {
        1 => "1 GPU".to_owned(),
        n => format!("{n} GPUs"),
    };
    let exactly = match (goal, solution.exact) {
        (Some(_), true) => ", exactly".to_owned(),
        (Some(goal), false) => format!(" ({} was asked for)", grouped(goal.effective_batch.get())),
        (None, _) => String::new(),
    };
    paint.bold(&format!(
        "micro-batch {} x accumulation {} x {devices} = effective batch {}{exactly}",
        best.micro_batch,
        best.accumulation,
        grouped(best.effective_batch.get()),
    )) + "\n"
}

fn does_not_fit(plan: &Plan) -> String {
    let estimate = &plan.estimate;
    let may = estimate.capacity.map_or(String::new(), |capacity| {
        format!(", and the allocator may take {}", capacity.bytes)
    });
    format!(
        "does not fit: micro-batch {} needs {}{may}",
        estimate.setup.micro_batch, estimate.footprint.min_capacity
    )
}

/// Describes the GPUs: alike ones together, simulated ones named as such.
pub fn gpus(gpus: &[PlanGpu]) -> String {
    let mut kinds: Vec<(&PlanGpu, u32)> = Vec::new();
    for gpu in gpus {
        let alike = |other: &&mut (&PlanGpu, u32)| {
            other.0.name == gpu.name
                && other.0.free == gpu.free
                && other.0.simulated == gpu.simulated
        };
        match kinds.iter_mut().find(alike) {
            Some(kind) => kind.1 += 1,
            None => kinds.push((gpu, 1)),
        }
    }
    let words: Vec<String> = kinds
        .into_iter()
        .map(|(gpu, count)| {
            let simulated = if gpu.simulated { " (simulated)" } else { "" };
            let times = if count > 1 { format!("{count} x ") } else { String::new() };
            let which = if count == 1 && !gpu.simulated {
                format!("GPU {}: ", gpu.index)
            } else {
                String::new()
            };
            format!("{which}{times}{}{simulated}, {} of {} free", gpu.name, gpu.free, gpu.total)
        })
        .collect();
    if words.is_empty() { "no GPU: --capacity was given".to_owned() } else { words.join("; ") }
}

fn why(plan: &Plan) -> String {
    let Some(solution) = &plan.solution else {
        let setup = &plan.estimate.setup;
        return match plan.estimate.largest_micro_batch {
            Some(largest) if largest > 0 => format!(
                "memory: micro-batch {largest} is the largest that fits at accumulation {}",
                setup.accumulation
            ),
            _ => "memory: not even one sample fits".to_owned(),
        };
    };
    bound(solution, plan.estimate.capacity)
}

/// Says what keeps a plan from fewer micro-steps.
pub fn bound(solution: &Solution, capacity: Option<Capacity>) -> String {
    let largest = solution.largest_micro_batch;
    let used = solution.best.micro_batch.get();
    let may = capacity.map_or(String::new(), |capacity| {
        format!(" in the {} that the allocator may take", capacity.bytes)
    });
    match solution.bound_by {
        BoundBy::Memory if used < largest => format!(
            "memory: micro-batch {largest} is the largest that fits{may}; {used} divides the batch"
        ),
        BoundBy::Memory => format!("memory: micro-batch {largest} is the largest that fits{may}"),
        BoundBy::EffectiveBatch => {
            format!(
                "the effective batch: one micro-step does it all, and up to {largest} would fit"
            )
        }
        BoundBy::Divisibility => format!(
            "divisibility: micro-batches up to {largest} fit{may}, and none above {used} divides \
             the batch"
        ),
        BoundBy::MicroBatch => format!("--micro-batch: up to {largest} would fit"),
        BoundBy::Accumulation => format!("--accumulation: up to micro-batch {largest} would fit"),
    }
}

fn method(plan: &Plan) -> String {
    let simulated = plan.gpus.iter().any(|gpu| gpu.simulated);
    match plan.method {
        Method::Estimated if simulated => {
            "estimated, against a simulated GPU: nothing was allocated".to_owned()
        }
        Method::Estimated => "estimated: nothing was allocated".to_owned(),
        Method::Probed => {
            "probed: the step's segments were allocated on the device, which proves the capacity, \
             not the estimate"
                .to_owned()
        }
        Method::Tried => "tried: the training command ran".to_owned(),
    }
}

/// Renders the other ways to run an optimizer step.
pub fn alternatives(goal: Option<Goal>, solution: &Solution, paint: Paint) -> String {
    if solution.alternatives.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(vec!["", "micro-batch", "accumulation", "effective batch", ""]);
    table.add_rows(solution.alternatives.iter().take(SHOWN).map(|other| row(goal, other)));
    for column in 1..4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = format!("\n{}\n", paint.bold("Alternatives"));
    for line in table.lines() {
        text.push_str(&format!(" {}\n", line.trim_end()));
    }
    let hidden = solution.alternatives.len().saturating_sub(SHOWN);
    if hidden > 0 {
        text.push_str(&format!("  and {hidden} more exact ones: --json lists all\n"));
    }
    text
}

fn row(goal: Option<Goal>, other: &Alternative) -> Vec<String> {
    let Batches { micro_batch, accumulation, last_micro_batch, effective_batch } = other.batches;
    let asked = goal.map_or(0, |goal| goal.effective_batch.get());
    let batch = effective_batch.get();
    let (kind, remark) = match other.kind {
        Kind::Exact => ("exact", "more headroom".to_owned()),
        Kind::NearestBelow => ("nearest below", format!("{} fewer samples", asked - batch)),
        Kind::NearestAbove => ("nearest above", format!("{} more samples", batch - asked)),
        Kind::Uneven => {
            let last = last_micro_batch.unwrap_or(micro_batch);
            ("uneven", format!("the last micro-batch is {last}"))
        }
    };
    vec![kind.to_owned(), micro_batch.to_string(), accumulation.to_string(), grouped(batch), remark]
}
