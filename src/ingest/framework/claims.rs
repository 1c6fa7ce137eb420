//! What a configuration says about batches and memory, in oomph's own words.

use crate::ingest::framework::dialect::Dialect;
use crate::ingest::framework::document::{Document, Entry, Node, Scalar, Span};
use crate::ingest::framework::ramp::Ramp;
use crate::plan::equation::Rule;

/// A number as a configuration gives it.
#[derive(Debug, Clone, PartialEq)]
pub enum Amount {
    /// A whole number.
    Number(i64),
    /// `auto`: somebody else fills it in.
    Auto,
    /// A variable that only the framework resolves (`${...}`).
    Variable(String),
    /// What is no number where one must stand.
    Wrong(String),
}

/// A value and the key that says it.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim<T> {
    /// The value.
    pub value: T,
    /// The key's path.
    pub key: String,
    /// Where the value stands.
    pub at: Span,
}

/// A setup flag as a configuration has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The flag's name, without dashes.
    pub flag: &'static str,
    /// Its value.
    pub value: String,
    /// The key that says it; `None`: the framework's default.
    pub key: Option<String>,
}

/// A key that its framework does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// The key's path.
    pub key: String,
    /// Where it stands.
    pub at: Span,
    /// The key that was probably meant.
    pub near: Option<&'static str>,
    /// Whether that is all but certain: two letters' difference at most.
    pub sure: bool,
    /// What the framework does about it.
    pub fate: &'static str,
}

/// Everything that a configuration says, as far as it is looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// Whose it is.
    pub dialect: Dialect,
    /// How its three numbers go together.
    pub rule: Rule,
    /// Whether they count tokens.
    pub in_tokens: bool,
    /// The micro-batch.
    pub micro_batch: Option<Claim<Amount>>,
    /// What the framework takes where no micro-batch is said.
    pub default_micro_batch: Option<u64>,
    /// The accumulation.
    pub accumulation: Option<Claim<Amount>>,
    /// Samples (or tokens) of an optimizer step.
    pub whole: Option<Claim<Amount>>,
    /// An optimizer that steps in the backward pass, by its name.
    pub steps_in_backward: Option<Claim<String>>,
    /// How the batch changes while the job runs.
    pub ramp: Option<Claim<Ramp>>,
    /// Devices.
    pub world: Option<Claim<Amount>>,
    /// Devices that work on one replica, with the keys that say it.
    pub model_parallel: Vec<Claim<Amount>>,
    /// The model, where the file names one.
    pub model: Option<Claim<String>>,
    /// What the file, or the framework's default, says about memory.
    pub settings: Vec<Setting>,
    /// What changes memory in a way that no flag says, each a reason.
    pub beyond: Vec<Claim<String>>,
    /// What changes the batch while the job runs, or is refused by the framework.
    pub warnings: Vec<Claim<String>>,
    /// Keys that the framework does not know.
    pub unknown: Vec<UnknownKey>,
}

