//! `model_type` deberta-v2, which DeBERTa-v3 has too.
//!
//! Source: configuration_deberta_v2.py and modeling_deberta_v2.py of transformers 4.56.2 and 5.23.0.

use serde_json::Value;

use crate::ingest::encoder::task;
use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, excerpt, limit, wrong_type};
use crate::ingest::labels::{num_labels, problem};
use crate::model::config::{Activation, DebertaConfig, DebertaConvolution, RelativeAttention};

/// Reads the keys of a DeBERTa-v2 or v3.
pub(super) fn read(fields: &mut Fields<'_>) -> Result<DebertaConfig, ConfigError> {
    refuse_what_differs(fields)?;
    let hidden_size = fields.size("hidden_size", limit::HIDDEN)?;
    let heads = fields.size("num_attention_heads", limit::HEADS)?;
    if !hidden_size.is_multiple_of(heads) {
        return Err(ConfigError::NotDivisible {
            key: "hidden_size",
            value: hidden_size,
            by: "num_attention_heads",
            divisor: heads,
        });
    }
    if let Some(size) = fields.optional_size("attention_head_size", limit::HEADS)?
        && size * heads != hidden_size
    {
        let text =
            format!("`attention_head_size` is {size}, and {heads} of them not `hidden_size`");
        return Err(ConfigError::Contradiction(text));
    }
    let positions = fields.size_or("max_position_embeddings", limit::POSITIONS, 512)?;
    let hidden_dropout = fields.dropout("hidden_dropout_prob", 0.1)?;
    let norms = fields.text("norm_rel_ebd")?.unwrap_or("none").to_lowercase();
    Ok(DebertaConfig {
        task: task(fields)?,
        hidden_size,
        intermediate_size: fields.size("intermediate_size", limit::INTERMEDIATE)?,
        num_hidden_layers: fields.size("num_hidden_layers", limit::LAYERS)?,
        num_attention_heads: heads,
        vocab_size: fields.size("vocab_size", limit::VOCABULARY)?,
        max_position_embeddings: positions,
        type_vocab_size: fields.count("type_vocab_size", limit::VOCABULARY)?.unwrap_or(0),
        position_biased_input: fields.switch("position_biased_input", true)?,
        hidden_act: fields.activation("hidden_act", Activation::Gelu)?,
        relative: relative_attention(fields, positions)?,
        norms_distances: norms.split('|').any(|part| part.trim() == "layer_norm"),
        convolution: convolution(fields)?,
        hidden_dropout,
        attention_dropout: fields.dropout("attention_probs_dropout_prob", 0.1)?,
        pooler_dropout: fields.dropout("pooler_dropout", 0.0)?,
        pooler_hidden_act: fields.activation("pooler_hidden_act", Activation::Gelu)?,
        classifier_dropout: fields.dropout_or("cls_dropout", hidden_dropout)?,
        names_problem: fields.get("problem_type").is_some(),
        problem: problem(fields, num_labels(fields)?)?,
        num_labels: num_labels(fields)?,
    })
}

/// What attention does with distances, of as many as there are positions where nothing else is said.
fn relative_attention(
    fields: &Fields<'_>,
    positions: u64,
) -> Result<Option<RelativeAttention>, ConfigError> {
    if !fields.switch("relative_attention", false)? {
        return Ok(None);
    }
    // -1 stands for what is not set.
    let set = |key| match fields.get(key).and_then(Value::as_i64) {
        Some(n) if n < 1 => Ok(None),
        _ => fields.optional_size(key, limit::POSITIONS),
    };
    let buckets = set("position_buckets")?;
    let most = set("max_relative_positions")?.unwrap_or(positions);
    let [content_to_position, position_to_content] = attention_types(fields)?;
    Ok(Some(RelativeAttention {
        distances: buckets.unwrap_or(most),
        buckets_distances: buckets.is_some(),
        share_att_key: fields.switch("share_att_key", false)?,
        content_to_position,
        position_to_content,
    }))
}

/// The convolution behind the first layer.
fn convolution(fields: &Fields<'_>) -> Result<Option<DebertaConvolution>, ConfigError> {
    let key = "conv_kernel_size";
    match fields.count(key, limit::PIXELS)? {
        None | Some(0) => Ok(None),
        Some(kernel_size) if kernel_size % 2 == 1 => {
            let activation = fields.activation("conv_act", Activation::Tanh)?;
            Ok(Some(DebertaConvolution { kernel_size, activation }))
        }
        Some(even) => {
            let (value, allowed) = (even.to_string(), "odd, so that no token is lost".to_owned());
            Err(ConfigError::OutOfRange { key, value, allowed })
        }
    }
}

/// Whether tokens attend to distances, and distances to tokens; neither where nothing is said.
fn attention_types(fields: &Fields<'_>) -> Result<[bool; 2], ConfigError> {
    let key = "pos_att_type";
    let named: Vec<String> = match fields.get(key) {
        None => Vec::new(),
        Some(Value::String(text)) => {
            text.to_lowercase().split('|').map(|part| part.trim().to_owned()).collect()
        }
        Some(Value::Array(names)) => names
            .iter()
            .map(|name| name.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| wrong_type(key, &Value::Array(names.clone()), "a list of names"))?,
        Some(other) => return Err(wrong_type(key, other, "a list of names")),
    };
    Ok(["c2p", "p2c"].map(|kind| named.iter().any(|name| name == kind)))
}

fn refuse_what_differs(fields: &Fields<'_>) -> Result<(), ConfigError> {
    let unsupported = |key, value: &str, supported| {
        Err(ConfigError::Unsupported { key, value: value.to_owned(), supported })
    };
    if !fields.switch("tie_word_embeddings", true)? {
        return unsupported("tie_word_embeddings", "false", "a head that shares the embedding");
    }
    if !fields.switch("legacy", true)? {
        return unsupported("legacy", "false", "true: the head that transformers loads");
    }
    if fields.optional_size("conv_groups", limit::HIDDEN)?.is_some_and(|groups| groups > 1) {
        return unsupported("conv_groups", "above 1", "1: all channels see each other");
    }
    for key in ["embedding_size", "pooler_hidden_size"] {
        if let Some(size) = fields.optional_size(key, limit::HIDDEN)?
            && Some(size) != fields.optional_size("hidden_size", limit::HIDDEN)?
        {
            return unsupported(key, &excerpt(&size.to_string()), "as wide as `hidden_size`");
        }
    }
    Ok(())
}
