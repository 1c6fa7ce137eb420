//! `model_type` convnext.
//!
//! Source: configuration_convnext.py of transformers 4.56.2 and 5.23.0.

use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, limit};
use crate::ingest::image;
use crate::ingest::labels::{num_labels, problem};
use crate::model::config::{Activation, ConvNextConfig};

/// `num_stages` where the file is silent.
const STAGES: u64 = 4;

/// Reads the keys of a ConvNeXt.
pub(super) fn read(fields: &mut Fields<'_>) -> Result<ConvNextConfig, ConfigError> {
    let hidden_sizes = image::sizes(fields, "hidden_sizes", limit::HIDDEN, &[96, 192, 384, 768])?;
    let depths = image::sizes(fields, "depths", limit::LAYERS, &[3, 3, 9, 3])?;
    image::same_length(("hidden_sizes", &hidden_sizes), ("depths", &depths))?;
    let stages = fields.optional_size("num_stages", limit::LAYERS)?.unwrap_or(STAGES);
    if stages != hidden_sizes.len() as u64 {
        let text =
            format!("`num_stages` is {stages}, and `hidden_sizes` has {}", hidden_sizes.len());
        return Err(ConfigError::Contradiction(text));
    }
    if fields.dropout("drop_path_rate", 0.0)? > 0.0 {
        let (key, value) = ("drop_path_rate", "above 0".to_owned());
        return Err(ConfigError::Unsupported { key, value, supported: "0: no path is dropped" });
    }
    let scale = match fields.get("layer_scale_init_value") {
        None => 1e-6,
        Some(value) => value.as_f64().unwrap_or(0.0),
    };
    let config = ConvNextConfig {
        num_channels: fields.size_or("num_channels", limit::CHANNELS, 3)?,
        patch_size: image::square(fields, "patch_size", 4)?,
        hidden_sizes,
        depths,
        hidden_act: fields.activation("hidden_act", Activation::Gelu)?,
        scales_layers: scale > 0.0,
        image_size: image::square(fields, "image_size", 224)?,
        num_labels: image::classes(fields)?,
        problem: problem(fields, num_labels(fields)?)?,
    };
    if config.image_size < config.smallest_image() {
        let (size, least) = (config.image_size, config.smallest_image());
        let text = format!("`image_size` is {size}, and its stages take {least} pixels or more");
        return Err(ConfigError::Contradiction(text));
    }
    Ok(config)
}
