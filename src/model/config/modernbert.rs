//! ModernBERT's sizes.

use crate::model::config::{Activation, Problem, Task};

/// ModernBERT: rotary embeddings, gated MLPs, and windows of attention in all but every n-th layer.
#[derive(Debug, Clone, PartialEq)]
pub struct ModernBertConfig {
    /// The head and the loss.
    pub task: Task,
    /// Width of the residual stream.
    pub hidden_size: u64,
    /// Width of the MLP, of each of gate and input.
    pub intermediate_size: u64,
    /// Layers.
    pub num_hidden_layers: u64,
    /// Heads.
    pub num_attention_heads: u64,
    /// Tokens in the vocabulary.
    pub vocab_size: u64,
    /// The longest sequence.
    pub max_position_embeddings: u64,
    /// The MLP's activation.
    pub hidden_activation: Activation,
    /// The activation of the head.
    pub classifier_activation: Activation,
    /// Tokens that a local layer sees, half of them on either side.
    pub local_attention: u64,
    /// The first layer, and every so-many-th after it, sees all tokens.
    pub global_attn_every_n_layers: u64,
    /// Whether norms have biases.
    pub norm_bias: bool,
    /// Whether the projections of attention have.
    pub attention_bias: bool,
    /// Whether those of the MLP have.
    pub mlp_bias: bool,
    /// Whether the head's projection has.
    pub classifier_bias: bool,
    /// Whether the scores of the vocabulary have.
    pub decoder_bias: bool,
    /// Dropout after embeddings.
    pub embedding_dropout: f64,
    /// Dropout on attention probabilities, and after attention.
    pub attention_dropout: f64,
    /// Dropout in the MLP.
    pub mlp_dropout: f64,
    /// Dropout before the classifier.
    pub classifier_dropout: f64,
    /// What of a sample its classifier reads.
    pub pooling: Pooling,
    /// Whether transformers 4 compiles parts of it: always, unless config.json says no.
    pub reference_compile: bool,
    /// What the labels of a classifier of samples are.
    pub problem: Problem,
    /// Labels of a classifier.
    pub num_labels: u64,
}

/// What of a sample a classifier reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The first token.
    First,
    /// The mean of all that are no padding.
    Mean,
}

impl ModernBertConfig {
    /// Returns the size of a head.
    pub fn head_dim(&self) -> u64 {
        self.hidden_size / self.num_attention_heads.max(1)
    }

    /// Whether a layer sees a window alone.
    pub fn is_local(&self, layer: u64) -> bool {
        !layer.is_multiple_of(self.global_attn_every_n_layers)
    }

    /// How far a local layer sees to either side.
    pub fn window(&self) -> u64 {
        self.local_attention / 2
    }

    pub(super) fn parameter_count(&self) -> u64 {
        let (width, inner) = (self.hidden_size, self.intermediate_size);
        let bias = |has: bool, width: u64| if has { width } else { 0 };
        let norm = width + bias(self.norm_bias, width);
        let attention = 4 * width * width + bias(self.attention_bias, 4 * width);
        let mlp = 3 * width * inner + bias(self.mlp_bias, 2 * inner + width);
        // The first layer has no norm before attention; there is one behind the embeddings, and one
        // behind the last layer.
        let layers = self.num_hidden_layers * (attention + mlp + 2 * norm) + norm;
        let head = width * width + bias(self.classifier_bias, width) + norm;
        let scores = match self.task {
            Task::MaskedLm => bias(self.decoder_bias, self.vocab_size),
            _ => (width + 1) * self.num_labels,
        };
        self.vocab_size * width + layers + head + scores
    }
}
