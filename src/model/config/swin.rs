//! Swin's sizes.

use crate::model::config::{Activation, Problem};

/// Swin: stages of layers whose attention sees one window, each stage on a quarter of the patches.
#[derive(Debug, Clone, PartialEq)]
pub struct SwinConfig {
    /// Channels of an image.
    pub num_channels: u64,
    /// Height and width of a patch.
    pub patch_size: u64,
    /// Width of the first stage; each further one has twice as much.
    pub embed_dim: u64,
    /// Layers of each stage.
    pub depths: Vec<u64>,
    /// Heads of each stage.
    pub num_heads: Vec<u64>,
    /// Height and width of a window, in patches.
    pub window_size: u64,
    /// Width of the MLP, as a multiple of its stage's.
    pub mlp_ratio: f64,
    /// Whether the projections of query, key and value have biases.
    pub qkv_bias: bool,
    /// Dropout after embeddings, attention (from transformers 5 on) and MLP.
    pub hidden_dropout_prob: f64,
    /// Dropout on attention probabilities; until transformers 5 also after attention.
    pub attention_probs_dropout_prob: f64,
    /// The share of samples that skip the last layer's attention; earlier layers have less.
    pub drop_path_rate: f64,
    /// The MLP's activation.
    pub hidden_act: Activation,
    /// Height and width of an image.
    pub image_size: u64,
    /// Classes.
    pub num_labels: u64,
    /// What the labels are.
    pub problem: Problem,
}

impl SwinConfig {
    /// Returns the width of a stage.
    pub fn width(&self, stage: usize) -> u64 {
        self.embed_dim << stage
    }

    /// Returns the width of a stage's MLP.
    pub fn inner(&self, stage: usize) -> u64 {
        (self.mlp_ratio * self.width(stage) as f64) as u64
    }

    /// Returns the patches along a side of the image, of each stage: half of the one before, rounded
    /// up.
    pub fn grids(&self) -> Vec<u64> {
        let first = self.image_size.div_ceil(self.patch_size.max(1));
        let halved = |grid: &u64| Some(grid.div_ceil(2));
        std::iter::successors(Some(first), halved).take(self.depths.len()).collect()
    }

    /// Returns the smallest image that fills a window in the last stage: transformers has no bias for
    /// a smaller window.
    pub fn smallest_image(&self) -> u64 {
        let halvings = self.depths.len().saturating_sub(1);
        (self.window_size.saturating_sub(1) << halvings) * self.patch_size + 1
    }

    /// Returns the size of a head, the first stage's, or one that kernels in 16 bits do not take.
    pub fn head_dim(&self) -> u64 {
        let sizes = (0..).zip(&self.num_heads).map(|(at, heads)| self.width(at) / (*heads).max(1));
        let odd = sizes.clone().find(|size| !size.is_multiple_of(8));
        odd.or(sizes.clone().next()).unwrap_or(self.embed_dim)
    }

    pub(super) fn parameter_count(&self) -> u64 {
        let patch = self.num_channels * self.patch_size * self.patch_size;
        let norm = |width: u64| 2 * width;
        let first = self.embed_dim;
        let mut total = first * (patch + 1) + norm(first);
        let biases = (2 * self.window_size - 1) * (2 * self.window_size - 1);
        let stages = self.depths.len();
        for (stage, (&depth, &heads)) in self.depths.iter().zip(&self.num_heads).enumerate() {
            let (width, inner) = (self.width(stage), self.inner(stage));
            let projections = 4 * width * width + if self.qkv_bias { 4 * width } else { width };
            let mlp = 2 * width * inner + inner + width;
            total += depth * (projections + biases * heads + mlp + 2 * norm(width));
            if stage + 1 < stages {
                total += 8 * width * width + norm(4 * width);
            }
        }
        let last = self.width(stages.saturating_sub(1));
        total + norm(last) + self.num_labels * (last + 1)
    }
}
