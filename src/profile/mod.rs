//! The embedded profiles of models and GPUs, a user's own, and their schema.
//!
//! A profile is one TOML file under `profiles/`; the build lists the folder, so a new file needs
//! no code. Only the profile that is asked for is parsed. Names are the files' names.

pub mod file;
pub mod gpu;
pub mod model;
pub mod names;
pub mod simulated;

/// The files themselves, written by `build/profiles.rs`: pairs of name and text, sorted by name.
mod embedded {
    include!(concat!(env!("OUT_DIR"), "/profiles.rs"));

    /// Returns the text under a name, or `None`.
    pub(super) fn find(list: &'static [(&str, &str)], name: &str) -> Option<&'static str> {
        list.binary_search_by_key(&name, |&(known, _)| known).ok().map(|at| list[at].1)
    }
}
