//! The folder of one run: scenario, shared state, notes, and what its Python processes report.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::trial::private::{self, Held};
use crate::trial::{lifeline, sweeper};

/// The first part of the names of these folders.
const PREFIX: &str = "run";

/// A run's folder, removed when the run is over.
#[derive(Debug)]
pub struct RunFolder {
    held: Held,
    /// Not on every file system.
    _lifeline: Option<File>,
}

impl RunFolder {
    /// Makes a fresh one with this scenario, after sweeping away what killed runs have left.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(scenario: &str) -> io::Result<RunFolder> {
        let base = private::temporary();
        private::prepare(&base)?;
        private::sweep(&base, PREFIX);
        let held = private::fresh(&base, PREFIX)?;
        let _lifeline = lifeline::make(&scenario_in(&held.path)).ok();
        if _lifeline.is_some() {
            // Without one the next run sweeps.
            let _ = sweeper::start(&held.path);
        }
        let folder = RunFolder { held, _lifeline };
        fs::DirBuilder::new().mode(0o700).create(folder.reports())?;
        fs::write(folder.scenario(), scenario)?;
        Ok(folder)
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.held.path
    }

    /// Returns the scenario file.
    pub fn scenario(&self) -> PathBuf {
        scenario_in(&self.held.path)
    }

    /// Returns the folder in which Python processes leave their reports.
    pub fn reports(&self) -> PathBuf {
        self.held.path.join("reports")
    }
}

/// Returns the scenario file of a run's folder.
pub fn scenario_in(folder: &Path) -> PathBuf {
    folder.join("scenario")
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.held.path);
    }
}
