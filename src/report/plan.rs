//! A plan as text for people: the answer first, then why, the memory, the alternatives.

use crate::plan::capacity::Capacity;
use crate::plan::learning_rate::{LearningRate, error_percent};
use crate::plan::result::{Goal, Method, Plan, PlanGpu};
use crate::plan::solver::{Alternative, Batches, BoundBy, Kind, Solution};
use crate::plan::world::{World, WorldFrom};
use crate::report::estimate::{closing, describe, memory};
use crate::report::text::{Paint, grouped, item, labelled, lines, table, to_try};
use crate::report::{schedule, sync, unequal};
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
    if !matches!(plan.world.from, WorldFrom::Gpus | WorldFrom::Assumed) {
        let World { size, from, .. } = &plan.world;
        let devices = if *size == 1 { "device" } else { "devices" };
        text.push_str(&labelled("world", &format!("{size} {devices}, from {}", from.words())));
    }
    let model = format!("{}, {}", plan.estimate.model, describe(&plan.estimate));
    text.push_str(&labelled("model", &model));
    text.extend(plan.schedule.as_ref().map(|all| labelled("stage", &schedule::line(all))));
    text.push_str(&labelled("why", &why(plan)));
    for line in plan.unequal.iter().flat_map(|unequal| unequal::lines(plan, unequal)) {
        text.push_str(&labelled("unequal", &line));
    }
    text.extend(sync::line(&plan.sync).map(|line| labelled("sync", &line)));
    for hint in &plan.estimate.hints {
        text.push_str(&to_try(hint));
    }
    text.push_str(&labelled("method", &method(plan)));
    text.push_str(&memory(&plan.estimate, paint));
    text.extend(plan.schedule.as_ref().map(|all| schedule::render(all, plan.data_parallel, paint)));
    if let Some(solution) = &plan.solution {
        text.push_str(&alternatives(plan.goal, solution, paint));
    }
    text.push_str(&sync::render(&plan.sync, paint));
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
        (Some(Goal { tokens: Some(tokens), .. }), false) => {
            format!(", not {} tokens", grouped(tokens))
        }
        (Some(goal), false) => format!(", not {}", grouped(goal.effective_batch.get())),
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
        estimate.setup.micro_batch,
        estimate.need()
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
    bound(solution, &plan.estimate.capacity.map_or(String::new(), allocator_may))
}

/// Says what keeps a plan from fewer micro-steps.
///
/// `may` says what there is to take, with a space before it, or nothing.
pub fn bound(solution: &Solution, may: &str) -> String {
    let largest = solution.largest_micro_batch;
    let used = solution.best.micro_batch.get();
    match solution.bound_by {
        BoundBy::Memory if used < largest => format!(
            "memory: micro-batch {largest} is the largest that fits{may}; {used} {}",
            if solution.exact { "divides the batch" } else { "comes nearest to the batch" }
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
        BoundBy::Schedule => {
            format!("the schedule: {used} divides every stage, and up to {largest} would fit")
        }
    }
}

/// Says what the allocator may take.
fn allocator_may(capacity: Capacity) -> String {
    format!(" in the {} that the allocator may take", capacity.bytes)
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
    if solution.alternatives.is_empty() && near_lines(goal, solution).is_empty() {
        return String::new();
    }
    let mut text = format!("\n{}\n", paint.bold("Alternatives"));
    if !solution.alternatives.is_empty() {
        let header = ["", "micro-batch", "accumulation", "effective batch", ""];
        let mut table = table(&header, &[1, 2, 3]);
        table.add_rows(solution.alternatives.iter().take(SHOWN).map(|other| row(goal, other)));
        text.push_str(&lines(&table));
    }
    let hidden = solution.alternatives.len().saturating_sub(SHOWN);
    if hidden > 0 {
        text.push_str(&format!("  and {hidden} more exact ones: --json lists all\n"));
    }
    text.extend(near_lines(goal, solution).iter().map(|line| item(line)));
    text
}

/// Says what to do where the plan, or what stands beside it, is not what was asked for.
fn near_lines(goal: Option<Goal>, solution: &Solution) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(asked) = goal.map(|goal| goal.effective_batch.get()) else { return lines };
    lines.extend(other_devices(&solution.best, asked));
    lines.extend(solution.unless_fixed.as_ref().map(unless_fixed));
    let near = solution
        .alternatives
        .iter()
        .filter(|other| matches!(other.kind, Kind::NearestBelow | Kind::NearestAbove));
    let best = std::iter::once(solution.best.effective_batch.get());
    let batches: Vec<u64> = best
        .chain(near.map(|other| other.batches.effective_batch.get()))
        .filter(|batch| *batch != asked)
        .collect();
    for batch in batches {
        let LearningRate { linear, square_root } = LearningRate::scaled(batch, asked);
        lines.push(format!(
            "learning rate at {} instead of {} ({:+.2} %), by rules of thumb: x {linear:.4} in \
             proportion (usual with SGD), x {square_root:.4} by the square root (usual with Adam)",
            grouped(batch),
            grouped(asked),
            error_percent(batch, asked),
        ));
    }
    let uneven = solution.alternatives.iter().find(|other| other.kind == Kind::Uneven);
    if let Some(Batches { micro_batch, accumulation, last_micro_batch: Some(last), .. }) =
        uneven.map(|other| other.batches)
    {
        let samples = micro_batch.get() * (accumulation.get() - 1) + last.get();
        lines.push(format!(
            "uneven: weigh the mean loss of each micro-batch by its samples, {micro_batch}/{samples} \
             and {last}/{samples} for the last, not by 1/{accumulation} (Composer does so by itself)"
        ));
    }
    lines
}

/// Names the numbers of devices that divide what was asked for, where these do not.
fn other_devices(best: &Batches, asked: u64) -> Option<String> {
    let devices = best.effective_batch.get() / best.micro_batch.get() / best.accumulation.get();
    if asked.is_multiple_of(devices.max(1)) {
        return None;
    }
    let divides = |number: &u64| asked.is_multiple_of(*number);
    let below = (1..devices).rev().find(divides);
    let above = (devices + 1..=devices.saturating_mul(4)).find(divides);
    let numbers: Vec<String> = below.into_iter().chain(above).map(grouped).collect();
    let asked = grouped(asked);
    Some(format!("{asked} is no multiple of {devices} devices: {} would do", numbers.join(" or ")))
}

/// Names the exact plan that only a number of the user's own rules out.
fn unless_fixed(batches: &Batches) -> String {
    format!(
        "micro-batch {} x accumulation {} would be {}, exactly",
        grouped(batches.micro_batch.get()),
        grouped(batches.accumulation.get()),
        grouped(batches.effective_batch.get())
    )
}

fn row(goal: Option<Goal>, other: &Alternative) -> Vec<String> {
    let Batches { micro_batch, accumulation, last_micro_batch, effective_batch } = other.batches;
    let asked = goal.map_or(0, |goal| goal.effective_batch.get());
    let batch = effective_batch.get();
    let (kind, remark) = match other.kind {
        Kind::Exact => ("exact", "more headroom".to_owned()),
        Kind::NearestBelow => ("nearest below", format!("{:+.2} %", error_percent(batch, asked))),
        Kind::NearestAbove => ("nearest above", format!("{:+.2} %", error_percent(batch, asked))),
        Kind::Uneven => {
            let last = last_micro_batch.unwrap_or(micro_batch);
            ("uneven", format!("the last micro-batch is {last}"))
        }
    };
    vec![kind.to_owned(), micro_batch.to_string(), accumulation.to_string(), grouped(batch), remark]
}
