//! The folder of one run: scenario, shared state, notes, and what its Python processes report.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::trial::private::{self, Held};
use crate::trial::{lifeline, sweeper, tree};

/// The first part of the names of these folders.
const PREFIX: &str = "run";

/// A run's folder, removed when the run is over.
#[derive(Debug)]
pub struct RunFolder {
    held: Held,
    /// Not on every file system.
    lifeline: Option<File>,
    /// Where there is a lifeline to watch.
    sweeper: Option<Child>,
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
        let lifeline = lifeline::make(&scenario_in(&held.path)).ok();
        // Without a sweeper the next run sweeps.
        let sweeper = lifeline.as_ref().and_then(|_| sweeper::start(&held.path).ok());
        let folder = RunFolder { held, lifeline, sweeper };
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
        drop(self.lifeline.take());
        let Some(mut sweeper) = self.sweeper.take() else { return };
        tree::spare(0);
        // It has nothing to remove, and ends; an error says that it has been waited for already.
        let begun = Instant::now();
        while matches!(sweeper.try_wait(), Ok(None)) && begun.elapsed() < sweeper::END {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
