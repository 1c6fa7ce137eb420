//! The sizes that a model is built from, as Hugging Face's `config.json` names them.

mod bart;
mod convnext;
mod deberta;
mod decoder;
mod encoder;
mod gpt2;
mod modernbert;
mod opt;
mod resnet;
mod swin;
mod t5;
mod task;
mod vit;
mod whisper;

pub use bart::{BartConfig, Side};
pub use convnext::ConvNextConfig;
pub use deberta::{DebertaConfig, DebertaConvolution, RelativeAttention};
pub use decoder::{AttentionConfig, DecoderConfig, ExpertsConfig, Family, MlpConfig, Window};
pub use encoder::{EncoderConfig, EncoderFamily};
pub use gpt2::Gpt2Config;
pub use modernbert::{ModernBertConfig, Pooling};
pub use opt::OptConfig;
pub use resnet::{ResNetConfig, ResNetLayer};
pub use swin::SwinConfig;
pub use t5::{T5Config, T5Family};
pub use task::{NoSuchTask, Problem, Task};
pub use vit::VitConfig;
pub use whisper::WhisperConfig;

use crate::model::options::Version;
use crate::model::versions::{
    ATTENTION_INTERFACE, GEMMA2_EAGER_BY_DEFAULT, GEMMA2_REFUSES_SDPA, SDPA_IN_DISTILBERT_AND_OPT,
    SDPA_IN_PHI3, SDPA_IN_ROBERTA, STARCODER2_CHECKPOINTS, T5_AS_BART, VISION_AS_DECODERS,
};

/// A model of a known architecture, with every size that changes its memory.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelConfig {
    /// A decoder out of the shared blocks: Llama, Mistral, Qwen, Gemma, Phi, ... ([`Family`]).
    Decoder(DecoderConfig),
    /// BERT, RoBERTa, XLM-RoBERTa, DistilBERT ([`EncoderFamily`]).
    Encoder(EncoderConfig),
    /// ModernBERT.
    ModernBert(ModernBertConfig),
    /// DeBERTa-v2 and v3.
    Deberta(DebertaConfig),
    /// T5, mT5 ([`T5Family`]).
    T5(T5Config),
    /// BART.
    Bart(BartConfig),
    /// Whisper.
    Whisper(WhisperConfig),
    /// OPT.
    Opt(OptConfig),
    /// GPT-2.
    Gpt2(Gpt2Config),
    /// ViT.
    Vit(VitConfig),
    /// ResNet.
    ResNet(ResNetConfig),
    /// ConvNeXt.
    ConvNext(ConvNextConfig),
    /// Swin.
    Swin(SwinConfig),
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
    /// `tanh`
    Tanh,
}

