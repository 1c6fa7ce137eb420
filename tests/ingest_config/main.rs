//! A Hugging Face `config.json`: what is read, what is assumed, what is refused and how.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod encoders;
mod families;
mod images;
mod read;
mod refuse;
mod seq2seq;
mod sizes;
mod slips;

use oomph::ingest::config_json::{self, Ingested};
use oomph::ingest::error::ConfigError;
use oomph::model::config::{DecoderConfig, Gpt2Config, ModelConfig};
use serde_json::{Map, Value, json};

fn map(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

/// A small Llama with every key that has to be there, changed by `changes`; a null removes.
fn small(model_type: &str, changes: Value) -> Map<String, Value> {
    let mut config = map(json!({
        "model_type": model_type, "hidden_size": 256, "intermediate_size": 512,
        "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2,
        "vocab_size": 1000, "max_position_embeddings": 2048, "sliding_window": null,
    }));
    config.extend(map(changes));
    config
}

fn without(model_type: &str, key: &str) -> Map<String, Value> {
    let mut config = small(model_type, json!({}));
    config.remove(key).unwrap();
    config
}

fn small_gpt2(changes: Value) -> Map<String, Value> {
    let mut config = map(json!({
        "model_type": "gpt2", "n_embd": 256, "n_layer": 2, "n_head": 8, "vocab_size": 1000,
    }));
    config.extend(map(changes));
    config
}

fn read(config: &Map<String, Value>) -> Ingested {
    config_json::from_map(config).unwrap_or_else(|e| panic!("{e}"))
}

fn decoder(config: &Map<String, Value>) -> DecoderConfig {
    match read(config).config {
        ModelConfig::Decoder(c) => c,
        other => panic!("{other:?}"),
    }
}

fn gpt2(config: &Map<String, Value>) -> Gpt2Config {
    match read(config).config {
        ModelConfig::Gpt2(c) => c,
        other => panic!("{other:?}"),
    }
}

fn refused(config: &Map<String, Value>) -> ConfigError {
    config_json::from_map(config).unwrap_err()
}
