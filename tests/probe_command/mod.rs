//! `oomph probe` as a user runs it, on a scenario's machine, with a small Llama.

#![allow(dead_code, reason = "every test file uses a part of this")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::Value;

use crate::support::Scenario;

/// Few calls, so that each can be broken in turn.
pub const SMALL: &str = "gpu total=1100MiB context=100MiB";

/// A Llama of four layers; `small` has one and next to no vocabulary.
pub fn model(folder: &Path, small: bool) -> String {
    let (hidden, layers, vocabulary) = if small { (256, 1, 512) } else { (512, 4, 32_000) };
    let path = folder.join("config.json");
    let text = format!(
        r#"{{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": {hidden},
            "intermediate_size": {}, "num_hidden_layers": {layers}, "num_attention_heads": 8,
            "num_key_value_heads": 4, "vocab_size": {vocabulary}, "max_position_embeddings": 4096,
            "hidden_act": "silu", "tie_word_embeddings": false}}"#,
        hidden * 3
    );
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Its setup.
pub const FLAGS: [&str; 8] =
    ["--precision", "bf16", "--seq-len", "512", "--torch", "2.8", "--transformers", "5.12"];

/// Returns `oomph probe --json` of that model.
pub fn command(machine: &Scenario, small: bool, more: &[&str]) -> Command {
    let mut command = machine.command(env!("CARGO_BIN_EXE_oomph"));
    command
        .args(["probe", &model(machine.folder(), small), "--json"])
        .args(FLAGS)
        .args(more)
        .env("XDG_RUNTIME_DIR", machine.folder())
        .stdin(Stdio::null());
    command
}

/// Returns exit code and JSON.
pub fn answer(output: &Output) -> (i32, Value) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().unwrap_or_else(|| panic!("{}: {stderr}", output.status));
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error} in {output:?}"));
    assert!(!stderr.contains("something broke") && !stderr.contains('\r'), "{stderr}");
    (code, json)
}

/// Probes.
pub fn probe(machine: &Scenario, small: bool, more: &[&str]) -> (i32, Value) {
    answer(&command(machine, small, more).output().unwrap())
}

/// Does a few hundred independent things on every core.
pub fn side_by_side(count: usize, each: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(at) = Some(next.fetch_add(1, Relaxed)).filter(|at| *at < count) {
                    each(at);
                }
            });
        }
    });
}
