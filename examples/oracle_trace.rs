//! Prints our trace of one oracle case, in the oracle's own format, for `tests/oracle/compare.py`.
//!
//!     cargo run --release --example oracle_trace -- '{"config": {...}, "micro_batch": 2}' [2.15] [5.23]

#![expect(clippy::unwrap_used, reason = "a tool for developers, who read the panic")]
use oomph::ingest::config_json;
use oomph::memory::trace::{Event, Phase};
use oomph::step::setup::*;
use oomph::units::{AccumulationSteps, MicroBatch};
use serde_json::Value;

fn version(text: &str) -> Version {
    let (a, b) = text.split_once('.').unwrap();
    Version::new(a.parse().unwrap(), b.parse().unwrap())
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let case: Value = serde_json::from_str(&args[1]).unwrap();
    let n = |k: &str, d: u64| case.get(k).and_then(Value::as_u64).unwrap_or(d);
    let s = |k: &str, d: &'static str| case.get(k).and_then(Value::as_str).unwrap_or(d).to_owned();
    let setup = Setup {
        micro_batch: MicroBatch::new(n("micro_batch", 1)).unwrap(),
        accumulation: AccumulationSteps::new(n("accum", 1)).unwrap(),
        seq_len: n("seq_len", 128),
        precision: match s("precision", "fp32").as_str() {
            "fp32" => Precision::Fp32,
            "bf16" => Precision::Bf16,
            "fp16" => Precision::Fp16,
            "amp-bf16" => Precision::AmpBf16,
            _ => Precision::AmpFp16,
        },
        optimizer: match s("optimizer", "adamw").as_str() {
            "adamw" => Optimizer::AdamW,
            "adamw-fused" => Optimizer::AdamWFused,
            "adamw-loop" => Optimizer::AdamWLoop,
            "adamw-8bit" => Optimizer::AdamW8Bit,
            "paged-adamw-8bit" => Optimizer::PagedAdamW8Bit,
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
        checkpointing: match s("checkpointing", "none").as_str() {
            "full" => Checkpointing::Full,
            _ => Checkpointing::None,
        },
        attention: match s("attention", "sdpa").as_str() {
            "eager" => Attention::Eager,
            _ => Attention::Sdpa,
        },
        attention_mask: match s("attention_mask", "ones").as_str() {
            "padded" => AttentionMask::Padded,
            "none" => AttentionMask::None,
            _ => AttentionMask::Ones,
        },
        torch: version(args.get(2).map_or("2.15", |s| s)),
        transformers: version(args.get(3).map_or("5.23", |s| s)),
        gpu: GpuArch::A100,
    };
    let model = config_json::from_map(case["config"].as_object().unwrap()).unwrap().config;
    let start = std::time::Instant::now();
    let trace = oomph::step::trace(&model, &setup).unwrap();
    eprintln!("{} events in {:?}", trace.events.len(), start.elapsed());
    let mut freed = vec![None; trace.blocks.len()];
    let mut died = vec![None; trace.blocks.len()];
    let (mut born, mut at) = (0, 0);
    for (i, event) in trace.events.iter().enumerate() {
        while at + 1 < trace.phases.len() && trace.phases[at + 1].0 <= i {
            at += 1;
        }
        match event {
            Event::Alloc(_) => born += 1,
            Event::Free(b) => {
                freed[b.0 as usize] = Some(born);
                died[b.0 as usize] = Some(trace.phases[at].1.name());
            }
        }
    }
    let short = |p: Phase| match p {
        Phase::Optimizer => "optim",
        other => other.name(),
    };
    use std::io::Write;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (i, block) in trace.blocks.iter().enumerate() {
        let row = serde_json::json!({
            "i": i, "bytes": block.bytes.get(), "born": short(block.phase), "died": died[i],
            "freed_before": freed[i], "module": trace.modules[block.module as usize],
            "category": block.category.name(),
        });
        writeln!(out, "{row}").unwrap();
    }
}
