//! Our estimate against the oracle: real PyTorch and transformers on a driver without a GPU.
//!
//! Rows come from shared/oracle (`dev_cases*.jsonl`), those of decoders in fp32 and bf16 under AdamW
//! foreach. `min_capacity` there is the upper end of a bisection's interval of 0.5 %.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use oomph::ingest::config_json;
use oomph::memory::footprint::Footprint;
use oomph::step::setup::{
    Attention, AttentionMask, Checkpointing, GpuArch, Optimizer, Precision, Setup, Version,
};
use oomph::units::{AccumulationSteps, Bytes, MicroBatch};
use serde_json::Value;

struct Row {
    id: String,
    allocated: f64,
    reserved: f64,
    capacity: f64,
}

fn percent(ours: Bytes, theirs: &Value) -> f64 {
    let theirs = theirs.as_u64().unwrap();
    100.0 * (ours.get() as f64 / theirs as f64 - 1.0)
}

fn setup(case: &Value, torch: Version, transformers: Version) -> Setup {
    let text = |key: &str| case[key].as_str().unwrap();
    Setup {
        micro_batch: MicroBatch::new(case["micro_batch"].as_u64().unwrap()).unwrap(),
        accumulation: AccumulationSteps::new(case["accum"].as_u64().unwrap()).unwrap(),
        seq_len: case["seq_len"].as_u64().unwrap(),
        precision: match text("precision") {
            "fp32" => Precision::Fp32,
            _ => Precision::Bf16,
        },
        optimizer: Optimizer::AdamW,
        checkpointing: match text("checkpointing") {
            "full" => Checkpointing::Full,
            _ => Checkpointing::None,
        },
        attention: match text("attention") {
            "eager" => Attention::Eager,
            _ => Attention::Sdpa,
        },
        attention_mask: AttentionMask::Ones,
        torch,
        transformers,
        gpu: GpuArch::A100,
    }
}

fn compare(name: &str, rows: &str, torch: Version, transformers: Version) {
    let mut out = Vec::new();
    for line in rows.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let model = config_json::from_map(case["config"].as_object().unwrap()).unwrap().config;
        // The last rows of the older file were made with transformers 5.12.
        let id = case["id"].as_str().unwrap().to_owned();
        let newer = ["llama-3.2-3b", "tinyllama", "qwen2.5-1.5b", "mistral", "gpt2-large"];
        let transformers = match newer.iter().any(|n| id.starts_with(n)) {
            true => transformers.max(Version::new(5, 12)),
            false => transformers,
        };
        let trace = oomph::step::trace(&model, &setup(&case, torch, transformers)).unwrap();
        let footprint = Footprint::of(&trace).unwrap();
        let result = &case["result"];
        out.push(Row {
            id,
            allocated: percent(footprint.peak_allocated, &result["peak_allocated"]),
            reserved: percent(footprint.peak_reserved, &result["peak_reserved"]),
            capacity: percent(footprint.min_capacity, &result["min_capacity"]),
        });
    }
    println!("{name}: errors in percent\n{:20} allocated  reserved  min_capacity", "case");
    for row in &out {
        println!(
            "{:20} {:>9.3} {:>9.3} {:>13.3}",
            row.id, row.allocated, row.reserved, row.capacity
        );
    }
    for row in &out {
        assert!(row.allocated.abs() <= 0.005, "{}: allocated {:+.2} %", row.id, row.allocated);
        assert!(row.reserved.abs() <= 0.005, "{}: reserved {:+.2} %", row.id, row.reserved);
        assert!(row.capacity <= 0.5, "{}: min_capacity {:+.2} %", row.id, row.capacity);
        assert!(row.capacity >= -0.5, "{}: min_capacity {:+.2} %", row.id, row.capacity);
    }
    assert!(out.len() >= 20, "only {} rows were compared", out.len());
}

#[test]
fn steps_on_torch_2_15_need_what_pytorch_needs() {
    let rows = include_str!("data/steps_torch2.15.jsonl");
    compare("torch 2.15, transformers 5.23", rows, Version::new(2, 15), Version::new(5, 23));
}

#[test]
fn steps_on_torch_2_8_need_what_pytorch_needs() {
    let rows = include_str!("data/steps_torch2.8.jsonl");
    compare("torch 2.8, transformers 4.56", rows, Version::new(2, 8), Version::new(4, 56));
}
