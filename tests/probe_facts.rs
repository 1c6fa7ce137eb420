//! What a driver can say before and while it is probed (the facts of `docs/guide/probe.md`), a row each:
//! the exit code and the words that a user needs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod probe_command;
mod support;

use probe_command::{answer, command, probe};
use support::Scenario;

/// A machine, what is asked of it, how that ends, and what is said.
struct Row {
    fact: &'static str,
    scenario: &'static str,
    flags: &'static [&'static str],
    visible: Option<&'static str>,
    code: i32,
    words: &'static [&'static str],
}

const ROW: Row =
    Row { fact: "", scenario: "gpu total=3GiB", flags: &[], visible: None, code: 0, words: &[] };

const TWO: &str = "gpu total=3GiB context=100MiB\n gpu total=6GiB context=100MiB";
const PARTITIONED: &str =
    "gpu total=24GiB context=100MiB\n mig gpu=0 total=3GiB\n mig gpu=0 total=6GiB";

const ROWS: &[Row] = &[
    Row {
        fact: "a MIG parent has figures that no process can have",
        scenario: PARTITIONED,
        code: 4,
        words: &["partitioned by MIG", "--gpu MIG-"],
        ..ROW
    },
    Row {
        fact: "a MIG instance is a GPU of its own",
        scenario: PARTITIONED,
        flags: &["--gpu", "MIG-00000002"],
        words: &["\"uuid\": \"MIG-00000002-"],
        ..ROW
    },
    Row {
        fact: "the beginning of two instances' UUIDs names neither",
        scenario: PARTITIONED,
        flags: &["--gpu", "MIG-"],
        code: 2,
        words: &["begins more than one UUID: MIG-00000002-", "MIG-00000003-", "write more of"],
        ..ROW
    },
    Row {
        fact: "the beginning of two UUIDs names neither",
        scenario: TWO,
        flags: &["--gpu", "GPU-0000000"],
        code: 2,
        words: &["GPU-0000000 begins more than one UUID", "GPU-00000001-", "GPU-00000002-"],
        ..ROW
    },
    Row {
        fact: "the beginning of one UUID is enough",
        scenario: TWO,
        flags: &["--gpu", "GPU-00000002"],
        words: &["\"index\": 1"],
        ..ROW
    },
    Row {
        fact: "CUDA_VISIBLE_DEVICES decides when no GPU is named",
        scenario: TWO,
        visible: Some("GPU-00000002"),
        words: &["\"uuid\": \"GPU-00000002-"],
        ..ROW
    },
    Row {
        fact: "CUDA_VISIBLE_DEVICES can hide all",
        scenario: TWO,
        visible: Some(""),
        code: 4,
        words: &["leaves no GPU visible", "unset CUDA_VISIBLE_DEVICES"],
        ..ROW
    },
    Row {
        fact: "unified memory: no figure of NVML's",
        scenario: "gpu total=24GiB integrated \
                   failing=nvmlDeviceGetMemoryInfo:3,nvmlDeviceGetMemoryInfo_v2:3",
        code: 5,
        words: &["memory is unknown", "unified memory", "--capacity", "MemAvailable"],
        ..ROW
    },
    Row {
        fact: "unified memory that NVML reports is CUDA's to refuse",
        scenario: "gpu total=24GiB integrated",
        code: 4,
        words: &["shares the host's memory", "--probe never"],
        ..ROW
    },
    Row {
        fact: "an old driver has the first memory call only",
        scenario: "driver version=470.57.02\n \
                   gpu total=3GiB reserved=100MiB context=100MiB failing=nvmlDeviceGetMemoryInfo_v2:13",
        ..ROW
    },
    Row {
        fact: "an old driver in a container shows none of the processes that hold memory",
        scenario: "driver version=470.57.02\n \
                   gpu total=24GiB reserved=200MiB failing=nvmlDeviceGetMemoryInfo_v2:13\n \
                   process pid=4190001 bytes=20GiB\n \
                   fault nvmlDeviceGetComputeRunningProcesses_v3 code=3",
        code: 5,
        words: &["it is in use", "not visible here", "--shared"],
        ..ROW
    },
    Row {
        fact: "NOT_SUPPORTED on a card of its own memory is unknown memory, never the host's",
        scenario: "gpu total=24GiB failing=nvmlDeviceGetMemoryInfo:3,nvmlDeviceGetMemoryInfo_v2:3",
        code: 5,
        words: &["its memory is unknown", "NVML 3 (NOT_SUPPORTED)", "--capacity"],
        ..ROW
    },
    Row {
        fact: "no permission for the GPU",
        scenario: "gpu total=3GiB failing=nvmlDeviceGetMemoryInfo_v2:4,nvmlDeviceGetMemoryInfo:4",
        code: 4,
        words: &["NVML 4 (NO_PERMISSION)", "cgroups"],
        ..ROW
    },
    Row {
        fact: "no kernel module",
        scenario: "driver nvml_init=9\n gpu total=3GiB",
        code: 4,
        words: &["kernel driver is not loaded", "modprobe nvidia", "--gpus all"],
        ..ROW
    },
    Row {
        fact: "driver and library of different versions, NVML",
        scenario: "driver nvml_init=18\n gpu total=3GiB",
        code: 4,
        words: &["different versions", "reload the nvidia kernel modules"],
        ..ROW
    },
    Row {
        fact: "driver and library of different versions, CUDA",
        scenario: "driver cuda_init=803\n gpu total=3GiB",
        code: 4,
        words: &["CUDA 803 (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)", "reload the modules"],
        ..ROW
    },
    Row {
        fact: "a compatibility library that does not support the GPU",
        scenario: "driver cuda_init=804\n gpu total=3GiB",
        code: 4,
        words: &["CUDA 804", "cuda-compat", "LD_LIBRARY_PATH"],
        ..ROW
    },
    Row {
        fact: "the toolkit's stub library before the driver's",
        scenario: "driver cuda_init=34\n gpu total=3GiB",
        code: 4,
        words: &["CUDA 34 (CUDA_ERROR_STUB_LIBRARY)", "stubs"],
        ..ROW
    },
    Row {
        fact: "NVML sees a GPU that CUDA does not",
        scenario: "driver cuda_init=100\n gpu total=3GiB",
        code: 4,
        words: &["CUDA 100 (CUDA_ERROR_NO_DEVICE)", "/dev/nvidia*"],
        ..ROW
    },
    Row {
        fact: "a GPU that is lost, beside one that is not",
        scenario: "gpu total=3GiB\n gpu total=3GiB failing=nvml:15,cuda:999",
        code: 4,
        words: &["GPU 1 cannot be planned for", "GPU_IS_LOST", "dmesg", "--gpu 0,2"],
        ..ROW
    },
    Row {
        fact: "the one that is not lost can be named",
        scenario: "gpu total=3GiB\n gpu total=3GiB failing=nvml:15,cuda:999",
        flags: &["--gpu", "0"],
        ..ROW
    },
    Row {
        fact: "exclusive mode with a user",
        scenario: "gpu total=8GiB mode=exclusive\n process pid=4190001 bytes=1MiB",
        code: 5,
        words: &["one process at a time", "(pid 4190001)", "try again once it has ended"],
        ..ROW
    },
    Row {
        fact: "prohibited mode",
        scenario: "gpu total=8GiB mode=prohibited",
        code: 4,
        words: &["`prohibited`", "nvidia-smi -c 0"],
        ..ROW
    },
    Row {
        fact: "others on it, whose bytes the driver does not tell",
        scenario: "gpu total=8GiB no-process-memory\n process pid=4190001 bytes=1GiB",
        code: 5,
        words: &["it is in use", "1.0 GiB in all", "--shared"],
        ..ROW
    },
    Row {
        fact: "a driver that says nothing of its own child's bytes",
        scenario: "gpu total=3GiB context=100MiB no-process-memory",
        words: &["\"context_bytes\": 104857600"],
        ..ROW
    },
    Row {
        fact: "a code that no table knows",
        scenario: "gpu total=3GiB failing=cuDevicePrimaryCtxRetain:4711",
        code: 5,
        words: &["cuDevicePrimaryCtxRetain failed: CUDA code 4711", "nvidia-smi"],
        ..ROW
    },
    Row {
        fact: "no room for a context",
        scenario: "gpu total=3GiB failing=cuDevicePrimaryCtxRetain:2",
        code: 3,
        words: &["not even a context fits"],
        ..ROW
    },
];

