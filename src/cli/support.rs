//! Which setups are modelled today: the one place that turns a flag's value into the step's, or
//! refuses it with what to use instead. Support grows by editing this file.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::settings::Settings;
use crate::cli::setup::SetupArgs;
use crate::cli::values::{
    AttentionArg, AttentionMaskArg, CheckpointingArg, GradSyncArg, LossArg, OptimizerArg,
    ParallelArg, PrecisionArg, QuantizeArg, TaskArg, ZeroGradArg,
};
use crate::model::config::{Family, ModelConfig, Task};
use crate::model::quantize::Quantize;
use crate::model::versions::TRANSFORMERS_5;
use crate::plan::sync::When;
use crate::step::setup::{
    Attention, AttentionMask, Checkpointing, GpuArch, Loss, Optimizer, Precision, Setup, Version,
    ZeroGrad,
};

/// The PyTorch version that is assumed when none is installed or named: the newest known.
pub const NEWEST_TORCH: Version = Version::new(2, 15);
/// The transformers version that is assumed when none is installed or named.
pub const NEWEST_TRANSFORMERS: Version = Version::new(5, 23);

/// Returns the oldest transformers whose code for that model was read and compared.
///
/// Source: tests/data/transformers_torch2.8.jsonl has rows of it.
fn oldest_compared(model: &ModelConfig) -> Version {
    match model {
        ModelConfig::Decoder(c) => match c.family {
            Family::Llama
            | Family::Mistral
            | Family::Qwen2
            | Family::Gemma2
            | Family::Phi3
            | Family::GptNeoX
            | Family::Starcoder2
            | Family::Mixtral => Version::new(4, 44),
            Family::Olmo2 => Version::new(4, 47),
            Family::Qwen3 | Family::Qwen3Moe => Version::new(4, 51),
            Family::Gemma3 => Version::new(4, 50),
        },
        ModelConfig::T5(_) => Version::new(4, 46),
        ModelConfig::Encoder(_)
        | ModelConfig::Bart(_)
        | ModelConfig::ConvNext(_)
        | ModelConfig::Gpt2(_) => Version::new(4, 44),
        ModelConfig::Whisper(_)
        | ModelConfig::Vit(_)
        | ModelConfig::Swin(_)
        | ModelConfig::ResNet(_) => Version::new(4, 45),
        ModelConfig::Deberta(_) => Version::new(4, 47),
        ModelConfig::ModernBert(_) => Version::new(4, 48),
        ModelConfig::Opt(_) => Version::new(4, 52),
    }
}

/// Returns the first transformers that has code for the model, of those that were not there in 4.33.
///
/// Source: `models/` in the packages of 4.33.3 to 4.51.3, one of each minor version.
fn first_with(model: &ModelConfig) -> Option<Version> {
    let minor = match model {
        ModelConfig::Decoder(c) => match c.family {
            Family::Llama | Family::GptNeoX => return None,
            Family::Mistral => 34,
            Family::Mixtral => 36,
            Family::Qwen2 => 37,
            Family::Starcoder2 => 39,
            Family::Phi3 => 41,
            Family::Gemma2 => 42,
            Family::Olmo2 => 47,
            Family::Gemma3 => 50,
            Family::Qwen3 | Family::Qwen3Moe => 51,
        },
        ModelConfig::ModernBert(_) => 48,
        _ => return None,
    };
    Some(Version::new(4, minor))
}

/// Says where transformers has no code for the model, and how near an answer is where what it has was not
/// compared.
///
/// Source: cases of the oracle (docs/design.md): on 4.48 to 4.55 at most 15 % from the next that was
/// compared (OPT in peak reserved), before at most 114 % (OPT on 4.46 and 4.47).
pub fn older_transformers(model: &ModelConfig, version: Version) -> Option<String> {
    if let Some(first) = first_with(model).filter(|first| version < *first) {
        return Some(format!(
            "transformers {}.{} has no {}: the first that has is {}.{}",
            version.major,
            version.minor,
            model.model_type(),
            first.major,
            first.minor
        ));
    }
    let oldest = oldest_compared(model);
    let error = match version {
        _ if version >= oldest => return None,
        _ if version >= Version::new(4, 48) => "15 %",
        _ => "115 %",
    };
    Some(format!(
        "a {} on transformers {}.{} was not compared, on {}.{} it was: what was tried of any model so old \
         was up to {error} off",
        model.model_type(),
        version.major,
        version.minor,
        oldest.major,
        oldest.minor
    ))
}

