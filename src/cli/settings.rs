//! The setup as it stands once flags, file and defaults are put together, and what was assumed.

use crate::cli::allocator;
use crate::cli::error::CliError;
use crate::cli::lengths::{self, Lengths};
use crate::cli::lora::LoraArg;
use crate::cli::setup::SetupArgs;
use crate::cli::support;
use crate::cli::values::{
    AttentionArg, AttentionMaskArg, CheckpointingArg, Headroom, LossArg, MicroBatchArg,
    OptimizerArg, PrecisionArg, ZeroGradArg,
};
use crate::memory::allocator::Capacity as Endless;
use crate::model::adapters::{self, Lora, Targets};
use crate::model::config::{ModelConfig, Task, WhisperConfig};
use crate::model::quantize::Quantize;
use crate::model::tuning::Tuning;
use crate::plan::result::Versions;
use crate::plan::schedule::RampUp;
use crate::plan::sync::When;
use crate::step::setup::{GpuArch, Setup, Version};
use crate::units::{AccumulationSteps, EffectiveBatch, MicroBatch, counted};

/// The most samples in a micro-batch that are looked at: a limit on searches, far beyond any GPU.
pub const MAX_MICRO_BATCH: u64 = 1 << 20;
/// The most attention scores a head: with 128 layers of 128 heads, 4 bytes and 8 copies, 2^63 bytes,
/// so that no sum of a trace overflows.
const MAX_SCORES: u64 = 1 << 44;

/// Whose settings an 8-bit optimizer has.
///
/// Source: transformers 5.23 `trainer.py` (`create_optimizer`), which tells bitsandbytes to keep
/// `optim_bits` 32 for each `nn.Embedding`.
const EMBEDDINGS_TOO: &str = "every parameter of 4,096 elements or more has its moments in 8 bits, \
                              as bitsandbytes does by itself; the Hugging Face Trainer keeps those \
                              of embeddings in 32 bits: --optimizer adamw-8bit-hf or \
                              paged-adamw-8bit-hf";

/// What an estimate with convolutions leaves out.
///
/// Evidence: the oracle runs cuDNN without a workspace; on a card it is often tens to hundreds of MB.
const NO_CUDNN_WORKSPACE: &str = "convolutions take no cuDNN workspace: cuDNN chooses one by itself, \
                                  often tens to hundreds of MB (more with cudnn.benchmark), which \
                                  is not counted; in bf16 the buffer of PyTorch's own kernel \
                                  stands for it";
/// How images come to the device.
const IMAGES_IN_F32: &str =
    "images come to the GPU in float32 and are cast there to the model's format";

/// How audio comes to the device.
const FEATURES_IN_F32: &str =
    "features of audio come to the GPU in float32 and are cast there to the model's format";

/// What transformers keeps out of float16.
const KEPT_FROM_F16: &str = "loaded as from_pretrained does it: the last projection of each MLP (wo) stays in float32, \
                             which from_config alone would not keep there";

/// What an estimate with a paged optimizer leaves out.
const PAGED: &str = "the moments of parameters with 100,000 elements or more are managed memory: \
                     outside PyTorch's allocator and not counted, since the driver moves them to \
                     the host when the GPU is full";

/// From this version on PyTorch is taken to choose cuDNN's attention on Hopper and data-centre
/// Blackwell. Run on simulated H100s: 2.8 does not, 2.15 does; between them nothing was run.
const CUDNN_ATTENTION: Version = Version::new(2, 9);
const NO_CUDNN_ATTENTION: &str = "sdpa in 16 bits takes flash or memory-efficient attention: on this \
                                  GPU PyTorch may take cuDNN's, whose workspace is not known";

/// What an estimate with the package flash-attn rests on.
const FLASH: &str = "--attention flash is estimated from flash-attn's source (2.8), not compared with \
                     the package itself: transformers' own code around it was";

/// What an estimate with the fused loss counts of Liger.
const FUSED_ALONE: &str = "--loss fused is the fused linear cross-entropy of liger-kernel (0.6.2 for \
                           transformers 4, 0.8.5 for 5) alone; Liger's rope, norms and MLP, which use_liger_kernel switches \
                           on too, are not counted";

/// What an estimate of QLoRA takes bitsandbytes to do.
const NF4: &str = "linear weights but the head's are Linear4bit of bitsandbytes 0.50 with double \
                   quantisation, computed in bfloat16; all else is float32 \
                   (prepare_model_for_kbit_training)";

