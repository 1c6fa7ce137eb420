//! What tells the processes of a run that nobody is left who would end them.
//!
//! A FIFO that oomph and the guard hold open for writing, and nobody else: when both have died, however, the
//! kernel ends the processes that read it (virtual-gpu/src/lifeline.rs).

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use crate::trial::ledger::lifeline_path;

/// Makes the FIFO beside a scenario and holds it.
///
/// # Errors
/// What the file system says: not every one has such files.
pub fn make(scenario: &Path) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        lifeline_path(scenario),
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    )?;
    hold(scenario)
}

/// Holds the one that is there.
///
/// # Errors
/// As [`make`].
pub fn hold(scenario: &Path) -> io::Result<File> {
    // Who opens a FIFO for both does not wait for the other side (fifo(7)).
    OpenOptions::new().read(true).write(true).open(lifeline_path(scenario))
}
