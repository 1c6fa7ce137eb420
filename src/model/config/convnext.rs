//! ConvNeXt's sizes.

use crate::model::config::{Activation, Problem};

/// ConvNeXt: a stem of patches, then stages of layers.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvNextConfig {
    /// Channels of an image.
    pub num_channels: u64,
    /// Height and width of the stem's patches.
    pub patch_size: u64,
    /// Channels of each stage.
    pub hidden_sizes: Vec<u64>,
    /// Layers of each stage.
    pub depths: Vec<u64>,
    /// The MLP's activation.
    pub hidden_act: Activation,
    /// Whether each layer has a learned scale.
    pub scales_layers: bool,
    /// Height and width of an image.
    pub image_size: u64,
    /// Classes.
    pub num_labels: u64,
    /// What the labels are.
    pub problem: Problem,
}

impl ConvNextConfig {
    /// Returns the channels of the last stage.
    pub fn width(&self) -> u64 {
        self.hidden_sizes.last().copied().unwrap_or(1)
    }

    /// Returns the smallest image that leaves a pixel to the last stage.
    pub fn smallest_image(&self) -> u64 {
        self.patch_size << self.hidden_sizes.len().saturating_sub(1)
    }

    pub(super) fn parameter_count(&self) -> u64 {
        let first = self.hidden_sizes.first().copied().unwrap_or(1);
        let norm = |width: u64| 2 * width;
        let square = self.patch_size * self.patch_size;
        let mut total = first * (self.num_channels * square + 1) + norm(first);
        let mut inputs = first;
        for (stage, (&outputs, &depth)) in self.hidden_sizes.iter().zip(&self.depths).enumerate() {
            if stage > 0 {
                total += norm(inputs) + outputs * (4 * inputs + 1);
            }
            let scale = if self.scales_layers { outputs } else { 0 };
            let mlp = 8 * outputs * outputs + 5 * outputs;
            total += depth * (50 * outputs + norm(outputs) + mlp + scale);
            inputs = outputs;
        }
        total + norm(inputs) + self.num_labels * (inputs + 1)
    }
}