/// What is known of an A100 only.
///
/// Source: bitsandbytes 0.50.2 `backends/cuda/ops.py` (`_gemm_4bit_use_custom_cuda`).
const MADE_ANEW: &str = "each product makes its weight of 4 bits anew, also where bitsandbytes may \
                         read it as it is (up to 1,536 tokens in a micro-batch)";

/// The same in 8 bits.
const INT8: &str = "linear weights but the head's are Linear8bitLt of bitsandbytes 0.50, all else is \
                    float32 (prepare_model_for_kbit_training); columns of outliers are not counted";

/// What peft needs of a classifier, whose copy could not be trained in those formats.
const HEAD_IS_SKIPPED: &str = "the classifier's head is not quantized: llm_int8_skip_modules=[\"classifier\", \"score\"], \
                               without which transformers 5 quantizes one that has a bias";

/// Everything that the flags say, with the defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The micro-batch, if fixed.
    pub micro_batch: Option<MicroBatch>,
    /// Whether the user wrote `--micro-batch auto`.
    pub auto: bool,
    /// The accumulation, if fixed.
    pub accumulation: Option<AccumulationSteps>,
    /// The effective batch asked for, in samples or tokens.
    pub target: Option<Target>,
    /// How the batch grows to the target, if it does.
    pub ramp_up: Option<RampUp>,
    /// Tokens a sample of each stage, where they change.
    pub lengths: Vec<u64>,
    /// When gradients are summed over devices, if said.
    pub grad_sync: Option<When>,
    /// The number of devices, if said.
    pub world_size: Option<u64>,
    /// What to leave free, if said.
    pub headroom: Option<Headroom>,
    /// The setup at micro-batch 1 and accumulation 1.
    pub setup: Setup,
    /// Whether its precision is the GPU's default: on another GPU it may be another.
    pub precision_by_default: bool,
    /// What is trained.
    pub tuning: Tuning,
    /// Where the versions come from.
    pub versions: Versions,
    /// Every default that was used, each a line.
    pub assumptions: Vec<String>,
    /// What to keep in mind, each a line.
    pub notes: Vec<String>,
}

/// The effective batch as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Samples.
    Samples(EffectiveBatch),
    /// Tokens.
    Tokens(u64),
}

