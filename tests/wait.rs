//! `oomph wait`, the real binary on the stand-in driver: memory that comes, time that runs out.

mod support;

use std::process::Output;

use serde_json::Value;
use support::Scenario;

const GIB: u64 = 1 << 30;

/// Runs `oomph wait` with readings every 10 ms.
fn wait(machine: &Scenario, arguments: &str) -> Output {
    let mut command = machine.command(env!("CARGO_BIN_EXE_oomph"));
    command.args(["wait", "--interval", "10ms"]).args(arguments.split(' '));
    command.output().expect("the binary runs")
}

/// Runs it with `--json` and returns the exit code and what it printed.
fn json(machine: &Scenario, arguments: &str) -> (i32, Value) {
    let output = wait(machine, &format!("{arguments} --json"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error} in {output:?}"));
    (output.status.code().expect("it ends by itself"), json)
}

#[test]
fn memory_that_is_there_ends_the_wait_at_the_first_reading() {
    let machine = Scenario::new("gpu total=24GiB\n process pid=4190001 bytes=3GiB");
    let (code, json) = json(&machine, "--min-free 20GiB");
    assert_eq!((code, &json["verdict"]), (0, &"free".into()), "{json}");
    assert_eq!(json["readings"], 1);
    assert_eq!(json["cuda_visible_devices"], "GPU-00000001-0000-4000-8000-000000000000");
    machine.assert_balanced();
}

#[test]
fn memory_that_another_process_gives_back_ends_the_wait() {
    let machine = Scenario::new(
        "gpu total=24GiB
         process pid=4190001 bytes=10GiB
         steal nvmlDeviceGetMemoryInfo_v2 after=4 pid=4190001 give=8GiB",
    );
    let (code, json) = json(&machine, "--min-free 80% --timeout 60s");
    assert_eq!((code, &json["verdict"]), (0, &"free".into()), "{json}");
    assert!((4..=5).contains(&json["readings"].as_u64().unwrap()), "{json}");
    assert_eq!(json["gpus"][0]["free_bytes"], 22 * GIB);
    machine.assert_balanced();
}

#[test]
fn a_dip_between_readings_starts_the_count_anew() {
    let machine = Scenario::new(
        "gpu total=24GiB
         process pid=4190001 bytes=1GiB
         steal nvmlDeviceGetMemoryInfo_v2 after=2 pid=4190001 take=10GiB
         steal nvmlDeviceGetMemoryInfo_v2 after=4 pid=4190001 give=10GiB",
    );
    let (code, json) = json(&machine, "--min-free 20GiB --stable 4 --timeout 60s");
    assert_eq!(code, 0, "{json}");
    // At most two good ones, two bad ones, then four in a row.
    assert!((7..=8).contains(&json["readings"].as_u64().unwrap()), "{json}");
}

#[test]
fn any_of_them_are_the_freest_and_all_waits_for_each() {
    let machine = Scenario::new(
        "gpu total=24GiB\n gpu total=24GiB\n gpu total=24GiB
         process gpu=0 pid=4190001 bytes=2GiB
         process gpu=1 pid=4190002 bytes=20GiB",
    );
    let (code, picked) = json(&machine, "--min-free 10GiB --gpu any:2");
    assert_eq!(code, 0, "{picked}");
    let uuid = |n| format!("GPU-0000000{n}-0000-4000-8000-000000000000");
    assert_eq!(picked["cuda_visible_devices"], format!("{},{}", uuid(3), uuid(1)));
    assert_eq!(json(&machine, "--min-free 10GiB --gpu 0,2").0, 0);
    assert_eq!(json(&machine, "--min-free 10GiB --gpu all --timeout 30ms").0, 75);
}

#[test]
fn when_time_is_up_the_holders_are_named_with_what_proc_knows() {
    let me = std::process::id();
    let machine = Scenario::new(&format!(
        "gpu total=24GiB reserved=1GiB
         process pid={me} bytes=5GiB
         process pid=4190001 bytes=6GiB"
    ));
    let (code, json) = json(&machine, "--min-free 20GiB --timeout 50ms");
    assert_eq!((code, &json["verdict"]), (75, &"timed_out".into()), "{json}");
    assert!(json["readings"].as_u64().unwrap() >= 2, "{json}");
    let gpu = &json["gpus"][0];
    assert_eq!(
        (&gpu["free_bytes"], &gpu["wanted_bytes"]),
        (&(12 * GIB).into(), &(20 * GIB).into())
    );
    let holder = |pid: u32| -> &Value {
        gpu["holders"].as_array().unwrap().iter().find(|h| h["pid"] == pid).expect("is listed")
    };
    assert_eq!(holder(me)["used_bytes"], 5 * GIB);
    assert!(holder(me)["command"].as_str().unwrap().contains("wait-"), "{gpu}");
    assert!(holder(me)["user"].is_string() && holder(me)["age_seconds"].is_u64(), "{gpu}");
    assert_eq!(holder(4_190_001)["used_bytes"], 6 * GIB);
    for unknown in ["user", "command", "container", "age_seconds"] {
        assert_eq!(holder(4_190_001)[unknown], Value::Null);
    }
    assert_eq!(gpu["unattributed_bytes"], 0);
    let output = wait(&machine, "--min-free 20GiB --timeout 50ms");
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["Time was up", "12.0 GiB free of 20.0 GiB", "pid 4190001", "command not readable"]
    {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "one line a minute in a pipe: {stderr}");
}

#[test]
fn what_no_listed_process_holds_is_named_as_held_elsewhere() {
    let machine = Scenario::new(
        "gpu total=24GiB
         process pid=4190001 bytes=6GiB
         fault nvmlDeviceGetComputeRunningProcesses_v3 code=3",
    );
    let output = wait(&machine, "--min-free 20GiB --timeout 20ms");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(75), "{text}");
    assert!(text.contains("6.0 GiB  held outside this PID namespace"), "{text}");
}

