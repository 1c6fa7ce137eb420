//! Sliding windows: their size, and which layers have them.

use serde_json::Value;

use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, excerpt, limit, wrong_type};
use crate::model::config::{Family, Window};

/// Reads a family's window; `None` where no layer slides.
pub(super) fn read(
    fields: &mut Fields<'_>,
    family: Family,
    layers: u64,
) -> Result<Option<Window>, ConfigError> {
    match family {
        Family::Llama | Family::GptNeoX | Family::Olmo2 => Ok(None),
        Family::Mistral => {
            let key = "sliding_window";
            let found = fields.optional_size(key, limit::POSITIONS)?;
            if found.is_none() && !fields.has(key) {
                fields.assume(key, 4096);
                return Ok(for_all(Some(4096), layers));
            }
            Ok(for_all(found, layers))
        }
        Family::Phi3 | Family::Starcoder2 | Family::Mixtral => {
            Ok(for_all(fields.optional_size("sliding_window", limit::POSITIONS)?, layers))
        }
        Family::Qwen3Moe => Ok(for_all(of_qwen_if_on(fields)?, layers)),
        Family::Qwen2 | Family::Qwen3 => qwen(fields, layers),
        Family::Gemma2 => gemma(fields, layers, 2),
        Family::Gemma3 => {
            let pattern = fields.optional_size("sliding_window_pattern", limit::LAYERS)?;
            gemma(fields, layers, pattern.unwrap_or(6))
        }
    }
}

fn for_all(size: Option<u64>, layers: u64) -> Option<Window> {
    size.map(|size| Window { size, layers: vec![true; layers as usize], pattern: None })
}

/// Reads the window that Qwen2's and Qwen3's configurations keep whether or not it is used.
pub fn named(fields: &Fields<'_>, family: Family) -> Result<Option<u64>, ConfigError> {
    match family {
        Family::Qwen2 | Family::Qwen3 => of_qwen(fields),
        _ => Ok(None),
    }
}

/// Reads the one that Qwen2's keeps if `use_sliding_window` is on, whichever layers it is for.
pub fn switched(fields: &Fields<'_>, family: Family) -> Result<Option<u64>, ConfigError> {
    match family {
        Family::Qwen2 => of_qwen_if_on(fields),
        _ => Ok(None),
    }
}

/// `sliding_window`, 4096 where missing.
fn of_qwen(fields: &Fields<'_>) -> Result<Option<u64>, ConfigError> {
    Ok(match fields.optional_size("sliding_window", limit::POSITIONS)? {
        Some(window) => Some(window),
        None if fields.has("sliding_window") => None,
        None => Some(4096),
    })
}

/// The same, if `use_sliding_window` is on.
fn of_qwen_if_on(fields: &Fields<'_>) -> Result<Option<u64>, ConfigError> {
    let on = fields.switch("use_sliding_window", false)?;
    Ok(of_qwen(fields)?.filter(|_| on))
}

/// `layer_types`, where given, decides; else the layers from `max_window_layers` on slide, if
/// `use_sliding_window` is on.
fn qwen(fields: &Fields<'_>, layers: u64) -> Result<Option<Window>, ConfigError> {
    let window = of_qwen_if_on(fields)?;
    let sliding = match fields.get("layer_types") {
        Some(types) => listed(types, layers)?,
        None => {
            let full = fields.count("max_window_layers", limit::LAYERS)?.unwrap_or(28);
            (0..layers).map(|layer| window.is_some() && layer >= full).collect()
        }
    };
    if !sliding.contains(&true) {
        return Ok(None);
    }
    match window {
        Some(size) => Ok(Some(Window { size, layers: sliding, pattern: None })),
        None => Err(ConfigError::Contradiction(
            "`layer_types` has sliding layers, and `use_sliding_window` leaves no window".into(),
        )),
    }
}

/// Every `pattern`-th layer is full, where `layer_types` does not say otherwise.
fn gemma(
    fields: &mut Fields<'_>,
    layers: u64,
    pattern: u64,
) -> Result<Option<Window>, ConfigError> {
    let size = match fields.optional_size("sliding_window", limit::POSITIONS)? {
        Some(size) => size,
        None if fields.has("sliding_window") => {
            return Err(ConfigError::Contradiction(
                "`sliding_window` is null, and the model makes a sliding mask all the same".into(),
            ));
        }
        None => {
            fields.assume("sliding_window", 4096);
            4096
        }
    };
    let layers = match fields.get("layer_types") {
        Some(types) => listed(types, layers)?,
        None => (0..layers).map(|layer| !(layer + 1).is_multiple_of(pattern)).collect(),
    };
    Ok(Some(Window { size, layers, pattern: Some(pattern) }))
}

/// Returns which layers slide, by `layer_types`.
fn listed(types: &Value, layers: u64) -> Result<Vec<bool>, ConfigError> {
    let key = "layer_types";
    let Value::Array(list) = types else {
        return Err(wrong_type(key, types, "a list"));
    };
    if list.len() as u64 != layers {
        return Err(ConfigError::Contradiction(format!(
            "`layer_types` has {} entries, and `num_hidden_layers` is {layers}",
            list.len()
        )));
    }
    list.iter()
        .map(|name| match name.as_str() {
            Some("full_attention") => Ok(false),
            Some("sliding_attention") => Ok(true),
            other => Err(ConfigError::Unsupported {
                key,
                value: excerpt(other.unwrap_or("something other than a text")),
                supported: "full_attention and sliding_attention",
            }),
        })
        .collect()
}
