//! ResNet's sizes.

use crate::model::config::{Activation, Problem};

/// ResNet: a stem, then stages of layers with shortcuts.
#[derive(Debug, Clone, PartialEq)]
pub struct ResNetConfig {
    /// Channels of an image.
    pub num_channels: u64,
    /// Channels after the stem.
    pub embedding_size: u64,
    /// Channels after each stage.
    pub hidden_sizes: Vec<u64>,
    /// Layers of each stage.
    pub depths: Vec<u64>,
    /// A layer's kind.
    pub layer_type: ResNetLayer,
    /// The activation of the stem and at the end of each layer.
    pub hidden_act: Activation,
    /// Whether the first stage halves height and width, as the others do.
    pub downsample_in_first_stage: bool,
    /// Whether a bottleneck halves them in its first convolution instead of the second.
    pub downsample_in_bottleneck: bool,
    /// Height and width of an image; config.json doesn't say.
    pub image_size: u64,
    /// Classes.
    pub num_labels: u64,
    /// What the labels are.
    pub problem: Problem,
}

/// The kind of a ResNet's layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResNetLayer {
    /// Two convolutions of 3 by 3.
    Basic,
    /// One of 3 by 3 on a quarter of the channels, between two of 1 by 1.
    Bottleneck,
}

impl ResNetConfig {
    pub(super) fn parameter_count(&self) -> u64 {
        // A convolution without bias, and the two weights of its norm.
        let conv = |inputs: u64, outputs: u64, kernel: u64| {
            outputs * inputs * kernel * kernel + 2 * outputs
        };
        let mut total = conv(self.num_channels, self.embedding_size, 7);
        let mut inputs = self.embedding_size;
        for (stage, (&outputs, &depth)) in self.hidden_sizes.iter().zip(&self.depths).enumerate() {
            let halves = stage > 0 || self.downsample_in_first_stage;
            if inputs != outputs || halves {
                total += conv(inputs, outputs, 1);
            }
            for at in 0..depth.max(1) {
                let from = if at == 0 { inputs } else { outputs };
                let narrow = outputs / 4;
                total += match self.layer_type {
                    ResNetLayer::Basic => conv(from, outputs, 3) + conv(outputs, outputs, 3),
                    ResNetLayer::Bottleneck => {
                        conv(from, narrow, 1) + conv(narrow, narrow, 3) + conv(narrow, outputs, 1)
                    }
                };
            }
            inputs = outputs;
        }
        total + self.num_labels * (inputs + 1)
    }
}
