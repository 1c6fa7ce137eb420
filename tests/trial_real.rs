//! `oomph trial` on real GPUs, as far as the stand-in driver is one: NVML is loaded by oomph, the
//! command allocates through CUDA, and the peak is sampled.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod random;
mod support;
mod training;

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use random::Random;
use rustix::process::Signal;
use serde_json::Value;
use support::Scenario;
use training::{User, json, program, said, send};

const MIB: u64 = 1 << 20;

/// `oomph trial` with these options around the stand-in program with these words, on a machine.
fn trial(machine: &Scenario, user: &User, options: &str, words: &str) -> Command {
    let mut command = user.plain(&format!("trial {options} --"));
    command.arg(program()).args(words.split_whitespace()).envs(machine.environment());
    command
}

fn answer(machine: &Scenario, user: &User, options: &str, words: &str) -> (Option<i32>, Value) {
    let output = trial(machine, user, &format!("--json {options}"), words).output().unwrap();
    (output.status.code(), json(&output))
}

/// Words that make the program wait until its memory has been read.
fn read(machine: &Scenario) -> String {
    format!("read_in={} micro_batch={{micro_batch}}", machine.folder().join("calls.log").display())
}

/// A law of memory in MiB: as the program's words, and as the brute force has it. Up to 64 samples fit
/// beside the base; what lies off their line is of the size that PyTorch's segments and kernels'
/// scratch have. (Search alone has harder ones, and more of them: src/trial/search/tests.rs.)
struct Law {
    total: u64,
    base: u64,
    sample: u64,
    granule: u64,
    /// A size, and what a kernel needs more from it on, and from twice it on, ...
    jump: (u64, u64),
    /// What is held too shortly to be seen.
    moment: u64,
}

impl Law {
    fn random(seed: u64) -> Law {
        let mut random = Random(seed);
        let total = [16, 24, 40, 48, 80][random.below(5) as usize] * 1024;
        let base = total * (2 + random.below(58)) / 100;
        let sample = (total - 400 - base) * 100 / (50 + random.below(6_400));
        let granule = if seed % 4 == 1 { [4, 20, 32][random.below(3) as usize] } else { 2 };
        let jump = (2 + random.below(28), if seed % 4 == 2 { random.below(100) } else { 0 });
        let moment = if seed % 4 == 3 { 2 + random.below(30) } else { 0 };
        Law { total, base, sample, granule, jump, moment }
    }

    fn words(&self) -> String {
        let Law { base, sample, granule, jump: (at, jump), moment, .. } = self;
        format!(
            "base={base} sample={sample} granule={granule} jump_at={at} jump={jump} moment={moment}"
        )
    }

    /// The largest micro-batch that runs, with a context of 400 MiB.
    fn largest(&self) -> u64 {
        let (at, jump) = self.jump;
        let needs = |size: u64| {
            let smooth = self.base + size * self.sample + size / at * jump;
            smooth.div_ceil(self.granule) * self.granule
        };
        (1..).take_while(|size| needs(*size) + 400 <= self.total).last().unwrap_or(0)
    }
}

#[test]
fn a_hundred_random_laws_end_where_brute_force_does_in_four_runs_at_most() {
    let (next, counts) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    program();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= 100 {
                        break;
                    }
                    let law = Law::random(seed);
                    let machine =
                        Scenario::new(&format!("gpu total={}MiB context=400MiB", law.total));
                    let (words, user) =
                        (format!("{} {}", law.words(), read(&machine)), User::new());
                    let (code, answer) = answer(&machine, &user, "--headroom 0%", &words);
                    let expected = law.largest();
                    assert_eq!(answer["largest_micro_batch"], expected, "{words}: {answer:#}");
                    assert_eq!(code, Some(if expected == 0 { 3 } else { 0 }));
                    let runs = answer["runs"].as_array().unwrap();
                    let confirmed =
                        |run: &&Value| run["micro_batch"] == expected && run["verdict"] == "ran";
                    assert!(expected == 0 || runs.iter().any(|run| confirmed(&run)));
                    counts.lock().unwrap().push(runs.len());
                    user.assert_nothing_left();
                }
            });
        }
    });
    let mut counts = counts.into_inner().unwrap();
    counts.sort_unstable();
    println!("runs a trial: {counts:?}");
    assert!(counts.len() == 100 && counts[99] <= 4, "{counts:?}");
}

