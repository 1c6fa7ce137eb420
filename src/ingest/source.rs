//! MODEL on the command line: a profile's name, a `config.json`, a folder, or a hub id.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::ingest::config_json::{self, Ingested};
use crate::ingest::error::ConfigError;
use crate::model::config::ModelConfig;
use crate::profile::file::ProfileError;
use crate::profile::model::ModelProfile;
use crate::profile::names::nearest;

/// A model, by whatever it was named.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSource {
    /// The name that outputs show: a profile's, or a folder's.
    pub name: String,
    /// The model.
    pub config: ModelConfig,
    /// Where it came from.
    pub origin: Origin,
    /// What was assumed, or is worth saying: one sentence each.
    pub notes: Vec<String>,
    /// The number format that its file names for the weights, such as `bfloat16`.
    pub dtype: Option<String>,
}

/// Where a model came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A built-in profile.
    Profile {
        /// Its name on the Hugging Face hub.
        hub_id: String,
    },
    /// A file that was read.
    File(PathBuf),
}

/// Why MODEL does not name a model that can be planned for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Nothing was named.
    #[error("no model is named")]
    Empty,
    /// Neither a profile nor a file.
    #[error("there is no model `{name}`")]
    UnknownName {
        /// What was named.
        name: String,
        /// The built-in name that it resembles.
        nearest: Option<&'static str>,
    },
    /// A hub id of a model that is not built in.
    #[error("`{id}` is a hub id, and nothing is downloaded")]
    HubId {
        /// The id.
        id: String,
        /// A built-in profile with a similar name.
        profile: Option<&'static str>,
    },
    /// A path with nothing at its end.
    #[error("there is no file or folder `{}`", path.display())]
    NoFile {
        /// The path.
        path: PathBuf,
    },
    /// A symbolic link to nothing.
    #[error("`{}` is a link to nothing", path.display())]
    DeadLink {
        /// The link.
        path: PathBuf,
        /// Where it points.
        to: PathBuf,
    },
    /// A file that cannot be opened or read.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// What the system says.
        reason: String,
        /// What to do about it, where that is known.
        cure: Option<&'static str>,
    },
    /// A folder without `config.json`.
    #[error("the folder `{}` has no config.json", folder.display())]
    NoConfig {
        /// The folder.
        folder: PathBuf,
        /// A folder further down that has one.
        deeper: Option<PathBuf>,
    },
    /// A file that is not a model that can be planned for.
    #[error("`{file}` is not a model that oomph can plan for")]
    Config {
        /// The file, or the built-in profile.
        file: String,
        /// What is wrong with it.
        problem: ConfigError,
    },
    /// A built-in profile that is broken, which tests rule out.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

impl ModelError {
    /// Returns why, in one sentence, where the fact alone does not say it.
    pub fn cause(&self) -> Option<String> {
        match self {
            ModelError::Config { problem, .. } => Some(problem.to_string()),
            ModelError::Unreadable { reason, .. } => Some(reason.clone()),
            ModelError::DeadLink { to, .. } => Some(format!("there is no `{}`", to.display())),
            ModelError::UnknownName { name, .. } => {
                Some(format!("no built-in profile, file or folder is called `{name}`"))
            }
            _ => None,
        }
    }

    /// Returns one thing to type or do.
    pub fn hint(&self) -> String {
        match self {
            ModelError::Config { problem, .. } => problem.hint(),
            ModelError::UnknownName { nearest: Some(near), .. } => {
                format!("did you mean `{near}`? `oomph profiles list` shows all")
            }
            ModelError::HubId { profile: Some(profile), .. } => format!(
                "download its config.json and name that; `{profile}` is built in, if that is meant"
            ),
            ModelError::HubId { .. } => "download its config.json and name that".to_owned(),
            ModelError::NoConfig { deeper: Some(deeper), .. } => {
                format!("name `{}`", deeper.display())
            }
            ModelError::DeadLink { .. } => {
                "name the file itself; what was copied out of the hub's cache needs `cp -rL`"
                    .to_owned()
            }
            ModelError::Unreadable { cure: Some(cure), .. } => (*cure).to_owned(),
            ModelError::Profile(error) => error.hint().unwrap_or_else(|| FORMS.to_owned()),
            ModelError::Empty
            | ModelError::UnknownName { .. }
            | ModelError::NoFile { .. }
            | ModelError::Unreadable { .. }
            | ModelError::NoConfig { .. } => FORMS.to_owned(),
        }
    }
}

