//! The machine that the library plays: its GPUs, who holds memory on them, and what goes wrong.
//!
//! The scenario file says what there is; the state file next to it is shared by every process
//! that uses the scenario. Nothing here is visible to C, so tests include this folder as it is.

mod card;
mod ledger;
mod line;
pub mod notes;
mod peaks;
mod process;
mod rule;
mod scenario;
mod table;

use std::io;
use std::path::{Path, PathBuf};

pub use card::Gpu;
pub use ledger::{Holding, Kind};
pub use peaks::{Peaks, PlacePeak, ProcessPeak, Refused};
pub use process::Identity;
pub use rule::Fault;
pub use scenario::Scenario;
use table::{Lock, Table};

/// A scenario and the state that its processes share.
pub struct Machine {
    /// What the scenario file says.
    pub scenario: Scenario,
    table: Table,
    me: Identity,
}

impl Machine {
    /// Reads the scenario at `path` and opens the state file beside it, or makes it.
    ///
    /// What an earlier program of this very process held (before an `exec`) is given back.
    pub fn open(path: &Path) -> Result<Machine, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let scenario =
            Scenario::parse(&text, path).map_err(|e| format!("{}: {e}", path.display()))?;
        let state = state_path(path);
        let table = Table::open(&state).map_err(|e| format!("{}: {e}", state.display()))?;
        let me = Identity::own().map_err(|e| format!("/proc/self/stat: {e}"))?;
        let machine = Machine { scenario, table, me };
        machine.lock().map_err(|e| format!("{}: {e}", state.display()))?.forget(me);
        Ok(machine)
    }

    /// Waits until no other process looks at the state, and keeps it so until the lock drops.
    pub fn lock(&self) -> io::Result<Locked<'_>> {
        Ok(Locked { scenario: &self.scenario, table: self.table.lock()?, me: self.me })
    }

    /// Whether this is still the process that opened the state, not a fork of it.
    pub fn is_ours(&self) -> bool {
        self.me.pid == std::process::id()
    }
}

/// Returns where the state of the scenario at `path` is kept.
pub fn state_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".state");
    PathBuf::from(name)
}

/// Returns where the FIFO is that the run's keepers hold open as long as they live.
pub fn lifeline_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lifeline");
    PathBuf::from(name)
}

/// The machine while this process alone may change it.
///
/// Every change is one aligned 64-bit store that leaves a valid state, so a process that is killed
/// in the middle leaves nothing half done; the kernel drops its lock.
pub struct Locked<'a> {
    scenario: &'a Scenario,
    table: Lock<'a>,
    me: Identity,
}
