//! Frameworks' own configurations, read as they stand: what they say about batches and memory, and
//! where. Decides nothing: `plan::equation` does.

pub mod argv;
pub mod beyond;
pub mod claims;
pub mod dialect;
pub mod document;
pub mod edit;
pub mod hjson;
pub mod judge;
pub mod known;
pub mod launch;
pub mod ramp;
pub mod toml;
pub mod training;
pub mod yaml;

use crate::ingest::framework::claims::{Amount, Claim, Claims, number};
use crate::ingest::framework::dialect::Dialect;
use crate::ingest::framework::document::{Document, SyntaxError};

/// How a configuration is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON, as Python's `json` reads it.
    Json,
    /// Hjson, as DeepSpeed reads it.
    Hjson,
    /// YAML.
    Yaml,
    /// TOML.
    Toml,
    /// Arguments of a command.
    Words,
}

/// A configuration that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// Its text and entries.
    pub document: Document,
    /// How it is written.
    pub form: Form,
    /// What it says.
    pub claims: Claims,
}

/// Why a configuration could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The text is not what its name says.
    #[error("not {form}: {error}")]
    Syntax {
        /// What it should be.
        form: &'static str,
        /// Where it is not.
        error: SyntaxError,
    },
    /// A key stands twice, and the framework refuses that.
    #[error("{0}")]
    Duplicate(SyntaxError),
    /// It is nobody's that is known.
    #[error("it has no key of a framework that is known")]
    Nobodys,
}

/// Reads a file's text; `name` decides between JSON, YAML and TOML.
///
/// # Errors
/// When it is not that, or belongs to no framework that is known and none is named.
pub fn read(name: &str, text: &str, dialect: Option<Dialect>) -> Result<Configuration, ReadError> {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let form = match (extension.to_ascii_lowercase().as_str(), dialect) {
        ("yaml" | "yml", _) => Form::Yaml,
        ("toml", _) => Form::Toml,
        (_, Some(Dialect::DeepSpeed)) | ("hjson", _) => Form::Hjson,
        ("json", _) => Form::Json,
        _ if text.trim_start().starts_with('{') => Form::Json,
        _ => Form::Yaml,
    };
    let wrong = |form| move |error| ReadError::Syntax { form, error };
    let document = match form {
        Form::Yaml => yaml::read(text).map_err(wrong("YAML"))?,
        Form::Toml => toml::read(text).map_err(wrong("TOML"))?,
        _ => hjson::read(text).map_err(wrong("JSON"))?,
    };
    if document.entries.is_empty() {
        // Defaults alone are nobody's job.
        return Err(ReadError::Nobodys);
    }
    let dialect =
        dialect.or_else(|| Dialect::detect(&document, false)).ok_or(ReadError::Nobodys)?;
    let form = match (form, dialect) {
        (Form::Json | Form::Hjson, Dialect::DeepSpeed) => Form::Hjson,
        (Form::Json | Form::Hjson, _) => {
            strict(text)?;
            Form::Json
        }
        (form, _) => form,
    };
    if let (Form::Hjson, Some(entry)) = (form, document.duplicate()) {
        let what = format!("the key `{}` stands twice", entry.path);
        return Err(ReadError::Duplicate(
            SyntaxError::at(text, entry.key_at.start, what)
                .hint("leave one of them out: DeepSpeed refuses the file"),
        ));
    }
    let claims = claims(dialect, &document, form);
    Ok(Configuration { document, form, claims })
}

/// Reads the arguments of a command.
///
/// # Errors
/// When they belong to no framework that is known and none is named.
pub fn read_words(words: &[String], dialect: Option<Dialect>) -> Result<Configuration, ReadError> {
    let document = argv::read(words);
    let dialect = dialect.or_else(|| Dialect::detect(&document, true)).ok_or(ReadError::Nobodys)?;
    let mut claims = claims(dialect, &document, Form::Words);
    claims.world = claims.world.or_else(|| launched(&document));
    Ok(Configuration { document, form: Form::Words, claims })
}

/// Returns the devices that the launcher before a script is told to start: torchrun's, by the node,
/// or Accelerate's, in all.
fn launched(document: &Document) -> Option<Claim<Amount>> {
    if let Some(all) = number(document, "num_processes", true) {
        return Some(all);
    }
    let each = number(document, "nproc_per_node", true)?;
    let nodes = number(document, "nnodes", true).map_or(Amount::Number(1), |claim| claim.value);
    match (&each.value, nodes) {
        (Amount::Number(each_node), Amount::Number(nodes)) => {
            let all = each_node.checked_mul(nodes)?;
            Some(Claim { value: Amount::Number(all), ..each })
        }
        _ => None,
    }
}

fn claims(dialect: Dialect, document: &Document, form: Form) -> Claims {
    match dialect {
        Dialect::Hf | Dialect::LlamaFactory | Dialect::Axolotl => {
            training::claims(dialect, document, form)
        }
        _ => launch::claims(dialect, document, form),
    }
}

/// Python's `json` takes no comments and no commas too many.
fn strict(text: &str) -> Result<(), ReadError> {
    let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) else { return Ok(()) };
    let place = document::Place { line: error.line().max(1), column: error.column().max(1) };
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or_default().to_owned();
    let hint = Some("comments and trailing commas are DeepSpeed's alone".to_owned());
    Err(ReadError::Syntax { form: "JSON", error: SyntaxError { place, what, hint } })
}
