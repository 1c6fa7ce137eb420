//! `oomph probe`, the real binary on the stand-in driver with real steps: as brute force, in few
//! replays; with every exit code, and nothing left behind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod probe_command;
mod probe_support;
mod support;

use std::process::Stdio;

use oomph::cli::target::CONTEXT_ALLOWANCE;
use oomph::ingest::source::ModelSource;
use oomph::memory::allocator::{Capacity, replay};
use oomph::model::config::ModelConfig;
use oomph::plan::capacity::{KERNELS_ALLOWANCE, NCCL_ALLOWANCE};
use oomph::step;
use oomph::step::setup::{Precision, Setup, Version};
use oomph::units::{AccumulationSteps, Bytes, MicroBatch};
use probe_command::{FLAGS, SMALL, answer, command, model, probe, side_by_side};
use probe_support::{assert_as_before, fillings};
use serde_json::Value;
use support::{Scenario, garbage_driver};

/// Counts up until the step no longer runs in the capacity.
struct BruteForce {
    config: ModelConfig,
    accumulation: u64,
}

impl BruteForce {
    fn new(machine: &Scenario, small: bool, accumulation: u64) -> BruteForce {
        let config = ModelSource::resolve(&model(machine.folder(), small)).unwrap().config;
        BruteForce { config, accumulation }
    }

    fn largest(&self, capacity: Bytes, granule: Bytes) -> u64 {
        (1..).take_while(|size| self.runs(*size, capacity, granule)).last().unwrap_or(0)
    }

    fn runs(&self, size: u64, capacity: Bytes, granule: Bytes) -> bool {
        let setup = Setup {
            micro_batch: MicroBatch::new(size).unwrap(),
            accumulation: AccumulationSteps::new(self.accumulation).unwrap(),
            seq_len: 512,
            precision: Precision::Bf16,
            torch: Version::new(2, 8),
            transformers: Version::new(5, 12),
            ..Setup::PLAIN
        };
        let trace = step::trace(&self.config, &setup).unwrap();
        let Ok(replayed) = replay(&trace, &mut Capacity::in_granules(capacity, granule));
        replayed.ran()
    }
}

#[test]
fn the_answer_is_brute_forces_in_twenty_two_scenarios_with_two_replays() {
    let mut replays = Vec::new();
    for (at, (total, reserved, context, granule, neighbour)) in [
        (1400, 0, 100, 2, 0),
        (1600, 0, 0, 2, 0),
        (2048, 100, 250, 2, 0),
        (3000, 0, 300, 2, 500),
        (4096, 128, 300, 2, 0),
        (4096, 128, 300, 4, 0),
        (4096, 128, 300, 32, 0),
        (6144, 256, 450, 2, 1000),
        (6144, 256, 450, 64, 1000),
        (8192, 256, 450, 2, 0),
        (8192, 300, 700, 2, 3000),
        (12_288, 300, 450, 2, 100),
        (12_288, 300, 450, 16, 0),
        (16_384, 400, 500, 2, 7777),
        (24_576, 400, 500, 2, 0),
        (24_576, 400, 1200, 128, 0),
        (1000, 0, 100, 2, 0),
        (800, 0, 100, 2, 0),
        (1500, 0, 100, 2, 999),
        (5000, 1, 1, 2, 333),
        (40_960, 600, 500, 2, 0),
        (10_000, 0, 0, 2, 5000),
    ]
    .into_iter()
    .enumerate()
    {
        let process = match neighbour {
            0 => String::new(),
            mib => format!("process gpu=0 pid=4190001 bytes={mib}MiB"),
        };
        let machine = Scenario::new(&format!(
            "gpu name=Untitled total={total}MiB reserved={reserved}MiB context={context}MiB \
             granularity={granule}MiB\n {process}"
        ));
        let accumulation = if at % 2 == 0 { "1" } else { "4" };
        let (code, json) = probe(
            &machine,
            false,
            &["--shared", "--headroom", "150MiB", "--accumulation", accumulation],
        );
        let context = Bytes::mib(context) + KERNELS_ALLOWANCE;
        let outside = Bytes::mib(150) + context.max(CONTEXT_ALLOWANCE);
        let capacity = Bytes::mib(total - reserved - neighbour).saturating_sub(outside);
        let brute = BruteForce::new(&machine, false, accumulation.parse().unwrap());
        let expected = brute.largest(capacity, Bytes::mib(granule));
        assert_eq!(json["largest_micro_batch"], expected, "{total} {granule} {neighbour}: {json}");
        assert_eq!(code, if expected == 0 { 3 } else { 0 }, "{json}");
        assert_eq!(json["method"], if expected == 0 { "estimated" } else { "probed" });
        machine.assert_balanced();
        assert_eq!(machine.held(0), 0);
        let attempts = json["gpus"][0]["attempts"].as_array().unwrap().len();
        // One filling more where the granule is looked at, for which there must be room.
        assert!([attempts, attempts + 1].contains(&fillings(&machine.calls())), "{json}");
        replays.push(fillings(&machine.calls()));
    }
    replays.sort_unstable();
    println!("replays, the look at the granule included: {replays:?}");
    assert!(replays[replays.len() / 2] <= 3, "{replays:?}");
    assert!(replays.iter().all(|count| *count <= 4), "{replays:?}");
}

