//! `model_type` llama, mistral and qwen2.
//!
//! Source: configuration_llama.py, configuration_mistral.py and configuration_qwen2.py of
//! transformers 4.56.2 and 5.23.0, which agree on every default used here.

use serde_json::Value;

use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, excerpt, limit, wrong_type};
use crate::model::config::{Activation, LlamaConfig, LlamaFamily};

/// What a family takes where its file is silent.
struct Defaults {
    /// `None`: as many as query heads.
    key_value_heads: Option<u64>,
    max_position_embeddings: u64,
}

/// Reads the keys of a Llama-shaped model.
pub(super) fn read(
    fields: &mut Fields<'_>,
    family: LlamaFamily,
) -> Result<LlamaConfig, ConfigError> {
    let defaults = match family {
        LlamaFamily::Llama => Defaults { key_value_heads: None, max_position_embeddings: 2048 },
        LlamaFamily::Mistral => {
            Defaults { key_value_heads: Some(8), max_position_embeddings: 131_072 }
        }
        LlamaFamily::Qwen2 => {
            Defaults { key_value_heads: Some(32), max_position_embeddings: 32_768 }
        }
    };
    let hidden_size = fields.size("hidden_size", limit::HIDDEN)?;
    let num_hidden_layers = fields.size("num_hidden_layers", limit::LAYERS)?;
    let heads = fields.size("num_attention_heads", limit::HEADS)?;
    let key_value_heads = key_value_heads(fields, heads, defaults.key_value_heads)?;
    let (sliding_window, max_window_layers) = match family {
        LlamaFamily::Llama => (None, None),
        LlamaFamily::Mistral => (mistral_window(fields)?, None),
        LlamaFamily::Qwen2 => qwen2_window(fields, num_hidden_layers)?,
    };
    // Only Llama's code reads these two: elsewhere the biases are fixed.
    let is_llama = family == LlamaFamily::Llama;
    Ok(LlamaConfig {
        family,
        hidden_size,
        intermediate_size: fields.size("intermediate_size", limit::INTERMEDIATE)?,
        num_hidden_layers,
        num_attention_heads: heads,
        num_key_value_heads: key_value_heads,
        head_dim: head_dim(fields, hidden_size, heads)?,
        vocab_size: fields.size("vocab_size", limit::VOCABULARY)?,
        max_position_embeddings: fields.size_or(
            "max_position_embeddings",
            limit::POSITIONS,
            defaults.max_position_embeddings,
        )?,
        tie_word_embeddings: fields.switch("tie_word_embeddings", false)?,
        attention_bias: is_llama && fields.switch("attention_bias", false)?,
        mlp_bias: is_llama && fields.switch("mlp_bias", false)?,
        hidden_act: fields.activation("hidden_act", Activation::Silu)?,
        attention_dropout: fields.dropout("attention_dropout", 0.0)?,
        sliding_window,
        max_window_layers,
    })
}

/// Missing is the family's default; null is as many as query heads, in every family.
fn key_value_heads(
    fields: &mut Fields<'_>,
    heads: u64,
    default: Option<u64>,
) -> Result<u64, ConfigError> {
    let key = "num_key_value_heads";
    let found = match fields.optional_size(key, limit::HEADS)? {
        Some(found) => found,
        None if fields.has(key) => heads,
        None => {
            let default = default.unwrap_or(heads);
            fields.assume(key, default);
            default
        }
    };
    if !heads.is_multiple_of(found) {
        return Err(ConfigError::NotDivisible {
            key: "num_attention_heads",
            value: heads,
            by: key,
            divisor: found,
        });
    }
    Ok(found)
}

fn head_dim(fields: &Fields<'_>, hidden_size: u64, heads: u64) -> Result<u64, ConfigError> {
    let head_dim = match fields.optional_size("head_dim", limit::HEADS)? {
        Some(head_dim) => head_dim,
        None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => {
            return Err(ConfigError::NotDivisible {
                key: "hidden_size",
                value: hidden_size,
                by: "num_attention_heads",
                divisor: heads,
            });
        }
    };
    if head_dim % 2 == 1 {
        return Err(ConfigError::OutOfRange {
            key: "head_dim",
            value: head_dim.to_string(),
            allowed: "even, as rotary embeddings need".to_owned(),
        });
    }
    Ok(head_dim)
}

/// Missing is 4096; null is none.
fn mistral_window(fields: &mut Fields<'_>) -> Result<Option<u64>, ConfigError> {
    let key = "sliding_window";
    let found = fields.optional_size(key, limit::POSITIONS)?;
    if found.is_none() && !fields.has(key) {
        fields.assume(key, 4096);
        return Ok(Some(4096));
    }
    Ok(found)
}

/// Returns the window, and the number of layers before those that use it.
///
/// `layer_types`, where given, decides; else the layers from `max_window_layers` on slide, if
/// `use_sliding_window` is on.
fn qwen2_window(
    fields: &Fields<'_>,
    layers: u64,
) -> Result<(Option<u64>, Option<u64>), ConfigError> {
    let window = match fields.optional_size("sliding_window", limit::POSITIONS)? {
        Some(window) => Some(window),
        None if fields.has("sliding_window") => None,
        None => Some(4096),
    };
    let window = window.filter(|_| fields.get("use_sliding_window") == Some(&Value::Bool(true)));
    fields.switch("use_sliding_window", false)?;
    let full_layers = match fields.get("layer_types") {
        Some(types) => full_layers_of(types, layers)?,
        None if window.is_none() => layers,
        None => fields.count("max_window_layers", limit::LAYERS)?.unwrap_or(28).min(layers),
    };
    if full_layers == layers {
        return Ok((None, None));
    }
    if window.is_none() {
        return Err(ConfigError::Contradiction(
            "`layer_types` has sliding layers, and `use_sliding_window` leaves no window".into(),
        ));
    }
    Ok((window, Some(full_layers)))
}

/// Returns how many layers come before the first sliding one, in a list that has full ones first.
fn full_layers_of(types: &Value, layers: u64) -> Result<u64, ConfigError> {
    let key = "layer_types";
    let Value::Array(list) = types else {
        return Err(wrong_type(key, types, "a list"));
    };
    if list.len() as u64 != layers {
        return Err(ConfigError::Contradiction(format!(
            "`layer_types` has {} entries, and `num_hidden_layers` is {layers}",
            list.len()
        )));
    }
    let full = list.iter().take_while(|v| v.as_str() == Some("full_attention")).count();
    match list[full..].iter().find(|v| v.as_str() != Some("sliding_attention")) {
        None => Ok(full as u64),
        Some(other) => Err(ConfigError::Unsupported {
            key,
            value: format!(
                "{} after layer {full}",
                excerpt(other.as_str().unwrap_or("something other than a text"))
            ),
            supported: "full_attention in the first layers, sliding_attention in all others",
        }),
    }
}
