//! Encoder-decoders' own keys and defaults.

use oomph::ingest::error::ConfigError;
use oomph::model::config::{Activation, ModelConfig, T5Config, Task};
use serde_json::{Map, Value, json};

use super::{map, read, refused};

fn small_t5(model_type: &str, changes: Value) -> Map<String, Value> {
    let mut config = map(json!({
        "model_type": model_type, "d_model": 256, "d_ff": 512, "d_kv": 32, "num_heads": 8,
        "num_layers": 2, "vocab_size": 1000, "relative_attention_num_buckets": 32,
    }));
    config.extend(map(changes));
    config
}

fn t5(model_type: &str, changes: Value) -> T5Config {
    match read(&small_t5(model_type, changes)).config {
        ModelConfig::T5(c) => c,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_decoder_has_as_many_layers_as_the_encoder_unless_it_is_said() {
    assert_eq!(t5("t5", json!({})).num_decoder_layers, 2);
    assert_eq!(t5("t5", json!({"num_decoder_layers": 5})).num_decoder_layers, 5);
    assert_eq!(t5("t5", json!({"num_decoder_layers": null})).num_decoder_layers, 2);
}

#[test]
fn t5_and_mt5_differ_in_their_defaults() {
    let old = t5("t5", json!({}));
    assert_eq!((old.gated, old.activation, old.ties), (false, Activation::Relu, true));
    let new = t5("mt5", json!({}));
    assert_eq!((new.gated, new.activation, new.ties), (true, Activation::GeluNew, false));
}

#[test]
fn the_mlp_is_what_feed_forward_proj_says() {
    let mlp = |name: &str| {
        let c = t5("t5", json!({"feed_forward_proj": name}));
        (c.gated, c.activation)
    };
    assert_eq!(mlp("gelu"), (false, Activation::Gelu));
    // Its name says another function than transformers takes.
    assert_eq!(mlp("gated-gelu"), (true, Activation::GeluNew));
    assert_eq!(mlp("gated-silu"), (true, Activation::Silu));
    let error = refused(&small_t5("t5", json!({"feed_forward_proj": "gated-tanh"})));
    assert!(matches!(error, ConfigError::Unsupported { key: "feed_forward_proj", .. }), "{error}");
}

#[test]
fn parameters_are_those_of_one_table_and_two_stacks() {
    // A table, two tables of biases, two norms; 2 x (attention, MLP), 2 x (2 attentions, MLP).
    let attention = 4 * 256 * 256 + 256;
    let mlp = 2 * 256 * 512 + 256;
    let stacks = 2 * (attention + mlp) + 2 * (2 * attention + mlp);
    let model = read(&small_t5("t5", json!({}))).config;
    assert_eq!(model.parameter_count(), 1000 * 256 + 2 * 32 * 8 + 2 * 256 + stacks);
    assert_eq!(model.task(), Task::Seq2SeqLm);
    assert!(model.with_task(Task::CausalLm).is_err());
}
