//! `model_type` vit.
//!
//! Source: configuration_vit.py of transformers 4.56.2 and 5.23.0.

use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, limit};
use crate::ingest::image;
use crate::ingest::labels::{num_labels, problem};
use crate::model::config::{Activation, VitConfig};

/// Reads the keys of a ViT.
pub(super) fn read(fields: &mut Fields<'_>) -> Result<VitConfig, ConfigError> {
    let hidden_size = fields.size("hidden_size", limit::HIDDEN)?;
    let heads = fields.size("num_attention_heads", limit::HEADS)?;
    let not_divisible =
        |key, value, by, divisor| ConfigError::NotDivisible { key, value, by, divisor };
    if !hidden_size.is_multiple_of(heads) {
        return Err(not_divisible("hidden_size", hidden_size, "num_attention_heads", heads));
    }
    let image_size = image::square(fields, "image_size", 224)?;
    let patch_size = image::square(fields, "patch_size", 16)?;
    if patch_size > image_size {
        let text = format!("`patch_size` is {patch_size}, and `image_size` {image_size}");
        return Err(ConfigError::Contradiction(text));
    }
    Ok(VitConfig {
        hidden_size,
        intermediate_size: fields.size("intermediate_size", limit::INTERMEDIATE)?,
        num_hidden_layers: fields.size("num_hidden_layers", limit::LAYERS)?,
        num_attention_heads: heads,
        hidden_act: fields.activation("hidden_act", Activation::Gelu)?,
        hidden_dropout_prob: fields.dropout("hidden_dropout_prob", 0.0)?,
        attention_probs_dropout_prob: fields.dropout("attention_probs_dropout_prob", 0.0)?,
        image_size,
        patch_size,
        num_channels: fields.size_or("num_channels", limit::CHANNELS, 3)?,
        qkv_bias: fields.switch("qkv_bias", true)?,
        num_labels: image::classes(fields)?,
        problem: problem(fields, num_labels(fields)?)?,
    })
}
