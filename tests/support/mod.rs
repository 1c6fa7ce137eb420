//! The stand-in driver for end-to-end tests: a machine with the GPUs that a scenario describes.
//!
//! ```ignore
//! mod support;
//! use support::Scenario;
//!
//! let machine = Scenario::new(
//!     "gpu total=8GiB reserved=500MiB context=300MiB capability=9.0
//!      process pid=4242 bytes=2GiB name=python3
//!      fault cuMemAlloc_v2 at=3 code=999",
//! );
//! let output = machine.command(env!("CARGO_BIN_EXE_oomph")).args(["probe", "gpt2"]).output();
//! machine.assert_balanced();                 // all freed, contexts released
//! assert_eq!(machine.held(0), 0);            // and nothing held, whoever died how
//! let allocations = machine.calls_of("cuMemAlloc_v2");
//! ```
//!
//! `Scenario::new` makes a folder of its own with the library under the four names that programs
//! load, the scenario file (format: virtual-gpu/README.md), its state and its call log.
//! [`Scenario::command`] sets the environment of a child process: the loader reads LD_LIBRARY_PATH
//! when a process starts, so the driver cannot be put under the test process itself.
//! [`garbage_driver`] is a machine without a driver. [`Child`] runs a closure of a test in a child
//! process (the test binary again), for tests that call NVML or CUDA themselves.

#![allow(dead_code, reason = "every test file uses a part of this")]

pub mod child;
pub mod driver;
pub mod kernel;
pub mod log;
#[path = "../../virtual-gpu/src/machine/mod.rs"]
#[allow(unused_imports, reason = "the library itself uses more of it")]
pub mod machine;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use oomph::device::virtual_library;
use tempfile::TempDir;

pub use log::Call;

/// A machine with a driver: a folder with the library, a scenario, its state and its log.
pub struct Scenario {
    folder: TempDir,
}

impl Scenario {
    /// Makes a machine from the lines of a scenario; the log is switched on already.
    pub fn new(text: &str) -> Scenario {
        Scenario::unlogged(&format!("log path=calls.log\n{text}"))
    }

    /// Makes a machine whose calls are not logged, and so take the shortest way.
    pub fn unlogged(text: &str) -> Scenario {
        let folder = TempDir::new().expect("a temporary folder");
        virtual_library::unpack(folder.path()).expect("the library is unpacked");
        let scenario = Scenario { folder };
        fs::write(scenario.path(), format!("{text}\n")).expect("is written");
        scenario
    }

    /// Adds a line, for processes that start from now on.
    pub fn add(&self, line: &str) {
        let text = fs::read_to_string(self.path()).expect("the scenario is there");
        fs::write(self.path(), format!("{text}{line}\n")).expect("is written");
    }

    /// Takes an exported name away, as an older driver would not have it.
    pub fn without_symbol(&self, name: &str) {
        let path = self.folder.path().join(virtual_library::FILE_NAME);
        let mut library = fs::read(&path).expect("the library is there");
        // As a string of its own in the table of names; the loader compares it after hashing.
        let wanted: Vec<u8> = [b"\0", name.as_bytes(), b"\0"].concat();
        let places: Vec<usize> = library
            .windows(wanted.len())
            .enumerate()
            .filter(|(_, window)| *window == wanted)
            .map(|(at, _)| at)
            .collect();
        assert!(!places.is_empty(), "{name} is not exported");
        for at in places {
            library[at + 1] = b'_';
        }
        fs::write(&path, library).expect("the library is written");
    }

    /// The scenario file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("scenario")
    }

    /// The folder, which is what LD_LIBRARY_PATH has to name.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What a process needs in its environment to be on this machine.
    pub fn environment(&self) -> [(&'static str, OsString); 2] {
        [
            ("LD_LIBRARY_PATH", self.folder.path().as_os_str().to_owned()),
            ("OOMPH_VIRTUAL_GPU", self.path().into_os_string()),
        ]
    }

    /// Returns a command that runs `program` on this machine.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_remove("CUDA_VISIBLE_DEVICES").env_remove("CUDA_DEVICE_ORDER");
        command.envs(self.environment());
        command
    }

    /// Every call so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        log::read(&self.folder.path().join("calls.log"))
    }

    /// The calls of one name so far.
    pub fn calls_of(&self, name: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.name == name).collect()
    }

    /// Fails with what is left, unless all that was taken in the log has been given back.
    pub fn assert_balanced(&self) {
        let left = log::left(&self.calls());
        assert!(left.is_empty(), "never given back:\n{}", left.join("\n"));
    }

    /// The most bytes (in granules) that allocations took at once, by the log.
    pub fn peak_bytes(&self) -> u64 {
        log::peak(&self.calls())
    }

    /// What was in use at most, by GPU and by process.
    pub fn peaks(&self) -> machine::Peaks {
        let machine = machine::Machine::open(&self.path()).expect("the scenario is understood");
        machine.lock().expect("the state can be locked").peaks()
    }

    /// What the library had to say.
    pub fn notes(&self) -> Vec<machine::notes::Note> {
        let text = fs::read_to_string(machine::notes::notes_path(&self.path()));
        machine::notes::parse(&text.unwrap_or_default())
    }

    /// How many GPUs there are.
    pub fn gpus(&self) -> usize {
        let machine = machine::Machine::open(&self.path()).expect("the scenario is understood");
        machine.scenario.gpus.len()
    }

    /// Bytes that live processes hold on the GPU (of index `gpu`), contexts included; what dead
    /// ones held is let go first. Processes that the scenario made up do not count.
    pub fn held(&self, gpu: usize) -> u64 {
        let machine = machine::Machine::open(&self.path()).expect("the scenario is understood");
        let locked = machine.lock().expect("the state can be locked");
        locked.reap();
        locked.held(gpu)
    }
}

/// Returns a folder with garbage under the driver's names: LD_LIBRARY_PATH to it is a machine
/// without a driver, also where there is one.
pub fn garbage_driver() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    for name in virtual_library::DRIVER_NAMES {
        fs::write(folder.path().join(name), "not a library").expect("is written");
    }
    folder
}