impl Settings {
    /// Puts flags, file and defaults together for a model on a GPU.
    ///
    /// # Errors
    /// For values that contradict the model or each other, or are not modelled yet.
    pub fn resolve(
        args: &SetupArgs,
        model: &ModelConfig,
        gpu: GpuArch,
        versions: Versions,
    ) -> Result<Settings, CliError> {
        support::refuse_unmodelled(args)?;
        let mut assumed = Assumed::default();
        if args.task.is_none() && model.task() != Task::CausalLm {
            assumed.note("task", model.task().name());
        }
        let precision = args.precision.unwrap_or_else(|| {
            let default = support::default_precision(gpu);
            assumed.note("precision", default.name());
            default
        });
        let mut notes = Vec::new();
        let Lengths { seq_len, label_len } =
            lengths::resolve(args, model, &mut assumed, &mut notes)?;
        let optimizer = assumed.or(args.optimizer, "optimizer", OptimizerArg::AdamW, |v| v.name());
        let zero_grad = assumed.or(args.zero_grad, "zero-grad", ZeroGradArg::None, |v| v.name());
        if args.clip.is_none() {
            assumed.lines.push("no --clip (default)".to_owned());
        }
        match optimizer {
            OptimizerArg::AdamW8Bit => assumed.lines.push(EMBEDDINGS_TOO.to_owned()),
            OptimizerArg::PagedAdamW8Bit => {
                assumed.lines.extend([EMBEDDINGS_TOO.to_owned(), PAGED.to_owned()]);
            }
            OptimizerArg::PagedAdamW8BitHf => assumed.lines.push(PAGED.to_owned()),
            _ => {}
        }
        let checkpointing = args.checkpointing.unwrap_or_else(|| {
            assumed.note("checkpointing", "none");
            CheckpointingArg::None
        });
        let attention = if model.is_eager_by_default(versions.transformers) {
            AttentionArg::Eager
        } else {
            AttentionArg::Sdpa
        };
        let attention = assumed.or(args.attention, "attention", attention, |v| v.name());
        if attention == AttentionArg::Flash {
            assumed.lines.push(FLASH.to_owned());
        }
        if attention == AttentionArg::Sdpa
            && matches!(gpu.compute_capability.0, 9 | 10)
            && precision != PrecisionArg::Fp32
            && versions.torch >= CUDNN_ATTENTION
        {
            assumed.lines.push(NO_CUDNN_ATTENTION.to_owned());
        }
        let mask = match model.image_size() {
            Some(_) => AttentionMaskArg::None,
            None if model.reads_audio() => AttentionMaskArg::None,
            None => {
                assumed
                    .or(args.attention_mask, "attention-mask", AttentionMaskArg::Ones, |v| v.name())
            }
        };
        if matches!(model, ModelConfig::T5(_)) && precision == PrecisionArg::Fp16 {
            assumed.lines.push(KEPT_FROM_F16.to_owned());
        }
        if model.has_experts() {
            let balanced = "each expert gets the same share of the tokens (balanced routing)";
            assumed.lines.push(balanced.to_owned());
        }
        let loss = args.loss.unwrap_or_else(|| {
            assumed.note("loss", "standard");
            LossArg::Standard
        });
        if loss == LossArg::Fused {
            assumed.lines.push(FUSED_ALONE.to_owned());
        }
        let quantized = args.quantize.and_then(support::quantize);
        match quantized {
            None => {}
            Some(Quantize::Nf4) => {
                assumed.lines.push(NF4.to_owned());
                if gpu.compute_capability != GpuArch::A100.compute_capability {
                    assumed.lines.push(MADE_ANEW.to_owned());
                }
            }
            Some(Quantize::Int8) => assumed.lines.push(INT8.to_owned()),
        }
        let lora = args.lora.as_ref().map(|lora| lora.of_model(model.model_type()));
        if let Some(Lora { targets: Targets::Named(names), .. }) = &lora
            && args.lora.as_ref().is_some_and(LoraArg::leaves_targets)
        {
            assumed.lines.push(format!("--lora targets={} (default)", names.join("+")));
        }
        if let Some(how) = lora.as_ref().and_then(|_| adapters::copies_head(model.task())) {
            assumed.lines.push(format!(
                "beside the adapters a copy of the classifier is trained (peft's {how})"
            ));
            if quantized.is_some() {
                assumed.lines.push(HEAD_IS_SKIPPED.to_owned());
            }
        }
        let allocator = allocator::choose(args.allocator, versions.torch, |name| {
            std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
        });
        assumed.lines.extend(allocator.assumption);
        notes.extend(allocator.notes);
        let micro_batch = match args.micro_batch {
            Some(MicroBatchArg::Fixed(n)) => {
                Some(check_micro_batch(n, seq_len.max(label_len.unwrap_or(0)))?)
            }
            Some(MicroBatchArg::Auto) | None => None,
        };
        let setup = Setup {
            micro_batch: MicroBatch::ONE,
            accumulation: AccumulationSteps::ONE,
            seq_len,
            label_len,
            precision: support::precision(precision),
            optimizer: support::optimizer(optimizer),
            clip: args.clip,
            zero_grad: support::zero_grad(zero_grad),
            checkpointing: support::checkpointing(checkpointing),
            attention: support::attention(attention),
            attention_mask: support::attention_mask(mask),
            loss: support::loss(loss),
            torch: versions.torch,
            transformers: versions.transformers,
            allocator: allocator.allocator,
            gpu,
            device_total: Endless::UNLIMITED,
        };
        Ok(Settings {
            micro_batch,
            auto: args.micro_batch == Some(MicroBatchArg::Auto),
            accumulation: args.accumulation.and_then(AccumulationSteps::new),
            target: target(args)?,
            ramp_up: ramp_up(args)?,
            lengths: args.seq_len_schedule.clone().map_or(Vec::new(), |lengths| lengths.0),
            grad_sync: args.grad_sync.map(support::grad_sync),
            world_size: args.world_size,
            headroom: args.headroom,
            setup,
            precision_by_default: args.precision.is_none(),
            tuning: Tuning { lora, frozen: args.freeze.clone(), quantized },
            versions,
            assumptions: assumed.lines,
            notes,
        })
    }

    /// Returns the setup at these sizes.
    pub fn at(&self, micro_batch: MicroBatch, accumulation: AccumulationSteps) -> Setup {
        Setup { micro_batch, accumulation, ..self.setup }
    }

    /// Returns the largest micro-batch that a search may look at with this sequence length.
    pub fn search_limit(&self) -> MicroBatch {
        let longest = self.setup.seq_len.max(self.setup.label_len.unwrap_or(0));
        let limit = (MAX_SCORES / longest / longest).min(MAX_MICRO_BATCH);
        MicroBatch::new(limit).unwrap_or(MicroBatch::ONE)
    }

