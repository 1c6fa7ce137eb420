//! `oomph gpus` for scripts and monitors: `--select`, `--watch`, `--format prometheus`, `--out`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use support::Scenario;

const GIB: u64 = 1 << 30;

fn command(machine: &Scenario, arguments: &[&str]) -> Command {
    let mut command = machine.command(env!("CARGO_BIN_EXE_oomph"));
    command.arg("gpus").args(arguments).stdin(Stdio::null());
    command
}

fn oomph(machine: &Scenario, arguments: &[&str]) -> Output {
    command(machine, arguments).output().unwrap()
}

fn gpus(machine: &Scenario, arguments: &[&str]) -> (i32, Value) {
    let output = oomph(machine, &[arguments, &["--json"]].concat());
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    (output.status.code().unwrap(), json)
}

#[test]
fn the_freest_gpus_with_enough_memory_are_selected_by_uuid() {
    let machine = Scenario::new(
        "gpu total=24GiB\n gpu total=24GiB\n gpu total=24GiB\n gpu total=24GiB failing=nvml:15
         gpu total=80GiB mig=on
         process gpu=0 pid=4190001 bytes=2GiB
         process gpu=1 pid=4190002 bytes=20GiB",
    );
    let uuid = |n: u32| format!("GPU-0000000{n}-0000-4000-8000-000000000000");
    let both = format!("{},{}", uuid(3), uuid(1));
    let output = oomph(&machine, &["--select", "2", "--min-free", "10GiB"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{both}\n"));
    let (code, json) = gpus(&machine, &["--select", "2", "--min-free", "80%"]);
    assert_eq!((code, &json["cuda_visible_devices"]), (0, &both.into()), "{json}");
    assert_eq!(json["gpus"][1]["free_bytes"], 22 * GIB);
    let one = gpus(&machine, &["--select", "1", "--gpu", "1"]).1;
    assert_eq!(one["cuda_visible_devices"], uuid(2));

    let (code, json) = gpus(&machine, &["--select", "3", "--min-free", "10GiB"]);
    assert_eq!((code, json["cuda_visible_devices"].is_null()), (3, true), "{json}");
    assert_eq!(json["error"], "--select 3: of 5 GPUs 2 can be had");
    assert_eq!(json["hint"], "oomph wait --gpu any:3 --min-free 10.0GiB");
    let cause = json["cause"].as_str().unwrap();
    for part in ["GPU 1 has 4.0 GiB free of 10.0 GiB", "GPU_IS_LOST", "MIG"] {
        assert!(cause.contains(part), "no {part} in {cause}");
    }
    for (arguments, code) in [
        (&["--select", "0"][..], 2),
        (&["--select", "-1"], 2),
        (&["--min-free", "1GiB"], 2),
        (&["--select", "1", "--watch"], 2),
        (&["--select", "1", "--format", "prometheus"], 2),
        (&["--interval", "1s"], 2),
        (&["--format", "prometheus"], 2),
        (&["--format", "text"], 2),
        (&["--select", "6"], 3),
        (&["--select", "1", "--min-free", "101%"], 2),
        (&["--select", "1", "--gpu", "sim:24GiB"], 2),
        (&["--select", "1", "--gpu", "3"], 5),
    ] {
        let (exit, json) = gpus(&machine, arguments);
        assert_eq!(exit, code, "{arguments:?}: {json}");
    }
    machine.assert_balanced();
}

/// Starts a watch whose readings follow one another at once.
fn watch(machine: &Scenario, more: &[&str]) -> Child {
    let mut command = command(machine, &[&["--watch", "--interval", "5ms"], more].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_watch_follows_a_neighbour_and_ends_quietly_with_its_reader() {
    let machine = Scenario::new(
        "gpu total=24GiB\n process pid=4190001 bytes=1GiB
         steal nvmlDeviceGetMemoryInfo_v2 after=3 pid=4190001 take=7GiB",
    );
    let mut child = watch(&machine, &["--json"]);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut free: Vec<u64> = Vec::new();
    for line in lines {
        let reading: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(reading["schema"], "oomph.gpus/1");
        assert!(reading["unix_seconds"].as_u64().unwrap() > 1_700_000_000);
        free.push(reading["gpus"][0]["free_bytes"].as_u64().unwrap() / GIB);
        if free.last() == Some(&16) {
            break;
        }
    }
    assert_eq!(free[0], 23, "{free:?}");
    // The reader is gone: the next reading finds a closed pipe.
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
    machine.assert_balanced();
}

#[test]
fn a_watch_in_a_pipe_says_when_and_draws_nothing() {
    let machine = Scenario::new("gpu total=24GiB");
    let mut child = watch(&machine, &[]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let text: Vec<String> = lines.by_ref().take(12).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(text.iter().filter(|line| line.starts_with("After ")).count() > 1, "{text:?}");
    assert!(text.iter().all(|line| !line.contains('\x1b') && line.chars().count() <= 80));
}

#[test]
fn a_driver_that_goes_away_under_a_watch_ends_it_with_its_error() {
    let machine = Scenario::new("gpu total=24GiB\n fault nvmlInit_v2 from=3 code=9");
    let output = watch(&machine, &["--json"]).wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("not loaded"), "{stderr}");
    assert!(String::from_utf8(output.stdout).unwrap().lines().count() >= 2);
}

/// The samples of a text in Prometheus' format: each below its HELP and TYPE, no metric twice.
fn samples(text: &str) -> Vec<(String, u64)> {
    let (mut samples, mut families) = (Vec::new(), Vec::new());
    assert!(text.ends_with('\n'));
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let name = line.strip_prefix("# HELP ").unwrap().split(' ').next().unwrap().to_owned();
        assert_eq!(lines.next(), Some(format!("# TYPE {name} gauge").as_str()));
        assert!(!families.contains(&name), "{name} comes twice");
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            let (key, value) = sample.rsplit_once(' ').unwrap();
            assert!(key.starts_with(&format!("{name}{{")), "{sample}");
            samples.push((key.to_owned(), value.parse().unwrap()));
        }
        families.push(name);
    }
    samples
}

const METRICS: &str =
    "gpu total=24GiB reserved=1GiB name=\"A \\ card\"\n gpu total=48GiB failing=nvml:15
     gpu total=80GiB mig=on\n mig gpu=2 index=1 total=40GiB
     process gpu=0 pid=4190001 bytes=3GiB";

#[test]
fn prometheus_has_every_figure_and_none_for_what_cannot_be_read() {
    let machine = Scenario::new(METRICS);
    let output = oomph(&machine, &["--format", "prometheus"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    let samples = samples(&text);
    let value = |key: &str| {
        samples.iter().find(|(found, _)| found.starts_with(key)).map(|(_, value)| *value)
    };
    let of_first = "gpu=\"0\",uuid=\"GPU-00000001-0000-4000-8000-000000000000\"";
    for (name, gib) in [("total", 24), ("reserved", 1), ("used", 3), ("free", 20)] {
        let key = format!("oomph_gpu_memory_{name}_bytes{{{of_first}}}");
        assert_eq!(value(&key), Some(gib * GIB), "{key} in\n{text}");
    }
    let process = format!("oomph_gpu_process_memory_bytes{{{of_first},pid=\"4190001\"");
    assert_eq!(value(&process), Some(3 * GIB), "{text}");
    assert_eq!(value("oomph_gpu_up{gpu=\"1\"}"), Some(0));
    assert_eq!(value("oomph_gpu_memory_free_bytes{gpu=\"1\""), None, "lost is not full");
    assert_eq!(value("oomph_mig_memory_free_bytes{gpu=\"2\",mig=\"1\""), Some(40 * GIB));
    assert!(text.contains(r#"name="A \\ card""#), "{text}");
}

/// Reads a file again and again while it is written, and fails when it is ever not whole.
fn always_whole(path: &Path, times: u32) {
    let mut seen = 0;
    while seen < times {
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        assert!(samples(&text).len() > 10, "not whole:\n{text}");
        seen += 1;
    }
}

#[test]
fn the_file_of_a_watch_is_whole_at_every_moment() {
    let machine = Scenario::new(METRICS);
    let path = machine.folder().join("gpus.prom");
    let mut child = watch(&machine, &["--format", "prometheus", "--out", path.to_str().unwrap()]);
    always_whole(&path, 2_000);
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (0, 0), "{output:?}");
    let nowhere = machine.folder().join("no/such/folder.prom");
    let output = oomph(&machine, &["--format", "prometheus", "--out", nowhere.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write"));
}

#[test]
fn a_simulated_gpu_is_named_as_such_in_every_format() {
    let machine = Scenario::new("");
    let output = oomph(&machine, &["--gpu", "sim:24GiB*2", "--format", "prometheus"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let simulated = samples(&text).iter().filter(|(k, _)| k.contains("simulated=\"true\"")).count();
    assert_eq!(simulated, 2, "{text}");
    let json = oomph(&machine, &["--gpu", "sim:24GiB", "--format", "json"]);
    assert_eq!(json.stdout, oomph(&machine, &["--gpu", "sim:24GiB", "--json"]).stdout);
}
