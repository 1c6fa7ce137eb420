//! How many labels a classifier has.

use serde_json::Value;

use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, excerpt, limit, wrong_type};
use crate::model::config::Problem;

/// Labels where nothing is said about them.
const DEFAULT_LABELS: u64 = 2;

/// Refuses any other loss than that of one label of several.
pub(super) fn single_label(fields: &Fields<'_>) -> Result<(), ConfigError> {
    match fields.text("problem_type")? {
        None | Some("single_label_classification") => Ok(()),
        Some(other) => Err(ConfigError::Unsupported {
            key: "problem_type",
            value: format!("`{}`", excerpt(other)),
            supported: "single_label_classification",
        }),
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
