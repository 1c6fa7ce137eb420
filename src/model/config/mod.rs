//! The sizes that a model is built from, as Hugging Face's `config.json` names them.

mod decoder;
mod gpt2;
mod opt;

pub use decoder::{AttentionConfig, DecoderConfig, ExpertsConfig, Family, MlpConfig, Window};
pub use gpt2::Gpt2Config;
pub use opt::OptConfig;

use crate::model::options::Version;

/// A model of a known architecture, with every size that changes its memory.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelConfig {
    /// A decoder out of the shared blocks: Llama, Mistral, Qwen, Gemma, Phi, ... ([`Family`]).
    Decoder(DecoderConfig),
    /// OPT.
    Opt(OptConfig),
    /// GPT-2.
    Gpt2(Gpt2Config),
}

/// The activation function of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `silu` (also called swish).
    Silu,
    /// `gelu`: the exact one, a single kernel.
    Gelu,
    /// `gelu_fast`: another spelling of the tanh approximation, operator by operator.
    GeluFast,
    /// `gelu_new`: the tanh approximation written out in Python, operator by operator.
    GeluNew,
    /// `gelu_pytorch_tanh`: the tanh approximation as a single kernel.
    GeluPytorchTanh,
    /// `relu`
    Relu,
}

impl ModelConfig {
    /// Returns `model_type` as config.json spells it.
    pub fn model_type(&self) -> &'static str {
        match self {
            ModelConfig::Decoder(c) => c.family.model_type(),
            ModelConfig::Opt(_) => "opt",
            ModelConfig::Gpt2(_) => "gpt2",
        }
    }

    /// Whether positions are learned, so that none beyond the last is possible.
    pub fn has_learned_positions(&self) -> bool {
        match self {
            ModelConfig::Decoder(_) => false,
            ModelConfig::Opt(_) | ModelConfig::Gpt2(_) => true,
        }
    }

    /// Whether tokens are sent to experts.
    pub fn has_experts(&self) -> bool {
        matches!(self, ModelConfig::Decoder(c) if c.experts.is_some())
    }

    /// Whether transformers refuses `sdpa` for the model: it has no soft cap.
    ///
    /// Source: `_supports_sdpa` in modeling_gemma2.py: true in 4.56.2, false in 5.23.0; where between
    /// them it changed is not known.
    pub fn refuses_sdpa(&self, transformers: Version) -> bool {
        let gemma2 = matches!(self, ModelConfig::Decoder(c) if c.family == Family::Gemma2);
        gemma2 && transformers >= Version::new(5, 0)
    }

    /// Returns the longest sequence that the model is made for.
    pub fn max_seq_len(&self) -> u64 {
        match self {
            ModelConfig::Decoder(c) => c.max_position_embeddings,
            ModelConfig::Opt(c) => c.max_position_embeddings,
            ModelConfig::Gpt2(c) => c.n_positions,
        }
    }

    /// Returns the number of parameters: every weight and bias, tied ones once.
    ///
    /// What `sum(p.numel() for p in model.parameters())` gives for the causal language model.
    /// Sizes within the limits of `ingest` cannot overflow.
    ///
    /// Source: the layers of the architectures' modeling files of transformers 4.56 and 5.23.
    /// Checked in tests/profiles_models.rs and tests/ingest_config.
    pub fn parameter_count(&self) -> u64 {
        match self {
            ModelConfig::Decoder(c) => c.parameter_count(),
            ModelConfig::Opt(c) => c.parameter_count(),
            ModelConfig::Gpt2(c) => c.parameter_count(),
        }
    }
}
