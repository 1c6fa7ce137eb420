//! Decoders out of shared blocks: `model_type` llama, mistral, qwen2, qwen3, gemma2, gemma3_text,
//! phi3, gpt_neox, olmo2, starcoder2, mixtral, qwen3_moe.
//!
//! Source: `configuration_*.py` of transformers 4.56.2 and 5.23.0, which agree on every default
//! used here.

use crate::ingest::error::ConfigError;
use crate::ingest::experts;
use crate::ingest::fields::{Fields, limit};
use crate::ingest::labels::{note_padding, num_labels, problem, task};
use crate::ingest::windows;
use crate::model::config::{Activation, AttentionConfig, DecoderConfig, Family, MlpConfig, Task};

/// What a family takes where its file is silent.
struct Defaults {
    /// `None`: as many as query heads.
    key_value_heads: Option<u64>,
    /// `None`: the width divided by the heads.
    head_dim: Option<u64>,
    max_position_embeddings: u64,
    tie_word_embeddings: bool,
    activation: Activation,
}

const LLAMA: Defaults = Defaults {
    key_value_heads: None,
    head_dim: None,
    max_position_embeddings: 2048,
    tie_word_embeddings: false,
    activation: Activation::Silu,
};

const fn defaults(family: Family) -> Defaults {
    match family {
        Family::Llama | Family::Olmo2 => LLAMA,
        Family::Mistral | Family::Mixtral => {
            Defaults { key_value_heads: Some(8), max_position_embeddings: 131_072, ..LLAMA }
        }
        Family::Qwen2 => {
            Defaults { key_value_heads: Some(32), max_position_embeddings: 32_768, ..LLAMA }
        }
        Family::Qwen3 => Defaults {
            key_value_heads: Some(32),
            head_dim: Some(128),
            max_position_embeddings: 32_768,
            ..LLAMA
        },
        Family::Qwen3Moe => {
            Defaults { key_value_heads: Some(4), max_position_embeddings: 32_768, ..LLAMA }
        }
        Family::Gemma2 => Defaults {
            key_value_heads: Some(4),
            head_dim: Some(256),
            max_position_embeddings: 8192,
            tie_word_embeddings: true,
            activation: Activation::GeluPytorchTanh,
        },
        Family::Gemma3 => Defaults {
            key_value_heads: Some(4),
            head_dim: Some(256),
            max_position_embeddings: 131_072,
            tie_word_embeddings: true,
            activation: Activation::GeluPytorchTanh,
        },
        Family::Phi3 => Defaults { max_position_embeddings: 4096, ..LLAMA },
        Family::GptNeoX => Defaults { activation: Activation::Gelu, ..LLAMA },
        Family::Starcoder2 => Defaults {
            key_value_heads: Some(2),
            max_position_embeddings: 4096,
            tie_word_embeddings: true,
            activation: Activation::GeluPytorchTanh,
            ..LLAMA
        },
    }
}

/// Reads the keys of a family's model.
pub(super) fn read(fields: &mut Fields<'_>, family: Family) -> Result<DecoderConfig, ConfigError> {
    let defaults = defaults(family);
    let hidden_size = fields.size("hidden_size", limit::HIDDEN)?;
    let num_hidden_layers = fields.size("num_hidden_layers", limit::LAYERS)?;
    let activation_key = match family {
        Family::Gemma2 | Family::Gemma3 => "hidden_activation",
        _ => "hidden_act",
    };
    if family == Family::Gemma3 && fields.switch("use_bidirectional_attention", false)? {
        return Err(ConfigError::Unsupported {
            key: "use_bidirectional_attention",
            value: "true".to_owned(),
            supported: "causal attention",
        });
    }
    let attention = attention(fields, family, hidden_size, &defaults)?;
    let mlp_bias = match family {
        Family::Llama => fields.switch("mlp_bias", false)?,
        Family::Starcoder2 => fields.switch("use_bias", true)?,
        Family::GptNeoX => true,
        _ => false,
    };
    let (embedding_dropout, residual_dropout) = match family {
        Family::Phi3 => (0.0, fields.dropout("resid_pdrop", 0.0)?),
        Family::GptNeoX => {
            let dropout = fields.dropout("hidden_dropout", 0.0)?;
            (dropout, dropout)
        }
        Family::Starcoder2 => {
            let embedding = fields.dropout("embedding_dropout", 0.0)?;
            (embedding, fields.dropout("residual_dropout", 0.0)?)
        }
        _ => (0.0, 0.0),
    };
    let final_softcap = match family {
        Family::Gemma2 => fields.softcap("final_logit_softcapping", true)?,
        Family::Gemma3 => fields.softcap("final_logit_softcapping", false)?,
        _ => false,
    };
    let config = DecoderConfig {
        task: Task::CausalLm,
        problem: problem(fields, num_labels(fields)?)?,
        num_labels: num_labels(fields)?,
        classifier_dropout: classifier_dropout(fields, family)?,
        family,
        hidden_size,
        num_hidden_layers,
        vocab_size: fields.size("vocab_size", limit::VOCABULARY)?,
        max_position_embeddings: fields.size_or(
            "max_position_embeddings",
            limit::POSITIONS,
            defaults.max_position_embeddings,
        )?,
        tie_word_embeddings: fields.switch("tie_word_embeddings", defaults.tie_word_embeddings)?,
        attention,
        mlp: MlpConfig {
            intermediate_size: fields.size("intermediate_size", limit::INTERMEDIATE)?,
            bias: mlp_bias,
            activation: fields.activation(activation_key, defaults.activation)?,
        },
        experts: experts::read(fields, family, num_hidden_layers)?,
        window: windows::read(fields, family, num_hidden_layers)?,
        named_window: windows::named(fields, family)?,
        switched_window: windows::switched(fields, family)?,
        embedding_dropout,
        residual_dropout,
        parallel_residual: family == Family::GptNeoX
            && fields.switch("use_parallel_residual", true)?,
        final_softcap,
    };
    let task = task(fields, config.tasks());
    if task == Task::SequenceClassification {
        note_padding(fields);
    }
    Ok(DecoderConfig { task, ..config })
}

