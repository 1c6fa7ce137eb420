//! Sizes of T5 and mT5.

use crate::model::config::Activation;

/// A `model_type` of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum T5Family {
    /// T5 and Flan-T5.
    T5,
    /// mT5.
    Mt5,
}

impl T5Family {
    /// Both.
    pub const ALL: [T5Family; 2] = [T5Family::T5, T5Family::Mt5];

    /// Returns `model_type` as config.json spells it.
    pub const fn model_type(self) -> &'static str {
        match self {
            T5Family::T5 => "t5",
            T5Family::Mt5 => "mt5",
        }
    }
}

/// An encoder-decoder with biases for relative positions.
#[derive(Debug, Clone, PartialEq)]
pub struct T5Config {
    /// Which of them.
    pub family: T5Family,
    /// Width of the residual stream.
    pub d_model: u64,
    /// Width of the MLP.
    pub d_ff: u64,
    /// Size of one head.
    pub d_kv: u64,
    /// Heads.
    pub num_heads: u64,
    /// Layers of the encoder.
    pub num_layers: u64,
    /// Layers of the decoder.
    pub num_decoder_layers: u64,
    /// Tokens in the vocabulary.
    pub vocab_size: u64,
    /// Buckets that distances between tokens are sorted into.
    pub buckets: u64,
    /// Whether the MLP is gated.
    pub gated: bool,
    /// Its activation.
    pub activation: Activation,
    /// Dropout everywhere.
    pub dropout: f64,
    /// `tie_word_embeddings`: transformers 4 makes a head of its own where it is off. Transformers 5
    /// ties always, and takes it for the question whether the decoder's output is scaled (T5 alone).
    pub ties: bool,
    /// The longest sequence it was trained on; more are possible.
    pub n_positions: u64,
}

impl T5Config {
    /// With one table, as transformers 5 has it; transformers 4 adds a head where nothing is tied.
    pub(super) fn parameter_count(&self) -> u64 {
        let inner = self.num_heads * self.d_kv;
        let attention = 4 * self.d_model * inner + self.d_model;
        let matrices = if self.gated { 3 } else { 2 };
        let mlp = matrices * self.d_model * self.d_ff + self.d_model;
        let bias = self.buckets * self.num_heads;
        let encoder = self.num_layers * (attention + mlp) + bias + self.d_model;
        let decoder = self.num_decoder_layers * (2 * attention + mlp) + bias + self.d_model;
        self.vocab_size * self.d_model + encoder + decoder
    }
}