/// Says so where transformers does not do what `--checkpointing` asks of it.
pub fn ignored_checkpointing(model: &ModelConfig, setup: &Setup) -> Option<String> {
    (setup.checkpointing.recomputes_layers() && model.ignores_checkpointing(setup.transformers)).then(|| {
        format!(
            "transformers {}.{} checkpoints no layer of a {}: --checkpointing {} changes nothing",
            setup.transformers.major,
            setup.transformers.minor,
            model.model_type(),
            setup.checkpointing
        )
    })
}

/// Says so where a model is loaded in another number format than `--precision` gives its weights.
///
/// Source: `from_pretrained` of transformers 5.0.0 and 5.23.0 (modeling_utils.py) loads what `dtype` of
/// config.json says unless it is told; that of 4 loads float32.
pub fn loaded_otherwise(dtype: Option<&str>, settings: &Settings) -> Option<String> {
    let setup = &settings.setup;
    let dtype = dtype.filter(|_| setup.transformers >= TRANSFORMERS_5)?;
    let assumed = match setup.precision {
        Precision::Fp32 | Precision::AmpBf16 | Precision::AmpFp16 => "float32",
        Precision::Bf16 => "bfloat16",
        Precision::Fp16 => "float16",
    };
    // Preparation for k-bit training casts what is not quantized.
    if dtype == assumed || settings.tuning.quantized.is_some() {
        return None;
    }
    let as_loaded = match dtype {
        "bfloat16" => "; so loaded it would be --precision bf16",
        "float16" => "; so loaded it would be --precision fp16",
        "float32" => "; so loaded it would be --precision fp32",
        _ => "",
    };
    Some(format!(
        "config.json says {dtype}, in which transformers 5 loads it unless from_pretrained is given a dtype: \
         --precision {} has its weights in {assumed}{as_loaded}",
        setup.precision.name()
    ))
}

/// The largest image that is worked out, in pixels of height and width.
const MAX_IMAGE_SIZE: u64 = 1 << 14;

/// Returns the precision that DESIGN.md names as the default on a GPU.
pub fn default_precision(gpu: GpuArch) -> PrecisionArg {
    if gpu.has_bf16() { PrecisionArg::AmpBf16 } else { PrecisionArg::AmpFp16 }
}

/// The oldest compute capability that any build of PyTorch 2.15 has kernels for (Turing).
///
/// Source: github.com/pytorch/pytorch/issues/190385: 2.15 has CUDA 13 builds alone.
const OLDEST_ON_2_15: (u32, u32) = (7, 5);
/// The first PyTorch with builds for Blackwell (10.0 and 12.0): 2.7, with CUDA 12.8.
///
/// Source: the release notes of PyTorch 2.7.
const BLACKWELL_SINCE: Version = Version::new(2, 7);

/// Says whether any build of that PyTorch has kernels for the GPU.
///
/// # Errors
/// With exit code 3 when none has: then nothing runs, so nothing fits.
pub fn kernels(gpu: GpuArch, torch: Version) -> Result<(), CliError> {
    let (major, minor) = gpu.compute_capability;
    let refuse = |cure: &str| {
        let fact = format!(
            "does not fit: PyTorch {}.{} has no kernels for compute capability {major}.{minor}",
            torch.major, torch.minor
        );
        Err(CliError::new(exit::DOES_NOT_FIT, fact).cause("nothing runs on it").hint(cure))
    };
    if torch >= NEWEST_TORCH && gpu.compute_capability < OLDEST_ON_2_15 {
        return refuse("--torch 2.14, installed as its CUDA 12.6 build");
    }
    if torch < BLACKWELL_SINCE && major >= 10 {
        return refuse("--torch 2.7 or newer");
    }
    Ok(())
}

/// Turns the precision into the step's.
pub const fn precision(value: PrecisionArg) -> Precision {
    match value {
        PrecisionArg::Fp32 => Precision::Fp32,
        PrecisionArg::Bf16 => Precision::Bf16,
        PrecisionArg::Fp16 => Precision::Fp16,
        PrecisionArg::AmpBf16 => Precision::AmpBf16,
        PrecisionArg::AmpFp16 => Precision::AmpFp16,
    }
}

/// Turns the optimizer into the step's.
pub fn optimizer(value: OptimizerArg) -> Optimizer {
    match value {
        OptimizerArg::AdamW => Optimizer::AdamW,
        OptimizerArg::AdamWFused => Optimizer::AdamWFused,
        OptimizerArg::AdamWLoop => Optimizer::AdamWLoop,
        OptimizerArg::AdamW8Bit => Optimizer::AdamW8Bit,
        OptimizerArg::PagedAdamW8Bit => Optimizer::PagedAdamW8Bit,
        OptimizerArg::AdamW8BitHf => Optimizer::AdamW8BitHf,
        OptimizerArg::PagedAdamW8BitHf => Optimizer::PagedAdamW8BitHf,
        OptimizerArg::Sgd => Optimizer::Sgd,
        OptimizerArg::SgdMomentum => Optimizer::SgdMomentum,
        OptimizerArg::Adafactor => Optimizer::Adafactor,
    }
}