/// A law that several tests use: 20 samples of 1 GiB beside 3 GiB and a context, on 24 GiB.
const PLAIN: &str = "base=3072 sample=1024";

fn card(lines: &str) -> Scenario {
    Scenario::new(&format!("gpu total=24GiB context=400MiB name=\"Some Card\"{lines}"))
}

fn notes(answer: &Value) -> String {
    answer["plan"]["notes"].to_string()
}

#[test]
fn the_answer_says_that_it_was_tried_on_the_gpu_and_how_peaks_are_known() {
    let (machine, user) = (card(""), User::new());
    let words = format!("{PLAIN} {}", read(&machine));
    let (code, answer) = answer(&machine, &user, "", &words);
    // 3% of 24 GiB are left free.
    assert_eq!((code, &answer["largest_micro_batch"]), (Some(0), &19.into()), "{answer:#}");
    let plan = &answer["plan"];
    assert_eq!((&plan["method"], &plan["gpus"][0]["simulated"]), (&"tried".into(), &false.into()));
    for run in answer["runs"].as_array().unwrap() {
        let gpu = &run["gpus"][0];
        assert_eq!((&gpu["peak_source"], &gpu["simulated"]), (&"processes".into(), &false.into()));
        let size = run["micro_batch"].as_u64().unwrap();
        assert_eq!(gpu["peak_bytes"], (400 + 3072 + 1024 * size) * MIB, "{run:#}");
        assert_eq!(run["processes"][0]["peak_device_bytes"], gpu["peak_bytes"]);
    }
    assert!(notes(&answer).contains("micro-batch 20 was not run: by the line"), "{answer:#}");
    let output = trial(&machine, &user, "--effective-batch 190", &words).output().unwrap();
    let text = said(&output);
    for part in [
        "micro-batch 19 x accumulation 10 x 1 GPU = effective batch 190, exactly",
        "GPU 0: Some Card, 24.0 GiB of 24.0 GiB free",
        "the command may take",
        "tried: the command itself ran, on the GPU",
        "peaks were read 50 times a second",
    ] {
        assert!(text.replace("\n          ", " ").contains(part), "{part} in {text}");
    }
    assert!(!text.contains("simulated"), "{text}");
    assert_eq!(machine.held(0), 0);
}

#[test]
fn what_runs_into_the_headroom_does_not_count_and_is_named() {
    let (machine, user) = (card(""), User::new());
    let words = format!("base=2000 sample=4100 {}", read(&machine));
    let (_, answer) = answer(&machine, &user, "--headroom 10%", &words);
    assert_eq!(answer["largest_micro_batch"], 4, "{answer:#}");
    let ran = answer["runs"].as_array().unwrap().iter().find(|run| run["micro_batch"] == 5);
    assert_eq!(ran.unwrap()["verdict"], "ran");
    assert!(notes(&answer).contains("micro-batch 5 ran too, with less than the headroom left"));
    let text = said(&trial(&machine, &user, "--headroom 10%", &words).output().unwrap());
    assert!(text.contains("ran, into the headroom"), "{text}");
}

#[test]
fn a_command_that_leaves_the_gpu_alone_and_a_headroom_that_leaves_nothing_are_no_plan() {
    let (machine, user) = (card(""), User::new());
    let (code, error) =
        answer(&machine, &user, "", "cuda=no micro_batch={micro_batch} sleep_ms=60");
    assert_eq!(
        (code, &error["error"]),
        (Some(5), &"the command was never seen to use a GPU".into())
    );
    assert!(!error["runs"].as_array().unwrap().is_empty(), "{error:#}");
    let words = format!("{PLAIN} micro_batch={{micro_batch}}");
    let (code, error) = answer(&machine, &user, "--headroom 24GiB", &words);
    assert_eq!((code, &error["error"]), (Some(3), &"nothing is left for the command".into()));
    assert!(machine.calls_of("cuInit").is_empty(), "nothing was run");
}