#[test]
fn a_large_context_leaves_kernels_and_nccl_their_room() {
    let card = "gpu name=Untitled total=6GiB context=700MiB\n";
    let one = Scenario::new(card);
    let kept = |machine: &Scenario, flags: &[&str]| {
        let flags = [&["--headroom", "150MiB"], flags].concat();
        let (code, json) = probe(machine, true, &flags);
        assert_eq!((code, &json["gpus"][0]["context_bytes"]), (0, &(700u64 << 20).into()));
        Bytes::new(json["gpus"][0]["kept_free_bytes"].as_u64().unwrap())
    };
    let alone = kept(&one, &[]);
    assert_eq!(alone, Bytes::mib(150) + KERNELS_ALLOWANCE);
    let two = kept(&Scenario::new(&card.repeat(2)), &["--parallel", "ddp"]);
    assert!(two > alone + NCCL_ALLOWANCE && two < alone + NCCL_ALLOWANCE + Bytes::mib(10), "{two}");
}

#[test]
fn a_fixed_micro_batch_is_answered_with_yes_or_no() {
    let machine = Scenario::new("gpu total=4GiB context=100MiB");
    let (_, largest) = probe(&machine, false, &[]);
    let largest = largest["largest_micro_batch"].as_u64().unwrap();
    let (code, json) = probe(&machine, false, &["--micro-batch", &largest.to_string()]);
    assert_eq!((code, &json["fits"]), (0, &true.into()));
    assert_eq!(json["gpus"][0]["at_limit"], true);
    let (code, json) = probe(&machine, false, &["--micro-batch", &(largest + 1).to_string()]);
    assert_eq!((code, &json["fits"]), (3, &false.into()));
    assert_eq!(json["largest_micro_batch"], largest);
}

#[test]
fn a_simulated_gpu_is_searched_and_stays_an_estimate() {
    let machine = Scenario::new("gpu total=4GiB");
    let (code, json) = probe(&machine, false, &["--gpu", "sim:a100-40gb*2,free=20GiB"]);
    assert_eq!(code, 0);
    assert_eq!(
        (&json["method"], &json["gpus"][1]["simulated"]),
        (&"estimated".into(), &true.into())
    );
    assert_eq!(json["gpus"][0]["largest_micro_batch"], json["gpus"][1]["largest_micro_batch"]);
    assert!(machine.calls().is_empty(), "nobody asks a driver");
}

#[test]
fn what_stands_in_the_way_has_its_reason_and_exit_code() {
    for (scenario, code, reason) in [
        ("gpu total=8GiB\n process pid=4190001 bytes=1GiB", 5, "it is in use"),
        ("gpu total=8GiB mode=prohibited", 4, "prohibited"),
        (
            "gpu total=8GiB mode=exclusive\n process pid=4190001 bytes=1MiB",
            5,
            "one process at a time",
        ),
        ("gpu total=8GiB integrated", 4, "shares the host's memory"),
        ("driver cuda_init=34\n gpu total=8GiB", 4, "CUDA_ERROR_STUB_LIBRARY"),
        ("driver cuda_init=4711\n gpu total=8GiB", 4, "4711"),
        ("gpu total=8GiB\n fault cuMemAlloc_v2 at=9 code=719", 5, "cuMemAlloc_v2 failed"),
        (
            "gpu total=8GiB\n fault cuMemAlloc_v2 at=9 do=segfault",
            5,
            "crashed (SIGSEGV) in cuMemAlloc_v2",
        ),
        (
            "gpu total=8GiB\n fault cuMemAlloc_v2 at=9 do=kill",
            5,
            "was killed (SIGKILL) in cuMemAlloc_v2",
        ),
        ("driver nvml_init=9\n gpu total=8GiB", 4, "not loaded"),
        ("gpu total=8GiB failing=nvml:15", 4, "GPU_IS_LOST"),
        ("gpu total=8GiB\n mig gpu=0 total=4GiB", 4, "partitioned by MIG"),
        ("", 4, "no GPU"),
    ] {
        let machine = Scenario::new(scenario);
        let (exit, json) = probe(&machine, true, &[]);
        assert_eq!(exit, code, "{scenario}: {json}");
        assert!(json.to_string().contains(reason), "{scenario}: {json}");
        assert_eq!(machine.held(0), 0);
    }
}

