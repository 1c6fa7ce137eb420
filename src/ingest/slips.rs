//! What in a `config.json` looks like a slip of the hand: a key that is there twice, or misspelt.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::ingest::error::ConfigError;
use crate::ingest::fields::{Fields, excerpt};
use crate::profile::names::is_one_slip;

/// Says which keys of the outermost object are there more than once; other JSON says nothing.
///
/// Python's `json`, which transformers reads with, takes the last, as serde_json does.
pub(super) fn repeated(json: &[u8]) -> Vec<String> {
    let Ok(Keys(keys)) = serde_json::from_slice(json) else { return Vec::new() };
    let (mut seen, mut repeated) = (BTreeSet::new(), BTreeSet::new());
    for key in keys {
        if !seen.insert(key.clone()) {
            repeated.insert(key);
        }
    }
    let note = |key: &String| {
        format!(
            "`{}` is in config.json more than once: the last counts, as in Python",
            excerpt(key)
        )
    };
    repeated.iter().map(note).collect()
}

/// The keys of an object, in order, each as often as it is there.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Keys, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Keys;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Says which keys that nothing asked for are one slip from a key that was asked for and is not there.
///
/// What begins with `_` transformers writes for itself (`_sliding_window_pattern` of Gemma 3).
pub(super) fn misspelt(map: &Map<String, Value>, fields: &Fields<'_>) -> Vec<String> {
    let asked = fields.asked();
    let unknown = map.keys().filter(|key| !asked.contains(*key) && !key.starts_with('_'));
    let near = unknown.filter_map(|key| {
        let meant = asked.iter().find(|meant| !map.contains_key(*meant) && is_one_slip(key, meant));
        Some((key, meant?))
    });
    near.map(|(key, meant)| {
        format!("`{}` is ignored, as transformers does: is `{meant}` meant?", excerpt(key))
    })
    .collect()
}

/// Names the key that is one slip from the one that is missing.
pub(super) fn explained(error: ConfigError, map: &Map<String, Value>) -> ConfigError {
    let ConfigError::Missing { key } = error else { return error };
    match misspelt_key(map, key) {
        Some(found) => ConfigError::Misspelt { key, found: excerpt(found) },
        None => ConfigError::Missing { key },
    }
}

/// Returns the key that is there and one slip from `key`.
pub(super) fn misspelt_key<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a String> {
    map.keys().find(|found| *found != key && is_one_slip(found, key))
}
