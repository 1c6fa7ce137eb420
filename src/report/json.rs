//! Estimates and plans as JSON for programs, with a schema name; sizes are integer bytes.

use serde_json::{Map, Value, json};

use crate::memory::trace::Category;
use crate::model::freeze::Frozen;
use crate::model::quantize::Quantize;
use crate::plan::capacity::{Capacity, OutsideAllocator};
use crate::plan::learning_rate::{LearningRate, error_percent};
use crate::plan::result::{Estimate, Goal, Plan, PlanGpu};
use crate::plan::solver::{Alternative, BoundBy, Kind};
use crate::report::estimate::NOT_COVERED;
use crate::report::explain::Explained;
use crate::report::{schedule, sync, unequal};
use crate::step::setup::{AttentionMask, Version};

/// Renders an estimate (`oomph.estimate/1`).
pub fn estimate(estimate: &Estimate, explained: &Explained) -> String {
    let mut value = estimate_value(estimate);
    explained.add_to(&mut value);
    format!("{value:#}\n")
}

/// Renders a plan (`oomph.plan/1`).
pub fn plan(plan: &Plan) -> String {
    let best = plan.solution.as_ref().map(|solution| &solution.best);
    let solution = plan.solution.as_ref();
    let value = json!({
        "schema": "oomph.plan/1",
        "model": plan.estimate.model,
        "fits": solution.is_some(),
        "micro_batch": best.map(|best| best.micro_batch),
        "accumulation_steps": best.map(|best| best.accumulation),
        "world_size": plan.world.size,
        "world_from": plan.world.from.name(),
        "data_parallel_size": plan.data_parallel,
        "effective_batch": best.map(|best| best.effective_batch),
        "effective_tokens":
            best.map(|best| best.effective_batch.get().saturating_mul(plan.estimate.setup.seq_len)),
        "target_effective_batch": plan.goal.map(|goal| goal.effective_batch),
        "target_tokens": plan.goal.and_then(|goal| goal.tokens),
        "error_percent": plan.goal.zip(best).map(|(goal, best)| {
            error_percent(best.effective_batch.get(), goal.effective_batch.get())
        }),
        "exact": solution.is_some_and(|solution| solution.exact),
        "largest_micro_batch": plan.estimate.largest_micro_batch,
        "bound_by": solution.map_or("memory", |solution| bound_by(solution.bound_by)),
        "method": plan.method.name(),
        "gpus": plan.gpus.iter().map(gpu).collect::<Vec<_>>(),
        "alternatives": solution
            .map(|solution| {
                let others = solution.alternatives.iter();
                others.map(|other| alternative(plan.goal, other)).collect::<Vec<_>>()
            })
            .unwrap_or_default(),
        "gradient_sync": sync::value(&plan.sync),
        "schedule": plan.schedule.as_ref().map(|all| schedule::value(all, plan.data_parallel)),
        "unequal": plan.unequal.as_ref().map(unequal::value),
        "hints": plan.estimate.hints,
        "notes": plan.estimate.notes,
        "estimate": estimate_value(&plan.estimate),
    });
    format!("{value:#}\n")
}

pub(super) fn estimate_value(estimate: &Estimate) -> Value {
    let footprint = &estimate.footprint;
    let at_peak: Map<String, Value> = Category::ALL
        .into_iter()
        .map(|category| {
            let bytes = footprint.at_peak.get(&category).copied().unwrap_or_default();
            (category.name().to_owned(), json!(bytes))
        })
        .collect();
    let mut value = json!({
        "schema": "oomph.estimate/1",
        "model": estimate.model,
        "method": "estimated",
        "micro_batch": estimate.setup.micro_batch,
        "accumulation_steps": estimate.setup.accumulation,
        "setup": setup(estimate),
        "peak_allocated_bytes": footprint.peak_allocated,
        "peak_reserved_bytes": footprint.peak_reserved,
        "min_capacity_bytes": footprint.min_capacity,
        "peak_phase": footprint.peak_phase.name(),
        "at_peak": at_peak,
        "outside_allocator": outside(&estimate.outside),
        "versions": {
            "torch": version(estimate.versions.torch),
            "transformers": version(estimate.versions.transformers),
            "source": estimate.versions.source,
        },
        "assumptions": estimate.assumptions,
        "not_covered": NOT_COVERED,
        "notes": estimate.notes,
    });
    if let Some(terms) = estimate.capacity {
        value["capacity"] = capacity(terms);
        value["fits"] = json!(estimate.fits());
        value["hints"] = json!(estimate.hints);
    }
    if let Some(largest) = estimate.largest_micro_batch {
        value["largest_micro_batch"] = json!(largest);
    }
    value
}

