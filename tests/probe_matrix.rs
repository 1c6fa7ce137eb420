//! Every driver and NVML call on the way of `oomph probe` fails in turn, at each of its occurrences and
//! with five codes each: what is left behind, what the user is told, and the exit code.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod probe_command;
mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use probe_command::command;
use serde_json::Value;
use support::{Call, Scenario, log};

/// Few calls, so that each can be broken in turn.
const MACHINE: &str = "gpu total=850MiB context=100MiB";
/// Out of memory, not supported, lost, unknown, and one that no table knows.
const CUDA_CODES: [u32; 5] = [2, 801, 46, 999, 1234];
/// The same in NVML's numbers.
const NVML_CODES: [u32; 5] = [20, 3, 15, 999, 1234];

/// Calls that look for the driver and the GPU: without an answer to them there is none to use.
const LOOK_UP: [&str; 9] = [
    "nvmlInit_v2",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "cuInit",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetUuid_v2",
];

/// Questions that need no answer: versions, names, and who uses the GPU, where its memory says enough.
const NEEDLESS: [&str; 11] = [
    "nvmlSystemGetDriverVersion",
    "nvmlSystemGetCudaDriverVersion_v2",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetCudaComputeCapability",
    "nvmlDeviceGetComputeMode",
    "nvmlDeviceGetNumGpuCores",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    "nvmlDeviceGetHandleByUUID",
    "nvmlShutdown",
];

/// Whether the answer is there all the same: nobody needed the call's, or it came too late to matter.
fn spares(name: &str, occurrence: usize, code: u32) -> bool {
    match name {
        // The third start is for what the context takes, which has become less otherwise.
        "nvmlInit_v2" => occurrence == 3,
        // The second call of a probe asks the first version's.
        "nvmlDeviceGetMemoryInfo_v2" => code == 1234,
        "cuDevicePrimaryCtxRelease_v2" => true,
        name => NEEDLESS.contains(&name),
    }
}

/// One failure.
#[derive(Debug)]
struct Combination {
    name: String,
    occurrence: usize,
    code: u32,
}

/// Lists each call at each of its occurrences, with each code.
fn combinations(calls: &[Call]) -> Vec<Combination> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut combinations = Vec::new();
    for call in calls {
        let count = counts.entry(&call.name).or_default();
        *count += 1;
        let codes = if call.name.starts_with("cu") { CUDA_CODES } else { NVML_CODES };
        combinations.extend(codes.map(|code| Combination {
            name: call.name.clone(),
            occurrence: *count,
            code,
        }));
    }
    combinations
}

/// Probes with one failure; says what is wrong about what came of it.
fn wrongs(combination: &Combination, flags: &[&str], clean: u64) -> Vec<String> {
    let Combination { name, occurrence, code } = combination;
    let machine = Scenario::new(&format!("{MACHINE}\n fault {name} at={occurrence} code={code}"));
    let output = command(&machine, true, flags).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let exit = output.status.code().unwrap_or(-1);
    let mut wrongs = Vec::new();
    let mut wrong = |what: String| wrongs.push(what);
    if stderr.contains("panicked") || stderr.contains("something broke") {
        wrong(format!("it panicked: {stderr}"));
    }
    if machine.held(0) != 0 {
        wrong("memory is still held".to_owned());
    }
    // What the call itself was to give back cannot be given back any more.
    let spoilt = match name.as_str() {
        // The addresses of what is still mapped cannot be given back either.
        "cuMemUnmap" => 2,
        name => usize::from(["Free", "Release", "Shutdown"].iter().any(|word| name.contains(word))),
    };
    let left = log::left(&machine.calls());
    if left.len() > spoilt {
        wrong(format!("left: {left:?}"));
    }
    let Ok(json) = serde_json::from_slice::<Value>(&output.stdout) else {
        wrong(format!("no JSON, exit {exit}: {stderr}"));
        return wrongs;
    };
    let largest = json["largest_micro_batch"].as_u64();
    let out_of_memory = *code == 2 && ["cuMemAlloc_v2", "cuMemCreate"].contains(&name.as_str());
    let no_context = *code == 2 && name == "cuDevicePrimaryCtxRetain";
    let expected = match exit {
        0 if out_of_memory => largest.is_some_and(|largest| 0 < largest && largest <= clean),
        0 => spares(name, *occurrence, *code) && largest == Some(clean),
        3 => (out_of_memory || no_context) && largest == Some(0),
        4 => LOOK_UP.contains(&name.as_str()) || fatal(name, *code),
        5 => !LOOK_UP.contains(&name.as_str()) && !out_of_memory && !no_context,
        _ => false,
    };
    if !expected {
        wrong(format!("exit {exit}, largest {largest:?} of {clean}"));
    }
    if exit == 4 || exit == 5 {
        let said = json.to_string();
        let call = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches("_v");
        if !said.contains(call) || !said.contains(&code.to_string()) {
            wrong(format!("call or code is not named: {}", told(&json)));
        }
        if json["hint"].as_str().or(json["gpus"][0]["hint"].as_str()).is_none_or(str::is_empty) {
            wrong(format!("no cure: {}", told(&json)));
        }
    }
    wrongs
}

/// Whether an answer of NVML means that the GPU itself is gone.
fn fatal(name: &str, code: u32) -> bool {
    name.starts_with("nvml") && code == 15
}

/// The part of the JSON that is about the failure.
fn told(json: &Value) -> String {
    match &json["error"] {
        Value::Null => json["gpus"].to_string(),
        _ => json.to_string(),
    }
}

#[test]
fn every_call_fails_in_turn_and_the_user_is_told() {
    let combinations = all_fail_in_turn(&[]);
    assert!(combinations > 500, "{combinations}");
}

#[test]
fn every_call_of_expandable_segments_fails_in_turn_and_the_user_is_told() {
    let combinations = all_fail_in_turn(&["--allocator", "expandable"]);
    assert!(combinations > 1000, "{combinations}");
}

/// Returns how many combinations ran.
fn all_fail_in_turn(flags: &[&str]) -> usize {
    let machine = Scenario::new(MACHINE);
    let output = command(&machine, true, flags).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let clean = json["largest_micro_batch"].as_u64().unwrap();
    let combinations = combinations(&machine.calls());
    let (next, table) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(combination) = combinations.get(next.fetch_add(1, Relaxed)) {
                    let Combination { name, occurrence, code } = combination;
                    let wrongs = wrongs(combination, flags, clean);
                    if !wrongs.is_empty() {
                        let row = (name.clone(), *code, *occurrence);
                        table.lock().unwrap().insert(row, wrongs);
                    }
                }
            });
        }
    });
    let table = table.into_inner().unwrap();
    println!("{} combinations of call, occurrence and code ran", combinations.len());
    for ((name, code, occurrence), wrongs) in &table {
        println!("{name} {occurrence} = {code}: {}", wrongs.join("; "));
    }
    assert!(table.is_empty(), "{} of {} are wrong", table.len(), combinations.len());
    combinations.len()
}
