//! `model_type` bart.
//!
//! Source: configuration_bart.py of transformers 4.56.2 and 5.23.0.

use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, limit};
use crate::model::config::{Activation, BartConfig, Side};

/// Reads the keys of a BART.
pub(super) fn read(fields: &mut Fields<'_>) -> Result<BartConfig, ConfigError> {
    refuse_layerdrop(fields)?;
    let d_model = fields.size("d_model", limit::HIDDEN)?;
    let encoder = side(fields, d_model, ENCODER)?;
    let decoder = side(fields, d_model, DECODER)?;
    Ok(BartConfig {
        d_model,
        encoder,
        decoder,
        vocab_size: fields.size("vocab_size", limit::VOCABULARY)?,
        max_position_embeddings: fields.size_or(
            "max_position_embeddings",
            limit::POSITIONS,
            1024,
        )?,
        activation: fields.activation("activation_function", Activation::Gelu)?,
        dropout: fields.dropout("dropout", 0.1)?,
        attention_dropout: fields.dropout("attention_dropout", 0.0)?,
        activation_dropout: fields.dropout("activation_dropout", 0.0)?,
    })
}

/// The keys of layers, heads and the MLP's width of an encoder.
pub(super) const ENCODER: [&str; 3] =
    ["encoder_layers", "encoder_attention_heads", "encoder_ffn_dim"];
/// Those of a decoder.
pub(super) const DECODER: [&str; 3] =
    ["decoder_layers", "decoder_attention_heads", "decoder_ffn_dim"];

/// Refuses layers that are left out at random.
pub(super) fn refuse_layerdrop(fields: &Fields<'_>) -> Result<(), ConfigError> {
    for key in ["encoder_layerdrop", "decoder_layerdrop"] {
        if fields.dropout(key, 0.0)? > 0.0 {
            let (value, supported) = ("above 0".to_owned(), "0: all layers run");
            return Err(ConfigError::Unsupported { key, value, supported });
        }
    }
    Ok(())
}

/// Reads one side.
pub(super) fn side(
    fields: &mut Fields<'_>,
    d_model: u64,
    [layers, heads, ffn_dim]: [&'static str; 3],
) -> Result<Side, ConfigError> {
    let side = Side {
        layers: fields.size(layers, limit::LAYERS)?,
        heads: fields.size(heads, limit::HEADS)?,
        ffn_dim: fields.size(ffn_dim, limit::INTERMEDIATE)?,
    };
    if !d_model.is_multiple_of(side.heads) {
        let (key, value, divisor) = ("d_model", d_model, side.heads);
        return Err(ConfigError::NotDivisible { key, value, by: heads, divisor });
    }
    Ok(side)
}