impl ModelConfig {
    /// Returns `model_type` as config.json spells it.
    pub fn model_type(&self) -> &'static str {
        match self {
            ModelConfig::Decoder(c) => c.family.model_type(),
            ModelConfig::Encoder(c) => c.family.model_type(),
            ModelConfig::ModernBert(_) => "modernbert",
            ModelConfig::Deberta(_) => "deberta-v2",
            ModelConfig::T5(c) => c.family.model_type(),
            ModelConfig::Bart(_) => "bart",
            ModelConfig::Whisper(_) => "whisper",
            ModelConfig::Opt(_) => "opt",
            ModelConfig::Gpt2(_) => "gpt2",
            ModelConfig::Vit(_) => "vit",
            ModelConfig::ResNet(_) => "resnet",
            ModelConfig::ConvNext(_) => "convnext",
            ModelConfig::Swin(_) => "swin",
        }
    }

    /// Returns the size of an attention head; `None` where there is no attention.
    pub fn head_dim(&self) -> Option<u64> {
        match self {
            ModelConfig::Decoder(c) => Some(c.attention.head_dim),
            ModelConfig::Encoder(c) => Some(c.hidden_size / c.num_attention_heads.max(1)),
            ModelConfig::ModernBert(c) => Some(c.head_dim()),
            ModelConfig::Deberta(c) => Some(c.head_dim()),
            ModelConfig::T5(c) => Some(c.d_kv),
            ModelConfig::Bart(c) => Some(c.head_dim()),
            ModelConfig::Whisper(c) => Some(c.head_dim()),
            ModelConfig::Opt(c) => Some(c.hidden_size / c.num_attention_heads.max(1)),
            ModelConfig::Gpt2(c) => Some(c.n_embd / c.n_head.max(1)),
            ModelConfig::Vit(c) => Some(c.head_dim()),
            ModelConfig::Swin(c) => Some(c.head_dim()),
            ModelConfig::ResNet(_) | ModelConfig::ConvNext(_) => None,
        }
    }

    /// Returns what it is trained for.
    pub fn task(&self) -> Task {
        match self {
            ModelConfig::Encoder(c) => c.task,
            ModelConfig::ModernBert(c) => c.task,
            ModelConfig::Deberta(c) => c.task,
            ModelConfig::T5(_) | ModelConfig::Bart(_) => Task::Seq2SeqLm,
            ModelConfig::Whisper(_) => Task::SpeechSeq2Seq,
            ModelConfig::Decoder(c) => c.task,
            ModelConfig::Opt(c) => c.task,
            ModelConfig::Gpt2(c) => c.task,
            ModelConfig::Vit(_)
            | ModelConfig::ResNet(_)
            | ModelConfig::ConvNext(_)
            | ModelConfig::Swin(_) => Task::ImageClassification,
        }
    }

    /// Returns the model with another head.
    ///
    /// # Errors
    /// For a task that the architecture is not built in for.
    pub fn with_task(self, task: Task) -> Result<ModelConfig, NoSuchTask> {
        let model_type = self.model_type();
        let possible = match &self {
            ModelConfig::Decoder(c) => c.tasks(),
            ModelConfig::Encoder(_) | ModelConfig::ModernBert(_) | ModelConfig::Deberta(_) => {
                EncoderConfig::TASKS
            }
            ModelConfig::T5(_) | ModelConfig::Bart(_) => &[Task::Seq2SeqLm],
            ModelConfig::Whisper(_) => &[Task::SpeechSeq2Seq],
            ModelConfig::Vit(_)
            | ModelConfig::ResNet(_)
            | ModelConfig::ConvNext(_)
            | ModelConfig::Swin(_) => &[Task::ImageClassification],
            ModelConfig::Opt(_) => OptConfig::TASKS,
            ModelConfig::Gpt2(_) => Gpt2Config::TASKS,
        };
        if !possible.contains(&task) {
            return Err(NoSuchTask { model_type, task, possible });
        }
        Ok(match self {
            ModelConfig::Decoder(c) => ModelConfig::Decoder(DecoderConfig { task, ..c }),
            ModelConfig::Encoder(c) => ModelConfig::Encoder(EncoderConfig { task, ..c }),
            ModelConfig::ModernBert(c) => ModelConfig::ModernBert(ModernBertConfig { task, ..c }),
            ModelConfig::Deberta(c) => ModelConfig::Deberta(DebertaConfig { task, ..c }),
            ModelConfig::Opt(c) => ModelConfig::Opt(OptConfig { task, ..c }),
            ModelConfig::Gpt2(c) => ModelConfig::Gpt2(Gpt2Config { task, ..c }),
            other => other,
        })
    }

    /// Returns what the labels of a classifier of samples or images are; `None` for what else it is
    /// trained for.
    pub fn problem(&self) -> Option<Problem> {
        let problem = match self {
            ModelConfig::Decoder(c) => c.problem,
            ModelConfig::Encoder(c) => c.problem,
            ModelConfig::ModernBert(c) => c.problem,
            ModelConfig::Deberta(c) => c.problem,
            ModelConfig::Opt(c) => c.problem,
            ModelConfig::Gpt2(c) => c.problem,
            ModelConfig::Vit(c) => c.problem,
            ModelConfig::ResNet(c) => c.problem,
            ModelConfig::ConvNext(c) => c.problem,
            ModelConfig::Swin(c) => c.problem,
            ModelConfig::T5(_) | ModelConfig::Bart(_) | ModelConfig::Whisper(_) => return None,
        };
        let labels_samples =
            matches!(self.task(), Task::SequenceClassification | Task::ImageClassification);
        labels_samples.then_some(problem)
    }

    /// Whether positions are learned, so that none beyond the last is possible.
    pub fn has_learned_positions(&self) -> bool {
        match self {
            ModelConfig::Decoder(_) | ModelConfig::T5(_) | ModelConfig::ModernBert(_) => false,
            ModelConfig::Encoder(_)
            | ModelConfig::Deberta(_)
            | ModelConfig::Bart(_)
            | ModelConfig::Whisper(_) => true,
            ModelConfig::Opt(_) | ModelConfig::Gpt2(_) => true,
            ModelConfig::Vit(_)
            | ModelConfig::ResNet(_)
            | ModelConfig::ConvNext(_)
            | ModelConfig::Swin(_) => true,
        }
    }

    /// Whether tokens are sent to experts.
    pub fn has_experts(&self) -> bool {
        matches!(self, ModelConfig::Decoder(c) if c.experts.is_some())
    }

    /// Returns height and width of the images that it takes; `None` for a model of text.
    pub fn image_size(&self) -> Option<u64> {
        match self {
            ModelConfig::Vit(c) => Some(c.image_size),
            ModelConfig::ResNet(c) => Some(c.image_size),
            ModelConfig::ConvNext(c) => Some(c.image_size),
            ModelConfig::Swin(c) => Some(c.image_size),
            ModelConfig::Decoder(_)
            | ModelConfig::Encoder(_)
            | ModelConfig::ModernBert(_)
            | ModelConfig::Deberta(_)
            | ModelConfig::T5(_)
            | ModelConfig::Bart(_)
            | ModelConfig::Whisper(_)
            | ModelConfig::Opt(_)
            | ModelConfig::Gpt2(_) => None,
        }
    }

    /// Whether it normalises over the samples of a batch.
    pub fn has_batch_norm(&self) -> bool {
        matches!(self, ModelConfig::ResNet(_))
    }

    /// Returns the smallest image that runs, in pixels.
    pub fn smallest_image(&self) -> u64 {
        match self {
            ModelConfig::Vit(c) => c.patch_size,
            ModelConfig::ConvNext(c) => c.smallest_image(),
            ModelConfig::Swin(c) => c.smallest_image(),
            _ => 1,
        }
    }

    /// Returns the model for images of another height and width; a model of text as it is.
    #[must_use]
    pub fn with_image_size(self, image_size: u64) -> ModelConfig {
        match self {
            ModelConfig::Vit(c) => ModelConfig::Vit(VitConfig { image_size, ..c }),
            ModelConfig::ResNet(c) => ModelConfig::ResNet(ResNetConfig { image_size, ..c }),
            ModelConfig::ConvNext(c) => ModelConfig::ConvNext(ConvNextConfig { image_size, ..c }),
            ModelConfig::Swin(c) => ModelConfig::Swin(SwinConfig { image_size, ..c }),
            text => text,
        }
    }

    /// Whether that transformers takes the order to checkpoint the model's layers and does not follow it.
    pub fn ignores_checkpointing(&self, transformers: Version) -> bool {
        let between = (ATTENTION_INTERFACE..STARCODER2_CHECKPOINTS).contains(&transformers);
        matches!(self, ModelConfig::Decoder(c) if c.family == Family::Starcoder2) && between
    }

    /// Whether transformers refuses to checkpoint the model's activations.
    ///
    /// Source: `supports_gradient_checkpointing` is not set in modeling_resnet.py of 4.56.2, 5.23.0.
    pub fn refuses_checkpointing(&self) -> bool {
        matches!(self, ModelConfig::ResNet(_) | ModelConfig::ConvNext(_))
    }

    /// Whether transformers refuses `sdpa` for the model: it has no soft cap, no bias by position, and
    /// no attention at all.
    ///
    /// Source: `_supports_sdpa` in the models' `modeling_*.py`; in modeling_resnet.py it is not set.
    pub fn refuses_sdpa(&self, transformers: Version) -> bool {
        match self {
            ModelConfig::ResNet(_) | ModelConfig::ConvNext(_) | ModelConfig::Deberta(_) => true,
            ModelConfig::T5(_) => transformers < T5_AS_BART,
            ModelConfig::Swin(_) => transformers < VISION_AS_DECODERS,
            ModelConfig::Decoder(c) => match c.family {
                Family::Gemma2 => transformers >= GEMMA2_REFUSES_SDPA,
                Family::Phi3 => transformers < SDPA_IN_PHI3,
                _ => false,
            },
            ModelConfig::Encoder(c) => match c.family {
                EncoderFamily::Bert => false,
                EncoderFamily::Roberta | EncoderFamily::XlmRoberta => {
                    transformers < SDPA_IN_ROBERTA
                }
                EncoderFamily::DistilBert => transformers < SDPA_IN_DISTILBERT_AND_OPT,
            },
            ModelConfig::Opt(_) => transformers < SDPA_IN_DISTILBERT_AND_OPT,
            _ => false,
        }
    }

    /// Whether transformers takes eager attention for the model where none is asked for.
    pub fn is_eager_by_default(&self, transformers: Version) -> bool {
        let is_gemma2 = matches!(self, ModelConfig::Decoder(c) if c.family == Family::Gemma2);
        let swaps = (GEMMA2_EAGER_BY_DEFAULT..ATTENTION_INTERFACE).contains(&transformers);
        self.refuses_sdpa(transformers) || is_gemma2 && swaps
    }

    /// Returns the most tokens that an encoder-decoder is made to write: labels have a length of their
    /// own. `None` for other models.
    pub fn max_label_len(&self) -> Option<u64> {
        match self {
            ModelConfig::T5(_) | ModelConfig::Bart(_) => Some(self.max_seq_len()),
            ModelConfig::Whisper(c) => Some(c.max_target_positions),
            _ => None,
        }
    }

    /// Whether it reads audio, of the one length that it is made for.
    pub fn reads_audio(&self) -> bool {
        matches!(self, ModelConfig::Whisper(_))
    }

    /// Returns the longest sequence that the model is made for.
    pub fn max_seq_len(&self) -> u64 {
        match self {
            ModelConfig::Decoder(c) => c.max_position_embeddings,
            ModelConfig::Encoder(c) => c.max_seq_len(),
            ModelConfig::ModernBert(c) => c.max_position_embeddings,
            ModelConfig::Deberta(c) => c.max_position_embeddings,
            ModelConfig::T5(c) => c.n_positions,
            ModelConfig::Bart(c) => c.max_position_embeddings,
            ModelConfig::Whisper(c) => c.max_source_positions,
            ModelConfig::Opt(c) => c.max_position_embeddings,
            ModelConfig::Gpt2(c) => c.n_positions,
            ModelConfig::Vit(c) => c.tokens(),
            ModelConfig::ResNet(_) | ModelConfig::ConvNext(_) | ModelConfig::Swin(_) => 1,
        }
    }

    /// Returns the number of parameters: every weight and bias, tied ones once.
    ///
    /// What `sum(p.numel() for p in model.parameters())` gives for the class with the task's head.
    /// Sizes within the limits of `ingest` cannot overflow.
    ///
    /// Source: the layers of the architectures' modeling files of transformers 4.56 and 5.23.
    /// Checked in tests/profiles_models.rs and tests/ingest_config.
    pub fn parameter_count(&self) -> u64 {
        match self {
            ModelConfig::Decoder(c) => c.parameter_count(),
            ModelConfig::Encoder(c) => c.parameter_count(),
            ModelConfig::ModernBert(c) => c.parameter_count(),
            ModelConfig::Deberta(c) => c.parameter_count(),
            ModelConfig::T5(c) => c.parameter_count(),
            ModelConfig::Bart(c) => c.parameter_count(),
            ModelConfig::Whisper(c) => c.parameter_count(),
            ModelConfig::Opt(c) => c.parameter_count(),
            ModelConfig::Gpt2(c) => c.parameter_count(),
            ModelConfig::Vit(c) => c.parameter_count(),
            ModelConfig::ResNet(c) => c.parameter_count(),
            ModelConfig::ConvNext(c) => c.parameter_count(),
            ModelConfig::Swin(c) => c.parameter_count(),
        }
    }
}
