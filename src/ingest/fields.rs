//! Typed reading of single keys of a `config.json`, within limits.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::ingest::error::ConfigError;
use crate::ingest::{defaults, slips};
use crate::model::config::Activation;

/// The largest value of each kind of size.
///
/// With them the number of parameters stays below 2^63 before it is checked against
/// [`MOST_PARAMETERS`], and no product of two sizes overflows 64 bits.
pub(super) mod limit {
    /// Width of the residual stream.
    pub const HIDDEN: u64 = 1 << 20;
    /// Width of an MLP.
    pub const INTERMEDIATE: u64 = 1 << 22;
    /// Layers.
    pub const LAYERS: u64 = 1 << 12;
    /// Heads, and the size of one.
    pub const HEADS: u64 = 1 << 13;
    /// Experts of a layer; `topk` over more is another kernel, with scratch of its own.
    pub const EXPERTS: u64 = 1 << 10;
    /// Tokens in a vocabulary.
    pub const VOCABULARY: u64 = 1 << 24;
    /// Height or width of an image, or of a filter over it.
    pub const PIXELS: u64 = 1 << 14;
    /// Channels of an image.
    pub const CHANNELS: u64 = 1 << 10;
    /// Tokens in a sequence.
    pub const POSITIONS: u64 = 1 << 28;
}

/// More parameters than any published model; 16 bytes for each stay below 2^48.
pub(super) const MOST_PARAMETERS: u64 = 1 << 43;

/// The keys of one `config.json`, and what was assumed where one is missing.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    /// Every key that was asked for, there or not.
    asked: RefCell<BTreeSet<String>>,
    /// Defaults that were taken, one sentence each.
    pub assumed: Vec<String>,
}

impl<'a> Fields<'a> {
    pub fn new(map: &'a Map<String, Value>) -> Fields<'a> {
        Fields { map, asked: RefCell::default(), assumed: Vec::new() }
    }

    /// Returns every key that was asked for so far, there or not.
    pub fn asked(&self) -> BTreeSet<String> {
        self.asked.borrow().clone()
    }

    /// Returns the value, null too.
    fn raw(&self, key: &str) -> Option<&'a Value> {
        if !self.asked.borrow().contains(key) {
            self.asked.borrow_mut().insert(key.to_owned());
        }
        self.map.get(key)
    }