#[test]
fn each_fact_has_its_exit_code_and_words() {
    let mut wrong = Vec::new();
    for row in ROWS {
        let machine = Scenario::new(row.scenario);
        let mut command = command(&machine, true, row.flags);
        command.envs(row.visible.map(|visible| ("CUDA_VISIBLE_DEVICES", visible)));
        let (code, json) = answer(&command.output().unwrap());
        let said = format!("{json:#}");
        let missing: Vec<_> = row.words.iter().filter(|words| !said.contains(**words)).collect();
        if code != row.code || !missing.is_empty() {
            wrong.push(format!("{}: exit {code}, {missing:?} not in {said}", row.fact));
        }
        if code == 0 && json["largest_micro_batch"].as_u64().is_none_or(|largest| largest == 0) {
            wrong.push(format!("{}: no answer in {said}", row.fact));
        }
        assert!((0..2).all(|gpu| gpu >= machine.gpus() || machine.held(gpu) == 0), "{}", row.fact);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_client_of_mps_stays_within_its_own_limit() {
    let limit = 1500 << 20;
    let machine = Scenario::new(&format!("gpu total=8GiB context=100MiB client_limit={limit}"));
    let (code, json) = probe(&machine, true, &["--headroom", "100MiB"]);
    assert_eq!(code, 0, "{json}");
    // The limit counts as what there is: the same as on a card of that size.
    let small = Scenario::new(&format!("gpu total={limit} context=100MiB"));
    let (_, alone) = probe(&small, true, &["--headroom", "100MiB"]);
    assert_eq!(json["largest_micro_batch"], alone["largest_micro_batch"], "{json}");
    assert!(machine.peak_bytes() + (200 << 20) <= limit);
}

#[test]
fn a_gpu_that_is_lost_is_not_skipped_where_none_would_be() {
    let folder = tempfile::tempdir().unwrap();
    for (scenario, code) in [("driver nvml_init=9", 0), ("gpu total=3GiB failing=nvml:15", 4)] {
        let machine = Scenario::new(scenario);
        let mut check = machine.command(env!("CARGO_BIN_EXE_oomph"));
        check.args(["check", "gpt2", "--precision", "fp32", "--micro-batch", "1"]);
        check.args(["--no-gpu", "skip"]);
        let output = check.current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{scenario}: {said}");
    }
}
