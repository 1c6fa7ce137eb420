//! DeBERTa-v2's sizes, which are DeBERTa-v3's.

use crate::model::config::{Activation, Problem, Task};

/// DeBERTa-v2 and v3: attention to content and, apart from it, to distances.
#[derive(Debug, Clone, PartialEq)]
pub struct DebertaConfig {
    /// The head and the loss.
    pub task: Task,
    /// Width of the residual stream.
    pub hidden_size: u64,
    /// Width of the MLP.
    pub intermediate_size: u64,
    /// Layers.
    pub num_hidden_layers: u64,
    /// Heads.
    pub num_attention_heads: u64,
    /// Tokens in the vocabulary.
    pub vocab_size: u64,
    /// The longest sequence.
    pub max_position_embeddings: u64,
    /// Rows of the table of segments; none where there is no such table.
    pub type_vocab_size: u64,
    /// Whether positions have embeddings that are added to the tokens'.
    pub position_biased_input: bool,
    /// The activation of MLP and head.
    pub hidden_act: Activation,
    /// Attention to distances; none where `relative_attention` is not set.
    pub relative: Option<RelativeAttention>,
    /// Whether there is a norm for the embeddings of distances, be they there or not.
    pub norms_distances: bool,
    /// The convolution behind the first layer, if there is one.
    pub convolution: Option<DebertaConvolution>,
    /// Dropout after embeddings, attention and MLP, and on the embeddings of distances.
    pub hidden_dropout: f64,
    /// Dropout on attention probabilities.
    pub attention_dropout: f64,
    /// Dropout before the pooler's projection.
    pub pooler_dropout: f64,
    /// The pooler's activation.
    pub pooler_hidden_act: Activation,
    /// Dropout before a classifier of samples.
    pub classifier_dropout: f64,
    /// Whether `problem_type` is said; else samples are left out whose label is below zero.
    pub names_problem: bool,
    /// What the labels of a classifier of samples are.
    pub problem: Problem,
    /// Labels of a classifier.
    pub num_labels: u64,
}

/// What attention does with distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelativeAttention {
    /// Distances that are told apart to either side.
    pub distances: u64,
    /// Whether distances further away share a bucket.
    pub buckets_distances: bool,
    /// Whether distances go through the projections of the tokens.
    pub share_att_key: bool,
    /// Whether tokens attend to distances.
    pub content_to_position: bool,
    /// Whether distances attend to tokens.
    pub position_to_content: bool,
}

impl RelativeAttention {
    /// Returns the projections that distances have in each layer.
    const fn own_projections(self) -> u64 {
        if self.share_att_key {
            return 0;
        }
        self.content_to_position as u64 + self.position_to_content as u64
    }
}

/// A convolution along the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebertaConvolution {
    /// Tokens that a filter sees.
    pub kernel_size: u64,
    /// What follows it.
    pub activation: Activation,
}

impl DebertaConfig {
    /// Returns the size of a head.
    pub fn head_dim(&self) -> u64 {
        self.hidden_size / self.num_attention_heads.max(1)
    }

    pub(super) fn parameter_count(&self) -> u64 {
        let (width, inner) = (self.hidden_size, self.intermediate_size);
        let linear = |inputs: u64, outputs: u64| (inputs + 1) * outputs;
        let norm = 2 * width;
        let own = self.relative.map_or(0, RelativeAttention::own_projections);
        let distances = self.relative.map_or(0, |relative| 2 * relative.distances);
        let layer = (4 + own) * linear(width, width)
            + linear(width, inner)
            + linear(inner, width)
            + 2 * norm;
        let positions = if self.position_biased_input { self.max_position_embeddings } else { 0 };
        let rows = self.vocab_size + positions + self.type_vocab_size + distances;
        let norms = if self.norms_distances { 2 * norm } else { norm };
        let head = match self.task {
            Task::MaskedLm => linear(width, width) + norm + self.vocab_size,
            Task::SequenceClassification => linear(width, width) + linear(width, self.num_labels),
            _ => linear(width, self.num_labels),
        };
        let convolution =
            self.convolution.map_or(0, |it| (width * it.kernel_size + 1) * width + norm);
        rows * width + norms + convolution + self.num_hidden_layers * layer + head
    }
}
