//! How a model is trained: everything but the model that decides what a step allocates.

use crate::units::{AccumulationSteps, MicroBatch};

/// The number format of weights and arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Everything in float32.
    Fp32,
    /// Weights, gradients and optimizer state in bfloat16.
    Bf16,
    /// Weights, gradients and optimizer state in float16.
    Fp16,
    /// Float32 weights under bfloat16 autocast.
    AmpBf16,
    /// Float32 weights under float16 autocast, with a gradient scaler.
    AmpFp16,
}

/// The optimizer, and which of PyTorch's implementations of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optimizer {
    /// `torch.optim.AdamW`: PyTorch's default on CUDA is foreach.
    AdamW,
}

/// Which activations are recomputed in backward instead of kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpointing {
    /// None is.
    None,
    /// Each layer keeps its input only (`gradient_checkpointing_enable`, non-reentrant).
    Full,
}

/// The attention implementation that transformers is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// `scaled_dot_product_attention`: PyTorch chooses the kernel.
    Sdpa,
    /// Matrix products and softmax written out.
    Eager,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// What of a GPU decides which kernels PyTorch picks, and their scratch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuArch {
    /// Compute capability, (8, 0) for an A100.
    pub compute_capability: (u32, u32),
    /// Streaming multiprocessors.
    pub sm_count: u32,
}

impl GpuArch {
    /// The GPU that an estimate assumes when none is named.
    pub const A100: GpuArch = GpuArch { compute_capability: (8, 0), sm_count: 108 };
}

/// How one training step is run on one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setup {
    /// Samples in one forward and backward.
    pub micro_batch: MicroBatch,
    /// Micro-steps before the optimizer's.
    pub accumulation: AccumulationSteps,
    /// Tokens a sample.
    pub seq_len: u64,
    /// Number formats.
    pub precision: Precision,
    /// Optimizer.
    pub optimizer: Optimizer,
    /// Activation recomputation.
    pub checkpointing: Checkpointing,
    /// Attention implementation.
    pub attention: Attention,
    /// Attention mask.
    pub attention_mask: AttentionMask,
    /// The PyTorch version.
    pub torch: Version,
    /// The transformers version.
    pub transformers: Version,
    /// The GPU.
    pub gpu: GpuArch,
}