#[test]
fn no_more_is_allocated_than_the_capacity_that_is_given() {
    let machine = Scenario::new("gpu total=24GiB");
    let (code, json) = probe(&machine, true, &["--gpu", "all", "--capacity", "2GiB"]);
    let expected = BruteForce::new(&machine, true, 1).largest(Bytes::gib(2), Bytes::mib(2));
    assert_eq!((code, &json["largest_micro_batch"]), (0, &expected.into()), "{json}");
    assert_eq!(json["gpus"][0]["cap_bytes"], Bytes::gib(2).get());
    let peak = machine.peak_bytes();
    assert!(peak > Bytes::gib(1).get() && peak <= Bytes::gib(2).get(), "{peak}");
    assert_eq!(machine.held(0), 0);
    let tight = Scenario::new("gpu total=24GiB");
    let (code, json) = probe(&tight, true, &["--gpu", "all", "--capacity", "20MiB"]);
    assert_eq!(code, 3, "{json}");
    assert!(json.to_string().contains("20.0 MiB may be taken at most"), "{json}");
    assert!(tight.calls_of("cuMemAlloc_v2").is_empty(), "nothing was touched");
    let (code, json) = probe(&tight, true, &["--capacity", "2GiB"]);
    assert_eq!(code, 2, "{json}");
    assert!(json.to_string().contains("--gpu all --capacity SIZE"), "{json}");
}

#[test]
fn attempts_before_a_failure_are_kept() {
    let clean = Scenario::new("gpu total=3GiB");
    let (_, json) = probe(&clean, true, &[]);
    let allocations = clean.calls_of("cuMemAlloc_v2").len();
    assert_eq!(json["gpus"][0]["attempts"].as_array().unwrap().len(), 2);
    let machine =
        Scenario::new(&format!("gpu total=3GiB\n fault cuMemAlloc_v2 at={allocations} code=999"));
    let (code, json) = probe(&machine, true, &[]);
    assert_eq!((code, &json["largest_micro_batch"]), (5, &Value::Null));
    assert_eq!(json["gpus"][0]["attempts"][0]["fits"], true, "{json}");
    assert!(json["gpus"][0]["error"].as_str().unwrap().contains("999"));
}

#[test]
fn nvml_without_cuda_and_cuda_without_nvml_are_both_named() {
    for (broken, fact) in
        [("libcuda", "libcuda was not found"), ("libnvidia-ml", "no NVIDIA driver")]
    {
        let machine = Scenario::new("gpu total=8GiB");
        for suffix in [".so", ".so.1"] {
            let path = machine.folder().join(format!("{broken}{suffix}"));
            std::fs::remove_file(&path).unwrap();
            std::fs::write(path, "not a library").unwrap();
        }
        let (code, json) = probe(&machine, true, &[]);
        assert_eq!(code, 4);
        assert!(json.to_string().contains(fact), "{json}");
    }
    let folder = garbage_driver();
    let machine = Scenario::new("gpu total=8GiB");
    let output = command(&machine, true, &[]).env("LD_LIBRARY_PATH", folder.path()).output();
    assert_eq!(answer(&output.unwrap()).0, 4);
}

#[test]
fn several_gpus_have_a_row_each_and_one_failure_fails_closed() {
    let machine = Scenario::new(
        "gpu total=4GiB context=100MiB
         gpu total=6GiB context=100MiB
         fault cuMemAlloc_v2 from=200000 code=2",
    );
    let (code, json) = probe(&machine, false, &[]);
    assert_eq!(code, 0, "{json}");
    let answers: Vec<u64> =
        (0..2).map(|at: usize| json["gpus"][at]["largest_micro_batch"].as_u64().unwrap()).collect();
    assert!(answers[0] < answers[1], "{answers:?}");
    assert_eq!(json["largest_micro_batch"], answers[0]);
    let machine =
        Scenario::new("gpu total=4GiB context=100MiB\n gpu total=6GiB failing=cuMemAlloc_v2:719");
    let (code, json) = probe(&machine, false, &[]);
    assert_eq!((code, &json["largest_micro_batch"]), (5, &Value::Null), "{json}");
    assert_eq!(json["gpus"][0]["error"], Value::Null);
}