/// `classifier_dropout`, or `hidden_dropout` where the class does not read its own.
///
/// Source: transformers `modeling_layers.py` (`GenericForTokenClassification`), `modeling_gpt_neox.py`.
fn classifier_dropout(fields: &Fields<'_>, family: Family) -> Result<f64, ConfigError> {
    if family == Family::GptNeoX {
        return fields.dropout("classifier_dropout", 0.1);
    }
    let hidden = fields.dropout_or("hidden_dropout", 0.1)?;
    fields.dropout_or("classifier_dropout", hidden)
}

fn attention(
    fields: &mut Fields<'_>,
    family: Family,
    hidden_size: u64,
    defaults: &Defaults,
) -> Result<AttentionConfig, ConfigError> {
    let heads = fields.size("num_attention_heads", limit::HEADS)?;
    let key_value_heads = match family {
        Family::GptNeoX => heads,
        _ => key_value_heads(fields, heads, defaults.key_value_heads)?,
    };
    let head_dim = head_dim(fields, family, hidden_size, heads, defaults.head_dim)?;
    // Mistral's projections have no bias, whatever its file says; Qwen2's output has none.
    let (qkv_bias, output_bias) = match family {
        Family::Mistral | Family::Mixtral | Family::Phi3 => (false, false),
        Family::Qwen2 => (true, false),
        Family::Starcoder2 => {
            let bias = fields.switch("use_bias", true)?;
            (bias, bias)
        }
        Family::GptNeoX => {
            let bias = fields.switch("attention_bias", true)?;
            (bias, bias)
        }
        _ => {
            let bias = fields.switch("attention_bias", false)?;
            (bias, bias)
        }
    };
    Ok(AttentionConfig {
        heads,
        key_value_heads,
        head_dim,
        rotary_dim: rotary_dim(fields, family, head_dim)?,
        qkv_bias,
        output_bias,
        softcap: family == Family::Gemma2 && fields.softcap("attn_logit_softcapping", true)?,
        dropout: fields.dropout("attention_dropout", 0.0)?,
    })
}

/// Missing is the family's default; null is as many as query heads, in every family.
fn key_value_heads(
    fields: &mut Fields<'_>,
    heads: u64,
    default: Option<u64>,
) -> Result<u64, ConfigError> {
    let key = "num_key_value_heads";
    let found = match fields.optional_size(key, limit::HEADS)? {
        Some(found) => found,
        None if fields.has(key) => heads,
        None => {
            let default = default.unwrap_or(heads);
            fields.assume(key, default);
            default
        }
    };
    if !heads.is_multiple_of(found) {
        return Err(ConfigError::NotDivisible {
            key: "num_attention_heads",
            value: heads,
            by: key,
            divisor: found,
        });
    }
    Ok(found)
}

/// GPT-NeoX divides the width by the heads, whatever its file says.
fn head_dim(
    fields: &mut Fields<'_>,
    family: Family,
    hidden_size: u64,
    heads: u64,
    default: Option<u64>,
) -> Result<u64, ConfigError> {
    let found = match family {
        Family::GptNeoX => None,
        _ => fields.optional_size("head_dim", limit::HEADS)?,
    };
    let default = default.filter(|_| !fields.has("head_dim"));
    if let (None, Some(default)) = (found, default) {
        fields.assume("head_dim", default);
    }
    let head_dim = match found.or(default) {
        Some(head_dim) => head_dim,
        None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => {
            return Err(ConfigError::NotDivisible {
                key: "hidden_size",
                value: hidden_size,
                by: "num_attention_heads",
                divisor: heads,
            });
        }
    };
    if head_dim % 2 == 1 {
        return Err(ConfigError::OutOfRange {
            key: "head_dim",
            value: head_dim.to_string(),
            allowed: "even, as rotary embeddings need".to_owned(),
        });
    }
    Ok(head_dim)
}

/// How much of a head the rotary embedding turns: all of it, but for two families.
fn rotary_dim(fields: &Fields<'_>, family: Family, head_dim: u64) -> Result<u64, ConfigError> {
    let (key, default) = match family {
        Family::Phi3 => ("partial_rotary_factor", 1.0),
        Family::GptNeoX => ("rotary_pct", 0.25),
        _ => return Ok(head_dim),
    };
    let nested = ["rope_parameters", "rope_scaling"]
        .iter()
        .find_map(|outer| fields.get(outer)?.get("partial_rotary_factor")?.as_f64());
    let factor = match nested {
        Some(factor) => factor,
        None => fields.dropout(key, default)?,
    };
    let dim = (head_dim as f64 * factor) as u64;
    if dim == 0 || dim % 2 == 1 || dim > head_dim {
        return Err(ConfigError::OutOfRange {
            key,
            value: factor.to_string(),
            allowed: format!("a part of {head_dim} that is even, as rotary embeddings need"),
        });
    }
    Ok(dim)
}
