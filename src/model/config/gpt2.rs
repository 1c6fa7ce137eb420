//! GPT-2's sizes.

use crate::model::config::{Activation, Problem, Task};

/// GPT-2: LayerNorm, learned positions, multi-head attention with one fused projection.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpt2Config {
    /// The head and the loss.
    pub task: Task,
    /// What the labels of a classifier of samples are.
    pub problem: Problem,
    /// Labels of a classifier.
    pub num_labels: u64,
    /// Dropout before a classifier of tokens.
    pub classifier_dropout: f64,
    /// Width of the residual stream (`n_embd`).
    pub n_embd: u64,
    /// Width of the MLP (`n_inner`, default 4 x `n_embd`).
    pub n_inner: u64,
    /// Layers.
    pub n_layer: u64,
    /// Heads.
    pub n_head: u64,
    /// Learned positions.
    pub n_positions: u64,
    /// Tokens in the vocabulary.
    pub vocab_size: u64,
    /// The MLP's activation.
    pub activation_function: Activation,
    /// Dropout after embeddings.
    pub embd_pdrop: f64,
    /// Dropout on attention probabilities.
    pub attn_pdrop: f64,
    /// Dropout after attention and MLP.
    pub resid_pdrop: f64,
    /// Whether the output head shares the embedding's weight.
    pub tie_word_embeddings: bool,
    /// `scale_attn_weights`
    pub scale_attn_weights: bool,
    /// `scale_attn_by_inverse_layer_idx`
    pub scale_attn_by_inverse_layer_idx: bool,
    /// `reorder_and_upcast_attn`
    pub reorder_and_upcast_attn: bool,
}

impl Gpt2Config {
    /// The tasks that it can be trained for.
    pub(crate) const TASKS: &'static [Task] =
        &[Task::CausalLm, Task::SequenceClassification, Task::TokenClassification];

    pub(super) fn parameter_count(&self) -> u64 {
        let width = self.n_embd;
        let attention = width * 3 * width + 3 * width + width * width + width;
        let mlp = 2 * width * self.n_inner + self.n_inner + width;
        let layer = attention + mlp + 2 * 2 * width;
        let head = match self.task {
            Task::SequenceClassification => self.num_labels * width,
            Task::TokenClassification => self.num_labels * (width + 1),
            _ if self.tie_word_embeddings => 0,
            _ => self.vocab_size * width,
        };
        let embeddings = (self.vocab_size + self.n_positions) * width;
        embeddings + self.n_layer * layer + 2 * width + head
    }
}
