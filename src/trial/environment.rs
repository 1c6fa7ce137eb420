//! What is different in the environment of a command on simulated and on real GPUs.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::trial::folder::RunFolder;
use crate::trial::installed::Installed;

/// A variable that the command sees otherwise than oomph does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It has this value.
    Set(OsString, OsString),
    /// It is not there.
    Unset(OsString),
}

impl Change {
    /// Sets a variable.
    pub fn set(name: impl Into<OsString>, value: impl Into<OsString>) -> Change {
        Change::Set(name.into(), value.into())
    }

    /// Returns the form in which the guard takes it: `+NAME=VALUE` or `-NAME`.
    pub fn as_argument(&self) -> OsString {
        let mut text = OsString::new();
        match self {
            Change::Set(name, value) => {
                text.push("+");
                text.push(name);
                text.push("=");
                text.push(value);
            }
            Change::Unset(name) => {
                text.push("-");
                text.push(name);
            }
        }
        text
    }
}

/// Returns the changes that put a command and all its descendants on the simulated machine.
///
/// `outer` looks a variable of the present environment up; what the user has set is kept behind
/// what is put in front of it.
pub fn simulated(
    installed: &Installed,
    folder: &RunFolder,
    outer: impl Fn(&str) -> Option<OsString>,
) -> Vec<Change> {
    let mut changes = vec![
        in_front("LD_PRELOAD", &installed.library(), &outer),
        in_front("LD_LIBRARY_PATH", &installed.driver(), &outer),
        Change::set("TRITON_LIBCUDA_PATH", installed.driver()),
        Change::set("OOMPH_VIRTUAL_GPU", folder.scenario()),
        // All simulated GPUs are visible; the numbers of real ones mean nothing here.
        Change::Unset("CUDA_VISIBLE_DEVICES".into()),
    ];
    changes.extend(reporting(installed, folder, outer));
    changes
}

/// Returns the changes that let Python processes say what PyTorch counts, and print at once.
pub fn reporting(
    installed: &Installed,
    folder: &RunFolder,
    outer: impl Fn(&str) -> Option<OsString>,
) -> Vec<Change> {
    let mut changes = vec![
        in_front("PYTHONPATH", &installed.python(), &outer),
        Change::set("OOMPH_RUN_REPORTS", folder.reports()),
    ];
    if outer("PYTHONUNBUFFERED").is_none() {
        // Through a pipe Python would hold back what it prints, and `--until` would wait for it.
        changes.push(Change::set("PYTHONUNBUFFERED", "1"));
    }
    changes
}

/// Puts a path in front of what the user has set.
fn in_front(name: &str, path: &Path, outer: impl Fn(&str) -> Option<OsString>) -> Change {
    let own = outer(name).filter(|own| !own.is_empty());
    Change::set(name, joined(path.as_os_str(), own.as_deref()))
}

fn joined(first: &OsStr, rest: Option<&OsStr>) -> OsString {
    let mut text = first.to_owned();
    if let Some(rest) = rest {
        text.push(":");
        text.push(rest);
    }
    text
}
