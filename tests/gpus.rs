//! `oomph gpus`, the real binary on the stand-in driver: rows, failures, and what each code means.

mod support;

use std::process::{Command, Output};

use serde_json::Value;
use support::{Scenario, garbage_driver};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

fn oomph(machine: &Scenario, arguments: &[&str]) -> Output {
    let mut command = machine.command(env!("CARGO_BIN_EXE_oomph"));
    command.args(arguments).output().expect("the binary runs")
}

/// Runs `oomph gpus --json` and returns the exit code and what it printed.
fn gpus(machine: &Scenario, more: &[&str]) -> (i32, Value) {
    let output = oomph(machine, &[&["gpus", "--json"], more].concat());
    answer(&output)
}

fn answer(output: &Output) -> (i32, Value) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().unwrap_or_else(|| panic!("{}: {stderr}", output.status));
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error} in {output:?}"));
    assert!(!stderr.contains("panicked") && code != 1, "{stderr}");
    (code, json)
}

#[test]
fn every_gpu_is_a_row_with_its_memory_and_who_holds_it() {
    let machine = Scenario::new(
        "driver version=550.54.14 cuda=12.4
         gpu name=\"NVIDIA H100 80GB HBM3\" total=80GiB reserved=500MiB capability=9.0 sms=132
         gpu name=T4 total=15GiB reserved=400MiB capability=7.5 sms=40 mode=exclusive
         process gpu=0 pid=4190001 bytes=3GiB name=python3
         process gpu=0 pid=4190002 bytes=1GiB kind=graphics name=Xorg
         process gpu=0 pid=4190003 bytes=2GiB kind=mps name=server",
    );
    let (code, json) = gpus(&machine, &[]);
    assert_eq!(code, 0);
    assert_eq!(json["schema"], "oomph.gpus/1");
    assert_eq!(json["driver_version"], "550.54.14");
    assert_eq!(json["cuda_version"], "12.4");
    let [first, second] = &json["gpus"].as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!(first["name"], "NVIDIA H100 80GB HBM3");
    assert_eq!(first["total_bytes"], 80 * GIB);
    assert_eq!(first["reserved_bytes"], 500 * MIB);
    assert_eq!(first["used_bytes"], 6 * GIB);
    assert_eq!(first["free_bytes"], 80 * GIB - 500 * MIB - 6 * GIB);
    assert_eq!(first["compute_capability"], "9.0");
    assert_eq!(first["simulated"], false);
    assert_eq!(first["unattributed_bytes"], 0);
    let pids: Vec<u64> = first["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|process| process["pid"].as_u64().unwrap())
        .collect();
    assert_eq!(pids, [4_190_001, 4_190_002, 4_190_003]);
    assert_eq!(first["processes"][0]["used_bytes"], 3 * GIB);
    assert_eq!(
        (&second["index"], &second["compute_mode"]),
        (&1.into(), &"exclusive_process".into())
    );
    assert_eq!(second["processes"], Value::Array(Vec::new()));
    machine.assert_balanced();
}

#[test]
fn the_table_is_for_80_columns_and_names_everything() {
    let machine = Scenario::new(
        "gpu name=\"NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition\" total=96GiB reserved=1GiB
         process gpu=0 pid=4190001 bytes=3GiB name=python3
         gpu total=24GiB failing=nvml:15",
    );
    let output = oomph(&machine, &["gpus"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for part in
        ["96.0 GiB", "92.0 GiB", "pid 4190001", "3.0 GiB", "GPU_IS_LOST", "driver 580.65.06"]
    {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
}

#[test]
fn a_failing_gpu_is_a_row_and_the_others_still_list() {
    for (failing, expected) in [
        ("nvml:15", "15 (GPU_IS_LOST)"),
        ("nvmlDeviceGetHandleByIndex_v2:15", "15 (GPU_IS_LOST)"),
        ("nvmlDeviceGetMemoryInfo_v2:4", "4 (NO_PERMISSION)"),
        ("nvmlDeviceGetHandleByIndex_v2:4", "4 (NO_PERMISSION)"),
        ("nvmlDeviceGetUUID:999", "999 (UNKNOWN)"),
        ("nvmlDeviceGetMemoryInfo_v2:16", "16 (RESET_REQUIRED)"),
        ("nvmlDeviceGetHandleByIndex_v2:4711", "4711"),
    ] {
        let machine = Scenario::new(&format!(
            "gpu total=24GiB\n gpu total=24GiB failing={failing}\n gpu total=48GiB"
        ));
        let (code, json) = gpus(&machine, &[]);
        assert_eq!(code, 0, "{failing}");
        assert_eq!(json["gpus"][0]["free_bytes"], 24 * GIB);
        assert_eq!(json["gpus"][2]["free_bytes"], 48 * GIB);
        let error = json["gpus"][1]["error"].as_str().unwrap_or_default();
        assert!(error.contains(expected), "{failing}: {error:?}");
        assert_eq!(json["gpus"][1]["free_bytes"], Value::Null);
    }
}

#[test]
fn when_no_gpu_answers_the_exit_code_says_so() {
    let machine =
        Scenario::new("gpu total=24GiB failing=nvml:15\n gpu total=24GiB failing=nvml:999");
    let (code, json) = gpus(&machine, &[]);
    assert_eq!(code, 5);
    assert_eq!(json["gpus"].as_array().unwrap().len(), 2);
}

#[test]
fn without_a_driver_the_error_names_the_way_out() {
    let folder = garbage_driver();
    let output = Command::new(env!("CARGO_BIN_EXE_oomph"))
        .args(["gpus", "--json"])
        .env("LD_LIBRARY_PATH", folder.path())
        .output()
        .unwrap();
    let (code, json) = answer(&output);
    assert_eq!(code, 4);
    assert!(json["hint"].as_str().unwrap().contains("--gpu sim:"), "{json}");
    assert!(json["cause"].as_str().unwrap().contains("libnvidia-ml"), "{json}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("error: no NVIDIA driver"), "{stderr}");
}

#[test]
fn a_driver_that_does_not_start_is_named_by_cause() {
    for (code, fact) in
        [(9, "not loaded"), (18, "different versions"), (999, "999 (UNKNOWN)"), (4711, "4711")]
    {
        let machine = Scenario::new(&format!("driver nvml_init={code}\n gpu total=24GiB"));
        let (exit, json) = gpus(&machine, &[]);
        assert_eq!(exit, 4, "{json}");
        let said = format!("{} {}", json["error"], json["cause"]);
        assert!(said.contains(fact), "{said}");
        assert!(json["hint"].as_str().unwrap().contains("--gpu sim:"), "{json}");
    }
}

#[test]
fn a_machine_without_gpus_has_no_usable_gpu() {
    let machine = Scenario::new("");
    let (code, json) = gpus(&machine, &[]);
    assert_eq!(code, 4, "{json}");
}

#[test]
fn an_old_driver_is_asked_by_the_first_memory_call() {
    let failing = "gpu total=24GiB reserved=1GiB failing=nvmlDeviceGetMemoryInfo_v2:13";
    let missing = Scenario::new("gpu total=24GiB reserved=1GiB");
    missing.without_symbol("nvmlDeviceGetMemoryInfo_v2");
    for machine in [Scenario::new(failing), missing] {
        let (code, json) = gpus(&machine, &[]);
        assert_eq!(code, 0);
        let gpu = &json["gpus"][0];
        assert_eq!(gpu["free_bytes"], 23 * GIB, "{gpu}");
        assert_eq!(gpu["reserved_bytes"], Value::Null, "{gpu}");
        assert_eq!(gpu["total_bytes"], 24 * GIB, "{gpu}");
    }
}

#[test]
fn unified_memory_is_unknown_and_never_the_hosts() {
    let machine = Scenario::new(
        "gpu name=GB10 total=120GiB integrated failing=nvmlDeviceGetMemoryInfo:3,nvmlDeviceGetMemoryInfo_v2:3",
    );
    let (code, json) = gpus(&machine, &[]);
    assert_eq!(code, 0);
    let gpu = &json["gpus"][0];
    for key in ["total_bytes", "free_bytes", "used_bytes", "unattributed_bytes"] {
        assert_eq!(gpu[key], Value::Null, "{key}");
    }
    let why = gpu["memory_error"].as_str().unwrap();
    assert!(why.contains("NOT_SUPPORTED") && why.contains("unified"), "{why}");
    assert_eq!(gpu["error"], Value::Null);
}

#[test]
fn a_partitioned_gpu_lists_its_instances_with_their_own_memory() {
    // The parent is asked first; its instances may be asked by those who may not ask it.
    for parent in ["", "fault nvmlDeviceGetMemoryInfo_v2 at=1 code=4"] {
        let machine = Scenario::new(&format!(
            "gpu total=80GiB mig=on
             {parent}
             mig gpu=0 index=1 profile=3g.40gb total=40GiB reserved=100MiB
             mig gpu=0 index=5 profile=1g.10gb total=10GiB
             process gpu=0 mig=1 pid=4190001 bytes=2GiB"
        ));
        let (code, json) = gpus(&machine, &[]);
        assert_eq!(code, 0);
        let gpu = &json["gpus"][0];
        assert_eq!(gpu["mig_enabled"], true);
        assert_eq!(gpu["memory_error"].is_string(), !parent.is_empty(), "{gpu}");
        let instances = gpu["mig_instances"].as_array().unwrap();
        assert_eq!(instances.len(), 2, "{gpu}");
        assert_eq!((&instances[0]["index"], &instances[1]["index"]), (&1.into(), &5.into()));
        assert!(instances[0]["uuid"].as_str().unwrap().starts_with("MIG-"));
        assert_eq!(instances[0]["total_bytes"], 40 * GIB);
        assert_eq!(instances[1]["free_bytes"], 10 * GIB);
        let text = String::from_utf8(oomph(&machine, &["gpus"]).stdout).unwrap();
        assert!(text.contains("MIG 5 MIG-"), "{text}");
    }
}

#[test]
fn a_process_that_starts_between_the_two_calls_is_still_listed() {
    let machine = Scenario::new(
        "gpu total=24GiB
         process gpu=0 pid=4190001 bytes=3GiB
         fault nvmlDeviceGetComputeRunningProcesses_v3 at=2 code=7",
    );
    let (code, json) = gpus(&machine, &[]);
    assert_eq!(code, 0);
    assert_eq!(json["gpus"][0]["processes"][0]["pid"], 4_190_001);
    let asked = machine.calls_of("nvmlDeviceGetComputeRunningProcesses_v3").len();
    assert!(asked >= 4, "count, race, count, list; asked {asked} times");
}

#[test]
fn processes_of_unknown_size_are_listed_without_one() {
    let machine =
        Scenario::new("gpu total=24GiB no-process-memory\n process gpu=0 pid=4190001 bytes=3GiB");
    let (_, json) = gpus(&machine, &[]);
    let gpu = &json["gpus"][0];
    assert_eq!(gpu["processes"][0]["used_bytes"], Value::Null);
    assert_eq!(gpu["unattributed_bytes"], Value::Null);
    assert_eq!(gpu["used_bytes"], 3 * GIB);
}

#[test]
fn gpus_are_chosen_by_index_uuid_and_visibility() {
    let machine = Scenario::new("gpu total=1GiB\n gpu total=2GiB\n gpu total=3GiB");
    let totals = |json: &Value| -> Vec<u64> {
        let rows = json["gpus"].as_array().unwrap();
        rows.iter().map(|gpu| gpu["total_bytes"].as_u64().unwrap() / GIB).collect()
    };
    assert_eq!(totals(&gpus(&machine, &["--gpu", "2,0"]).1), [3, 1]);
    let uuid = "GPU-00000002-0000-4000-8000-000000000000";
    assert_eq!(totals(&gpus(&machine, &["--gpu", uuid]).1), [2]);
    let (code, json) = gpus(&machine, &["--gpu", "7"]);
    assert_eq!(code, 4);
    assert_eq!(json["error"], "there is no GPU 7: found GPUs 0, 1, 2");
    let mut command = machine.command(env!("CARGO_BIN_EXE_oomph"));
    let output = command.args(["gpus", "--json"]).env("CUDA_VISIBLE_DEVICES", uuid).output();
    assert_eq!(totals(&answer(&output.unwrap()).1), [2]);
}

#[test]
fn a_simulated_gpu_is_listed_without_a_driver_and_says_what_it_is() {
    let folder = garbage_driver();
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_oomph"))
            .args(arguments)
            .env("LD_LIBRARY_PATH", folder.path())
            .output()
            .unwrap()
    };
    let (code, json) = answer(&run(&["gpus", "--json", "--gpu", "sim:h100-80gb*2,free=60GiB"]));
    assert_eq!(code, 0);
    assert_eq!(json["gpus"].as_array().unwrap().len(), 2);
    assert_eq!(json["gpus"][1]["simulated"], true);
    assert_eq!(json["gpus"][1]["free_bytes"], 60 * GIB);
    let text = String::from_utf8(run(&["gpus", "--gpu", "sim:24GiB"]).stdout).unwrap();
    assert!(text.contains("simulated") && text.contains("not in this machine"), "{text}");
    assert_eq!(answer(&run(&["gpus", "--json", "--gpu", "sim:h1000"])).0, 2);
}

/// Every NVML call fails in turn, with codes that are known and one that is not.
#[test]
fn any_failing_call_ends_in_rows_or_an_error_and_never_in_a_panic() {
    let scenario = "gpu total=24GiB\n mig gpu=0 index=2 total=10GiB\n gpu total=24GiB
         process gpu=1 pid=4190001 bytes=3GiB";
    let clean = Scenario::new(scenario);
    assert_eq!(gpus(&clean, &[]).0, 0);
    let calls = clean.calls();
    assert!(calls.len() > 20, "{} calls", calls.len());
    for number in 1..=calls.len() {
        let code = [1, 3, 15, 999, 4711][number % 5];
        let machine = Scenario::new(&format!("{scenario}\n fault * at={number} code={code}"));
        let (exit, json) = gpus(&machine, &[]);
        assert!(matches!(exit, 0 | 4), "call {number} with {code}: exit {exit}, {json}");
    }
    let mut names: Vec<String> = calls.into_iter().map(|call| call.name).collect();
    names.sort();
    names.dedup();
    for name in names {
        let machine = Scenario::new(&format!("{scenario}\n fault {name} code=4711"));
        let (exit, json) = gpus(&machine, &[]);
        assert!(matches!(exit, 0 | 4 | 5), "{name}: exit {exit}, {json}");
    }
}
