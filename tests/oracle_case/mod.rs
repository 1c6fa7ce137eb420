//! A case of the memory oracle (shared/oracle/README.md) as our setup; for the tests and the tools.

#[allow(dead_code, reason = "every test and tool uses a part of this")]
pub mod rows;

use std::convert::Infallible;

use oomph::memory::largest::largest_beside_headroom;
use oomph::model::adapters::{Lora, Targets};
use oomph::model::config::ModelConfig;
use oomph::model::quantize::Quantize;
use oomph::model::tuning::Tuning;
use oomph::profile::gpu::GpuProfile;
use oomph::step::setup::{
    Allocator, Attention, AttentionMask, Checkpointing, GpuArch, Loss, Optimizer, Precision, Setup,
    Version, ZeroGrad,
};
use oomph::trace::Trace;
use oomph::units::{AccumulationSteps, Bytes, MicroBatch};
use serde_json::Value;

/// Returns the setup of a case; what it leaves out has the oracle's defaults.
///
/// # Panics
/// At a name that the oracle does not have.
pub fn setup(case: &Value, torch: Version, transformers: Version) -> Setup {
    let text = |key: &str, default: &'static str| case[key].as_str().unwrap_or(default).to_owned();
    let number = |key: &str, default: u64| case[key].as_u64().unwrap_or(default);
    Setup {
        micro_batch: MicroBatch::new(number("micro_batch", 1)).unwrap(),
        accumulation: AccumulationSteps::new(number("accum", 1)).unwrap(),
        seq_len: number("seq_len", 128),
        label_len: case["label_len"].as_u64(),
        precision: match text("precision", "fp32").as_str() {
            "fp32" => Precision::Fp32,
            "fp16" => Precision::Fp16,
            "bf16" => Precision::Bf16,
            "amp-bf16" => Precision::AmpBf16,
            "amp-fp16" => Precision::AmpFp16,
            other => panic!("{other}"),
        },
        optimizer: match text("optimizer", "adamw").as_str() {
            "adamw" => Optimizer::AdamW,
            "adamw-fused" => Optimizer::AdamWFused,
            "adamw-loop" => Optimizer::AdamWLoop,
            "adamw-8bit" => Optimizer::AdamW8Bit,
            "paged-adamw-8bit" => Optimizer::PagedAdamW8Bit,
            "adamw-8bit-hf" => Optimizer::AdamW8BitHf,
            "paged-adamw-8bit-hf" => Optimizer::PagedAdamW8BitHf,
            // The oracle's names.
            "sgd-plain" => Optimizer::Sgd,
            "sgd" => Optimizer::SgdMomentum,
            "adafactor" => Optimizer::Adafactor,
            other => panic!("{other}"),
        },
        clip: case["clip"].as_f64(),
        zero_grad: match case["set_to_none"] {
            Value::Bool(false) => ZeroGrad::Zero,
            _ => ZeroGrad::None,
        },
        checkpointing: match text("checkpointing", "none").as_str() {
            "full" => Checkpointing::Full,
            "none" => Checkpointing::None,
            "attention" => Checkpointing::Attention,
            other => Checkpointing::Every(other.strip_prefix("every=").unwrap().parse().unwrap()),
        },
        attention: match text("attention", "sdpa").as_str() {
            "eager" => Attention::Eager,
            "sdpa" => Attention::Sdpa,
            "flash" => Attention::Flash,
            other => panic!("{other}"),
        },
        attention_mask: match text("attention_mask", "ones").as_str() {
            "ones" => AttentionMask::Ones,
            "padded" => AttentionMask::Padded,
            "none" => AttentionMask::None,
            other => panic!("{other}"),
        },
        loss: match text("loss", "standard").as_str() {
            "standard" => Loss::Standard,
            "fused" => Loss::Fused,
            other => panic!("{other}"),
        },
        torch,
        transformers,
        allocator: match text("allocator", "default").as_str() {
            "default" => Allocator::Default,
            "expandable" => Allocator::Expandable,
            other => panic!("{other}"),
        },
        gpu: match case["gpu"].as_str() {
            Some(name) => GpuProfile::built_in(name).unwrap().arch,
            None => GpuArch::A100,
        },
        device_total: Bytes::new(number("device_total", 4 << 40)),
    }
}

/// Returns our trace of a case.
///
/// # Panics
/// At a case that is not covered.
pub fn trace(case: &Value, model: &ModelConfig, setup: &Setup) -> Trace {
    oomph::step::trace_tuned(model, &tuning(case), setup).unwrap()
}

/// Returns the largest micro-batch that runs on the capacity of a case less the headroom, and with the
/// headroom taken as well; 0 where one sample does not. The setup's own micro-batch says nothing.
///
/// # Panics
/// At a case that is not covered, or has no capacity.
#[allow(dead_code, reason = "not every test and tool searches")]
pub fn largest(case: &Value, model: &ModelConfig, setup: Setup, headroom: Bytes) -> u64 {
    let trace_of =
        |micro_batch| Ok::<_, Infallible>(trace(case, model, &Setup { micro_batch, ..setup }));
    let capacity = Bytes::new(case["capacity"].as_u64().unwrap()) - headroom;
    let limit = MicroBatch::new(4096).unwrap();
    let found = largest_beside_headroom(capacity, headroom, limit, trace_of).unwrap();
    found.micro_batch.map_or(0, MicroBatch::get)
}

fn tuning(case: &Value) -> Tuning {
    let frozen = case["freeze"].as_str().map(|text| text.parse().unwrap());
    let quantized = match case["quantize"].as_str().unwrap_or("none") {
        "none" => None,
        "int8" => Some(Quantize::Int8),
        "nf4" => Some(Quantize::Nf4),
        other => panic!("{other}"),
    };
    Tuning { lora: lora(case), frozen, quantized }
}

fn lora(case: &Value) -> Option<Lora> {
    let lora = case["lora"].as_object()?;
    let targets = match &lora["target_modules"] {
        Value::String(_) => Targets::AllLinear,
        names => {
            let name = |name: &Value| name.as_str().unwrap().to_owned();
            Targets::Named(names.as_array().unwrap().iter().map(name).collect())
        }
    };
    let dropout = lora.get("dropout").and_then(Value::as_f64).unwrap_or(0.0);
    Some(Lora { rank: lora["r"].as_u64().unwrap(), dropout, targets })
}
