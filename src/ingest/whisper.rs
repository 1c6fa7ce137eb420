//! `model_type` whisper.
//!
//! Source: configuration_whisper.py of transformers 4.56.2 and 5.23.0.

use crate::ingest::bart::{DECODER, ENCODER, refuse_layerdrop, side};
use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, limit};
use crate::model::config::{Activation, WhisperConfig};

/// Reads the keys of a Whisper.
pub(super) fn read(fields: &mut Fields<'_>) -> Result<WhisperConfig, ConfigError> {
    refuse_layerdrop(fields)?;
    if fields.switch("apply_spec_augment", false)? {
        let (key, value) = ("apply_spec_augment", "true".to_owned());
        let supported = "false: no part of the spectrum is masked";
        return Err(ConfigError::Unsupported { key, value, supported });
    }
    let d_model = fields.size("d_model", limit::HIDDEN)?;
    Ok(WhisperConfig {
        d_model,
        encoder: side(fields, d_model, ENCODER)?,
        decoder: side(fields, d_model, DECODER)?,
        vocab_size: fields.size("vocab_size", limit::VOCABULARY)?,
        num_mel_bins: fields.size_or("num_mel_bins", limit::CHANNELS, 80)?,
        max_source_positions: fields.size_or("max_source_positions", limit::POSITIONS, 1500)?,
        max_target_positions: fields.size_or("max_target_positions", limit::POSITIONS, 448)?,
        activation: fields.activation("activation_function", Activation::Gelu)?,
        dropout: fields.dropout("dropout", 0.0)?,
        attention_dropout: fields.dropout("attention_dropout", 0.0)?,
        activation_dropout: fields.dropout("activation_dropout", 0.0)?,
    })
}
