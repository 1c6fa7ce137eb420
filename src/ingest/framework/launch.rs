//! Configurations of launchers and of trainers for many devices: DeepSpeed, Accelerate, torchtitan,
//! Megatron.

use crate::ingest::framework::Form;
use crate::ingest::framework::claims::{Amount, Claim, Claims, is_on, number, said, word};
use crate::ingest::framework::dialect::Dialect;
use crate::ingest::framework::document::{Document, Scalar};
use crate::ingest::framework::{known, ramp};
use crate::plan::equation::Rule;

/// Reads what a configuration says.
pub fn claims(dialect: Dialect, document: &Document, form: Form) -> Claims {
    let mut claims = match dialect {
        Dialect::Accelerate => accelerate(document),
        Dialect::TorchtitanSamples | Dialect::TorchtitanTokens => torchtitan(dialect, document),
        Dialect::Megatron => megatron(document),
        _ => deepspeed(document),
    };
    if !(form == Form::Words && dialect == Dialect::DeepSpeed) {
        claims.unknown = known::unknown(dialect, document);
    }
    claims
}

/// Blocks that DeepSpeed no longer takes.
///
/// Source: deepspeed 0.19.8, `runtime/config.py`, `_REMOVED_TOP_LEVEL_CONFIG_KEYS`.
const REMOVED: [&str; 11] = [
    "nebula",
    "compression_training",
    "amp",
    "quantize_training",
    "sparse_gradients",
    "eigenvalue",
    "sparse_attention",
    "elasticity",
    "graph_harvesting",
    "curriculum_learning",
    "progressive_layer_drop",
];

fn deepspeed(document: &Document) -> Claims {
    let mut claims = Claims::empty(Dialect::DeepSpeed, Rule::DeepSpeed);
    claims.micro_batch = number(document, "train_micro_batch_size_per_gpu", false);
    claims.accumulation = number(document, "gradient_accumulation_steps", false);
    claims.whole = number(document, "train_batch_size", false);
    claims.model_parallel.extend(number(document, "sequence_parallel_size", false));
    for key in REMOVED {
        if let Some(entry) = document.get(key) {
            claims.warnings.push(said(entry, "DeepSpeed 0.19 removed it and refuses the file"));
        }
    }
    if let Some((degree, entry)) = word(document, "tensor_parallel.autotp_size")
        && !["0", "1"].contains(&degree.as_str())
    {
        let what = format!(
            "{degree} devices share a replica, and DeepSpeed's equation counts them all the same: \
             an optimizer step has fewer samples than train_batch_size says"
        );
        claims.warnings.push(said(entry, what));
    }
    match number(document, "zero_optimization.stage", false).map(|claim| claim.value) {
        Some(Amount::Number(stage @ 1..=3)) => {
            claims.set("parallel", format!("zero{stage}"), "zero_optimization.stage");
        }
        Some(Amount::Auto | Amount::Variable(_) | Amount::Wrong(_)) => {
            if let Some(entry) = document.get("zero_optimization.stage") {
                claims.beyond.push(said(entry, "the stage of ZeRO is not said"));
            }
        }
        _ => {}
    }
    for device in ["offload_optimizer", "offload_param"] {
        if let Some(entry) = document.get(&format!("zero_optimization.{device}")) {
            claims.beyond.push(said(entry, "what is offloaded to the host is not worked out"));
        }
    }
    for key in ["bf16", "fp16", "bfloat16"] {
        let Some((on, entry)) = word(document, &format!("{key}.enabled")) else { continue };
        if on == "true" || on == "auto" {
            let master = "DeepSpeed keeps a float32 copy of 16-bit weights: not worked out";
            claims.beyond.push(said(entry, master));
        }
    }
    if let Some((norm, _)) = word(document, "gradient_clipping")
        && norm.parse::<f64>().is_ok_and(|norm| norm > 0.0)
    {
        claims.set("clip", norm, "gradient_clipping");
    }
    claims
}

