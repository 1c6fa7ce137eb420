//! `model_type` modernbert.
//!
//! Source: configuration_modernbert.py of transformers 4.56.2 and 5.23.0.

use serde_json::Value;

use crate::ingest::encoder::task;
use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, excerpt, limit};
use crate::ingest::labels::{num_labels, problem};
use crate::model::config::{Activation, ModernBertConfig, Pooling};

/// Reads the keys of a ModernBERT.
pub(super) fn read(fields: &mut Fields<'_>) -> Result<ModernBertConfig, ConfigError> {
    let hidden_size = fields.size("hidden_size", limit::HIDDEN)?;
    let heads = fields.size("num_attention_heads", limit::HEADS)?;
    if !hidden_size.is_multiple_of(2 * heads) {
        return Err(ConfigError::NotDivisible {
            key: "hidden_size",
            value: hidden_size,
            by: "twice `num_attention_heads`",
            divisor: 2 * heads,
        });
    }
    let unsupported = |key, value: &str, supported| {
        Err(ConfigError::Unsupported { key, value: value.to_owned(), supported })
    };
    if !fields.switch("tie_word_embeddings", true)? {
        return unsupported("tie_word_embeddings", "false", "a head that shares the embedding");
    }
    if fields.switch("sparse_prediction", false)? {
        return unsupported("sparse_prediction", "true", "false: scores of all tokens");
    }
    plain_rotary(fields)?;
    let layers = fields.size("num_hidden_layers", limit::LAYERS)?;
    let every = fields.optional_size("global_attn_every_n_layers", limit::LAYERS)?.unwrap_or(3);
    same_layer_types(fields, layers, every)?;
    let pooling = match fields.text("classifier_pooling")? {
        None | Some("cls") => Pooling::First,
        Some("mean") => Pooling::Mean,
        Some(other) => {
            let value = format!("`{}`", excerpt(other));
            return unsupported("classifier_pooling", &value, "cls, mean");
        }
    };
    Ok(ModernBertConfig {
        task: task(fields)?,
        hidden_size,
        intermediate_size: fields.size("intermediate_size", limit::INTERMEDIATE)?,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        vocab_size: fields.size("vocab_size", limit::VOCABULARY)?,
        max_position_embeddings: fields.size_or(
            "max_position_embeddings",
            limit::POSITIONS,
            8192,
        )?,
        hidden_activation: fields.activation("hidden_activation", Activation::Gelu)?,
        classifier_activation: fields.activation("classifier_activation", Activation::Gelu)?,
        local_attention: fields.size_or("local_attention", limit::POSITIONS, 128)?,
        global_attn_every_n_layers: every,
        norm_bias: fields.switch("norm_bias", false)?,
        attention_bias: fields.switch("attention_bias", false)?,
        mlp_bias: fields.switch("mlp_bias", false)?,
        classifier_bias: fields.switch("classifier_bias", false)?,
        decoder_bias: fields.switch("decoder_bias", true)?,
        embedding_dropout: fields.dropout("embedding_dropout", 0.0)?,
        attention_dropout: fields.dropout("attention_dropout", 0.0)?,
        mlp_dropout: fields.dropout("mlp_dropout", 0.0)?,
        classifier_dropout: fields.dropout("classifier_dropout", 0.0)?,
        pooling,
        // null lets transformers 4 look for Triton, which comes with PyTorch.
        reference_compile: fields
            .get("reference_compile")
            .is_none_or(|on| *on != Value::Bool(false)),
        problem: problem(fields, num_labels(fields)?)?,
        num_labels: num_labels(fields)?,
    })
}

/// Refuses lists of layers that a number does not say as well, which is all that transformers 4 reads.
fn same_layer_types(fields: &Fields<'_>, layers: u64, every: u64) -> Result<(), ConfigError> {
    let Some(types) = fields.get("layer_types") else { return Ok(()) };
    let name = |layer: u64| match layer.is_multiple_of(every) {
        true => "full_attention",
        false => "sliding_attention",
    };
    let listed = types.as_array().into_iter().flatten().map(Value::as_str);
    if listed.eq((0..layers).map(|layer| Some(name(layer)))) {
        return Ok(());
    }
    Err(ConfigError::Unsupported {
        key: "layer_types",
        value: "another list".to_owned(),
        supported: "full attention in every `global_attn_every_n_layers`-th layer",
    })
}

/// Refuses rotary embeddings whose frequencies change while it runs.
fn plain_rotary(fields: &Fields<'_>) -> Result<(), ConfigError> {
    let unsupported = |key, value: &str| {
        let value = format!("`{}`", excerpt(value));
        Err(ConfigError::Unsupported { key, value, supported: "default: plain frequencies" })
    };
    let kind = |value: &Value| -> Option<String> {
        let kind = value.get("rope_type").or(value.get("type"))?.as_str()?;
        (kind != "default").then(|| kind.to_owned())
    };
    if let Some(kind) = fields.get("rope_scaling").and_then(kind) {
        return unsupported("rope_scaling", &kind);
    }
    let by_layer = fields.get("rope_parameters").and_then(Value::as_object);
    match by_layer.into_iter().flat_map(|of| of.values()).find_map(kind) {
        Some(kind) => unsupported("rope_parameters", &kind),
        None => Ok(()),
    }
}
