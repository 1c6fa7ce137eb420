//! `model_type` gpt2.
//!
//! Source: configuration_gpt2.py of transformers 4.56.2 and 5.23.0. `n_ctx` is written by old
//! versions and read by none.

use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, limit};
use crate::ingest::labels::{note_padding, num_labels, problem, task};
use crate::model::config::{Activation, Gpt2Config, Task};

/// Reads the keys of a GPT-2.
pub(super) fn read(fields: &mut Fields<'_>) -> Result<Gpt2Config, ConfigError> {
    let n_embd = size(fields, "n_embd", "hidden_size", limit::HIDDEN)?;
    let n_layer = size(fields, "n_layer", "num_hidden_layers", limit::LAYERS)?;
    let n_head = size(fields, "n_head", "num_attention_heads", limit::HEADS)?;
    if !n_embd.is_multiple_of(n_head) {
        return Err(ConfigError::NotDivisible {
            key: "n_embd",
            value: n_embd,
            by: "n_head",
            divisor: n_head,
        });
    }
    let positions = alias(fields, "n_positions", "max_position_embeddings", limit::POSITIONS)?;
    if positions.is_none() {
        fields.assume("n_positions", 1024);
    }
    if fields.switch("add_cross_attention", false)? {
        return Err(ConfigError::Unsupported {
            key: "add_cross_attention",
            value: "true".to_owned(),
            supported: "a decoder alone",
        });
    }
    let task = task(fields, Gpt2Config::TASKS);
    if task == Task::SequenceClassification {
        note_padding(fields);
    }
    let hidden_dropout = fields.dropout_or("hidden_dropout", 0.1)?;
    Ok(Gpt2Config {
        task,
        problem: problem(fields, num_labels(fields)?)?,
        num_labels: num_labels(fields)?,
        classifier_dropout: fields.dropout_or("classifier_dropout", hidden_dropout)?,
        n_embd,
        n_inner: fields.optional_size("n_inner", limit::INTERMEDIATE)?.unwrap_or(4 * n_embd),
        n_layer,
        n_head,
        n_positions: positions.unwrap_or(1024),
        vocab_size: fields.size("vocab_size", limit::VOCABULARY)?,
        activation_function: fields.activation("activation_function", Activation::GeluNew)?,
        embd_pdrop: fields.dropout("embd_pdrop", 0.1)?,
        attn_pdrop: fields.dropout("attn_pdrop", 0.1)?,
        resid_pdrop: fields.dropout("resid_pdrop", 0.1)?,
        tie_word_embeddings: fields.switch("tie_word_embeddings", true)?,
        scale_attn_weights: fields.switch("scale_attn_weights", true)?,
        scale_attn_by_inverse_layer_idx: fields.switch("scale_attn_by_inverse_layer_idx", false)?,
        reorder_and_upcast_attn: fields.switch("reorder_and_upcast_attn", false)?,
    })
}

fn size(
    fields: &mut Fields<'_>,
    key: &'static str,
    other: &'static str,
    most: u64,
) -> Result<u64, ConfigError> {
    let found = alias(fields, key, other, most)?;
    fields.or_default(found, key)
}

/// GPT-2's `attribute_map` gives four of its keys a second name; either is taken, not both.
fn alias(
    fields: &Fields<'_>,
    key: &'static str,
    other: &'static str,
    most: u64,
) -> Result<Option<u64>, ConfigError> {
    match (fields.optional_size(key, most)?, fields.optional_size(other, most)?) {
        (Some(a), Some(b)) if a != b => {
            Err(ConfigError::Contradiction(format!("`{key}` is {a}, and `{other}` is {b}")))
        }
        (a, b) => Ok(a.or(b)),
    }
}
