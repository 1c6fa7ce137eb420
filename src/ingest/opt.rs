//! `model_type` opt.
//!
//! Source: configuration_opt.py of transformers 4.56.2 and 5.23.0.

use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, limit};
use crate::ingest::labels::{num_labels, problem, task};
use crate::model::config::{Activation, OptConfig};

/// Reads the keys of an OPT.
pub(super) fn read(fields: &mut Fields<'_>) -> Result<OptConfig, ConfigError> {
    let hidden_size = fields.size("hidden_size", limit::HIDDEN)?;
    let heads = fields.size("num_attention_heads", limit::HEADS)?;
    if !hidden_size.is_multiple_of(heads) {
        return Err(ConfigError::NotDivisible {
            key: "hidden_size",
            value: hidden_size,
            by: "num_attention_heads",
            divisor: heads,
        });
    }
    if !fields.switch("layer_norm_elementwise_affine", true)? {
        return Err(unsupported("layer_norm_elementwise_affine", "false", "norms with weights"));
    }
    if fields.dropout("layerdrop", 0.0)? > 0.0 {
        return Err(unsupported("layerdrop", "above 0", "training that runs every layer"));
    }
    Ok(OptConfig {
        task: task(fields, OptConfig::TASKS),
        problem: problem(fields, num_labels(fields)?)?,
        num_labels: num_labels(fields)?,
        hidden_size,
        ffn_dim: fields.size("ffn_dim", limit::INTERMEDIATE)?,
        num_hidden_layers: fields.size("num_hidden_layers", limit::LAYERS)?,
        num_attention_heads: heads,
        max_position_embeddings: fields.size_or(
            "max_position_embeddings",
            limit::POSITIONS,
            2048,
        )?,
        vocab_size: fields.size("vocab_size", limit::VOCABULARY)?,
        word_embed_proj_dim: fields
            .optional_size("word_embed_proj_dim", limit::HIDDEN)?
            .unwrap_or(hidden_size),
        do_layer_norm_before: fields.switch("do_layer_norm_before", true)?,
        remove_final_layer_norm: fields.switch("_remove_final_layer_norm", false)?,
        enable_bias: fields.switch("enable_bias", true)?,
        tie_word_embeddings: fields.switch("tie_word_embeddings", true)?,
        activation_function: fields.activation("activation_function", Activation::Relu)?,
        dropout: fields.dropout("dropout", 0.1)?,
        attention_dropout: fields.dropout("attention_dropout", 0.0)?,
    })
}

fn unsupported(key: &'static str, value: &str, supported: &'static str) -> ConfigError {
    ConfigError::Unsupported { key, value: value.to_owned(), supported }
}
