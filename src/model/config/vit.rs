//! ViT's sizes.

use crate::model::config::{Activation, Problem};

/// ViT: square patches as tokens, pre-norm layers with LayerNorm and a plain MLP.
#[derive(Debug, Clone, PartialEq)]
pub struct VitConfig {
    /// Width of the residual stream.
    pub hidden_size: u64,
    /// Width of the MLP.
    pub intermediate_size: u64,
    /// Layers.
    pub num_hidden_layers: u64,
    /// Heads.
    pub num_attention_heads: u64,
    /// The MLP's activation.
    pub hidden_act: Activation,
    /// Dropout after embeddings, attention and MLP.
    pub hidden_dropout_prob: f64,
    /// Dropout on attention probabilities.
    pub attention_probs_dropout_prob: f64,
    /// Height and width of an image.
    pub image_size: u64,
    /// Height and width of a patch.
    pub patch_size: u64,
    /// Channels of an image.
    pub num_channels: u64,
    /// Whether the projections of query, key and value have biases.
    pub qkv_bias: bool,
    /// Classes.
    pub num_labels: u64,
    /// What the labels are.
    pub problem: Problem,
}

impl VitConfig {
    /// Returns the patches of an image; what does not fill one at the edge is left out.
    pub fn patches(&self) -> u64 {
        let side = self.image_size / self.patch_size.max(1);
        side * side
    }

    /// Returns the tokens of an image: its patches and the one that is classified.
    pub fn tokens(&self) -> u64 {
        self.patches() + 1
    }

    /// Returns the size of a head.
    pub fn head_dim(&self) -> u64 {
        self.hidden_size / self.num_attention_heads.max(1)
    }

    pub(super) fn parameter_count(&self) -> u64 {
        let (width, inner) = (self.hidden_size, self.intermediate_size);
        let biases = if self.qkv_bias { 4 * width } else { width };
        let layer = 4 * width * width + biases + 2 * width * inner + inner + width + 4 * width;
        let patch = self.num_channels * self.patch_size * self.patch_size;
        let embeddings = width * patch + width + width + self.tokens() * width;
        let head = self.num_labels * (width + 1);
        embeddings + self.num_hidden_layers * layer + 2 * width + head
    }
}
