//! The installed PyTorch and transformers, by folder names alone: Python is never run.
//!
//! A package of version 2.8.0 leaves a folder `torch-2.8.0+cu128.dist-info` in the
//! `site-packages` of its environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::step::setup::Version;

/// What decides which Python environment is active.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `VIRTUAL_ENV`
    pub virtual_env: Option<PathBuf>,
    /// `CONDA_PREFIX`
    pub conda_prefix: Option<PathBuf>,
    /// `PATH`
    pub path: Option<OsString>,
    /// `HOME`: pip's `--user` packages lie below it.
    pub home: Option<PathBuf>,
}

impl Environment {
    /// Reads the variables of this process; an empty one counts as not set.
    pub fn of_process() -> Environment {
        let get = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Environment {
            virtual_env: get("VIRTUAL_ENV").map(PathBuf::from),
            conda_prefix: get("CONDA_PREFIX").map(PathBuf::from),
            path: get("PATH"),
            home: get("HOME").map(PathBuf::from),
        }
    }
}

/// How an environment was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// `VIRTUAL_ENV`
    VirtualEnv,
    /// `CONDA_PREFIX`
    CondaPrefix,
    /// `python3` on `PATH`
    Path,
}

impl Via {
    /// Returns the name that outputs show.
    pub const fn name(self) -> &'static str {
        match self {
            Via::VirtualEnv => "VIRTUAL_ENV",
            Via::CondaPrefix => "CONDA_PREFIX",
            Via::Path => "python3 on PATH",
        }
    }
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Major and minor.
    pub version: Version,
    /// The version in full (`2.8.0+cu128`).
    pub text: String,
    /// The folder or file that says so.
    pub found: PathBuf,
    /// How its environment was found.
    pub via: Via,
}

/// What is installed in the active environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstalledVersions {
    /// PyTorch.
    pub torch: Option<Installed>,
    /// transformers.
    pub transformers: Option<Installed>,
}

/// Finds PyTorch and transformers in the active environment.
///
/// The first of `VIRTUAL_ENV`, `CONDA_PREFIX` and the `python3` on `PATH` that has a
/// `site-packages` folder is the active one, and answers for both packages: what another
/// environment has would not be run. A folder that cannot be read counts as empty.
pub fn find(environment: &Environment) -> InstalledVersions {
    let prefixes = [
        (Via::VirtualEnv, environment.virtual_env.clone(), None),
        (Via::CondaPrefix, environment.conda_prefix.clone(), None),
    ];
    let python = environment.path.as_deref().and_then(python_on_path);
    let python = python.map(|(prefix, minor)| (Via::Path, Some(prefix), minor));
    for (via, prefix, minor) in prefixes.into_iter().chain(python) {
        let Some(prefix) = prefix else { continue };
        let folders = package_folders(&prefix, minor.as_deref(), environment.home.as_deref());
        if !folders.is_empty() {
            return InstalledVersions {
                torch: newest(&folders, "torch", via),
                transformers: newest(&folders, "transformers", via),
            };
        }
    }
    InstalledVersions::default()
}

/// Returns the prefix of the first `python3` on `PATH`, and its `python3.11` where a link says it.
fn python_on_path(path: &std::ffi::OsStr) -> Option<(PathBuf, Option<String>)> {
    let program = std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("python3"))
        .find(|program| program.is_file())?;
    let real = program.canonicalize().ok();
    let minor = real.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    let minor = minor.filter(|name| name.starts_with("python3.")).map(str::to_owned);
    let prefix_of = |program: &Path| Some(program.parent()?.parent()?.to_owned());
    // A virtual environment's python3 is a link out of it; a link such as ~/bin/python3 leads in.
    let near = prefix_of(&program)?;
    let prefix = match real.as_deref().and_then(prefix_of) {
        Some(far) if site_packages(&near, None).is_empty() => far,
        _ => near,
    };
    Some((prefix, minor))
}

