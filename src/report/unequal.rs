//! What unequal GPUs cost, in words and for programs.

use serde_json::{Value, json};

use crate::plan::result::{Plan, UnequalGpus};
use crate::report::text::grouped;
use crate::units::counted;

/// Says which GPU bounds the plan, what that costs the others, and what they could do otherwise.
pub fn lines(plan: &Plan, unequal: &UnequalGpus) -> Vec<String> {
    let weakest = unequal.largest.iter().min_by_key(|(_, largest)| *largest);
    let (Some((index, least)), Some(solution)) = (weakest, &plan.solution) else {
        return Vec::new();
    };
    let name = plan.gpus.iter().find(|gpu| gpu.index == *index).map_or("", |gpu| &gpu.name);
    let capped = unequal.largest.iter().filter(|(_, largest)| largest > least).count();
    let capped = counted(capped as u64, "other");
    let next = unequal.largest.iter().map(|(_, largest)| *largest).filter(|l| l > least).min();
    let mut lines = Vec::new();
    if let Some(next) = next {
        lines.push(format!(
            "all take the micro-batch of the weakest: GPU {index} ({name}) holds {capped} at \
             {least}; without its like {next} would fit (estimated)"
        ));
    }
    if let Some(other) = &unequal.plan {
        let steps = solution.best.accumulation.get();
        lines.push(format!(
            "with a micro-batch of its own for each GPU ({}), {} would do instead of \
             {}; no framework does that by itself: weigh each GPU's mean loss by {}",
            runs(&other.micro_batches.iter().map(|size| grouped(*size)).collect::<Vec<_>>()),
            counted(other.accumulation, "micro-step"),
            grouped(steps),
            runs(&weights(&other.loss_weights())),
        ));
    }
    lines
}

/// Returns the object of a plan's `unequal`.
pub fn value(unequal: &UnequalGpus) -> Value {
    let largest = unequal.largest.iter();
    json!({
        "largest_micro_batch": largest
            .map(|(index, largest)| json!({"gpu": index, "largest_micro_batch": largest}))
            .collect::<Vec<_>>(),
        "accumulation_steps": unequal.plan.as_ref().map(|plan| plan.accumulation),
        "micro_batches": unequal.plan.as_ref().map(|plan| &plan.micro_batches),
        "loss_weights": unequal.plan.as_ref().map(|plan| plan.loss_weights()),
    })
}

fn weights(weights: &[f64]) -> Vec<String> {
    weights.iter().map(|weight| format!("{weight:.4}")).collect()
}

/// Joins words, equal neighbours as one with their number: `18 x 4, 6`.
fn runs(words: &[String]) -> String {
    let mut runs: Vec<(&String, usize)> = Vec::new();
    for word in words {
        match runs.last_mut() {
            Some((last, count)) if *last == word => *count += 1,
            _ => runs.push((word, 1)),
        }
    }
    let run = |(word, count): &(&String, usize)| match count {
        1 => (*word).clone(),
        _ => format!("{count} x {word}"),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(", ")
}
