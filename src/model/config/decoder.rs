//! The sizes of decoders that are built out of the shared blocks; what differs in code between
//! their families is `model::decoder::architecture`.

use crate::model::config::{Activation, Problem, Task};
use crate::model::decoder::architecture::{
    Architecture, Mlp, NormKind, QkNorm, Residuals, Rotation,
};
use crate::model::options::Version;
use crate::model::versions::{MASKS_BY_FUNCTION, OLMO2_CLASSIFIES, TRANSFORMERS_5};

/// The families: each is one `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `llama`
    Llama,
    /// `mistral`
    Mistral,
    /// `qwen2`: Qwen2 and Qwen2.5.
    Qwen2,
    /// `qwen3`
    Qwen3,
    /// `gemma2`
    Gemma2,
    /// `gemma3_text`
    Gemma3,
    /// `phi3`: Phi-3, Phi-3.5 and Phi-4.
    Phi3,
    /// `gpt_neox`: GPT-NeoX and Pythia.
    GptNeoX,
    /// `olmo2`
    Olmo2,
    /// `starcoder2`
    Starcoder2,
    /// `mixtral`
    Mixtral,
    /// `qwen3_moe`
    Qwen3Moe,
}

impl Family {
    /// All families.
    pub const ALL: [Family; 12] = [
        Family::Llama,
        Family::Mistral,
        Family::Qwen2,
        Family::Qwen3,
        Family::Gemma2,
        Family::Gemma3,
        Family::Phi3,
        Family::GptNeoX,
        Family::Olmo2,
        Family::Starcoder2,
        Family::Mixtral,
        Family::Qwen3Moe,
    ];

    /// Returns `model_type` as config.json spells it.
    pub const fn model_type(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Mistral => "mistral",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
            Family::Gemma2 => "gemma2",
            Family::Gemma3 => "gemma3_text",
            Family::Phi3 => "phi3",
            Family::GptNeoX => "gpt_neox",
            Family::Olmo2 => "olmo2",
            Family::Starcoder2 => "starcoder2",
            Family::Mixtral => "mixtral",
            Family::Qwen3Moe => "qwen3_moe",
        }
    }

    /// Whether Liger patches its loss.
    ///
    /// Source: `MODEL_TYPE_TO_APPLY_LIGER_FN` of liger-kernel 0.8.5.
    pub const fn has_fused_loss(self) -> bool {
        !matches!(self, Family::GptNeoX | Family::Starcoder2)
    }
}

/// A decoder out of shared blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// The head and the loss.
    pub task: Task,
    /// What the labels of a classifier of samples are.
    pub problem: Problem,
    /// Labels of a classifier.
    pub num_labels: u64,
    /// Dropout before a classifier of tokens.
    pub classifier_dropout: f64,
    /// Which family, and with it everything that is code and not a size.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden_size: u64,
    /// Decoder layers.
    pub num_hidden_layers: u64,
    /// Tokens in the vocabulary.
    pub vocab_size: u64,
    /// The longest sequence the model is made for.
    pub max_position_embeddings: u64,
    /// Whether the output head shares the embedding's weight.
    pub tie_word_embeddings: bool,
    /// Attention.
    pub attention: AttentionConfig,
    /// The feed-forward block of layers without experts.
    pub mlp: MlpConfig,
    /// Experts, in a mixture.
    pub experts: Option<ExpertsConfig>,
    /// Attention that looks back on a few tokens only.
    pub window: Option<Window>,
    /// The window that config.json names, whether or not `use_sliding_window` has it used.
    pub named_window: Option<u64>,
    /// The same, where `use_sliding_window` is on, on whichever layers.
    pub switched_window: Option<u64>,
    /// Dropout after the embedding.
    pub embedding_dropout: f64,
    /// Dropout after attention and MLP.
    pub residual_dropout: f64,
    /// Whether attention and MLP read the same input (GPT-NeoX's `use_parallel_residual`).
    pub parallel_residual: bool,
    /// Whether logits pass through a soft cap (Gemma's `final_logit_softcapping`).
    pub final_softcap: bool,
}

/// Attention's sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionConfig {
    /// Query heads.
    pub heads: u64,
    /// Key and value heads.
    pub key_value_heads: u64,
    /// Size of one head.
    pub head_dim: u64,
    /// How much of a head the rotary embedding turns.
    pub rotary_dim: u64,
    /// Whether q, k and v projections have a bias.
    pub qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub output_bias: bool,
    /// Whether scores pass through a soft cap (Gemma 2's `attn_logit_softcapping`).
    pub softcap: bool,
    /// Dropout on the attention probabilities, 0.0 for none.
    pub dropout: f64,
}

/// The feed-forward block's sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpConfig {
    /// Width.
    pub intermediate_size: u64,
    /// Whether its projections have a bias.
    pub bias: bool,
    /// Its activation.
    pub activation: Activation,
}

/// A mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertsConfig {
    /// Experts in a layer.
    pub count: u64,
    /// Experts that each token is sent to.
    pub per_token: u64,
    /// Width of one expert.
    pub intermediate_size: u64,
    /// Whether the chosen experts' weights are made to sum to one.
    pub normalized: bool,
    /// Which layers have experts; the others have one MLP.
    pub sparse_layers: Vec<bool>,
}