/// From four samples on a program prints what others do, each in its own words, and ends with 1.
#[test]
fn what_frameworks_and_the_kernel_print_decides_what_a_failure_is() {
    let (machine, user) = (card(""), User::new());
    let script = user.path("work/train.sh");
    let program = program().display();
    let lines = format!(
        "if [ $1 -gt 3 ]; then echo \"$SAYS\" >&2; exit 1; fi\n\
         exec {program} base=3072 sample=1024 micro_batch=$1 step_ms=60\n"
    );
    std::fs::write(&script, lines).unwrap();
    let run = |says: &str| {
        let mut command = user.plain("trial -- sh train.sh {micro_batch}");
        let output = command.envs(machine.environment()).env("SAYS", says).output().unwrap();
        let text = said(&output).split_whitespace().collect::<Vec<_>>().join(" ");
        (output.status.code(), text)
    };
    let tensor = "Resource exhausted: OOM when allocating tensor with shape[64,512] and type float on \
                  /job:localhost/replica:0/task:0/device";
    for says in [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 34359738368 bytes.",
        &format!("{tensor}:GPU:0 by allocator GPU_0_bfc"),
        "W tensorflow/core/framework/op_kernel.cc:1780] RESOURCE_EXHAUSTED: failed to allocate memory",
        "Error out of memory at line 380 in file /src/csrc/pythonInterface.cpp",
        "node7:11:11 [0] NCCL WARN Cuda failure 2 'out of memory'",
    ] {
        let (code, text) = run(says);
        assert_eq!(code, Some(0), "{says}: {text}");
        assert!(text.starts_with("micro-batch 3 x ") && text.contains("out of memory"), "{text}");
    }
    for (says, words) in [
        (
            "[ 12.3] Out of memory: Killed process 4242 (python3)",
            "the machine's own memory ran out",
        ),
        ("Memory cgroup out of memory: Killed process 4242 (python3)", "the machine's own memory"),
        (&format!("{tensor}:CPU:0 by allocator cpu"), "the machine's own memory ran out"),
        ("RuntimeError: DefaultCPUAllocator: can't allocate memory: 8 bytes", "not the GPU's"),
        ("KeyError: 'labels'", "ended with exit code 1, which says nothing about memory"),
    ] {
        let (code, text) = run(says);
        assert_eq!(code, Some(5), "{says}: {text}");
        assert!(text.contains(words) && text.contains(&format!("| {says}")), "{says}: {text}");
    }
    assert_eq!(machine.held(0), 0);
}

#[test]
fn a_driver_that_does_not_tell_processes_apart_is_asked_for_the_difference() {
    let (machine, user) = (card(" no-process-memory"), User::new());
    let words = format!("{PLAIN} {}", read(&machine));
    let (_, answer) = answer(&machine, &user, "", &words);
    assert_eq!(answer["largest_micro_batch"], 19, "{answer:#}");
    assert_eq!(answer["runs"][0]["gpus"][0]["peak_source"], "device");
    assert!(notes(&answer).contains("does not say here what each process holds"), "{answer:#}");
}

#[test]
fn a_gpu_in_use_is_left_alone_unless_it_may_be_shared() {
    let (machine, user) = (card("\nprocess pid=4190001 bytes=10GiB name=python3"), User::new());
    let words = format!("{PLAIN} {}", read(&machine));
    let output = trial(&machine, &user, "", &words).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(5), "{text}");
    for part in ["nothing is tried on GPU 0", "pid 4190001", "--shared"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(machine.calls_of("cuMemAlloc_v2").is_empty(), "nothing was run");
    let (code, answer) = answer(&machine, &user, "--shared", &words);
    assert_eq!((code, &answer["largest_micro_batch"]), (Some(0), &9.into()), "{answer:#}");
    assert_eq!(answer["runs"][0]["contended"], false);
}

