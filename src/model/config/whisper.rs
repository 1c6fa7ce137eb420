//! Sizes of Whisper.

use crate::model::config::{Activation, Side};

/// An encoder-decoder that reads the spectrum of audio.
#[derive(Debug, Clone, PartialEq)]
pub struct WhisperConfig {
    /// Width of the residual stream.
    pub d_model: u64,
    /// The encoder.
    pub encoder: Side,
    /// The decoder.
    pub decoder: Side,
    /// Tokens in the vocabulary.
    pub vocab_size: u64,
    /// Bands of the spectrum.
    pub num_mel_bins: u64,
    /// Positions of the audio, each of two frames: all of them are read, always.
    pub max_source_positions: u64,
    /// The most tokens that are written.
    pub max_target_positions: u64,
    /// The MLP's activation.
    pub activation: Activation,
    /// Dropout after embeddings, attention and MLP.
    pub dropout: f64,
    /// Dropout on attention probabilities.
    pub attention_dropout: f64,
    /// Dropout after the activation.
    pub activation_dropout: f64,
}

impl WhisperConfig {
    /// Frames that the second convolution makes one position of.
    ///
    /// Source: `conv2.stride` in modeling_whisper.py.
    pub const FRAMES_A_POSITION: u64 = 2;

    /// Returns the size of a head, of the side whose heads are smaller.
    pub fn head_dim(&self) -> u64 {
        self.d_model / self.encoder.heads.max(self.decoder.heads).max(1)
    }

    /// The encoder's positions are parameters too, though they are not trained.
    pub(super) fn parameter_count(&self) -> u64 {
        let width = self.d_model;
        let norm = 2 * width;
        // Keys have no bias.
        let attention = 4 * width * width + 3 * width + norm;
        let mlp = |side: Side| 2 * width * side.ffn_dim + side.ffn_dim + width + norm;
        let convolutions = 3 * width * (self.num_mel_bins + width) + 2 * width;
        let rows = self.max_source_positions + self.max_target_positions + self.vocab_size;
        let encoder = self.encoder.layers * (attention + mlp(self.encoder));
        let decoder = self.decoder.layers * (2 * attention + mlp(self.decoder));
        convolutions + rows * width + encoder + decoder + 2 * norm
    }
}