/// Source: Accelerate 1.15.0, `commands/config/config_args.py`. It has no micro-batch: that is the
/// DataLoader's.
fn accelerate(document: &Document) -> Claims {
    let mut claims = Claims::empty(Dialect::Accelerate, Rule::Product);
    claims.accumulation = number(document, "deepspeed_config.gradient_accumulation_steps", false);
    claims.world = number(document, "num_processes", false);
    match word(document, "mixed_precision") {
        Some((kind, _)) if kind == "bf16" => claims.set("precision", "amp-bf16", "mixed_precision"),
        Some((kind, _)) if kind == "fp16" => claims.set("precision", "amp-fp16", "mixed_precision"),
        Some((kind, entry)) if kind != "no" && kind != "false" => {
            claims.beyond.push(said(entry, format!("mixed_precision {kind} is not worked out")));
        }
        _ => {}
    }
    match word(document, "distributed_type") {
        Some((kind, _)) if kind == "FSDP" => claims.set("parallel", "fsdp", "distributed_type"),
        Some((kind, entry)) if !["NO", "MULTI_GPU", "false"].contains(&kind.as_str()) => {
            claims.beyond.push(said(entry, format!("distributed_type {kind} is not worked out")));
        }
        _ => {}
    }
    claims
}

/// Source: torchtitan 0.3.0 as on PyPI, and `config/configs.py` since commit 73aed7f6c; before
/// 0.1 `local_batch_size` was `batch_size`.
fn torchtitan(dialect: Dialect, document: &Document) -> Claims {
    let mut claims = Claims::empty(dialect, Rule::Derived);
    let (micro, whole) = if dialect == Dialect::TorchtitanTokens {
        claims.in_tokens = true;
        claims.default_micro_batch = Some(16_384);
        ("training.num_tokens_per_microbatch_per_dp_rank", "training.num_tokens_per_train_step")
    } else {
        claims.default_micro_batch = Some(8);
        ("training.local_batch_size", "training.global_batch_size")
    };
    claims.micro_batch =
        number(document, micro, false).or_else(|| number(document, "training.batch_size", false));
    // -1 is how it says nothing.
    claims.whole = number(document, whole, false).filter(|claim| claim.value != Amount::Number(-1));
    for degree in ["tensor_parallel", "pipeline_parallel", "context_parallel"] {
        // Until 2025-03 they stood under what was new then.
        let tables = ["parallelism", "training", "experimental"];
        let keys = tables.map(|table| format!("{table}.{degree}_degree"));
        let said = keys.iter().find_map(|key| number(document, key, false));
        claims.model_parallel.extend(said);
    }
    // The one that counts tokens renamed it; pages of its forks still show the older name.
    for key in ["training.max_context_length", "training.seq_len"] {
        if let Some((tokens, _)) = word(document, key) {
            claims.set("seq-len", tokens, key);
            break;
        }
    }
    let stages = "parallelism.pipeline_parallel_degree";
    if claims.in_tokens && word(document, stages).is_some_and(|(degree, _)| degree != "1") {
        // Its trainer multiplies by the micro-batches of the pipeline, whose number the schedule
        // decides: the equation stays open.
        claims.whole = document.get(stages).map(|entry| Claim {
            value: Amount::Variable("the number of a pipeline's micro-batches".to_owned()),
            key: entry.path.clone(),
            at: entry.at,
        });
    }
    claims.default("parallel", "fsdp");
    claims
}

/// Source: Megatron-LM, `core/num_microbatches_calculator.py` at 00caa53a.
fn megatron(document: &Document) -> Claims {
    let mut claims = Claims::empty(Dialect::Megatron, Rule::Derived);
    claims.micro_batch = number(document, "micro_batch_size", true);
    claims.whole = number(document, "global_batch_size", true);
    for kind in ["tensor_model", "pipeline_model"] {
        let key = format!("{kind}_parallel_size");
        claims.model_parallel.extend(number(document, &key, true));
    }
    claims.model_parallel.extend(number(document, "context_parallel_size", true));
    if let Some((tokens, _)) = word(document, "seq_length") {
        claims.set("seq-len", tokens, "seq_length");
    }
    ramp::claims(&mut claims, document);
    if is_on(document, "decrease_batch_size_if_needed") {
        let entry = document.get("decrease_batch_size_if_needed");
        claims
            .warnings
            .extend(entry.map(|entry| said(entry, "Megatron lowers the batch silently")));
    }
    for key in ["bf16", "fp16"] {
        let on = document.get(key).filter(|entry| entry.scalar == Some(Scalar::Bool(true)));
        claims
            .beyond
            .extend(on.map(|entry| said(entry, "Megatron keeps a float32 copy of 16-bit weights")));
    }
    claims
}