const FORMS: &str = "a model is a profile (`oomph profiles list`), a config.json, or a folder \
                     that holds one";

impl ModelSource {
    /// Finds the model that `model` names.
    ///
    /// In this order: a bare word that is a built-in profile's name is that profile, in every
    /// folder, so that a command means the same everywhere (`./gpt2` is the local folder; a note
    /// says so when there is one); what exists as a file or folder is read; `org/name` is a hub
    /// id, that of a built-in profile, or of a model that a profile lists as having the same
    /// memory (a note says so; its name alone will do), or refused with the way out, as is the address of
    /// its page; all else is unknown.
    ///
    /// # Errors
    /// [`ModelError`], each with a hint; all of them are bad input (exit code 2).
    pub fn resolve(model: &str) -> Result<ModelSource, ModelError> {
        ModelSource::resolve_in(model, Path::new(""))
    }

    /// Does what [`ModelSource::resolve`] does, with relative paths taken from `folder`.
    ///
    /// # Errors
    /// As [`ModelSource::resolve`].
    pub fn resolve_in(model: &str, folder: &Path) -> Result<ModelSource, ModelError> {
        let model = hub_page(model.trim());
        if model.is_empty() {
            return Err(ModelError::Empty);
        }
        let path = folder.join(model);
        let bare = !model.contains(['/', '\\']);
        if bare {
            match ModelProfile::built_in(model) {
                Ok(profile) => return from_profile(profile, &path),
                Err(ProfileError::UnknownName { .. }) if path.exists() => {}
                Err(ProfileError::UnknownName { .. }) => {
                    if let Some(profile) = ModelProfile::of_same_memory(model) {
                        return from_same_memory(model, profile);
                    }
                }
                Err(broken) => return Err(broken.into()),
            }
        }
        if is_there(&path)? {
            return from_path(&path);
        }
        if is_hub_id(model) {
            if let Some(name) = of_hub_id(model) {
                return from_profile(ModelProfile::built_in(name)?, Path::new(name));
            }
            return match ModelProfile::of_same_memory(model) {
                Some(profile) => from_same_memory(model, profile),
                None => Err(hub_id(model)),
            };
        }
        if bare && !model.ends_with(".json") {
            let near = nearest(model, crate::profile::model::names());
            return Err(ModelError::UnknownName { name: model.to_owned(), nearest: near });
        }
        Err(ModelError::NoFile { path })
    }
}

fn from_profile(profile: ModelProfile, path: &Path) -> Result<ModelSource, ModelError> {
    let file = format!("built-in profiles/models/{}.toml", profile.name);
    let Ingested { config, mut notes, dtype } = config_json::from_map(&profile.config)
        .map_err(|problem| ModelError::Config { file, problem })?;
    if path.join("config.json").is_file() {
        notes.push(format!(
            "`{0}` is the built-in profile; `./{0}` is the folder of that name",
            profile.name
        ));
    }
    let origin = Origin::Profile { hub_id: profile.hub_id };
    Ok(ModelSource { name: profile.name, config, origin, notes, dtype })
}

/// A model that takes the memory of a built-in one: planned for as that one, and said so.
fn from_same_memory(model: &str, profile: ModelProfile) -> Result<ModelSource, ModelError> {
    let note = format!("`{model}` has the sizes of the built-in `{}`", profile.name);
    let mut source = from_profile(profile, Path::new(""))?;
    source.notes.push(note);
    Ok(source)
}