/// Turns what becomes of gradients into the step's.
pub fn zero_grad(value: ZeroGradArg) -> ZeroGrad {
    match value {
        ZeroGradArg::None => ZeroGrad::None,
        ZeroGradArg::Zero => ZeroGrad::Zero,
    }
}

/// Turns the checkpointing into the step's.
pub const fn checkpointing(value: CheckpointingArg) -> Checkpointing {
    match value {
        CheckpointingArg::None => Checkpointing::None,
        CheckpointingArg::Full => Checkpointing::Full,
        CheckpointingArg::Attention => Checkpointing::Attention,
        CheckpointingArg::Every(n) => Checkpointing::Every(n),
    }
}

/// Turns the attention into the step's.
pub const fn attention(value: AttentionArg) -> Attention {
    match value {
        AttentionArg::Sdpa => Attention::Sdpa,
        AttentionArg::Eager => Attention::Eager,
        AttentionArg::Flash => Attention::Flash,
    }
}

/// Turns the loss into the step's.
pub const fn loss(value: LossArg) -> Loss {
    match value {
        LossArg::Standard => Loss::Standard,
        LossArg::Fused => Loss::Fused,
    }
}

/// Turns the format of frozen weights into the step's.
pub const fn quantize(value: QuantizeArg) -> Option<Quantize> {
    match value {
        QuantizeArg::None => None,
        QuantizeArg::Int8 => Some(Quantize::Int8),
        QuantizeArg::Nf4 => Some(Quantize::Nf4),
    }
}

/// Turns the flag into the policy.
pub const fn grad_sync(value: GradSyncArg) -> When {
    match value {
        GradSyncArg::Every => When::EachMicroStep,
        GradSyncArg::Last => When::Once,
    }
}

/// Turns the mask into the step's.
pub fn attention_mask(value: AttentionMaskArg) -> AttentionMask {
    match value {
        AttentionMaskArg::Ones => AttentionMask::Ones,
        AttentionMaskArg::Padded => AttentionMask::Padded,
        AttentionMaskArg::None => AttentionMask::None,
    }
}

/// Gives a model the head of the task asked for.
///
/// # Errors
/// For tasks that the architecture is not built in for.
pub fn with_task(model: ModelConfig, task: Option<TaskArg>) -> Result<ModelConfig, CliError> {
    let Some(asked) = task else { return Ok(model) };
    let task = match asked {
        TaskArg::CausalLm => Task::CausalLm,
        TaskArg::MaskedLm => Task::MaskedLm,
        TaskArg::SequenceClassification => Task::SequenceClassification,
        TaskArg::TokenClassification => Task::TokenClassification,
        TaskArg::ImageClassification => Task::ImageClassification,
        TaskArg::Seq2SeqLm => Task::Seq2SeqLm,
        TaskArg::SpeechSeq2Seq => Task::SpeechSeq2Seq,
    };
    model.with_task(task).map_err(|error| {
        let possible: Vec<&str> = error.possible.iter().map(|task| task.name()).collect();
        CliError::usage(format!("--task {}: {error}", task.name()))
            .cause(format!("the tasks of {}: {}", error.model_type, possible.join(", ")))
            .hint(format!("--task {}", possible[0]))
    })
}

/// Refuses every other flag that changes memory in a way that is not modelled yet.
///
/// Replicas (`--parallel ddp`) are what several devices are taken to be anyway: their gradient buckets
/// are counted.
///
/// # Errors
/// Names the flag, its value and what to use instead.
pub fn refuse_unmodelled(args: &SetupArgs) -> Result<(), CliError> {
    if let Some(sharded) = args.parallel.filter(|parallel| is_sharded(*parallel)) {
        return Err(refused("--parallel", sharded.name()).cause(UNSHARDED));
    }
    let counted = [
        ("--tensor-parallel", args.tensor_parallel.filter(|n| *n > 1)),
        ("--pipeline-parallel", args.pipeline_parallel.filter(|n| *n > 1)),
        ("--context-parallel", args.context_parallel.filter(|n| *n > 1)),
    ];
    match counted.iter().find_map(|(flag, value)| Some((flag, (*value)?))) {
        Some((flag, n)) => Err(refused(flag, &n.to_string())),
        None => Ok(()),
    }
}