/// Every folder from which a Python of that prefix imports packages, first come first served.
///
/// Source: CPython's site.py: a virtual environment comes before the user's folder, which comes
/// before everything else; without `include-system-site-packages` it is alone.
fn package_folders(prefix: &Path, minor: Option<&str>, home: Option<&Path>) -> Vec<PathBuf> {
    let own = site_packages(prefix, minor);
    let Some(first) = own.first() else { return own };
    // `lib/python3.11/site-packages` says which Python it is, where no link did.
    let named = first.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let minor = minor.or(named.filter(|name| name.starts_with("python3.")));
    let of_user = home.map(|home| site_packages(&home.join(".local"), minor)).unwrap_or_default();
    let of_system = |base: &Path| match base == Path::new("/usr") {
        true => site_packages(Path::new("/usr/local"), minor),
        false => Vec::new(),
    };
    let Ok(config) = std::fs::read_to_string(prefix.join("pyvenv.cfg")) else {
        return [of_user, of_system(prefix), own].concat();
    };
    if setting(&config, "include-system-site-packages") != Some("true") {
        return own;
    }
    // `home` is the folder of the base's python, its bin.
    let base = setting(&config, "home").and_then(|bin| Path::new(bin).parent());
    let of_base = base.map(|base| [of_system(base), site_packages(base, minor)].concat());
    [own, of_user, of_base.unwrap_or_default()].concat()
}

fn setting<'a>(config: &'a str, key: &str) -> Option<&'a str> {
    config
        .lines()
        .filter_map(|line| line.split_once('='))
        .find_map(|(found, value)| (found.trim() == key).then_some(value.trim()))
}

fn site_packages(prefix: &Path, minor: Option<&str>) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for lib in ["lib", "lib64"] {
        let Ok(entries) = std::fs::read_dir(prefix.join(lib)) else { continue };
        let mut pythons: Vec<(u32, PathBuf)> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter_map(|path| {
                let name = path.file_name()?.to_str()?;
                let number = name.strip_prefix("python3")?.trim_start_matches('.');
                let wanted = minor.is_none_or(|minor| minor == name || name == "python3");
                wanted.then(|| (number.parse().unwrap_or(0), path.clone()))
            })
            .collect();
        // The newest first, where nothing says which one runs.
        pythons.sort_by(|a, b| b.cmp(a));
        for (_, python) in pythons {
            for name in ["site-packages", "dist-packages"] {
                let folder = python.join(name);
                if folder.is_dir() {
                    folders.push(folder);
                }
            }
        }
    }
    // Windows, and what a `lib64` link shows twice.
    folders.extend(Some(prefix.join("Lib/site-packages")).filter(|folder| folder.is_dir()));
    let mut seen = Vec::new();
    folders.retain(|folder| {
        let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let new = !seen.contains(&real);
        seen.push(real);
        new
    });
    folders
}

/// Returns the package from the first folder that has it.
///
/// A folder can hold traces of two versions after a broken upgrade; the one with metadata counts,
/// then the higher.
fn newest(folders: &[PathBuf], package: &str, via: Via) -> Option<Installed> {
    folders.iter().find_map(|folder| {
        let entries = std::fs::read_dir(folder).ok()?;
        let found = entries.filter_map(|entry| {
            let path = entry.ok()?.path();
            let text = version_text(path.file_name()?.to_str()?, package)?.to_owned();
            let version = parse_version(&text)?;
            let whole = path.join("METADATA").is_file() || !path.is_dir();
            Some((whole, version, Installed { version, text, found: path, via }))
        });
        let best = found.max_by(|a, b| (a.0, a.1, &a.2.text).cmp(&(b.0, b.1, &b.2.text)));
        best.map(|(_, _, installed)| installed)
    })
}

/// Returns `2.8.0+cu128` of `torch-2.8.0+cu128.dist-info` or `torch-2.8.0-py3.11.egg-info`.
fn version_text<'a>(name: &'a str, package: &str) -> Option<&'a str> {
    let rest = name
        .get(..package.len())
        .filter(|start| start.eq_ignore_ascii_case(package))
        .and_then(|_| name[package.len()..].strip_prefix('-'))?;
    match rest.strip_suffix(".dist-info") {
        Some(version) => Some(version),
        None => rest.strip_suffix(".egg-info")?.split('-').next(),
    }
}

/// Reads major and minor of `2.8.0+cu128`, `2.9.0a0+git1234`, `5.0.0rc1`, `2.15.0.dev20261101`.
pub fn parse_version(text: &str) -> Option<Version> {
    let mut parts = text.trim().trim_start_matches('v').splitn(3, '.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?;
    let end = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
    Some(Version::new(major, minor[..end].parse().ok()?))
}