#[test]
fn ctrl_c_ends_it_with_130_and_sigterm_with_143() {
    use rustix::process::{Pid, Signal, kill_process};
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let machine = Scenario::new("gpu total=3GiB\n fault cuMemAlloc_v2 at=9 do=hang");
        let mut command = command(&machine, true, &[]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while !machine.calls().iter().any(|call| call.result == "hang") {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        let (exit, json) = answer(&child.wait_with_output().unwrap());
        assert_eq!((exit, &json["exit_code"]), (code, &code.into()), "{json}");
        assert_eq!(machine.held(0), 0);
    }
}

#[test]
fn an_nvml_that_hangs_holds_nobody_up() {
    use rustix::process::{Pid, Signal, kill_process};
    // The first start lists GPUs, the second one does so under the lock, the third asks for what
    // the context takes: without an answer that is what has become less.
    let hangs = |at: u32| {
        Scenario::new(&format!("gpu total=3GiB context=100MiB\n fault nvmlInit_v2 at={at} do=hang"))
    };
    let (code, json) = probe(&hangs(2), true, &["--timeout", "2s"]);
    assert_eq!(code, 5, "{json}");
    assert!(json.to_string().contains("NVML did not answer within 2s"), "{json}");
    let (code, json) = probe(&hangs(3), true, &["--call-timeout", "2s"]);
    assert_eq!((code, &json["gpus"][0]["context_bytes"]), (0, &(100u64 << 20).into()), "{json}");
    let machine = hangs(2);
    let mut command = command(&machine, true, &[]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !machine.calls().iter().any(|call| call.result == "hang") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let begun = std::time::Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(answer(&child.wait_with_output().unwrap()).0, 130);
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "it waited for the driver");
}

#[test]
fn a_lock_that_cannot_be_made_is_named_with_the_way_out() {
    let machine = Scenario::new("gpu total=3GiB context=100MiB");
    std::fs::write(machine.folder().join("oomph"), "a file where the folder is to be").unwrap();
    let (code, json) = probe(&machine, true, &[]);
    assert_eq!(code, 5, "{json}");
    let [error, hint] = ["error", "hint"].map(|key| json["gpus"][0][key].as_str().unwrap());
    assert!(error.contains("cannot be used") && hint.contains("XDG_RUNTIME_DIR"), "{json}");
    assert!(machine.calls_of("cuInit").is_empty());
}

#[test]
fn the_text_says_the_answer_first_and_what_it_proves() {
    let machine = Scenario::new("gpu total=4GiB context=100MiB");
    let path = model(machine.folder(), true);
    let mut command = machine.command(env!("CARGO_BIN_EXE_oomph"));
    command.args(["probe", &path]).args(FLAGS).env("XDG_RUNTIME_DIR", machine.folder());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("largest micro-batch "), "{text}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("not that the estimate is right"), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "no progress in a pipe");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

/// Every call of a whole `oomph probe` is its process's last, one by one.
#[test]
fn a_kill_at_any_call_leaves_nothing_and_the_next_probe_runs() {
    let clean = Scenario::new(SMALL);
    let expected = probe(&clean, true, &[]).1["largest_micro_batch"].clone();
    let calls = clean.calls();
    assert!(calls.len() > 100, "{} calls", calls.len());
    side_by_side(calls.len(), |at| {
        let (number, name) = (at + 1, &calls[at].name);
        let machine = Scenario::new(&format!("{SMALL}\n fault * at={number} do=kill"));
        let output = command(&machine, true, &[]).output().unwrap();
        if name.starts_with("cu") {
            let (code, json) = answer(&output);
            // By the release of the context the answer is there, and a warning.
            let known = name.starts_with("cuDevicePrimaryCtxRelease");
            assert_eq!(code, if known { 0 } else { 5 }, "call {number}: {json}");
            assert!(json.to_string().contains("was killed (SIGKILL)"), "call {number}: {json}");
        } else {
            assert_eq!(output.status.code(), None, "the parent was killed at call {number}");
        }
        assert_as_before(&machine);
        let (code, json) = probe(&machine, true, &["--lock-timeout", "1m"]);
        assert_eq!((code, &json["largest_micro_batch"]), (0, &expected), "after {number}: {json}");
        assert_as_before(&machine);
    });
}
