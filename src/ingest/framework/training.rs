//! Configurations that descend from transformers' `TrainingArguments`: Hugging Face and TRL,
//! LLaMA-Factory, Axolotl.

use crate::ingest::framework::Form;
use crate::ingest::framework::claims::{Claim, Claims, inner, is_on, names, number, said, word};
use crate::ingest::framework::dialect::Dialect;
use crate::ingest::framework::document::{Document, Scalar};
use crate::ingest::framework::{beyond, known};
use crate::plan::equation::Rule;

/// Where nothing is said, `TrainingArguments` takes eight samples (5.23.0).
const DEFAULT_MICRO_BATCH: u64 = 8;

/// Reads what a configuration says.
pub fn claims(dialect: Dialect, document: &Document, form: Form) -> Claims {
    let mut claims = match dialect {
        Dialect::Axolotl => axolotl(document),
        _ => trainer(dialect, document, form == Form::Words),
    };
    beyond::note(&mut claims, document);
    claims.unknown = match (dialect, form) {
        // A script's other arguments are its own.
        (Dialect::Hf, Form::Words) => Vec::new(),
        _ => known::unknown(dialect, document),
    };
    claims
}

fn trainer(dialect: Dialect, document: &Document, words: bool) -> Claims {
    let mut claims = Claims::empty(dialect, Rule::Product);
    claims.micro_batch = number(document, "per_device_train_batch_size", words);
    claims.default_micro_batch = Some(DEFAULT_MICRO_BATCH);
    claims.accumulation = number(document, "gradient_accumulation_steps", words);
    claims.model = model(document, "model_name_or_path");
    let factory = dialect == Dialect::LlamaFactory;
    for key in if factory { &["cutoff_len"][..] } else { &["max_length", "max_seq_length"] } {
        if let Some((tokens, _)) = word(document, key) {
            claims.set("seq-len", tokens, key);
        }
    }
    precision(
        &mut claims,
        document,
        &[("pure_bf16", "bf16"), ("bf16", "amp-bf16"), ("fp16", "amp-fp16")],
    );
    if factory {
        // It checkpoints unless told not to (its `hparams/model_args.py`).
        match is_on(document, "disable_gradient_checkpointing") {
            true => claims.set("checkpointing", "none", "disable_gradient_checkpointing"),
            false => claims.default("checkpointing", "full"),
        }
        adapters_of_factory(&mut claims, document);
        attention(&mut claims, document, "flash_attn");
        // Its Megatron back ends divide the devices by these.
        let degrees = ["tensor_model", "pipeline_model", "context"];
        let keys = degrees.map(|degree| format!("{degree}_parallel_size"));
        claims.model_parallel =
            keys.iter().filter_map(|key| number(document, key, words)).collect();
    } else {
        let keys = ["gradient_checkpointing", "activation_checkpointing"];
        match keys.into_iter().find(|key| is_on(document, key)) {
            Some(key) => checkpointing(&mut claims, document, key),
            None => claims.default("checkpointing", "none"),
        }
        adapters_of_trl(&mut claims, document, words);
        attention(&mut claims, document, "attn_implementation");
    }
    optimizer(&mut claims, document, "optim");
    clip(&mut claims, document);
    for key in ["use_liger_kernel", "enable_liger_kernel"] {
        if is_on(document, key) {
            claims.set("loss", "fused", key);
        }
    }
    sharding(&mut claims, document);
    if let Some(entry) =
        document.get("auto_find_batch_size").filter(|_| is_on(document, "auto_find_batch_size"))
    {
        claims.warnings.push(said(
            entry,
            "the micro-batch shrinks when memory runs out, and the effective batch with it",
        ));
    }
    claims
}

/// Source: transformers 5.23.0, `trainer.py`: `every_n_layers` and `offload` stand among what is passed
/// on to `torch.utils.checkpoint`.
fn checkpointing(claims: &mut Claims, document: &Document, key: &str) {
    let kwargs = format!("{key}_kwargs");
    match inner(document, &kwargs, "every_n_layers").as_deref() {
        None | Some("1") => claims.set("checkpointing", "full", key),
        Some(every) => claims.set("checkpointing", format!("every={every}"), &kwargs),
    }
    let offloads = inner(document, &kwargs, "offload").is_some_and(|on| on != "false");
    if let Some(entry) = document.get(&kwargs).filter(|_| offloads) {
        claims.beyond.push(said(entry, "what is kept on the host is not worked out"));
    }
}

/// TRL's `ModelConfig` stands in the same file (1.16): `use_peft`, rank 16, and peft's own layers
/// where it names none.
fn adapters_of_trl(claims: &mut Claims, document: &Document, words: bool) {
    if is_on(document, "use_peft") {
        let rank = word(document, "lora_r").map_or("16".to_owned(), |(rank, _)| rank);
        let separator = words.then_some(' ');
        let targets = targets(claims, document, "lora_target_modules", separator);
        let dropout = lora_dropout(document, "lora_dropout");
        claims.set("lora", format!("r={rank}{targets}{dropout}"), "use_peft");
    }
    for (key, kind) in [("load_in_4bit", "nf4"), ("load_in_8bit", "int8")] {
        if is_on(document, key) {
            claims.set("quantize", kind, key);
        }
    }
}

