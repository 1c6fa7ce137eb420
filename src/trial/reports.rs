//! What Python processes have reported about themselves (`sitecustomize.py`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::trial::messages::{self, Memory};

/// The most bytes of a report: a limit against whatever else lies there.
const MAX_BYTES: u64 = 1 << 20;

/// A process' report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Process id.
    pub pid: u32,
    /// Rank among the processes of a job.
    pub rank: Option<u64>,
    /// Versions of imported packages.
    pub versions: BTreeMap<String, String>,
    /// Out-of-memory errors of PyTorch's that reached the program; `None` where that was not seen.
    pub raised: Option<u64>,
    /// PyTorch's counters, a row a device that was used.
    pub devices: Option<Vec<Device>>,
    /// Whether Python was at its end in order (`atexit`).
    pub at_exit: bool,
    /// What the process ended with, if nobody caught it.
    pub exception: Option<Exception>,
    /// The file that the memory history went to.
    pub record: Option<String>,
    /// What could not be asked.
    pub problems: Vec<String>,
}

/// PyTorch's counters of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Device {
    /// The device as the process counts it.
    pub index: u32,
    /// The device as the machine counts it: a number or a UUID.
    pub gpu: serde_json::Value,
    /// `max_memory_allocated`.
    pub allocated: u64,
    /// `max_memory_reserved`.
    pub reserved: u64,
    /// Requests that found no memory, also those that PyTorch makes do without (a workspace that
    /// cuDNN would like to have).
    pub ooms: u64,
    /// Times that cached memory was given back first.
    pub retries: u64,
}

/// An exception that ended a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Exception {
    /// Its type, then those of its causes.
    pub types: Vec<String>,
    /// Its text.
    pub text: String,
}

impl Report {
    /// Returns how often PyTorch found no memory.
    pub fn ooms(&self) -> u64 {
        self.devices.iter().flatten().map(|device| device.ooms).sum()
    }

    /// Returns how often PyTorch raised an out-of-memory error to the program.
    pub fn raised(&self) -> u64 {
        self.raised.unwrap_or_else(|| self.ooms())
    }

    /// Returns whether PyTorch's counters are known, of a device that was used.
    pub fn is_counted(&self) -> bool {
        self.devices.iter().flatten().next().is_some()
    }

    /// Returns whether the program came to its end, and no error ended it.
    pub fn ended_in_order(&self) -> bool {
        self.at_exit && self.exception.is_none() && self.raised() == 0
    }

    /// Returns whether the process ended with an exception about the device's memory.
    pub fn ended_out_of_memory(&self) -> bool {
        self.exception.as_ref().is_some_and(|exception| {
            let by_type = exception.types.iter().any(|name| name.ends_with("OutOfMemoryError"));
            let said = messages::find(exception.text.as_bytes());
            by_type || said.is_some_and(|said| said.memory == Memory::Device)
        })
    }
}

/// Reads every report in the folder, by process id. What cannot be read is left out: the device's
/// own ledger knows that the process was there.
pub fn read(folder: &Path) -> Vec<Report> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut reports: Vec<Report> = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|ending| ending == "json"))
        .filter(|entry| entry.metadata().is_ok_and(|found| found.len() <= MAX_BYTES))
        .filter_map(|entry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok())
        .collect();
    reports.sort_by_key(|report| report.pid);
    reports
}
