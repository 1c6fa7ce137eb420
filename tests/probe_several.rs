//! Several GPUs at once, and GPUs on which a probe allocates nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod probe_command;
mod support;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use probe_command::{answer, command, model, probe};
use support::Scenario;

#[test]
fn gpus_are_probed_at_the_same_time_by_a_process_each() {
    // Each child hangs for four seconds: one after the other they would take sixteen.
    let card = "gpu total=3GiB context=100MiB\n";
    let machine = Scenario::new(&format!("{}fault cuMemAlloc_v2 do=hang", card.repeat(4)));
    let begun = Instant::now();
    let (code, json) = probe(&machine, true, &["--call-timeout", "4s"]);
    let took = begun.elapsed();
    assert_eq!(code, 5, "{json}");
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(12), "{took:?}");
    let hangs = machine.calls_of("cuMemAlloc_v2");
    let mut pids: Vec<u32> = hangs.iter().map(|call| call.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 4, "{hangs:?}");
    assert!((0..4).all(|gpu| machine.held(gpu) == 0));
}

#[test]
fn the_weakest_gpu_rules_and_each_child_sees_its_own() {
    let machine = Scenario::new(
        "driver order=2,1,0
         gpu total=5GiB context=100MiB
         gpu total=3GiB context=300MiB granularity=4MiB
         gpu total=4GiB context=200MiB",
    );
    let (code, json) = probe(&machine, false, &[]);
    assert_eq!(code, 0, "{json}");
    let answers: Vec<u64> =
        (0..3).map(|gpu| json["gpus"][gpu]["largest_micro_batch"].as_u64().unwrap()).collect();
    assert!(answers[1] < answers[2] && answers[2] < answers[0], "{answers:?}");
    assert_eq!(json["largest_micro_batch"], answers[1]);
    for (gpu, answer) in answers.iter().enumerate() {
        // The same as alone, so that no child has taken another's GPU for its own.
        let flags = ["--world-size", "3", "--gpu", &gpu.to_string()];
        let (_, alone) = probe(&machine, false, &flags);
        assert_eq!(alone["largest_micro_batch"], *answer, "{alone}");
    }
    let contexts = machine.calls_of("cuDevicePrimaryCtxRetain");
    let mut by_pid: BTreeMap<u32, usize> = BTreeMap::new();
    contexts.iter().for_each(|call| *by_pid.entry(call.pid).or_default() += 1);
    assert!(by_pid.len() == 6 && by_pid.values().all(|count| *count == 1), "{by_pid:?}");
    machine.assert_balanced();
}

#[test]
fn a_gpu_other_than_the_one_asked_for_is_not_touched() {
    let machine = Scenario::new("gpu total=3GiB\n gpu total=3GiB");
    let uuid = |number: u32| format!("GPU-0000000{number}-0000-4000-8000-000000000000");
    let parent = std::process::id().to_string();
    let mut child = machine.command(env!("CARGO_BIN_EXE_oomph"));
    child.args([oomph::device::child::ARGUMENT, &uuid(2), "0", &parent]).stdin(Stdio::null());
    // As if the driver had not taken the variable as it is meant.
    let output = child.env("CUDA_VISIBLE_DEVICES", uuid(1)).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let last = said.lines().last().unwrap();
    assert!(
        last.contains("wrong_gpu") && last.contains(&uuid(2)) && last.contains(&uuid(1)),
        "{said}"
    );
    assert!(machine.calls_of("cuDevicePrimaryCtxRetain").is_empty());
    assert_eq!(machine.calls_of("cuDeviceGetUuid_v2").len(), 1);
}

#[test]
fn one_gpu_that_fails_leaves_no_answer_but_what_is_known_of_the_others() {
    let machine = Scenario::new(
        "gpu total=3GiB context=100MiB
         gpu total=3GiB context=100MiB failing=cuMemAlloc_v2:719
         gpu total=3GiB mode=prohibited",
    );
    let (code, json) = probe(&machine, true, &["--gpu", "0,1"]);
    assert_eq!((code, &json["largest_micro_batch"], &json["fits"]), (5, &().into(), &().into()));
    assert!(json["gpus"][0]["largest_micro_batch"].as_u64().unwrap() > 0, "{json}");
    assert!(json["gpus"][1]["error"].as_str().unwrap().contains("CUDA 719"), "{json}");
    let (code, json) = probe(&machine, true, &["--gpu", "0,2"]);
    assert_eq!((code, &json["error"]), (4, &"GPU 2 cannot be planned for".into()));
    machine.assert_balanced();
}

#[test]
fn nothing_is_touched_where_one_sample_and_the_headroom_are_too_much() {
    for (lines, flags) in [
        ("gpu total=630MiB context=100MiB", &[][..]),
        // Held by others, or by the headroom that the user wants.
        ("gpu total=8GiB\n process pid=4190001 bytes=7500MiB", &["--shared"][..]),
        ("gpu total=8GiB", &["--headroom", "95%"][..]),
    ] {
        let machine = Scenario::new(lines);
        let (code, json) = probe(&machine, true, flags);
        assert_eq!((code, &json["largest_micro_batch"]), (3, &0.into()), "{json}");
        assert_eq!((&json["fits"], &json["method"]), (&false.into(), &"estimated".into()));
        let why = json["gpus"][0]["untouched"].as_str().unwrap();
        assert!(why.starts_with("one sample needs ") && why.ends_with(" is free"), "{why}");
        let calls = machine.calls();
        assert!(calls.iter().all(|call| call.name.starts_with("nvml")), "{lines}: {calls:?}");
    }
}

#[test]
fn on_wsl_the_answer_is_arithmetic_and_says_so() {
    let machine = Scenario::new("gpu total=4GiB context=100MiB overcommit");
    let output = command(&machine, true, &[]).env("WSL_DISTRO_NAME", "Ubuntu").output().unwrap();
    let (code, json) = answer(&output);
    let simulated = probe(&machine, true, &["--gpu", "sim:4GiB"]).1;
    let (_, probed) = probe(&machine, true, &[]);
    assert_eq!((code, &json["method"]), (0, &"estimated".into()), "{json}");
    assert!(json["gpus"][0]["untouched"].as_str().unwrap().contains("on WSL"), "{json}");
    // What a simulated GPU of the same size and the probe on Linux say, up to what they keep.
    assert_eq!(json["largest_micro_batch"], probed["largest_micro_batch"]);
    assert!(simulated["largest_micro_batch"].as_u64() <= json["largest_micro_batch"].as_u64());
    let mut plain = machine.command(env!("CARGO_BIN_EXE_oomph"));
    plain.args(["probe", &model(machine.folder(), true)]).env("WSL_DISTRO_NAME", "Ubuntu");
    let text = String::from_utf8(plain.output().unwrap().stdout).unwrap();
    assert!(text.contains("nothing was allocated: on WSL"), "{text}");
    assert!(!text.contains("a probe proves that the memory is there"), "{text}");
}
