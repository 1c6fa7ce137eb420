//! What starts other processes: the commands of `run` and `trial`, and the child that allocates on a
//! GPU for `probe` and `plan`.
//!
//! It needs a Unix: elsewhere `cli/not_here.rs` stands in its place, with the same functions.

mod probe;
mod probe_failure;
mod probing;
mod run;
mod trial;
mod trial_notes;
mod trial_place;
mod trial_stops;
mod trying;

use std::ffi::OsString;

pub(super) use probe::run as probe;
pub(super) use probing::Probing;
pub(super) use run::run;
pub(super) use trial::run as trial;

use crate::device::child;
use crate::trial::{guard, sweeper};

/// Does the work of a process that oomph has started, if this is one; returns its exit code.
pub(super) fn helper(arguments: &[OsString]) -> Option<u8> {
    let probing = child::arguments(arguments).map(|arguments| child::main(&arguments));
    let guarding = || guard::arguments(arguments).map(|arguments| guard::main(&arguments));
    let sweeping = || sweeper::folder(arguments).map(|folder| sweeper::main(&folder));
    probing.or_else(guarding).or_else(sweeping)
}