#[test]
fn a_neighbour_that_grows_meanwhile_makes_the_answer_contended() {
    let machine = card(
        "\nprocess pid=4190001 bytes=1GiB
         steal cuMemAlloc_v2 after=3 pid=4190001 take=6GiB",
    );
    let user = User::new();
    let words = format!("{PLAIN} {}", read(&machine));
    let (code, answer) = answer(&machine, &user, "--shared --keep kept", &words);
    assert_eq!((code, &answer["largest_micro_batch"]), (Some(0), &12.into()), "{answer:#}");
    assert!(notes(&answer).contains("contended"), "{answer:#}");
    let warned = answer["runs"].to_string();
    assert!(warned.contains("others took 6.0 GiB of GPU 0 meanwhile"), "{warned}");
    // What was run beside somebody else says nothing of another day.
    let (_, again) = self::answer(&machine, &user, "--shared --keep kept", &words);
    assert!(again["reused_runs"].as_u64() <= Some(1), "{again:#}");
}

#[test]
fn a_gpu_that_is_lost_stops_the_trial_and_one_bad_reading_does_not() {
    let words = "base=3072 sample=4096 micro_batch={micro_batch} step_ms=300";
    let user = User::new();
    // The first run is read some thirty times.
    let lost = card("\nfault nvmlDeviceGetMemoryInfo_v2 from=12 code=15");
    let (code, error) = answer(&lost, &user, "", words);
    assert_eq!((code, &error["schema"]), (Some(5), &"oomph.error/1".into()), "{error:#}");
    assert_eq!(error["error"], "the memory of a GPU cannot be read");
    assert!(error["cause"].as_str().unwrap().contains("NVML 15"), "{error:#}");
    assert_eq!(error["runs"].as_array().unwrap().len(), 1, "{error:#}");
    let once = card("\nfault nvmlDeviceGetMemoryInfo_v2 at=12 code=15");
    let (code, answer) = answer(&once, &user, "", words);
    assert_eq!((code, &answer["largest_micro_batch"]), (Some(0), &4.into()), "{answer:#}");
    let warned = answer["runs"][0]["warnings"].to_string();
    assert!(
        warned
            .contains("GPU 0 could not always be read: nvmlDeviceGetMemoryInfo_v2 failed: NVML 15"),
        "{warned}"
    );
}

#[test]
fn without_nvml_it_is_exit_4_or_with_skip_the_verdicts_alone() {
    let (machine, user) = (Scenario::new("driver nvml_init=9\ngpu total=24GiB"), User::new());
    let words = format!("{PLAIN} micro_batch={{micro_batch}}");
    let output = trial(&machine, &user, "", &words).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(4), "{text}");
    for part in ["kernel driver is not loaded", "--gpu sim:", "--no-gpu skip"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let (code, answer) = answer(&machine, &user, "--no-gpu skip", &words);
    assert_eq!((code, &answer["largest_micro_batch"]), (Some(0), &21.into()), "{answer:#}");
    assert_eq!(answer["runs"][0]["gpus"], Value::Array(Vec::new()));
    assert!(notes(&answer).contains("skipped: the NVIDIA kernel driver is not loaded"));
    let text = said(&trial(&machine, &user, "--no-gpu skip", &words).output().unwrap());
    assert!(text.contains("a GPU that could not be asked"), "{text}");
    let output = trial(&machine, &user, "--gpu 0 --no-gpu skip", &words).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "a GPU that is named must be there");
}

#[test]
fn gpus_that_cannot_be_tried_say_why() {
    let user = User::new();
    let words = format!("{PLAIN} micro_batch={{micro_batch}}");
    let unified = "gpu total=24GiB integrated \
                   failing=nvmlDeviceGetMemoryInfo:3,nvmlDeviceGetMemoryInfo_v2:3";
    for (lines, code, part) in [
        ("gpu total=24GiB mig=on\nmig gpu=0 total=10GiB", 4, "--gpu MIG-"),
        ("gpu total=24GiB mode=prohibited", 4, "nvidia-smi -c 0"),
        (unified, 5, "--no-gpu skip"),
        ("gpu total=24GiB failing=nvml:15", 4, "NVML 15"),
    ] {
        let machine = Scenario::new(lines);
        let output = trial(&machine, &user, "", &words).output().unwrap();
        let text = said(&output);
        assert!(output.status.code() == Some(code) && text.contains(part), "{lines}: {text}");
    }
    let machine = Scenario::new(unified);
    let (_, answer) = answer(&machine, &user, "--no-gpu skip", &words);
    assert_eq!(answer["largest_micro_batch"], 21, "{answer:#}");
}