    /// Returns the value, unless it is missing or null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.raw(key).filter(|value| !value.is_null())
    }

    /// Returns whether the key is there, null or not.
    pub fn has(&self, key: &str) -> bool {
        self.raw(key).is_some()
    }

    /// Notes that a default was taken.
    pub fn assume(&mut self, key: &str, value: impl std::fmt::Display) {
        self.assumed.push(format!("`{key}` is not in config.json: {value}, as transformers does"));
    }

    /// Returns a size from 1 to `most`, or the one of transformers' own model of this type, which
    /// is noted.
    ///
    /// # Errors
    /// The key is null, or is missing where another is one slip from it.
    pub fn size(&mut self, key: &'static str, most: u64) -> Result<u64, ConfigError> {
        let found = self.optional_size(key, most)?;
        self.or_default(found, key)
    }

    /// Returns the size that was found, or transformers' default, as [`Fields::size`] does.
    pub fn or_default(
        &mut self,
        found: Option<u64>,
        key: &'static str,
    ) -> Result<u64, ConfigError> {
        if let Some(found) = found {
            return Ok(found);
        }
        let model_type = self.map.get("model_type").and_then(Value::as_str).unwrap_or_default();
        let default = defaults::size(model_type, key)
            .filter(|_| !self.map.contains_key(key) && slips::misspelt_key(self.map, key).is_none())
            .ok_or(ConfigError::Missing { key })?;
        self.assume(key, default);
        Ok(default)
    }

    /// Returns a size that has two names, of which either is taken, not both.
    pub fn either(
        &mut self,
        key: &'static str,
        other: &'static str,
        most: u64,
    ) -> Result<u64, ConfigError> {
        match (self.optional_size(key, most)?, self.optional_size(other, most)?) {
            (Some(a), Some(b)) if a != b => {
                Err(ConfigError::Contradiction(format!("`{key}` is {a}, and `{other}` is {b}")))
            }
            (a, b) => self.or_default(a.or(b), key),
        }
    }

    /// Returns a size from 1 to `most`, or transformers' default, which is noted.
    pub fn size_or(
        &mut self,
        key: &'static str,
        most: u64,
        default: u64,
    ) -> Result<u64, ConfigError> {
        let found = self.optional_size(key, most)?;
        if found.is_none() {
            self.assume(key, default);
        }
        Ok(found.unwrap_or(default))
    }

    /// Returns a size from 1 to `most`, or `None` where it is missing or null.
    pub fn optional_size(&self, key: &'static str, most: u64) -> Result<Option<u64>, ConfigError> {
        match self.count(key, most)? {
            Some(0) => Err(out_of_range(key, "0", 1, most)),
            found => Ok(found),
        }
    }

    /// Returns a count from 0 to `most`, or `None` where it is missing or null.
    pub fn count(&self, key: &'static str, most: u64) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Value::Number(number) = value else {
            return Err(wrong_type(key, value, "a whole number"));
        };
        match number.as_u64() {
            Some(found) if found <= most => Ok(Some(found)),
            // Below zero, or above 2^64, where serde_json keeps a float.
            _ if number.is_u64() || number.is_i64() || is_huge(number) => {
                Err(out_of_range(key, &number.to_string(), 1, most))
            }
            _ => Err(wrong_type(key, value, "a whole number")),
        }
    }

    /// Returns a switch, or the default where it is missing; null is off, as in Python.
    pub fn switch(&self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.raw(key) {
            None => Ok(default),
            Some(Value::Null) => Ok(false),
            Some(Value::Bool(on)) => Ok(*on),
            Some(value) => Err(wrong_type(key, value, "true or false")),
        }
    }

    /// Returns a dropout probability, or the default where it is missing; null is 0.
    pub fn dropout(&self, key: &'static str, default: f64) -> Result<f64, ConfigError> {
        let probability = match self.raw(key) {
            None => return Ok(default),
            Some(Value::Null) => 0.0,
            Some(value) => {
                value.as_f64().ok_or_else(|| wrong_type(key, value, "a number from 0 to 1"))?
            }
        };
        if (0.0..=1.0).contains(&probability) {
            return Ok(probability);
        }
        let allowed = "a number from 0 to 1".to_owned();
        Err(ConfigError::OutOfRange { key, value: probability.to_string(), allowed })
    }

    /// Returns a dropout probability, or the default where it is missing or null.
    pub fn dropout_or(&self, key: &'static str, default: f64) -> Result<f64, ConfigError> {
        if self.get(key).is_some() { self.dropout(key, default) } else { Ok(default) }
    }

    /// Returns whether a soft cap is set, or the default where it is missing; null is none.
    pub fn softcap(&self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.raw(key) {
            None => Ok(default),
            Some(Value::Null) => Ok(false),
            Some(Value::Number(_)) => Ok(true),
            Some(value) => Err(wrong_type(key, value, "a number")),
        }
    }

    /// Returns a text, or `None` where it is missing or null.
    pub fn text(&self, key: &'static str) -> Result<Option<&'a str>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(wrong_type(key, value, "a text")),
        }
    }

    /// Returns an activation function, or the default where it is missing.
    ///
    /// Source: `ACT2CLS` in activations.py of transformers.
    pub fn activation(
        &self,
        key: &'static str,
        default: Activation,
    ) -> Result<Activation, ConfigError> {
        match self.text(key)? {
            None => Ok(default),
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu") => Ok(Activation::Gelu),
            Some("gelu_fast") => Ok(Activation::GeluFast),
            Some("gelu_new") => Ok(Activation::GeluNew),
            Some("gelu_pytorch_tanh") => Ok(Activation::GeluPytorchTanh),
            Some("relu") => Ok(Activation::Relu),
            Some("tanh") => Ok(Activation::Tanh),
            Some(other) => Err(ConfigError::Unsupported {
                key,
                value: format!("`{}`", excerpt(other)),
                supported: "silu, swish, gelu, gelu_fast, gelu_new, gelu_pytorch_tanh, relu, tanh",
            }),
        }
    }
}

/// Says what a value is, short enough for a message.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(on) => on.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("the text `{}`", excerpt(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// Cuts a text to what a message can show, without control characters.
pub(super) fn excerpt(text: &str) -> String {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
    if text.chars().count() > 60 { format!("{shown}...") } else { shown }
}

pub(super) fn wrong_type(key: &'static str, value: &Value, expected: &'static str) -> ConfigError {
    if let Value::String(text) = value
        && match serde_json::from_str(text) {
            Ok(Value::Number(_)) => expected.contains("number"),
            Ok(Value::Bool(_)) => expected.contains("true or false"),
            _ => false,
        }
    {
        return ConfigError::InQuotes { key, value: excerpt(text), expected };
    }
    ConfigError::WrongType { key, found: describe(value), expected }
}

fn out_of_range(key: &'static str, value: &str, least: u64, most: u64) -> ConfigError {
    let allowed = format!("from {least} to {most}");
    ConfigError::OutOfRange { key, value: value.to_owned(), allowed }
}

/// Whether a float stands for a whole number that 64 bits don't hold exactly.
fn is_huge(number: &serde_json::Number) -> bool {
    number.as_f64().is_some_and(|value| value.abs() >= (1u64 << 53) as f64)
}
