//! What changes a model's graph besides its configuration: the batch, the attention code, versions.

use std::fmt;

use serde::Serialize;

/// The attention implementation that transformers is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// `scaled_dot_product_attention`: PyTorch chooses the kernel.
    Sdpa,
    /// Matrix products and softmax written out.
    Eager,
    /// The package flash-attn, version 2.
    Flash,
}

impl Attention {
    /// Returns the name that the command line gives it.
    pub const fn name(self) -> &'static str {
        match self {
            Attention::Sdpa => "sdpa",
            Attention::Eager => "eager",
            Attention::Flash => "flash",
        }
    }
}

/// How the loss of a causal decoder is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Logits of all tokens, then cross-entropy.
    Standard,
    /// Head and cross-entropy as one operator, some tokens at a time: Liger's fused linear
    /// cross-entropy, and nothing else of Liger.
    Fused,
}

impl Loss {
    /// Returns the name that the command line gives it.
    pub const fn name(self) -> &'static str {
        match self {
            Loss::Standard => "standard",
            Loss::Fused => "fused",
        }
    }
}

/// What the collator passes as attention mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionMask {
    /// A mask without padding (what Hugging Face's collators pass).
    Ones,
    /// A mask with padding.
    Padded,
    /// No mask at all.
    None,
}

/// A version of a Python package: major and minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Version {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
}

impl Version {
    /// Makes a version.
    pub const fn new(major: u32, minor: u32) -> Version {
        Version { major, minor }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What one micro-batch looks like to the model's code.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GraphOptions {
    /// Samples.
    pub batch: u64,
    /// Tokens a sample.
    pub seq_len: u64,
    /// Target tokens a sample, of an encoder-decoder.
    pub label_len: u64,
    /// Attention implementation.
    pub attention: Attention,
    /// Attention mask.
    pub attention_mask: AttentionMask,
    /// How the loss is computed.
    pub loss: Loss,
    /// The transformers version.
    pub transformers: Version,
    /// The PyTorch version: transformers asks it what `scaled_dot_product_attention` can do.
    pub torch: Version,
}