/// Sliding-window attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Tokens that attention looks back on.
    pub size: u64,
    /// Which layers use it.
    pub layers: Vec<bool>,
    /// Of Gemma 2 and 3: the layers of which every such one is full by the code that reads no
    /// `layer_types`.
    pub pattern: Option<u64>,
}

impl DecoderConfig {
    /// The tasks that it can be trained for.
    ///
    /// Source: the classes in the modeling files of transformers 4.56.2 and 5.23.0.
    pub fn tasks(&self) -> &'static [Task] {
        match self.family {
            Family::Gemma3 | Family::Olmo2 => &[Task::CausalLm, Task::SequenceClassification],
            _ => &[Task::CausalLm, Task::SequenceClassification, Task::TokenClassification],
        }
    }

    /// Whether that transformers has no class for the task yet.
    ///
    /// Source: `modeling_olmo2.py` and `modeling_gemma3.py` of 4.56.2 have no `...ForSequenceClassification` of a
    /// text model; Gemma 3's of 5.0.0 has.
    pub fn lacks_class(&self, transformers: Version) -> bool {
        let since = match self.family {
            Family::Gemma3 => TRANSFORMERS_5,
            Family::Olmo2 => OLMO2_CLASSIFIES,
            _ => return false,
        };
        self.task != Task::CausalLm && transformers < since
    }

    /// Returns what is code of the family, in the newest transformers.
    pub fn architecture(&self) -> &'static Architecture {
        Architecture::of(self.family)
    }

    /// Returns what is code of the family in a version of transformers.
    pub fn architecture_in(&self, transformers: Version) -> &'static Architecture {
        Architecture::in_version(self.family, transformers)
    }

    /// Returns how much of a head the rotary embedding turns in a version of transformers.
    pub fn rotary_dim_in(&self, transformers: Version) -> u64 {
        match self.architecture_in(transformers).rotation {
            Rotation::Whole => self.attention.head_dim,
            Rotation::JoinedEach | Rotation::JoinedLast => self.attention.rotary_dim,
        }
    }

    /// Whether a layer looks back on a window only, to that transformers.
    pub fn slides(&self, layer: usize, transformers: Version) -> bool {
        let Some(window) = &self.window else { return false };
        match window.pattern.filter(|_| transformers < MASKS_BY_FUNCTION) {
            Some(pattern) => !(layer as u64 + 1).is_multiple_of(pattern),
            None => window.layers[layer],
        }
    }

    /// Returns the layer's experts, where it has any.
    pub fn experts_of(&self, layer: usize) -> Option<&ExpertsConfig> {
        self.experts.as_ref().filter(|experts| experts.sparse_layers[layer])
    }

    pub(super) fn parameter_count(&self) -> u64 {
        let hidden = self.hidden_size;
        let norm = match self.architecture().norm {
            NormKind::Layer => 2 * hidden,
            NormKind::Rms | NormKind::RmsCastLate | NormKind::Gemma => hidden,
        };
        let norms = match self.architecture().residuals {
            Residuals::Sandwich => 4,
            Residuals::PreNorm | Residuals::PostNorm | Residuals::Parallel => 2,
        };
        let dense = self.mlp_parameters(self.mlp.intermediate_size);
        let sparse = |experts: &ExpertsConfig| {
            experts.count * (hidden + self.mlp_parameters(experts.intermediate_size))
        };
        let mlps: u64 = (0..self.num_hidden_layers as usize)
            .map(|layer| self.experts_of(layer).map_or(dense, sparse))
            .sum();
        let layers = self.num_hidden_layers * (self.attention_parameters() + norms * norm);
        let head = match self.task {
            Task::SequenceClassification => self.num_labels * hidden,
            Task::TokenClassification => self.num_labels * (hidden + 1),
            _ if self.tie_word_embeddings => 0,
            _ => self.vocab_size * hidden,
        };
        self.vocab_size * hidden + head + layers + mlps + norm
    }

    fn mlp_parameters(&self, inner: u64) -> u64 {
        let hidden = self.hidden_size;
        let (matrices, biases) = match self.architecture().mlp {
            Mlp::Gated { .. } | Mlp::GatedByNumber { .. } | Mlp::FusedGated { .. } => {
                (3, 2 * inner + hidden)
            }
            Mlp::Plain { .. } => (2, inner + hidden),
        };
        matrices * hidden * inner + if self.mlp.bias { biases } else { 0 }
    }

    fn attention_parameters(&self) -> u64 {
        let a = &self.attention;
        let (query, key_value) = (a.heads * a.head_dim, a.key_value_heads * a.head_dim);
        let qkv_bias = if a.qkv_bias { query + 2 * key_value } else { 0 };
        let output_bias = if a.output_bias { self.hidden_size } else { 0 };
        let qk_norm = match self.architecture().qk_norm {
            QkNorm::None => 0,
            QkNorm::HeadsFirst | QkNorm::HeadsLast => 2 * a.head_dim,
            QkNorm::Whole => query + key_value,
        };
        2 * self.hidden_size * (query + key_value) + qkv_bias + output_bias + qk_norm
    }
}