/// LLaMA-Factory trains adapters unless told otherwise (`finetuning_type: lora`, rank 8).
fn adapters_of_factory(claims: &mut Claims, document: &Document) {
    let kind = word(document, "finetuning_type");
    match kind.as_ref().map(|(kind, entry)| (kind.as_str(), *entry)) {
        Some(("full", _)) => {}
        Some(("lora", _)) | None => {
            let rank = word(document, "lora_rank").map_or("8".to_owned(), |(rank, _)| rank);
            let targets = match names(document, "lora_target", Some(',')).as_deref() {
                Some([all]) if all == "all" => ",targets=all-linear".to_owned(),
                None if is_unset(document, "lora_target") => ",targets=all-linear".to_owned(),
                _ => targets(claims, document, "lora_target", Some(',')),
            };
            let dropout = lora_dropout(document, "lora_dropout");
            let value = format!("r={rank}{targets}{dropout}");
            match kind {
                Some(_) => claims.set("lora", value, "finetuning_type"),
                None => claims.default("lora", &value),
            }
        }
        Some((other, entry)) => {
            claims.beyond.push(said(entry, format!("finetuning_type {other} is not worked out")));
        }
    }
    match word(document, "quantization_bit") {
        Some((bits, _)) if bits == "4" => claims.set("quantize", "nf4", "quantization_bit"),
        Some((bits, _)) if bits == "8" => claims.set("quantize", "int8", "quantization_bit"),
        Some((bits, entry)) => {
            claims.beyond.push(said(entry, format!("{bits} bits are not worked out")));
        }
        None => {}
    }
}

fn axolotl(document: &Document) -> Claims {
    let mut claims = Claims::empty(Dialect::Axolotl, Rule::Axolotl);
    claims.micro_batch = number(document, "micro_batch_size", false);
    claims.accumulation = number(document, "gradient_accumulation_steps", false);
    claims.whole = number(document, "batch_size", false);
    claims.model = model(document, "base_model");
    claims.model_parallel = ["tensor_parallel_size", "context_parallel_size"]
        .iter()
        .filter_map(|key| number(document, key, false))
        .collect();
    if let Some((tokens, _)) = word(document, "sequence_len") {
        claims.set("seq-len", tokens, "sequence_len");
    }
    let names =
        [("bfloat16", "bf16"), ("float16", "fp16"), ("bf16", "amp-bf16"), ("fp16", "amp-fp16")];
    precision(&mut claims, document, &names);
    match word(document, "gradient_checkpointing") {
        Some((kind, _)) if kind == "true" => {
            claims.set("checkpointing", "full", "gradient_checkpointing");
        }
        Some((kind, entry)) if kind != "false" => claims
            .beyond
            .push(said(entry, format!("gradient_checkpointing {kind} is not worked out"))),
        _ => claims.default("checkpointing", "none"),
    }
    match word(document, "adapter") {
        Some((kind, _)) if kind == "lora" || kind == "qlora" => {
            let rank = word(document, "lora_r").map_or("8".to_owned(), |(rank, _)| rank);
            // Beside all linear layers a list of some of them adds nothing.
            let targets = match is_on(document, "lora_target_linear") {
                true => ",targets=all-linear".to_owned(),
                false => targets(&mut claims, document, "lora_target_modules", None),
            };
            let dropout = lora_dropout(document, "lora_dropout");
            claims.set("lora", format!("r={rank}{targets}{dropout}"), "adapter");
        }
        Some((kind, entry)) => {
            claims.beyond.push(said(entry, format!("adapter {kind} is not worked out")));
        }
        None => {}
    }
    for (key, kind) in [("load_in_4bit", "nf4"), ("load_in_8bit", "int8")] {
        if is_on(document, key) {
            claims.set("quantize", kind, key);
        }
    }
    if is_on(document, "liger_fused_linear_cross_entropy") {
        claims.set("loss", "fused", "liger_fused_linear_cross_entropy");
    }
    let kernels =
        [("flash_attention", "flash"), ("sdp_attention", "sdpa"), ("eager_attention", "eager")];
    if let Some((key, kind)) = kernels.iter().find(|(key, _)| is_on(document, key)) {
        claims.set("attention", *kind, key);
    }
    attention(&mut claims, document, "attn_implementation");
    optimizer(&mut claims, document, "optimizer");
    clip(&mut claims, document);
    sharding(&mut claims, document);
    claims
}

