//! Prints our trace of one oracle case, in the oracle's own format, for `tests/oracle/compare.py`.
//!
//!     cargo run --release --example oracle_trace -- '{"config": {...}, "micro_batch": 2}' [2.15] [5.23]

#![expect(clippy::unwrap_used, reason = "a tool for developers, who read the panic")]
use oomph::memory::trace::{Event, Phase};
use oomph::model::config::{Activation, Gpt2Config, LlamaConfig, LlamaFamily, ModelConfig};
use oomph::step::setup::*;
use oomph::units::{AccumulationSteps, MicroBatch};
use serde_json::Value;

fn model(c: &Value) -> ModelConfig {
    let n = |k: &str, d: u64| c.get(k).and_then(Value::as_u64).unwrap_or(d);
    let b = |k: &str, d: bool| c.get(k).and_then(Value::as_bool).unwrap_or(d);
    let f = |k: &str, d: f64| c.get(k).and_then(Value::as_f64).unwrap_or(d);
    let family = match c["model_type"].as_str().unwrap() {
        "gpt2" => {
            let width = n("n_embd", 768);
            return ModelConfig::Gpt2(Gpt2Config {
                n_embd: width,
                n_inner: n("n_inner", 4 * width),
                n_layer: n("n_layer", 12),
                n_head: n("n_head", 12),
                n_positions: n("n_positions", 1024),
                vocab_size: n("vocab_size", 50257),
                activation_function: Activation::GeluNew,
                embd_pdrop: f("embd_pdrop", 0.1),
                attn_pdrop: f("attn_pdrop", 0.1),
                resid_pdrop: f("resid_pdrop", 0.1),
                tie_word_embeddings: true,
                scale_attn_weights: true,
                scale_attn_by_inverse_layer_idx: false,
                reorder_and_upcast_attn: false,
            });
        }
        "llama" => LlamaFamily::Llama,
        "mistral" => LlamaFamily::Mistral,
        _ => LlamaFamily::Qwen2,
    };
    let heads = n("num_attention_heads", 32);
    ModelConfig::Llama(LlamaConfig {
        family,
        hidden_size: n("hidden_size", 4096),
        intermediate_size: n("intermediate_size", 11008),
        num_hidden_layers: n("num_hidden_layers", 32),
        num_attention_heads: heads,
        num_key_value_heads: n("num_key_value_heads", heads),
        head_dim: n("head_dim", n("hidden_size", 4096) / heads),
        vocab_size: n("vocab_size", 32000),
        max_position_embeddings: n("max_position_embeddings", 2048),
        tie_word_embeddings: b("tie_word_embeddings", false),
        attention_bias: b("attention_bias", false),
        mlp_bias: false,
        hidden_act: Activation::Silu,
        attention_dropout: f("attention_dropout", 0.0),
        sliding_window: None,
        max_window_layers: None,
    })
}

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
        optimizer: Optimizer::AdamW,
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
    let model = model(&case["config"]);
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