#[test]
fn what_waiting_cannot_bring_is_refused_at_once() {
    let two = Scenario::new("gpu total=24GiB reserved=1GiB\n gpu total=24GiB reserved=1GiB");
    for (arguments, code, said) in [
        ("--min-free 0%", 2, "above 0%"),
        ("--min-free 101%", 2, "at most 100%"),
        ("--min-free 20", 2, "no unit"),
        ("--min-free -1GiB", 2, "--min-free is `-1GiB`"),
        ("--min-free 1GiB --stable -1", 2, "--stable is `-1`"),
        ("--min-free 1GiB --timeout -5s", 2, "--timeout is `-5s`"),
        ("--min-free 1GiB --stable 0", 2, "at least 1"),
        ("--min-free 1GiB --timeout 5", 2, "not a time"),
        ("--min-free 1GiB --gpu any:0", 2, "any:N"),
        ("--min-free 1GiB --gpu any:9", 4, "--gpu any:9 of 2 visible GPUs"),
        ("--min-free 1GiB --gpu 7", 4, "there is no GPU 7"),
        ("--min-free 24GiB", 3, "23.0 GiB in all"),
        ("--min-free 20GiB --gpu sim:24GiB,free=10GiB", 3, "nobody frees a simulated GPU's memory"),
    ] {
        let output = wait(&two, arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {stderr}");
        assert!(stderr.contains(said), "{arguments}: {stderr}");
    }
}

#[test]
fn gpus_that_cannot_say_what_is_free_end_the_wait_without_a_time_limit() {
    let machine = Scenario::new("gpu total=24GiB failing=nvml:15\n gpu total=24GiB mig=on");
    let (code, said) = json(&machine, "--min-free 1GiB --gpu any:1");
    assert_eq!(code, 5, "{said}");
    let cause = said["cause"].as_str().unwrap();
    assert!(cause.contains("GPU_IS_LOST") && cause.contains("MIG"), "{cause}");
    // One that does answer is enough where one is enough.
    let third = Scenario::new("gpu total=24GiB failing=nvml:15\n gpu total=24GiB");
    assert_eq!(json(&third, "--min-free 1GiB --gpu any:1").0, 0);
    assert_eq!(json(&third, "--min-free 1GiB --gpu all").0, 5);
}

#[test]
fn a_simulated_gpu_is_free_at_once_and_has_no_uuid_to_use() {
    let machine = Scenario::new("");
    let (code, json) = json(&machine, "--min-free 80% --gpu sim:h100-80gb --stable 3");
    assert_eq!((code, &json["verdict"]), (0, &"free".into()), "{json}");
    assert_eq!(json["cuda_visible_devices"], Value::Null);
    assert_eq!(json["gpus"][0]["simulated"], true);
}
