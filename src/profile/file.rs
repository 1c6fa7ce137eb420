//! Reading a profile's TOML, with errors that name the file, the key and the line.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::DeTable;

use crate::profile::names;

/// A profile is a page of text; what is larger is another kind of file.
pub const LARGEST_FILE_BYTES: u64 = 1 << 20;

/// Why a profile could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The file or folder cannot be read.
    #[error("cannot read {}: {reason}", file.display())]
    Unreadable {
        /// The file or folder.
        file: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Not TOML, or a value of the wrong type.
    #[error("{file}, line {line}: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// A key that the schema does not have.
    #[error("{file}, line {line}: unknown key `{key}`")]
    UnknownKey {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The known key that it resembles.
        nearest: Option<&'static str>,
    },
    /// A key that the schema needs is not there.
    #[error("{file}: the key `{key}` is missing")]
    MissingKey {
        /// The file.
        file: String,
        /// The key.
        key: String,
    },
    /// A value that no such thing can have.
    #[error("{file}, line {line}: `{key}` is {value}, which is not {allowed}")]
    OutOfRange {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// Nothing built in has that name.
    #[error("there is no {kind} profile `{name}`")]
    UnknownName {
        /// `GPU` or `model`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The built-in name that it resembles.
        nearest: Option<&'static str>,
        /// Every built-in name.
        known: Vec<&'static str>,
    },
}

impl ProfileError {
    /// Returns one thing to type or change, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            ProfileError::UnknownKey { nearest, .. } => {
                nearest.map(|key| format!("the nearest known key is `{key}`"))
            }
            ProfileError::MissingKey { key, .. } => Some(format!("add `{key} = ...`")),
            ProfileError::UnknownName { nearest: Some(near), .. } => {
                Some(format!("did you mean `{near}`?"))
            }
            ProfileError::UnknownName { known, .. } => Some(format!("known: {}", known.join(" "))),
            _ => None,
        }
    }
}

/// Reads a small text file.
///
/// # Errors
/// [`ProfileError::Unreadable`]: not there, not a plain file, not UTF-8, or over
/// [`LARGEST_FILE_BYTES`].
pub fn read(path: &Path) -> Result<String, ProfileError> {
    let unreadable = |reason: String| ProfileError::Unreadable { file: path.to_owned(), reason };
    let meta = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?;
    if !meta.is_file() {
        return Err(unreadable("it is not a file".to_owned()));
    }
    if meta.len() > LARGEST_FILE_BYTES {
        return Err(unreadable(format!("it has {} bytes, too many for a profile", meta.len())));
    }
    std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))
}

/// Parses a profile's text; `keys` are all that its schema knows at the top.
///
/// # Errors
/// Names the file as `file`, the line, and the key: see [`ProfileError`].
pub fn parse<T: DeserializeOwned>(
    text: &str,
    file: &str,
    keys: &[&'static str],
) -> Result<T, ProfileError> {
    toml::from_str(text).map_err(|error| {
        let line = line_at(text, error.span().map_or(0, |span| span.start));
        let file = file.to_owned();
        // The typed parse says only which key it met; the plain one knows where each key stands.
        if let Some(unknown) = unknown_key(text, &file, keys) {
            return unknown;
        }
        let reason = error.message().trim().to_owned();
        match reason.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
            Some(key) => ProfileError::MissingKey { file, key: key.to_owned() },
            None => ProfileError::Malformed { file, line, reason },
        }
    })
}

fn unknown_key(text: &str, file: &str, keys: &[&'static str]) -> Option<ProfileError> {
    let table = DeTable::parse(text).ok()?;
    let mut unknown: Vec<_> = table
        .get_ref()
        .keys()
        .filter(|key| !keys.contains(&key.get_ref().as_ref()))
        .map(|key| (key.span().start, key.get_ref().to_string()))
        .collect();
    unknown.sort();
    let (at, key) = unknown.into_iter().next()?;
    Some(ProfileError::UnknownKey {
        file: file.to_owned(),
        line: line_at(text, at),
        nearest: names::nearest(&key, keys.iter().copied()),
        key,
    })
}

/// Returns the line, from 1, on which `key` is set at the top of a profile; 1 where it is not.
pub(super) fn line_of(text: &str, key: &str) -> usize {
    let at = DeTable::parse(text).ok().and_then(|table| {
        table.get_ref().keys().find(|k| k.get_ref() == key).map(|k| k.span().start)
    });
    line_at(text, at.unwrap_or(0))
}

fn line_at(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&b| b == b'\n').count()
}
