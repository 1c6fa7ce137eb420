//! Arithmetic of a micro-step against PyTorch's own counter.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use oomph::ingest::config_json;
use oomph::model::adapters::{Lora, Targets};
use oomph::model::tuning::Tuning;
use oomph::step;
use oomph::step::setup::{Attention, Checkpointing, Setup};
use oomph::units::MicroBatch;

/// Eight layers, so that not all of the alike ones are run.
const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 176,
    "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000,
    "max_position_embeddings": 256}"#;

fn work(attention: Attention, checkpointing: Checkpointing, lora: bool) -> (u64, u64) {
    let config = serde_json::from_str(CONFIG).unwrap();
    let model = config_json::from_map(&config).unwrap().config;
    let setup = Setup {
        micro_batch: MicroBatch::new(2).unwrap(),
        seq_len: 64,
        checkpointing,
        attention,
        ..Setup::PLAIN
    };
    let targets = Targets::Named(vec!["q_proj".to_owned(), "v_proj".to_owned()]);
    let lora = lora.then_some(Lora { rank: 8, dropout: 0.0, targets });
    let tuning = Tuning { lora, ..Tuning::default() };
    let work = step::work(&model, &tuning, &setup).unwrap();
    (work.forward, work.gradients + work.recomputed)
}

/// `torch.utils.flop_counter.FlopCounterMode` around forward, and around backward, of
/// `LlamaForCausalLM` of that configuration: torch 2.15 on a CPU, transformers 5.23, peft 0.21.
#[test]
fn operations_are_those_that_pytorch_counts() {
    use Attention::{Eager, Sdpa};
    use Checkpointing::{Full, None};
    for (attention, checkpointing, lora, forward, backward) in [
        (Eager, None, false, 127_533_056, 255_066_112),
        (Eager, None, true, 131_203_072, 148_242_432),
        (Eager, Full, false, 127_533_056, 343_146_496),
        (Eager, Full, true, 131_203_072, 243_400_704),
        (Sdpa, None, false, 127_533_056, 263_454_720),
        (Sdpa, None, true, 131_203_072, 157_679_616),
        (Sdpa, Full, false, 127_533_056, 351_535_104),
        (Sdpa, Full, true, 131_203_072, 251_789_312),
    ] {
        let counted = work(attention, checkpointing, lora);
        assert_eq!(counted, (forward, backward), "{attention:?} {checkpointing:?} {lora}");
    }
}