    /// Returns the effective batch in samples, with a note where tokens do not divide evenly.
    ///
    /// # Errors
    /// When the tokens are fewer than half of a sample.
    pub fn effective_batch(&mut self) -> Result<Option<EffectiveBatch>, CliError> {
        let seq_len = self.setup.seq_len;
        match self.target {
            None => Ok(None),
            Some(Target::Samples(batch)) => Ok(Some(batch)),
            Some(Target::Tokens(tokens)) => {
                let samples = samples(tokens, seq_len);
                let batch = EffectiveBatch::new(samples).ok_or_else(|| {
                    CliError::usage(format!("--effective-tokens {tokens} is less than one sample"))
                        .cause(format!("a sample has {}", counted(seq_len, "token")))
                        .hint(format!(
                            "--effective-tokens {seq_len} or more, or a shorter --seq-len"
                        ))
                })?;
                if !tokens.is_multiple_of(seq_len) {
                    self.notes.push(format!(
                        "{tokens} tokens are no whole number of samples of {seq_len}: the nearest \
                         is {}, {} tokens",
                        counted(samples, "sample"),
                        samples * seq_len
                    ));
                }
                Ok(Some(batch))
            }
        }
    }
}

/// Returns the nearest number of whole samples.
pub fn samples(tokens: u64, seq_len: u64) -> u64 {
    (tokens + seq_len / 2) / seq_len
}

/// Collects the defaults that were used.
#[derive(Debug, Default)]
pub(super) struct Assumed {
    lines: Vec<String>,
}

impl Assumed {
    /// Notes what is taken for granted about images and convolutions.
    pub(super) fn images(&mut self, size: u64, by_default: bool) {
        if by_default {
            self.note("image-size", &size.to_string());
        }
        self.lines.push(NO_CUDNN_WORKSPACE.to_owned());
        self.lines.push(IMAGES_IN_F32.to_owned());
    }

    /// Notes what is taken for granted about audio, of so many positions.
    pub(super) fn audio(&mut self, positions: u64) {
        let frames = WhisperConfig::FRAMES_A_POSITION * positions;
        self.lines
            .push(format!("audio of {frames} frames a sample, padded to them as the model asks"));
        self.lines.push(NO_CUDNN_WORKSPACE.to_owned());
        self.lines.push(FEATURES_IN_F32.to_owned());
    }

    /// Notes what follows from a flag.
    pub(super) fn line(&mut self, line: String) {
        self.lines.push(line);
    }

    /// Notes that a flag has its default.
    pub(super) fn note(&mut self, flag: &str, value: &str) {
        self.lines.push(format!("--{flag} {value} (default)"));
    }

    fn or<T: Copy>(
        &mut self,
        given: Option<T>,
        flag: &str,
        default: T,
        name: impl Fn(T) -> &'static str,
    ) -> T {
        given.unwrap_or_else(|| {
            self.note(flag, name(default));
            default
        })
    }
}

fn target(args: &SetupArgs) -> Result<Option<Target>, CliError> {
    match (args.effective_batch, args.effective_tokens) {
        (Some(_), Some(_)) => {
            Err(CliError::usage("--effective-batch and --effective-tokens are both given")
                .hint("leave one of them out"))
        }
        (Some(batch), None) => Ok(EffectiveBatch::new(batch).map(Target::Samples)),
        (None, Some(tokens)) => Ok(Some(Target::Tokens(tokens))),
        (None, None) => Ok(None),
    }
}

fn ramp_up(args: &SetupArgs) -> Result<Option<RampUp>, CliError> {
    let Some(ramp) = args.ramp_up else { return Ok(None) };
    let Some(target) = args.effective_batch else {
        return Err(CliError::usage("--ramp-up needs the effective batch that it leads to")
            .cause("it counts samples")
            .hint("--effective-batch N"));
    };
    if let Some(steps) = args.accumulation {
        return Err(CliError::usage(format!("--accumulation {steps} is given with --ramp-up"))
            .cause("the micro-steps are what changes while a batch ramps up")
            .hint("leave --accumulation out; --micro-batch N fixes the micro-batch"));
    }
    ramp.stages(target).map_err(|error| {
        CliError::usage(format!("--ramp-up: {error}"))
            .hint(format!("--ramp-up start=S,increment=I,samples=N where I divides {target} - S"))
    })?;
    Ok(Some(ramp))
}

fn check_micro_batch(micro_batch: u64, seq_len: u64) -> Result<MicroBatch, CliError> {
    let most = (MAX_SCORES / seq_len / seq_len).clamp(1, MAX_MICRO_BATCH);
    MicroBatch::new(micro_batch).filter(|size| size.get() <= most).ok_or_else(|| {
        CliError::usage(format!("--micro-batch {micro_batch} is out of range"))
            .cause(format!("at sequence length {seq_len}, {most} is the most that is worked out"))
            .hint("a smaller --micro-batch, with --accumulation for the rest")
    })
}
