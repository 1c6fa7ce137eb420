//! `model_type` swin.
//!
//! Source: configuration_swin.py of transformers 4.56.2 and 5.23.0.

use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, limit, wrong_type};
use crate::ingest::image;
use crate::ingest::labels::{num_labels, problem};
use crate::model::config::{Activation, SwinConfig};

/// The widest MLP, as a multiple of the residual stream.
const MOST_RATIO: f64 = 64.0;

/// Reads the keys of a Swin.
pub(super) fn read(fields: &mut Fields<'_>) -> Result<SwinConfig, ConfigError> {
    let depths = image::sizes(fields, "depths", limit::LAYERS, &[2, 2, 6, 2])?;
    let num_heads = image::sizes(fields, "num_heads", limit::HEADS, &[3, 6, 12, 24])?;
    image::same_length(("depths", &depths), ("num_heads", &num_heads))?;
    // transformers 4 makes one position too many, and fails.
    if fields.switch("use_absolute_embeddings", false)? {
        let (key, value) = ("use_absolute_embeddings", "true".to_owned());
        return Err(ConfigError::Unsupported { key, value, supported: "relative positions" });
    }
    let config = SwinConfig {
        num_channels: fields.size_or("num_channels", limit::CHANNELS, 3)?,
        patch_size: image::square(fields, "patch_size", 4)?,
        embed_dim: fields.size_or("embed_dim", limit::HIDDEN, 96)?,
        depths,
        num_heads,
        window_size: fields.size_or("window_size", limit::PIXELS, 7)?,
        mlp_ratio: mlp_ratio(fields)?,
        qkv_bias: fields.switch("qkv_bias", true)?,
        hidden_dropout_prob: fields.dropout("hidden_dropout_prob", 0.0)?,
        attention_probs_dropout_prob: fields.dropout("attention_probs_dropout_prob", 0.0)?,
        drop_path_rate: fields.dropout("drop_path_rate", 0.1)?,
        hidden_act: fields.activation("hidden_act", Activation::Gelu)?,
        image_size: image::square(fields, "image_size", 224)?,
        num_labels: image::classes(fields)?,
        problem: problem(fields, num_labels(fields)?)?,
    };
    for (stage, &heads) in config.num_heads.iter().enumerate() {
        let width = config.width(stage);
        if width > limit::HIDDEN {
            let allowed = format!("1 to {} in its last stage", limit::HIDDEN);
            let value = config.embed_dim.to_string();
            return Err(ConfigError::OutOfRange { key: "embed_dim", value, allowed });
        }
        if !width.is_multiple_of(heads) {
            let (by, divisor) = ("num_heads", heads);
            return Err(ConfigError::NotDivisible { key: "embed_dim", value: width, by, divisor });
        }
    }
    if config.image_size < config.smallest_image() {
        let (size, least) = (config.image_size, config.smallest_image());
        let text = format!("`image_size` is {size}, and its windows take {least} pixels or more");
        return Err(ConfigError::Contradiction(text));
    }
    Ok(config)
}

fn mlp_ratio(fields: &Fields<'_>) -> Result<f64, ConfigError> {
    let Some(value) = fields.get("mlp_ratio") else { return Ok(4.0) };
    let ratio = value.as_f64().ok_or_else(|| wrong_type("mlp_ratio", value, "a number"))?;
    if ratio > 0.0 && ratio <= MOST_RATIO {
        return Ok(ratio);
    }
    let allowed = format!("above 0 and at most {MOST_RATIO}");
    Err(ConfigError::OutOfRange { key: "mlp_ratio", value: ratio.to_string(), allowed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, Value, json};

    fn read_map(changes: Value) -> Result<SwinConfig, ConfigError> {
        let map: Map<String, Value> = changes.as_object().cloned().unwrap_or_default();
        read(&mut Fields::new(&map))
    }

    #[test]
    fn a_stage_without_a_whole_window_is_refused() {
        assert!(read_map(json!({"image_size": 224})).is_ok());
        // 193 pixels: 49, 25, 13, 7 patches; 192: 48, 24, 12, 6.
        assert!(read_map(json!({"image_size": 193})).is_ok());
        assert!(matches!(read_map(json!({"image_size": 192})), Err(ConfigError::Contradiction(_))));
        assert!(read_map(json!({"image_size": 192, "window_size": 6})).is_ok());
    }

    #[test]
    fn heads_divide_the_width_of_their_stage() {
        let odd = read_map(json!({"num_heads": [3, 6, 12, 23]}));
        assert!(matches!(odd, Err(ConfigError::NotDivisible { divisor: 23, value: 768, .. })));
    }
}
