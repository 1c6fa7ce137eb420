//! How a model is trained: everything but the model that decides what a step allocates.

use crate::model::graph::Region;
pub use crate::model::options::{Attention, AttentionMask, Loss, Version};
use crate::trace::{AllocatorMode, Ties};
use crate::units::{AccumulationSteps, Bytes, MicroBatch};

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

impl Precision {
    /// Returns the name that the command line gives it.
    pub const fn name(self) -> &'static str {
        match self {
            Precision::Fp32 => "fp32",
            Precision::Bf16 => "bf16",
            Precision::Fp16 => "fp16",
            Precision::AmpBf16 => "amp-bf16",
            Precision::AmpFp16 => "amp-fp16",
        }
    }

    /// Whether activations are in 16 bits.
    pub const fn is_half(self) -> bool {
        !matches!(self, Precision::Fp32)
    }
}

/// The optimizer, and which of PyTorch's implementations of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optimizer {
    /// `torch.optim.AdamW`: PyTorch's default on CUDA is foreach.
    AdamW,
    /// `torch.optim.AdamW(fused=True)`.
    AdamWFused,
    /// `torch.optim.AdamW(foreach=False)`.
    AdamWLoop,
    /// `bitsandbytes.optim.AdamW8bit`.
    AdamW8Bit,
    /// `bitsandbytes.optim.PagedAdamW8bit`: its moments are managed memory.
    PagedAdamW8Bit,
    /// `AdamW8bit` as the Hugging Face Trainer runs it: moments of embeddings are in 32 bits.
    AdamW8BitHf,
    /// `PagedAdamW8bit` as the Hugging Face Trainer runs it.
    PagedAdamW8BitHf,
    /// `torch.optim.SGD` without momentum.
    Sgd,
    /// `torch.optim.SGD` with momentum, without dampening or Nesterov's.
    SgdMomentum,
    /// Hugging Face's `Adafactor` as its Trainer sets it up.
    Adafactor,
}

impl Optimizer {
    /// Returns the name that the command line gives it.
    pub const fn name(self) -> &'static str {
        match self {
            Optimizer::AdamW => "adamw",
            Optimizer::AdamWFused => "adamw-fused",
            Optimizer::AdamWLoop => "adamw-loop",
            Optimizer::AdamW8Bit => "adamw-8bit",
            Optimizer::PagedAdamW8Bit => "paged-adamw-8bit",
            Optimizer::AdamW8BitHf => "adamw-8bit-hf",
            Optimizer::PagedAdamW8BitHf => "paged-adamw-8bit-hf",
            Optimizer::Sgd => "sgd",
            Optimizer::SgdMomentum => "sgd-momentum",
            Optimizer::Adafactor => "adafactor",
        }
    }
}

/// What becomes of gradients after the optimizer's step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZeroGrad {
    /// They are dropped (`set_to_none=True`, PyTorch's default since 2.0).
    None,
    /// They are zeroed and kept (`set_to_none=False`).
    Zero,
}

impl ZeroGrad {
    /// Returns the name that the command line gives it.
    pub const fn name(self) -> &'static str {
        match self {
            ZeroGrad::None => "none",
            ZeroGrad::Zero => "zero",
        }
    }
}

/// How PyTorch's caching allocator is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Allocator {
    /// As PyTorch comes.
    #[default]
    Default,
    /// `expandable_segments:True`.
    Expandable,
}

impl Allocator {
    /// What a training's environment needs for [`Allocator::Expandable`].
    pub const IN_ENVIRONMENT: &str = "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True";

    /// Returns the name that the command line gives it.
    pub const fn name(self) -> &'static str {
        match self {
            Allocator::Default => "default",
            Allocator::Expandable => "expandable",
        }
    }
}

/// Which activations are recomputed in backward instead of kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpointing {
    /// None is.
    None,
    /// Each layer keeps its input only (`gradient_checkpointing_enable`, non-reentrant).
    Full,
    /// The attention module of each layer keeps its input only.
    Attention,
    /// The first layer and every n-th after it keep their inputs only.
    ///
    /// Source: `every_n_layers` of transformers 5.23 (`layer_index % every_n_layers == 0`, from
    /// none). torchtitan up to 0.2.2 counted from one, and has no such switch since.
    Every(u64),
}

