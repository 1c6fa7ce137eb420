//! Sizes of BART.

use crate::model::config::Activation;

/// What an encoder or a decoder has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// Layers.
    pub layers: u64,
    /// Heads.
    pub heads: u64,
    /// Width of the MLP.
    pub ffn_dim: u64,
}

/// An encoder-decoder with learned positions.
#[derive(Debug, Clone, PartialEq)]
pub struct BartConfig {
    /// Width of the residual stream.
    pub d_model: u64,
    /// The encoder.
    pub encoder: Side,
    /// The decoder.
    pub decoder: Side,
    /// Tokens in the vocabulary.
    pub vocab_size: u64,
    /// The longest sequence, on either side.
    pub max_position_embeddings: u64,
    /// The MLP's activation.
    pub activation: Activation,
    /// Dropout after embeddings, attention and MLP.
    pub dropout: f64,
    /// Dropout on attention probabilities.
    pub attention_dropout: f64,
    /// Dropout after the activation.
    pub activation_dropout: f64,
}

impl BartConfig {
    /// Rows of a table of positions before the first.
    ///
    /// Source: `BartLearnedPositionalEmbedding.offset` in modeling_bart.py.
    pub const UNUSED_POSITIONS: u64 = 2;

    /// Returns the size of a head, of the side whose heads are smaller.
    pub fn head_dim(&self) -> u64 {
        self.d_model / self.encoder.heads.max(self.decoder.heads).max(1)
    }

    pub(super) fn parameter_count(&self) -> u64 {
        let width = self.d_model;
        let norm = 2 * width;
        let attention = 4 * (width * width + width) + norm;
        let mlp = |side: Side| 2 * width * side.ffn_dim + side.ffn_dim + width + norm;
        let positions = (self.max_position_embeddings + Self::UNUSED_POSITIONS) * width;
        let encoder = self.encoder.layers * (attention + mlp(self.encoder));
        let decoder = self.decoder.layers * (2 * attention + mlp(self.decoder));
        self.vocab_size * width + 2 * (positions + norm) + encoder + decoder
    }
}
