//! What differs between decoder families in code: one declaration each.
//!
//! Source: `models/*/modeling_*.py` of transformers 4.56.2 and 5.23.0.

use crate::model::config::Family;
use crate::model::options::Version;
use crate::model::update_causal_mask::Drawn;
use crate::model::versions::{
    ATTENTION_INTERFACE, NEOX_ATTENTION_INTERFACE, OLMO2_IN_F32, PHI3_TURNS_PARTS, ROTARY_OF_MODEL,
};

/// A family's code, as a choice of shared blocks.
#[derive(Debug, PartialEq, Eq)]
pub struct Architecture {
    /// The module that holds embedding, layers and last norm.
    pub model: &'static str,
    /// The token embedding's name in it.
    pub embedding: &'static str,
    /// The last norm's name in it.
    pub last_norm: &'static str,
    /// The attention's name in a layer.
    pub attention: &'static str,
    /// How query, key and value are made.
    pub projections: Projections,
    /// The output projection's name.
    pub output: &'static str,
    /// Norms on query and key.
    pub qk_norm: QkNorm,
    /// Tables of cosines and sines.
    pub tables: Tables,
    /// How much of query and key they turn.
    pub rotation: Rotation,
    /// Whether transformers knows key and value heads as groups, and may ask PyTorch to repeat them.
    pub grouped: bool,
    /// The feed-forward block.
    pub mlp: Mlp,
    /// The norms' kind.
    pub norm: NormKind,
    /// Whether attention and MLP drop out their own results, or the layer does.
    pub own_dropout: bool,
    /// Where norms and sums are.
    pub residuals: Residuals,
    /// Whether a layer's norms are registered before its attention.
    pub norms_first: bool,
    /// Which masks are made.
    pub masks: Masks,
    /// How they were drawn before transformers 4.53.
    pub drawn: Drawn,
    /// How the embedding is scaled.
    pub embedding_scale: EmbeddingScale,
    /// What its attention's own classes did, before transformers 4.48.
    pub own: OwnAttention,
}

/// What a family's own attention classes did, before they took `ALL_ATTENTION_FUNCTIONS`.
///
/// Source: `models/*/modeling_*.py` of transformers 4.44.2 to 4.47.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnAttention {
    /// Where its cosines and sines were made.
    pub rotary: RotaryModules,
    /// Whether the mask was added to the scores in place (eager).
    pub adds_mask_in_place: bool,
}

/// Where cosines and sines are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotaryModules {
    /// Once, by a module of the model.
    Model,
    /// The same; each attention has such a module besides, which is not asked.
    ModelAndIdle,
    /// By a module of each attention, in the format of its values, unscaled.
    Attention,
    /// As the model is made, for all its positions: buffers of each attention.
    Cached,
}

/// How query, key and value are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projections {
    /// `q_proj`, `k_proj`, `v_proj`.
    Separate,
    /// `qkv_proj`, cut by slices; registered after the output projection.
    Fused,
    /// `query_key_value`, whose heads hold query, key and value side by side.
    Interleaved,
}

/// Norms on query and key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// On each head, before heads are turned to the front.
    HeadsLast,
    /// On each head, after.
    HeadsFirst,
    /// On all heads together.
    Whole,
}

/// Tables of cosines and sines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    /// One, in the model's dtype.
    One,
    /// One, left in float32: query and key are cast back.
    InF32,
    /// One for full and one for sliding attention.
    ByLayerType,
}

/// How `apply_rotary_pos_emb` treats the part of a head that is not turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// Heads are turned whole.
    Whole,
    /// Query is turned and joined, then key.
    JoinedEach,
    /// Both are turned, then joined.
    JoinedLast,
}

/// The feed-forward block, with its modules' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mlp {
    /// `down(act(gate(x)) * up(x))`
    Gated {
        /// Activation.
        activation: &'static str,
    },
    /// The same, called w1 (gate), w2 (down) and w3 (up), and registered so.
    GatedByNumber {
        /// Activation.
        activation: &'static str,
    },
    /// The same, with gate and up in one projection.
    FusedGated {
        /// Activation.
        activation: &'static str,
    },
    /// `down(act(up(x)))`
    Plain {
        /// First projection.
        up: &'static str,
        /// Activation.
        activation: &'static str,
        /// Second projection.
        down: &'static str,
    },
}

/// A norm's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `weight * normed.to(dtype)`
    Rms,
    /// `(weight * normed).to(dtype)`
    RmsCastLate,
    /// `(normed * (1 + weight)).to(dtype)`, in float32.
    Gemma,
    /// `nn.LayerNorm`
    Layer,
}

/// Where a layer's norms and sums are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residuals {
    /// A norm before attention and MLP.
    PreNorm,
    /// A norm after each.
    PostNorm,
    /// A norm before and after each.
    Sandwich,
    /// Both may read the layer's input (`use_parallel_residual`).
    Parallel,
}

/// Which masks a forward makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masks {
    /// One for all layers: sliding where there is a window.
    One,
    /// A full one, and a sliding one where a layer slides.
    AsUsed,
    /// A full one and a sliding one.
    Both,
}

/// How the token embedding is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbeddingScale {
    /// Not at all.
    None,
    /// By a buffer in newer versions; before, by a number after the rotary tables are made.
    LaterBuffer,
    /// By a buffer.
    Buffer,
}

const LLAMA: Architecture = Architecture {
    model: "model",
    embedding: "embed_tokens",
    last_norm: "norm",
    attention: "self_attn",
    projections: Projections::Separate,
    output: "o_proj",
    qk_norm: QkNorm::None,
    tables: Tables::One,
    rotation: Rotation::Whole,
    grouped: true,
    mlp: Mlp::Gated { activation: "act_fn" },
    norm: NormKind::Rms,
    own_dropout: false,
    residuals: Residuals::PreNorm,
    norms_first: false,
    masks: Masks::One,
    drawn: Drawn::Triangle,
    embedding_scale: EmbeddingScale::None,
    own: OwnAttention { rotary: RotaryModules::ModelAndIdle, adds_mask_in_place: false },
};