impl Claims {
    /// Makes claims of a dialect that says nothing yet.
    pub fn empty(dialect: Dialect, rule: Rule) -> Claims {
        Claims {
            dialect,
            rule,
            in_tokens: false,
            micro_batch: None,
            default_micro_batch: None,
            accumulation: None,
            whole: None,
            steps_in_backward: None,
            ramp: None,
            world: None,
            model_parallel: Vec::new(),
            model: None,
            settings: Vec::new(),
            beyond: Vec::new(),
            warnings: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// Notes a setup flag that a key says.
    pub fn set(&mut self, flag: &'static str, value: impl Into<String>, key: &str) {
        self.settings.push(Setting { flag, value: value.into(), key: Some(key.to_owned()) });
    }

    /// Notes a setup flag that the framework has by default.
    pub fn default(&mut self, flag: &'static str, value: &str) {
        self.settings.push(Setting { flag, value: value.to_owned(), key: None });
    }

    /// Returns the keys of the three numbers, where to write one that is not there.
    pub const fn keys(&self) -> [&'static str; 3] {
        match self.dialect {
            Dialect::DeepSpeed => [
                "train_micro_batch_size_per_gpu",
                "gradient_accumulation_steps",
                "train_batch_size",
            ],
            Dialect::Hf | Dialect::LlamaFactory => {
                ["per_device_train_batch_size", "gradient_accumulation_steps", ""]
            }
            Dialect::Accelerate => ["", "deepspeed_config.gradient_accumulation_steps", ""],
            Dialect::Axolotl => ["micro_batch_size", "gradient_accumulation_steps", "batch_size"],
            Dialect::TorchtitanSamples => {
                ["training.local_batch_size", "", "training.global_batch_size"]
            }
            Dialect::TorchtitanTokens => [
                "training.num_tokens_per_microbatch_per_dp_rank",
                "",
                "training.num_tokens_per_train_step",
            ],
            Dialect::Megatron => ["micro_batch_size", "", "global_batch_size"],
        }
    }
}

/// Reads an entry as a number. `text` says whether the framework takes `"16"` for 16, as argparse
/// and dataclass parsers do; DeepSpeed and YAML readers take the string and fail on it.
pub fn amount(entry: &Entry, text: bool) -> Amount {
    match &entry.scalar {
        Some(Scalar::Integer(number)) => Amount::Number(*number),
        Some(Scalar::Text(word)) if word == "auto" => Amount::Auto,
        Some(Scalar::Text(word)) if word.contains("${") || word.contains("{{") => {
            Amount::Variable(word.clone())
        }
        Some(Scalar::Text(word)) => match word.parse() {
            Ok(number) if text => Amount::Number(number),
            _ => Amount::Wrong(format!("the text \"{word}\" is no whole number")),
        },
        Some(Scalar::Float(number)) => Amount::Wrong(format!("{number} is no whole number")),
        Some(Scalar::Bool(on)) => Amount::Wrong(format!("{on} is no whole number")),
        Some(Scalar::Null) => Amount::Wrong("nothing is no whole number".to_owned()),
        None => Amount::Wrong("a map or a list is no whole number".to_owned()),
    }
}

/// Returns the number behind a key; one that is null is not said.
pub fn number(document: &Document, key: &str, text: bool) -> Option<Claim<Amount>> {
    let entry = document.get(key).filter(|entry| entry.scalar != Some(Scalar::Null))?;
    Some(Claim { value: amount(entry, text), key: entry.path.clone(), at: entry.at })
}

/// Returns the value behind a key as text, whatever it is.
pub fn word<'a>(document: &'a Document, key: &str) -> Option<(String, &'a Entry)> {
    let entry = document.get(key)?;
    let word = match entry.scalar.as_ref()? {
        Scalar::Integer(number) => number.to_string(),
        Scalar::Float(number) => number.to_string(),
        Scalar::Bool(on) => on.to_string(),
        Scalar::Text(text) => text.clone(),
        Scalar::Null => return None,
    };
    Some((word, entry))
}

/// Returns the names behind a key: of a list, or of a text that `separator` cuts, where one does.
/// `None` where nothing is said, or something else than names.
pub fn names(document: &Document, key: &str, separator: Option<char>) -> Option<Vec<String>> {
    let entry = document.get(key)?;
    let name = |node: &Node| match node {
        Node::Scalar(Scalar::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let names: Vec<String> = match &entry.scalar {
        Some(Scalar::Text(text)) => {
            text.split(separator?).map(|name| name.trim().to_owned()).collect()
        }
        Some(_) => return None,
        None => entry.items.iter().map(name).collect::<Option<_>>()?,
    };
    (!names.is_empty()).then_some(names)
}

/// Returns a value of a map that a key holds, written out or, as on a command line, as JSON's text.
pub fn inner(document: &Document, key: &str, name: &str) -> Option<String> {
    if let Some((value, _)) = word(document, &format!("{key}.{name}")) {
        return Some(value);
    }
    let (text, _) = word(document, key)?;
    let map: serde_json::Value = serde_json::from_str(&text).ok()?;
    match map.get(name)? {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Returns a claim that a key makes, in words.
pub fn said(entry: &Entry, words: impl Into<String>) -> Claim<String> {
    Claim { value: words.into(), key: entry.path.clone(), at: entry.at }
}

/// Whether a switch is on.
pub fn is_on(document: &Document, key: &str) -> bool {
    word(document, key).is_some_and(|(word, _)| word.eq_ignore_ascii_case("true") || word == "1")
}
