//! `model_type` bert, roberta, xlm-roberta and distilbert.
//!
//! Source: configuration_{bert,roberta,xlm_roberta,distilbert}.py of transformers 4.56.2 and 5.23.0.

use serde_json::Value;

use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, excerpt, limit};
use crate::ingest::labels::{num_labels, problem};
use crate::model::config::{Activation, EncoderConfig, EncoderFamily, Task};

/// Reads the keys of an encoder.
pub(super) fn read(
    fields: &mut Fields<'_>,
    family: EncoderFamily,
) -> Result<EncoderConfig, ConfigError> {
    refuse_what_differs(fields)?;
    let sizes = if family == EncoderFamily::DistilBert {
        distilbert(fields)?
    } else {
        bert(fields, family)?
    };
    if !sizes.hidden_size.is_multiple_of(sizes.num_attention_heads) {
        let distil = family == EncoderFamily::DistilBert;
        return Err(ConfigError::NotDivisible {
            key: if distil { "dim" } else { "hidden_size" },
            value: sizes.hidden_size,
            by: if distil { "n_heads" } else { "num_attention_heads" },
            divisor: sizes.num_attention_heads,
        });
    }
    Ok(sizes)
}

fn bert(fields: &mut Fields<'_>, family: EncoderFamily) -> Result<EncoderConfig, ConfigError> {
    let hidden_dropout = fields.dropout("hidden_dropout_prob", 0.1)?;
    let classifier_dropout = fields.dropout_or("classifier_dropout", hidden_dropout)?;
    let pad = u64::from(family.counts_positions());
    Ok(EncoderConfig {
        family,
        task: task(fields)?,
        hidden_size: fields.size("hidden_size", limit::HIDDEN)?,
        intermediate_size: fields.size("intermediate_size", limit::INTERMEDIATE)?,
        num_hidden_layers: fields.size("num_hidden_layers", limit::LAYERS)?,
        num_attention_heads: fields.size("num_attention_heads", limit::HEADS)?,
        max_position_embeddings: fields.size_or(
            "max_position_embeddings",
            limit::POSITIONS,
            512,
        )?,
        type_vocab_size: fields.size_or("type_vocab_size", limit::VOCABULARY, 2)?,
        vocab_size: fields.size("vocab_size", limit::VOCABULARY)?,
        pad_token_id: fields.count("pad_token_id", limit::VOCABULARY)?.unwrap_or(pad),
        hidden_act: fields.activation("hidden_act", Activation::Gelu)?,
        hidden_dropout,
        attention_dropout: fields.dropout("attention_probs_dropout_prob", 0.1)?,
        sequence_dropout: classifier_dropout,
        token_dropout: classifier_dropout,
        problem: problem(fields, num_labels(fields)?)?,
        num_labels: num_labels(fields)?,
    })
}

/// DistilBERT's `attribute_map` gives three of its keys a second name.
fn distilbert(fields: &mut Fields<'_>) -> Result<EncoderConfig, ConfigError> {
    let dropout = fields.dropout("dropout", 0.1)?;
    Ok(EncoderConfig {
        family: EncoderFamily::DistilBert,
        task: task(fields)?,
        hidden_size: fields.either("dim", "hidden_size", limit::HIDDEN)?,
        intermediate_size: fields.size("hidden_dim", limit::INTERMEDIATE)?,
        num_hidden_layers: fields.either("n_layers", "num_hidden_layers", limit::LAYERS)?,
        num_attention_heads: fields.either("n_heads", "num_attention_heads", limit::HEADS)?,
        max_position_embeddings: fields.size_or(
            "max_position_embeddings",
            limit::POSITIONS,
            512,
        )?,
        type_vocab_size: 0,
        vocab_size: fields.size("vocab_size", limit::VOCABULARY)?,
        pad_token_id: fields.count("pad_token_id", limit::VOCABULARY)?.unwrap_or(0),
        hidden_act: fields.activation("activation", Activation::Gelu)?,
        hidden_dropout: dropout,
        attention_dropout: fields.dropout("attention_dropout", 0.1)?,
        sequence_dropout: fields.dropout("seq_classif_dropout", 0.2)?,
        token_dropout: dropout,
        problem: problem(fields, num_labels(fields)?)?,
        num_labels: num_labels(fields)?,
    })
}

/// The task of the class that `architectures` names, else that of pretraining.
pub(super) fn task(fields: &Fields<'_>) -> Result<Task, ConfigError> {
    let named = fields.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
    let found = named.and_then(Task::of_class).filter(|task| *task != Task::CausalLm);
    Ok(found.unwrap_or(Task::MaskedLm))
}

/// Refuses keys that turn the model into another one.
pub(super) fn refuse_what_differs(fields: &Fields<'_>) -> Result<(), ConfigError> {
    let unsupported = |key, value: &str, supported| {
        Err(ConfigError::Unsupported { key, value: value.to_owned(), supported })
    };
    for key in ["is_decoder", "add_cross_attention"] {
        if fields.switch(key, false)? {
            return unsupported(key, "true", "an encoder alone");
        }
    }
    if !fields.switch("tie_word_embeddings", true)? {
        return unsupported("tie_word_embeddings", "false", "a head that shares the embedding");
    }
    if fields.count("chunk_size_feed_forward", limit::POSITIONS)?.is_some_and(|size| size > 0) {
        return unsupported("chunk_size_feed_forward", "above 0", "0: the MLP in one piece");
    }
    if let Some(kind) = fields.text("position_embedding_type")?
        && kind != "absolute"
    {
        let supported = "absolute";
        return unsupported("position_embedding_type", &format!("`{}`", excerpt(kind)), supported);
    }
    match fields.get("pruned_heads") {
        Some(Value::Object(heads)) if !heads.is_empty() => {
            unsupported("pruned_heads", "set", "all heads")
        }
        _ => Ok(()),
    }
}