fn from_path(path: &Path) -> Result<ModelSource, ModelError> {
    let file = if path.is_dir() { config_in(path)? } else { path.to_owned() };
    let meta = std::fs::metadata(&file).map_err(|error| unreadable(&file, &error))?;
    // A pipe or a device could block or never end.
    if !meta.is_file() {
        let is = if meta.is_dir() { "a folder" } else { "neither a file nor a folder" };
        let reason = format!("it is {is}");
        return Err(ModelError::Unreadable { path: file, reason, cure: None });
    }
    let bytes = config_json::read_start(&file).map_err(|error| unreadable(&file, &error))?;
    let Ingested { config, notes, dtype } = config_json::from_bytes(&bytes).map_err(|problem| {
        let problem = match problem {
            ConfigError::TooLarge { .. } => ConfigError::TooLarge { bytes: meta.len() },
            other => other,
        };
        ModelError::Config { file: file.display().to_string(), problem }
    })?;
    Ok(ModelSource { name: display_name(&file), config, origin: Origin::File(file), notes, dtype })
}

/// Whether there is something at the end of a path.
///
/// # Errors
/// Where that cannot be told, and for a link that leads nowhere.
fn is_there(path: &Path) -> Result<bool, ModelError> {
    match path.try_exists() {
        Ok(true) => Ok(true),
        Ok(false) => match std::fs::read_link(path) {
            Ok(to) => Err(ModelError::DeadLink { path: path.to_owned(), to }),
            Err(_) => Ok(false),
        },
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> ModelError {
    let cure = (error.kind() == ErrorKind::PermissionDenied)
        .then_some("`ls -l` shows whose it is; its owner may let you read it by `chmod a+r`");
    ModelError::Unreadable { path: path.to_owned(), reason: error.to_string(), cure }
}

/// Returns a folder's `config.json`, or its adapter's, which says what is wrong better.
fn config_in(folder: &Path) -> Result<PathBuf, ModelError> {
    for name in ["config.json", "adapter_config.json"] {
        let file = folder.join(name);
        if is_there(&file)? {
            return Ok(file);
        }
    }
    // The hub's cache keeps a model under snapshots/<revision>/; a trainer, under checkpoint-<n>/.
    let mut deeper: Vec<PathBuf> = [folder.join("snapshots"), folder.to_owned()]
        .iter()
        .filter_map(|parent| std::fs::read_dir(parent).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|below| below.join("config.json").is_file())
        .collect();
    deeper.sort();
    Err(ModelError::NoConfig { folder: folder.to_owned(), deeper: deeper.into_iter().next() })
}

/// The folder's name for a `config.json`, else the file's own.
fn display_name(file: &Path) -> String {
    let named = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let is_config = file.file_name().is_some_and(|name| name == "config.json");
    let folder = file.parent().filter(|_| is_config).and_then(|folder| {
        let full = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        named(full).or_else(|| named(&full.canonicalize().ok()?))
    });
    folder.or_else(|| named(file)).unwrap_or_else(|| file.display().to_string())
}

/// Returns the hub id in the address of a page of the hub; anything else as it is.
fn hub_page(model: &str) -> &str {
    let Some(page) = model.strip_prefix("https://huggingface.co/") else { return model };
    let page = page.split(['?', '#']).next().unwrap_or(page);
    let end = page.match_indices('/').nth(1).map_or(page.len(), |(at, _)| at);
    page[..end].trim_end_matches('/')
}

/// `org/name`, in the letters that the hub allows.
fn is_hub_id(model: &str) -> bool {
    let part = |text: &str| {
        !text.is_empty()
            && !text.starts_with('.')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let file = model.ends_with(".json") || model.ends_with(".toml");
    !file && model.split_once('/').is_some_and(|(org, name)| part(org) && part(name))
}

/// Returns the built-in profile of that very model; the hub does not tell capitals apart.
fn of_hub_id(id: &str) -> Option<&'static str> {
    crate::profile::model::names()
        .find(|name| ModelProfile::built_in(name).is_ok_and(|p| p.hub_id.eq_ignore_ascii_case(id)))
}

fn hub_id(id: &str) -> ModelError {
    let end = id.split_once('/').map_or(id, |(_, name)| name);
    let lower = end.to_ascii_lowercase();
    let by_name = crate::profile::model::names().find(|name| *name == lower);
    let near = || nearest(end, crate::profile::model::names());
    ModelError::HubId { id: id.to_owned(), profile: by_name.or_else(near) }
}