/// Whether devices share weights, gradients or optimizer state out.
const fn is_sharded(parallel: ParallelArg) -> bool {
    !matches!(parallel, ParallelArg::None | ParallelArg::Ddp)
}

/// Refuses an image size that the model cannot take.
///
/// # Errors
/// For a model of text, and for sizes out of range.
pub fn image_size(model: &ModelConfig, image_size: u64) -> Result<(), CliError> {
    let Some(own) = model.image_size() else {
        let fact = format!("--image-size {image_size}: a {} takes no images", model.model_type());
        return Err(CliError::usage(fact).hint("leave --image-size out"));
    };
    let range = model.smallest_image()..=MAX_IMAGE_SIZE;
    if range.contains(&image_size) {
        return Ok(());
    }
    let (least, most) = (range.start(), range.end());
    Err(CliError::usage(format!("--image-size {image_size} is out of range"))
        .cause(format!("this {} takes {least} to {most} pixels", model.model_type()))
        .hint(format!("--image-size {own}")))
}

/// Refuses what has no meaning for a model of images.
///
/// # Errors
/// Names the flag.
pub fn refuse_tokens(args: &SetupArgs) -> Result<(), CliError> {
    let given = [
        ("--seq-len", args.seq_len.is_some()),
        ("--seq-len-schedule", args.seq_len_schedule.is_some()),
        ("--label-len", args.label_len.is_some()),
        ("--effective-tokens", args.effective_tokens.is_some()),
        ("--attention-mask", args.attention_mask.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((flag, _)) => Err(CliError::usage(format!("{flag} is given for a model of images"))
            .hint(format!("leave {flag} out; --image-size says how large the images are"))),
    }
}

/// Refuses what has no meaning for a model of audio, whose samples are all of one length.
///
/// # Errors
/// Names the flag.
pub fn refuse_lengths_of_audio(args: &SetupArgs) -> Result<(), CliError> {
    let given = [
        ("--seq-len", args.seq_len.is_some()),
        ("--seq-len-schedule", args.seq_len_schedule.is_some()),
        ("--effective-tokens", args.effective_tokens.is_some()),
        ("--attention-mask", args.attention_mask.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((flag, _)) => Err(CliError::usage(format!("{flag} is given for a model of audio"))
            .cause("all samples are padded to the length that it is made for")
            .hint(format!("leave {flag} out; --label-len says how much is written"))),
    }
}

/// Why no answer is given for sharded states.
const UNSHARDED: &str = "what each device holds of a sharded model is not worked out: an answer without \
                         it would be that of a whole replica";

fn refused(flag: &str, value: &str) -> CliError {
    CliError::not_yet(format!("{flag} {value}")).hint(format!("leave {flag} out"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ingest::config_json;

    #[test]
    fn a_model_that_came_later_is_not_there_and_one_that_was_is_as_near_as_it_was_compared() {
        let model = |text: &str| {
            let fields = serde_json::from_str(text).expect("an object");
            config_json::from_map(&fields).expect("a model").config
        };
        let said = |text: &str, minor| older_transformers(&model(text), Version::new(4, minor));
        let qwen3 = r#"{"model_type": "qwen3"}"#;
        let lacks = "transformers 4.50 has no qwen3: the first that has is 4.51";
        assert_eq!(said(qwen3, 50).as_deref(), Some(lacks));
        assert_eq!(said(qwen3, 51), None);
        let phi3 = r#"{"model_type": "phi3", "pad_token_id": 0}"#;
        assert!(said(phi3, 40).expect("said").contains("has no phi3"));
        assert!(said(phi3, 43).expect("said").contains("was not compared, on 4.44 it was"));
        assert_eq!(said(phi3, 44), None);
    }

    #[test]
    fn the_oldest_that_was_compared_has_a_row_and_none_is_older() {
        let mut oldest = BTreeMap::new();
        for row in include_str!("../../tests/data/transformers_torch2.8.jsonl").lines() {
            let row: serde_json::Value = serde_json::from_str(row).expect("a row");
            let (major, minor) = row["transformers"]
                .as_str()
                .and_then(|version| version.split_once('.'))
                .expect("a version");
            let numbers = (major.parse().expect("a number"), minor.parse().expect("a number"));
            let version = Version::new(numbers.0, numbers.1);
            let config = row["config"].as_object().expect("an object");
            let model = config_json::from_map(config).expect("a model").config;
            let kind = row["config"]["model_type"].to_string();
            let (_, known) = oldest.entry(kind).or_insert((model, version));
            *known = version.min(*known);
        }
        assert!(oldest.len() > 10);
        for (kind, (model, version)) in oldest {
            assert_eq!(oldest_compared(&model), version, "{kind}");
        }
    }
}