impl Checkpointing {
    /// Whether it is of whole layers.
    pub const fn recomputes_layers(self) -> bool {
        matches!(self, Checkpointing::Full | Checkpointing::Every(_))
    }

    /// Whether a region of the model is recomputed as a whole.
    pub const fn recomputes(self, region: Region) -> bool {
        match (self, region) {
            (Checkpointing::Full, Region::Layer(_) | Region::Stage)
            | (Checkpointing::Attention, Region::Attention) => true,
            (Checkpointing::Every(n), Region::Layer(number)) => number.is_multiple_of(n),
            _ => false,
        }
    }
}

impl std::fmt::Display for Checkpointing {
    /// As the command line spells it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Checkpointing::None => f.write_str("none"),
            Checkpointing::Full => f.write_str("full"),
            Checkpointing::Attention => f.write_str("attention"),
            Checkpointing::Every(n) => write!(f, "every={n}"),
        }
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
    /// Returns the threads that one multiprocessor holds at most.
    ///
    /// Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
    pub const fn threads_per_sm(self) -> u32 {
        match self.compute_capability {
            (7, 5) => 1024,
            (8, 6 | 7 | 9) | (12, _) => 1536,
            _ => 2048,
        }
    }
}

impl GpuArch {
    /// The GPU that an estimate assumes when none is named.
    pub const A100: GpuArch = GpuArch { compute_capability: (8, 0), sm_count: 108 };

    /// Whether it has bfloat16 in hardware: Ampere and later.
    ///
    /// Source: CUDA C Programming Guide, table of arithmetic instructions by compute capability.
    pub const fn has_bf16(self) -> bool {
        self.compute_capability.0 >= 8
    }
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
    /// Target tokens a sample, of an encoder-decoder; `None`: as many as it reads.
    pub label_len: Option<u64>,
    /// Number formats.
    pub precision: Precision,
    /// Optimizer.
    pub optimizer: Optimizer,
    /// The total norm that gradients are clipped to before the optimizer's step
    /// (`torch.nn.utils.clip_grad_norm_`), if they are.
    pub clip: Option<f64>,
    /// Gradients after the step.
    pub zero_grad: ZeroGrad,
    /// Activation recomputation.
    pub checkpointing: Checkpointing,
    /// Attention implementation.
    pub attention: Attention,
    /// Attention mask.
    pub attention_mask: AttentionMask,
    /// The loss.
    pub loss: Loss,
    /// The PyTorch version.
    pub torch: Version,
    /// The transformers version.
    pub transformers: Version,
    /// PyTorch's caching allocator.
    pub allocator: Allocator,
    /// The GPU.
    pub gpu: GpuArch,
    /// The GPU's memory as CUDA reports it, free or not; expandable segments depend on it.
    pub device_total: Bytes,
}

impl Setup {
    /// One token of one sample with AdamW in float32 on an A100, all else by default: for tests to say
    /// only what they are about.
    pub const PLAIN: Setup = Setup {
        micro_batch: MicroBatch::ONE,
        accumulation: AccumulationSteps::ONE,
        seq_len: 1,
        label_len: None,
        precision: Precision::Fp32,
        optimizer: Optimizer::AdamW,
        clip: None,
        zero_grad: ZeroGrad::None,
        checkpointing: Checkpointing::None,
        attention: Attention::Sdpa,
        attention_mask: AttentionMask::Ones,
        loss: Loss::Standard,
        torch: Version::new(2, 15),
        transformers: Version::new(5, 23),
        allocator: Allocator::Default,
        gpu: GpuArch::A100,
        device_total: Bytes::gib(80),
    };

    /// Returns how this PyTorch's allocator tells free blocks of one size apart.
    ///
    /// Source: github.com/pytorch/pytorch/pull/178362 (a counter in each block) and 183591 (one for each
    /// segment, then the address: as the address, where those of segments ascend). Run on 2.12.0: all 615
    /// ties of a BERT's step.
    pub fn ties(&self) -> Ties {
        let by_age = Version::new(2, 12)..Version::new(2, 13);
        if by_age.contains(&self.torch) { Ties::Age } else { Ties::Address }
    }

    /// Returns how a trace of this runs its allocator.
    pub const fn allocator_mode(&self) -> AllocatorMode {
        match self.allocator {
            Allocator::Default => AllocatorMode::Default,
            Allocator::Expandable => AllocatorMode::Expandable { total: self.device_total },
        }
    }
}