/// Takes the kernel of attention by transformers' names, and LLaMA-Factory's.
fn attention(claims: &mut Claims, document: &Document, key: &str) {
    let Some((name, entry)) = word(document, key) else { return };
    match name.as_str() {
        "flash_attention_2" | "fa2" => claims.set("attention", "flash", key),
        "sdpa" => claims.set("attention", "sdpa", key),
        "eager" | "disabled" => claims.set("attention", "eager", key),
        "auto" => {}
        _ => claims.beyond.push(said(entry, format!("attention by {name} is not worked out"))),
    }
}

/// Returns what a key adds to `--lora`: the layers that have adapters, by the ends of their names.
/// peft takes a text that is not cut for a pattern.
fn targets(claims: &mut Claims, document: &Document, key: &str, separator: Option<char>) -> String {
    let Some(entry) = document.get(key).filter(|_| !is_unset(document, key)) else {
        return String::new();
    };
    let plain = |name: &String| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
    };
    if word(document, key).is_some_and(|(text, _)| text == "all-linear") {
        return ",targets=all-linear".to_owned();
    }
    match names(document, key, separator) {
        Some(names) if names.iter().all(plain) => format!(",targets={}", names.join("+")),
        _ => {
            let why = "which layers have adapters is not plain from it: a list of names is";
            claims.beyond.push(said(entry, why));
            String::new()
        }
    }
}

/// Whether a key is not there, or null.
fn is_unset(document: &Document, key: &str) -> bool {
    document.get(key).is_none_or(|entry| entry.scalar == Some(Scalar::Null))
}

/// Returns what a key adds to `--lora`; dropout of nothing adds nothing.
fn lora_dropout(document: &Document, key: &str) -> String {
    match word(document, key) {
        Some((dropout, _)) if dropout.parse::<f64>().is_ok_and(|dropout| dropout > 0.0) => {
            format!(",dropout={dropout}")
        }
        _ => String::new(),
    }
}

fn model(document: &Document, key: &str) -> Option<Claim<String>> {
    word(document, key).map(|(name, entry)| said(entry, name))
}

/// Takes the first switch that is on; without one nothing is cast, which is fp32 or what the
/// weights are loaded in.
fn precision(claims: &mut Claims, document: &Document, switches: &[(&str, &str)]) {
    for (key, precision) in switches {
        let set = word(document, key).is_some_and(|(word, _)| {
            ["true", "True", "1", "auto", "full"].contains(&word.as_str())
        });
        if set {
            return claims.set("precision", *precision, key);
        }
    }
    claims.default("precision", "fp32");
}

/// How transformers' optimizers end that step as soon as a weight has its gradient.
pub const LAYERWISE: &str = "_layerwise";

/// Source: `OptimizerNames` of transformers 5.23.0; the default is fused from PyTorch 2.8 on.
fn optimizer(claims: &mut Claims, document: &Document, key: &str) {
    let Some((name, entry)) = word(document, key) else {
        return claims.default("optimizer", "adamw-fused");
    };
    // LOMO's steps are fused into the backward; `trainer_optimizer.py` refuses layerwise ones
    // beside an accumulation.
    if name.ends_with(LAYERWISE) || ["lomo", "adalomo"].contains(&name.as_str()) {
        claims.steps_in_backward = Some(said(entry, name.clone()));
    }
    let known = match name.as_str() {
        "adamw_torch" | "adamw_hf" => "adamw",
        "adamw_torch_fused" => "adamw-fused",
        "adamw_8bit" | "adamw_bnb_8bit" => "adamw-8bit-hf",
        "paged_adamw_8bit" => "paged-adamw-8bit-hf",
        "adafactor" => "adafactor",
        "sgd" => "sgd",
        _ => {
            return claims
                .beyond
                .push(said(entry, format!("the optimizer {name} is not worked out")));
        }
    };
    claims.set("optimizer", known, key);
}

/// Gradients are clipped to norm 1 unless `max_grad_norm` says otherwise; 0 is no clipping.
fn clip(claims: &mut Claims, document: &Document) {
    match word(document, "max_grad_norm") {
        Some((norm, _)) if norm.parse::<f64>().is_ok_and(|norm| norm > 0.0) => {
            claims.set("clip", norm, "max_grad_norm");
        }
        Some(_) => {}
        None => claims.default("clip", "1"),
    }
}

fn sharding(claims: &mut Claims, document: &Document) {
    if let Some((file, entry)) = word(document, "deepspeed") {
        claims.beyond.push(said(entry, format!("{file} decides as well: check it by itself")));
    }
    for key in ["fsdp", "fsdp_config"] {
        let Some(entry) = document.get(key) else { continue };
        let empty = word(document, key).is_some_and(|(kind, _)| kind.is_empty() || kind == "false");
        if !empty {
            claims.set("parallel", "fsdp", &entry.path);
            break;
        }
    }
    if let Some(entry) = document.get("torch_compile").filter(|_| is_on(document, "torch_compile"))
    {
        claims.beyond.push(said(entry, "what torch.compile changes is not worked out"));
    }
}
