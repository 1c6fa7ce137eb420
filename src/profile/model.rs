//! A model's profile: the keys of its `config.json`, and where they come from.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::profile::embedded;
use crate::profile::file::{self, ProfileError};
use crate::profile::names;

/// A published model, by the keys of its own `config.json`.
///
/// The keys are raw: `ingest` reads them as it reads a `config.json`, so that a built-in model and
/// a user's own take one path.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelProfile {
    /// The name on the command line (`llama-3.2-1b`).
    pub name: String,
    /// The model's name on the Hugging Face hub (`meta-llama/Llama-3.2-1B`).
    pub hub_id: String,
    /// Its published number of parameters; tied weights count once.
    pub parameters: u64,
    /// Other models of the hub whose `config.json` says the same of memory (its instruct tunings): all
    /// of its keys that change memory are equal, but for the longest sequence, which counts on
    /// transformers 4.44 alone (tables of positions), and beyond it.
    pub same_memory: Vec<String>,
    /// The keys of its `config.json` that change memory.
    pub config: Map<String, Value>,
    /// Where the figures come from.
    pub source: String,
}

/// The file as people write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelFile {
    hub_id: String,
    parameters: u64,
    source: String,
    /// Keys that `config.json` sets to null, which TOML cannot say: a missing key can have
    /// another default.
    #[serde(default)]
    null_keys: Vec<String>,
    /// Other hub ids with the same sizes.
    #[serde(default)]
    same_memory: Vec<String>,
    config: Map<String, Value>,
}

/// Every key at the top of a model's file.
pub const KEYS: [&str; 6] =
    ["hub_id", "parameters", "source", "null_keys", "same_memory", "config"];

/// Returns the names of all built-in model profiles, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    embedded::MODELS.iter().map(|&(name, _)| name)
}

impl ModelProfile {
    /// Returns the built-in profile that lists the model among those with the same memory.
    ///
    /// `model` is a hub id (`Qwen/Qwen2.5-7B-Instruct`) or the part of one behind its slash; case
    /// does not count.
    ///
    /// ```
    /// use oomph::profile::model::ModelProfile;
    /// let model = ModelProfile::of_same_memory("meta-llama/Llama-3.1-8B-Instruct");
    /// assert_eq!(model.map(|m| m.name).as_deref(), Some("llama-3.1-8b"));
    /// ```
    pub fn of_same_memory(model: &str) -> Option<ModelProfile> {
        let whole = model.contains('/');
        let is_it = |id: &str| {
            let name = if whole { id } else { id.split_once('/').map_or(id, |(_, end)| end) };
            name.eq_ignore_ascii_case(model)
        };
        names()
            .filter_map(|name| ModelProfile::built_in(name).ok())
            .find(|profile| profile.same_memory.iter().any(|id| is_it(id)))
    }

    /// Returns the built-in profile of that name; case does not count.
    ///
    /// ```
    /// let model = oomph::profile::model::ModelProfile::built_in("gpt2")?;
    /// assert_eq!(model.parameters, 124_439_808);
    /// # Ok::<(), oomph::profile::file::ProfileError>(())
    /// ```
    ///
    /// # Errors
    /// [`ProfileError::UnknownName`], with the nearest name and all of them.
    pub fn built_in(name: &str) -> Result<ModelProfile, ProfileError> {
        let lower = name.trim().to_ascii_lowercase();
        let Some(text) = embedded::find(embedded::MODELS, &lower) else {
            return Err(ProfileError::UnknownName {
                kind: "model",
                name: name.to_owned(),
                nearest: names::nearest(name, names()),
                known: names().collect(),
            });
        };
        let file = format!("built-in profiles/models/{lower}.toml");
        let mut model: ModelFile = file::parse(text, &file, &KEYS)?;
        model.config.extend(model.null_keys.into_iter().map(|key| (key, Value::Null)));
        Ok(ModelProfile {
            name: lower,
            hub_id: model.hub_id,
            parameters: model.parameters,
            same_memory: model.same_memory,
            config: model.config,
            source: model.source,
        })
    }
}
