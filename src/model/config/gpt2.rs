//! GPT-2's sizes.

use crate::model::config::Activation;

/// GPT-2: LayerNorm, learned positions, multi-head attention with one fused projection.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpt2Config {
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
    pub(super) fn parameter_count(&self) -> u64 {
        let width = self.n_embd;
        let attention = width * 3 * width + 3 * width + width * width + width;
        let mlp = 2 * width * self.n_inner + self.n_inner + width;
        let layer = attention + mlp + 2 * 2 * width;
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        let embeddings = tables * self.vocab_size * width + self.n_positions * width;
        embeddings + self.n_layer * layer + 2 * width
    }
}
