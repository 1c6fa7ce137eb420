//! `model_type` resnet.
//!
//! Source: configuration_resnet.py of transformers 4.56.2 and 5.23.0.

use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, excerpt, limit};
use crate::ingest::image;
use crate::ingest::labels::{num_labels, problem};
use crate::model::config::{Activation, ResNetConfig, ResNetLayer};

/// Height and width of an image where nothing says them: what all published ResNets were trained on.
const IMAGE_SIZE: u64 = 224;

/// Reads the keys of a ResNet.
pub(super) fn read(fields: &mut Fields<'_>) -> Result<ResNetConfig, ConfigError> {
    let hidden_sizes =
        image::sizes(fields, "hidden_sizes", limit::HIDDEN, &[256, 512, 1024, 2048])?;
    let depths = image::sizes(fields, "depths", limit::LAYERS, &[3, 4, 6, 3])?;
    image::same_length(("hidden_sizes", &hidden_sizes), ("depths", &depths))?;
    let layer_type = match fields.text("layer_type")? {
        None | Some("bottleneck") => ResNetLayer::Bottleneck,
        Some("basic") => ResNetLayer::Basic,
        Some(other) => {
            return Err(ConfigError::Unsupported {
                key: "layer_type",
                value: format!("`{}`", excerpt(other)),
                supported: "basic, bottleneck",
            });
        }
    };
    if layer_type == ResNetLayer::Bottleneck && hidden_sizes.iter().any(|&size| size < 4) {
        let text = "a bottleneck has a quarter of `hidden_sizes`, and one is below 4".to_owned();
        return Err(ConfigError::Contradiction(text));
    }
    Ok(ResNetConfig {
        num_channels: fields.size_or("num_channels", limit::CHANNELS, 3)?,
        embedding_size: fields.size_or("embedding_size", limit::HIDDEN, 64)?,
        hidden_sizes,
        depths,
        layer_type,
        hidden_act: fields.activation("hidden_act", Activation::Relu)?,
        downsample_in_first_stage: fields.switch("downsample_in_first_stage", false)?,
        downsample_in_bottleneck: fields.switch("downsample_in_bottleneck", false)?,
        image_size: fields.optional_size("image_size", limit::PIXELS)?.unwrap_or(IMAGE_SIZE),
        num_labels: image::classes(fields)?,
        problem: problem(fields, num_labels(fields)?)?,
    })
}
