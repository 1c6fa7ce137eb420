//! `model_type` t5 and mt5.
//!
//! Source: configuration_t5.py and configuration_mt5.py of transformers 4.56.2 and 5.23.0.

use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, excerpt, limit};
use crate::model::config::{Activation, T5Config, T5Family};

/// The length that all published models of this kind were trained on.
const TRAINED_LENGTH: u64 = 512;

/// Reads the keys of a T5.
pub(super) fn read(fields: &mut Fields<'_>, family: T5Family) -> Result<T5Config, ConfigError> {
    let default = if family == T5Family::T5 { "relu" } else { "gated-gelu" };
    let (gated, activation) = feed_forward(fields, default)?;
    let num_layers = fields.size("num_layers", limit::LAYERS)?;
    let decoder_layers = fields.optional_size("num_decoder_layers", limit::LAYERS)?;
    let published = fields.optional_size("n_positions", limit::POSITIONS)?;
    Ok(T5Config {
        family,
        d_model: fields.size("d_model", limit::HIDDEN)?,
        d_ff: fields.size("d_ff", limit::INTERMEDIATE)?,
        d_kv: fields.size("d_kv", limit::HEADS)?,
        num_heads: fields.size("num_heads", limit::HEADS)?,
        num_layers,
        num_decoder_layers: decoder_layers.unwrap_or(num_layers),
        vocab_size: fields.size("vocab_size", limit::VOCABULARY)?,
        buckets: fields.size_or("relative_attention_num_buckets", limit::POSITIONS, 32)?,
        gated,
        activation,
        dropout: fields.dropout("dropout_rate", 0.1)?,
        ties: fields.switch("tie_word_embeddings", family == T5Family::T5)?,
        n_positions: published.unwrap_or(TRAINED_LENGTH),
    })
}

/// `feed_forward_proj`: an activation, or one behind `gated-`.
fn feed_forward(
    fields: &Fields<'_>,
    default: &'static str,
) -> Result<(bool, Activation), ConfigError> {
    let text = fields.text("feed_forward_proj")?.unwrap_or(default);
    match text {
        "relu" => Ok((false, Activation::Relu)),
        "gelu" => Ok((false, Activation::Gelu)),
        "gelu_new" => Ok((false, Activation::GeluNew)),
        "gated-relu" => Ok((true, Activation::Relu)),
        // Another function than its name says, for older files.
        "gated-gelu" | "gated-gelu_new" => Ok((true, Activation::GeluNew)),
        "gated-silu" => Ok((true, Activation::Silu)),
        other => Err(ConfigError::Unsupported {
            key: "feed_forward_proj",
            value: format!("`{}`", excerpt(other)),
            supported: "relu, gelu, gelu_new, gated-relu, gated-gelu, gated-gelu_new, gated-silu",
        }),
    }
}
