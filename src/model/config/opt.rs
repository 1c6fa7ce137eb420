//! OPT's sizes.

use crate::model::config::{Activation, Problem, Task};

/// OPT: LayerNorm before or after each block, learned positions, a plain MLP.
#[derive(Debug, Clone, PartialEq)]
pub struct OptConfig {
    /// The head and the loss.
    pub task: Task,
    /// What the labels of a classifier of samples are.
    pub problem: Problem,
    /// Labels of a classifier.
    pub num_labels: u64,
    /// Width of the residual stream.
    pub hidden_size: u64,
    /// Width of the MLP.
    pub ffn_dim: u64,
    /// Layers.
    pub num_hidden_layers: u64,
    /// Heads.
    pub num_attention_heads: u64,
    /// Learned positions, less the two that OPT puts in front.
    pub max_position_embeddings: u64,
    /// Tokens in the vocabulary.
    pub vocab_size: u64,
    /// Width of the token embedding; where it is not `hidden_size`, two projections lie between.
    pub word_embed_proj_dim: u64,
    /// Whether norms come before attention and MLP, and a last one after all layers.
    pub do_layer_norm_before: bool,
    /// Whether the last norm is left out all the same.
    pub remove_final_layer_norm: bool,
    /// Whether linear layers have biases.
    pub enable_bias: bool,
    /// Whether the output head shares the embedding's weight.
    pub tie_word_embeddings: bool,
    /// The MLP's activation.
    pub activation_function: Activation,
    /// Dropout after attention and MLP.
    pub dropout: f64,
    /// Dropout on attention probabilities.
    pub attention_dropout: f64,
}

impl OptConfig {
    /// The tasks that it can be trained for.
    pub(crate) const TASKS: &'static [Task] = &[Task::CausalLm, Task::SequenceClassification];

    /// Whether a norm follows the last layer.
    pub fn has_final_norm(&self) -> bool {
        self.do_layer_norm_before && !self.remove_final_layer_norm
    }

    /// Whether the token embedding has another width than the residual stream.
    pub fn is_projected(&self) -> bool {
        self.word_embed_proj_dim != self.hidden_size
    }

    pub(super) fn parameter_count(&self) -> u64 {
        let (width, inner) = (self.hidden_size, self.ffn_dim);
        let biases = if self.enable_bias { 4 * width + inner + width } else { 0 };
        let layer = 4 * width * width + 2 * width * inner + biases + 2 * 2 * width;
        let head = match self.task {
            Task::SequenceClassification => self.num_labels,
            _ if self.tie_word_embeddings => 0,
            _ => self.vocab_size,
        };
        let tokens = (self.vocab_size + head) * self.word_embed_proj_dim;
        let positions = (self.max_position_embeddings + 2) * width;
        let projections =
            if self.is_projected() { 2 * width * self.word_embed_proj_dim } else { 0 };
        let norm = if self.has_final_norm() { 2 * width } else { 0 };
        tokens + positions + projections + self.num_hidden_layers * layer + norm
    }
}