fn setup(estimate: &Estimate) -> Value {
    let setup = &estimate.setup;
    let (major, minor) = setup.gpu.compute_capability;
    json!({
        "task": estimate.task.name(),
        "image_size": estimate.image_size,
        "seq_len": setup.seq_len,
        "label_len": setup.label_len,
        "precision": setup.precision.name(),
        "optimizer": setup.optimizer.name(),
        "zero_grad": setup.zero_grad.name(),
        "clip": setup.clip,
        "lora": estimate.tuning.lora.as_ref().map(|lora| json!({
            "r": lora.rank,
            "targets": lora.targets.to_string(),
            "dropout": lora.dropout,
        })),
        "quantize": estimate.tuning.quantized.map(Quantize::name),
        "freeze": estimate.tuning.frozen.as_ref().map(Frozen::to_string),
        "checkpointing": setup.checkpointing.to_string(),
        "attention": setup.attention.name(),
        "attention_mask": match setup.attention_mask {
            AttentionMask::Ones => "ones",
            AttentionMask::Padded => "padded",
            AttentionMask::None => "none",
        },
        "loss": setup.loss.name(),
        "allocator": setup.allocator.name(),
        "gpu": {
            "compute_capability": format!("{major}.{minor}"),
            "sm_count": setup.gpu.sm_count,
        },
    })
}

fn outside(outside: &OutsideAllocator) -> Value {
    let terms = outside.terms.iter().map(|(kind, bytes)| (kind.name().to_owned(), json!(bytes)));
    Value::Object(terms.collect())
}

fn capacity(capacity: Capacity) -> Value {
    json!({
        "capacity_bytes": capacity.bytes,
        "free_bytes": capacity.free,
        "outside_allocator_bytes": capacity.outside,
        "headroom_bytes": capacity.headroom,
        "given": capacity.given,
    })
}

pub(super) fn gpu(gpu: &PlanGpu) -> Value {
    json!({
        "index": gpu.index,
        "name": gpu.name,
        "uuid": gpu.uuid,
        "simulated": gpu.simulated,
        "total_bytes": gpu.total,
        "free_bytes": gpu.free,
        "capacity": capacity(gpu.capacity),
    })
}

pub(super) fn alternative(goal: Option<Goal>, alternative: &Alternative) -> Value {
    let batches = &alternative.batches;
    let asked = goal.map(|goal| goal.effective_batch.get());
    let batch = batches.effective_batch.get();
    let weights = batches.last_micro_batch.map(|last| {
        let full = batches.micro_batch.get();
        let samples = (full * (batches.accumulation.get() - 1) + last.get()) as f64;
        json!({"each": full as f64 / samples, "last": last.get() as f64 / samples})
    });
    json!({
        "kind": match alternative.kind {
            Kind::Exact => "exact",
            Kind::NearestBelow => "nearest_below",
            Kind::NearestAbove => "nearest_above",
            Kind::Uneven => "uneven",
        },
        "micro_batch": batches.micro_batch,
        "accumulation_steps": batches.accumulation,
        "last_micro_batch": batches.last_micro_batch,
        "effective_batch": batches.effective_batch,
        "error_percent": asked.map(|asked| error_percent(batch, asked)),
        "learning_rate_factor": asked.filter(|asked| *asked != batch).map(|asked| {
            let LearningRate { linear, square_root } = LearningRate::scaled(batch, asked);
            json!({"linear": linear, "square_root": square_root})
        }),
        "loss_weights": weights,
    })
}

/// Returns the name of what bounds a plan.
pub const fn bound_by(bound: BoundBy) -> &'static str {
    match bound {
        BoundBy::Memory => "memory",
        BoundBy::EffectiveBatch => "effective_batch",
        BoundBy::Divisibility => "divisibility",
        BoundBy::MicroBatch => "micro_batch",
        BoundBy::Accumulation => "accumulation",
        BoundBy::Schedule => "schedule",
    }
}

fn version(version: Version) -> String {
    format!("{}.{}", version.major, version.minor)
}