const MISTRAL: Architecture = Architecture {
    drawn: Drawn::Compared,
    own: OwnAttention { rotary: RotaryModules::Attention, ..LLAMA.own },
    ..LLAMA
};

const MIXTRAL: Architecture =
    Architecture { own: OwnAttention { rotary: RotaryModules::Cached, ..MISTRAL.own }, ..MISTRAL };

const QWEN2: Architecture = Architecture { masks: Masks::AsUsed, own: LLAMA.own, ..MISTRAL };

const QWEN3: Architecture = Architecture { qk_norm: QkNorm::HeadsLast, ..QWEN2 };

const QWEN3_MOE: Architecture = Architecture { masks: Masks::One, ..QWEN3 };

const GEMMA2: Architecture = Architecture {
    norm: NormKind::Gemma,
    residuals: Residuals::Sandwich,
    masks: Masks::Both,
    drawn: Drawn::Always,
    embedding_scale: EmbeddingScale::LaterBuffer,
    own: MISTRAL.own,
    ..LLAMA
};

const GEMMA3: Architecture = Architecture {
    qk_norm: QkNorm::HeadsFirst,
    tables: Tables::ByLayerType,
    embedding_scale: EmbeddingScale::Buffer,
    ..GEMMA2
};

const PHI3: Architecture = Architecture {
    projections: Projections::Fused,
    rotation: Rotation::JoinedEach,
    mlp: Mlp::FusedGated { activation: "activation_fn" },
    own: OwnAttention { adds_mask_in_place: true, ..MISTRAL.own },
    ..MISTRAL
};

const GPT_NEOX: Architecture = Architecture {
    model: "gpt_neox",
    embedding: "embed_in",
    last_norm: "final_layer_norm",
    attention: "attention",
    projections: Projections::Interleaved,
    output: "dense",
    rotation: Rotation::JoinedLast,
    grouped: false,
    mlp: Mlp::Plain { up: "dense_h_to_4h", activation: "act", down: "dense_4h_to_h" },
    norm: NormKind::Layer,
    residuals: Residuals::Parallel,
    norms_first: true,
    ..LLAMA
};

const OLMO2: Architecture = Architecture {
    qk_norm: QkNorm::Whole,
    tables: Tables::InF32,
    norm: NormKind::RmsCastLate,
    residuals: Residuals::PostNorm,
    own: MISTRAL.own,
    ..LLAMA
};

const STARCODER2: Architecture = Architecture {
    mlp: Mlp::Plain { up: "c_fc", activation: "act", down: "c_proj" },
    norm: NormKind::Layer,
    own_dropout: true,
    own: OwnAttention { adds_mask_in_place: true, ..LLAMA.own },
    ..MISTRAL
};

const OLMO2_AS_LLAMA: Architecture =
    Architecture { tables: Tables::One, norm: NormKind::Rms, ..OLMO2 };

const PHI3_TURNED_WHOLE: Architecture = Architecture { rotation: Rotation::Whole, ..PHI3 };

impl Architecture {
    /// Returns a family's declaration as a version of transformers has it.
    pub fn in_version(family: Family, transformers: Version) -> &'static Architecture {
        match family {
            Family::Olmo2 if transformers < OLMO2_IN_F32 => &OLMO2_AS_LLAMA,
            Family::Phi3 if transformers < PHI3_TURNS_PARTS => &PHI3_TURNED_WHOLE,
            family => Architecture::of(family),
        }
    }

    /// Returns what the family's own attention classes do, where that transformers has them.
    pub fn own_attention(family: Family, transformers: Version) -> Option<OwnAttention> {
        let since = match family {
            Family::GptNeoX => NEOX_ATTENTION_INTERFACE,
            _ => ATTENTION_INTERFACE,
        };
        let own = Architecture::in_version(family, transformers).own;
        let caches = matches!(family, Family::Qwen2 | Family::Starcoder2 | Family::GptNeoX)
            && transformers < ROTARY_OF_MODEL;
        (transformers < since).then_some(match caches {
            true => OwnAttention { rotary: RotaryModules::Cached, ..own },
            false => own,
        })
    }

    /// Returns a family's declaration as the newest transformers has it.
    pub const fn of(family: Family) -> &'static Architecture {
        match family {
            Family::Llama => &LLAMA,
            Family::Mistral => &MISTRAL,
            Family::Mixtral => &MIXTRAL,
            Family::Qwen2 => &QWEN2,
            Family::Qwen3 => &QWEN3,
            Family::Qwen3Moe => &QWEN3_MOE,
            Family::Gemma2 => &GEMMA2,
            Family::Gemma3 => &GEMMA3,
            Family::Phi3 => &PHI3,
            Family::GptNeoX => &GPT_NEOX,
            Family::Olmo2 => &OLMO2,
            Family::Starcoder2 => &STARCODER2,
        }
    }
}

impl Residuals {
    /// Returns the norms' names in a layer, in the order of registration.
    pub const fn norms(self) -> &'static [&'static str] {
        match self {
            Residuals::PreNorm | Residuals::Parallel => {
                &["input_layernorm", "post_attention_layernorm"]
            }
            Residuals::PostNorm => &["post_attention_layernorm", "post_feedforward_layernorm"],
            Residuals::Sandwich => &[
                "input_layernorm",
                "post_attention_layernorm",
                "pre_feedforward_layernorm",
                "post_feedforward_layernorm",
            ],
        }
    }
}
