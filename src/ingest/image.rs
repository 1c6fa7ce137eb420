//! Keys that image classifiers share.

use serde_json::Value;

use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, limit, wrong_type};
use crate::ingest::labels::num_labels;

/// Returns the number of classes.
pub(super) fn classes(fields: &mut Fields<'_>) -> Result<u64, ConfigError> {
    let classes = num_labels(fields)?;
    if fields.get("id2label").is_none() && fields.get("num_labels").is_none() {
        fields.assume("num_labels", classes);
    }
    Ok(classes)
}

/// Returns a size that is one number, or a list of two equal ones: height and width.
pub(super) fn square(
    fields: &mut Fields<'_>,
    key: &'static str,
    default: u64,
) -> Result<u64, ConfigError> {
    let Some(Value::Array(sides)) = fields.get(key) else {
        return fields.size_or(key, limit::PIXELS, default);
    };
    match sides.as_slice() {
        [height, width] if height == width => match height.as_u64() {
            Some(side) if (1..=limit::PIXELS).contains(&side) => Ok(side),
            _ => Err(wrong_type(key, height, "a size in pixels")),
        },
        _ => Err(ConfigError::Unsupported {
            key,
            value: "a list of other than two equal numbers".to_owned(),
            supported: "squares",
        }),
    }
}

/// Returns a list of sizes from 1 to `most`, or transformers' default.
pub(super) fn sizes(
    fields: &mut Fields<'_>,
    key: &'static str,
    most: u64,
    default: &[u64],
) -> Result<Vec<u64>, ConfigError> {
    let Some(value) = fields.get(key) else {
        fields.assume(key, format!("{default:?}"));
        return Ok(default.to_vec());
    };
    let Value::Array(values) = value else {
        return Err(wrong_type(key, value, "a list of whole numbers"));
    };
    let read = |value: &Value| match value.as_u64() {
        Some(size) if (1..=most).contains(&size) => Ok(size),
        _ => {
            let value = crate::ingest::fields::describe(value);
            let allowed = format!("whole numbers from 1 to {most}");
            Err(ConfigError::OutOfRange { key, value, allowed })
        }
    };
    let sizes = values.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    if (1..=MOST_STAGES).contains(&sizes.len()) {
        return Ok(sizes);
    }
    let value = format!("a list of {}", sizes.len());
    Err(ConfigError::OutOfRange { key, value, allowed: format!("1 to {MOST_STAGES} numbers") })
}

/// More stages than halve any image down to one pixel.
const MOST_STAGES: usize = 14;

/// Refuses lists of which one has to say something about each of the other's.
pub(super) fn same_length(
    a: (&'static str, &[u64]),
    b: (&'static str, &[u64]),
) -> Result<(), ConfigError> {
    if a.1.len() == b.1.len() {
        return Ok(());
    }
    let text = format!("`{}` has {} numbers, and `{}` {}", a.0, a.1.len(), b.0, b.1.len());
    Err(ConfigError::Contradiction(text))
}
