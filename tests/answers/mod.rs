//! The real binary, run in an empty folder, and its answers.

#![allow(dead_code, reason = "every test file uses a part of this")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Runs in an empty folder with an environment that holds nothing of the developer's.
pub fn oomph_in(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oomph"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).env_clear();
    command
}

pub fn oomph(line: &str) -> Output {
    let folder = TempDir::new().unwrap();
    oomph_in(folder.path(), &words(line))
}

pub fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Asserts that an estimate has every key, and that its numbers agree.
pub fn estimate_agrees(estimate: &Value) {
    for key in [
        "schema",
        "micro_batch",
        "peak_allocated_bytes",
        "peak_reserved_bytes",
        "min_capacity_bytes",
        "peak_phase",
        "at_peak",
        "outside_allocator",
        "versions",
        "assumptions",
    ] {
        assert!(!estimate[key].is_null(), "{key} in {estimate}");
    }
    assert_eq!(estimate["schema"], "oomph.estimate/1");
    let at_peak = estimate["at_peak"].as_object().unwrap();
    let sum: u64 = at_peak.values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert_eq!(sum, estimate["peak_allocated_bytes"].as_u64().unwrap());
    for category in [
        "parameters",
        "gradients",
        "optimizer_state",
        "activations",
        "logits_loss",
        "optimizer_temp",
        "temporaries",
        "inputs",
        "workspace",
    ] {
        assert!(at_peak.contains_key(category), "{category}");
    }
    assert!(estimate["outside_allocator"]["cuda_context"].as_u64().unwrap() > 0);
    let bytes = |key: &str| estimate[key].as_u64().unwrap();
    assert!(bytes("peak_allocated_bytes") <= bytes("min_capacity_bytes"));
    assert!(bytes("min_capacity_bytes") <= bytes("peak_reserved_bytes"));
}
