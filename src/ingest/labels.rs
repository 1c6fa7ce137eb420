//! What a decoder is trained for, and how many labels a classifier has.

use serde_json::Value;

use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, excerpt, limit, wrong_type};
use crate::model::config::{Problem, Task};

/// Labels where nothing is said about them.
const DEFAULT_LABELS: u64 = 2;

/// Returns the task of the class that `architectures` names, where it is one of a decoder's.
pub(super) fn task(fields: &Fields<'_>, tasks: &[Task]) -> Task {
    let named = fields.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
    let task = named.and_then(Task::of_class).filter(|task| tasks.contains(task));
    task.unwrap_or(Task::CausalLm)
}

/// Says so where a classifier of samples is not told how to find the last token of one.
pub(super) fn note_padding(fields: &mut Fields<'_>) {
    if fields.get("pad_token_id").is_none() {
        let note = "`pad_token_id` is not in config.json: transformers classifies one sample at a \
                    time until it is set";
        fields.assumed.push(note.to_owned());
    }
}

/// Returns what a classifier of samples has as labels; where nothing is said, one label is a number.
pub(super) fn problem(fields: &Fields<'_>, labels: u64) -> Result<Problem, ConfigError> {
    match fields.text("problem_type")? {
        None if labels == 1 => Ok(Problem::Numbers),
        None => Ok(Problem::OneLabel),
        Some("single_label_classification") if labels > 1 => Ok(Problem::OneLabel),
        Some("regression") => Ok(Problem::Numbers),
        Some("multi_label_classification") if labels > 1 => Ok(Problem::SeveralLabels),
        Some(other) => Err(ConfigError::Unsupported {
            key: "problem_type",
            value: format!("`{}` of {labels}", excerpt(other)),
            supported: "regression, and of several labels single_label_classification or \
                        multi_label_classification",
        }),
    }
}

/// Returns the number of labels: as many as `id2label` names, else `num_labels`.
///
/// Source: configuration_utils.py of transformers 4.56.2 and 5.23.0: 2 where neither is there.
pub(super) fn num_labels(fields: &Fields<'_>) -> Result<u64, ConfigError> {
    match fields.get("id2label") {
        None => {
            let labels = fields.optional_size("num_labels", limit::VOCABULARY)?;
            Ok(labels.unwrap_or(DEFAULT_LABELS))
        }
        Some(Value::Object(names)) if names.is_empty() => Err(ConfigError::Unsupported {
            key: "id2label",
            value: "an empty object".to_owned(),
            supported: "a name for each label",
        }),
        Some(Value::Object(names)) => Ok(names.len() as u64),
        Some(value) => Err(wrong_type("id2label", value, "an object of names by number")),
    }
}