#[test]
fn a_mig_instance_is_tried_by_its_own_memory() {
    let machine = Scenario::new("gpu total=24GiB mig=on\nmig gpu=0 total=10GiB");
    let user = User::new();
    let words = format!("{PLAIN} {}", read(&machine));
    let (code, answer) = answer(&machine, &user, "--gpu MIG-", &words);
    assert_eq!((code, &answer["largest_micro_batch"]), (Some(0), &6.into()), "{answer:#}");
    assert!(answer["plan"]["gpus"][0]["uuid"].as_str().unwrap().starts_with("MIG-"));
}

#[test]
fn named_gpus_are_what_the_command_sees_and_idle_ones_are_told() {
    let machine = Scenario::new("gpu total=8GiB context=400MiB\ngpu total=24GiB context=400MiB");
    let user = User::new();
    let words = format!("{PLAIN} {}", read(&machine));
    let (_, one) = answer(&machine, &user, "--gpu 1", &words);
    assert_eq!(one["largest_micro_batch"], 19, "{one:#}");
    assert_eq!(one["plan"]["gpus"].as_array().unwrap().len(), 1);
    let (code, all) = answer(&machine, &user, "", &words);
    assert_eq!(code, Some(5), "{all:#}");
    assert!(all["error"].to_string().contains("the command left GPU 1 alone"), "{all:#}");
    assert!(all["hint"].to_string().contains("--gpu 0; or one process"), "{all:#}");
    let (_, all) = answer(&machine, &user, "--world-size 2", &words);
    assert_eq!(all["largest_micro_batch"], 4, "{all:#}");
    assert_eq!(all["plan"]["data_parallel_size"], 2);
    assert!(notes(&all).contains("the command left GPU 1 alone"), "{all:#}");
    let (_, ranks) = answer(&machine, &user, "--effective-batch 64", &format!("{words} ranks=2"));
    assert_eq!(ranks["largest_micro_batch"], 4, "{ranks:#}");
    let ran = ranks["runs"].as_array().unwrap().iter().find(|run| run["verdict"] == "ran");
    assert_eq!(ran.unwrap()["processes"].as_array().unwrap().len(), 2);
    assert!(!notes(&ranks).contains("alone"), "{ranks:#}");
}

#[test]
fn kept_runs_are_used_again_where_they_still_say_the_same() {
    let (machine, user) = (card(""), User::new());
    let words = format!("{PLAIN} {}", read(&machine));
    let (_, first) = answer(&machine, &user, "--keep kept", &words);
    let runs = first["runs"].as_array().unwrap().len();
    let (_, second) = answer(&machine, &user, "--keep kept", &words);
    assert_eq!(second["reused_runs"], runs);
    assert_eq!(second["plan"]["micro_batch"], first["plan"]["micro_batch"]);
    // With a neighbour, what ran is judged by what is left today.
    machine.add("process pid=4190001 bytes=8GiB");
    std::fs::remove_file(machine.path().with_extension("state")).unwrap();
    let (_, third) = answer(&machine, &user, "--shared --keep kept", &words);
    assert_eq!(third["largest_micro_batch"], 11, "{third:#}");
    assert!(third["reused_runs"].as_u64() >= Some(1), "{third:#}");
}

#[test]
fn two_trials_on_one_gpu_do_not_meet() {
    let (machine, user) = (card(""), User::new());
    let words = format!("{PLAIN} micro_batch={{micro_batch}} sleep_ms=60000");
    let mut first = trial(&machine, &user, "", &words);
    let mut first = first.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while machine.calls_of("cuMemAlloc_v2").is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = trial(&machine, &user, "--shared", &words).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains(&format!("another oomph (pid {})", first.id())), "{text}");
    send(first.id(), Signal::INT);
    assert_eq!(first.wait().unwrap().code(), Some(130));
    assert_eq!(machine.held(0), 0);
    user.assert_nothing_left();
}
