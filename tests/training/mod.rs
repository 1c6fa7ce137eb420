//! The stand-in training program, compiled once a test binary, and `oomph` around it.

#![allow(dead_code, reason = "every test file uses a part of this")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Returns the program's path; it needs the compiler and nothing else.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = folder.join(format!("training-{}", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/training/program.rs");
        let status = Command::new("rustc")
            .args(["--edition", "2024", "-Copt-level=1", "-o"])
            .args([path.as_os_str(), source.as_os_str()])
            .status()
            .expect("rustc runs");
        assert!(status.success(), "the program compiles");
        // The name with a process id is a fresh one; the one that stays is replaced whole.
        let shared = folder.join("training");
        fs::rename(&path, &shared).expect("is renamed");
        shared
    })
}

/// A user of their own: home and temporary folder that nobody else looks into.
pub struct User {
    folder: TempDir,
}

impl User {
    /// Makes one.
    pub fn new() -> User {
        let user = User { folder: TempDir::new().expect("a temporary folder") };
        for name in ["home", "tmp", "work"] {
            fs::create_dir(user.path(name)).expect("is made");
        }
        user
    }

    /// A path in the user's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `oomph` with these words before `--`, and the program with these behind it.
    pub fn oomph(&self, options: &str, words: &str) -> Command {
        let mut command = self.plain(options);
        command.arg("--").arg(program()).args(words.split_whitespace());
        command
    }

    /// `oomph` with these words.
    pub fn plain(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oomph"));
        command.args(words.split_whitespace()).current_dir(self.path("work")).env_clear();
        command.env("HOME", self.path("home")).env("TMPDIR", self.path("tmp"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
        command
    }

    /// Fails unless nothing is left among the temporary files of runs.
    pub fn assert_nothing_left(&self) {
        let base = self.path("tmp").read_dir().expect("is there").next();
        let left: Vec<PathBuf> = base
            .map(|base| base.expect("can be read").path())
            .into_iter()
            .flat_map(|base| base.read_dir().expect("is a folder"))
            .map(|entry| entry.expect("can be read").path())
            // A lock's file stays: to remove it would take it from under whoever opens it.
            .filter(|path| path.extension().is_none_or(|ending| ending != "lock"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Reads the JSON that `oomph` printed.
pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Both streams as text.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Sends a signal to a process that may have ended meanwhile.
pub fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("no process is number 0");
    // Its end between the look at it and the signal is no failure.
    let _ = kill_process(pid, signal);
}

/// Process ids of whoever has this word on its command line.
pub fn running(word: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("proc").flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
        })
        .collect()
}
