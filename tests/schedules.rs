//! Schedules: ramps as Megatron-LM counts them, one micro-batch for all stages against brute force,
//! and what the command line makes of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod random;

use std::convert::Infallible;
use std::process::Output;

use answers::{json, oomph_in, words};
use oomph::plan::schedule::{RampUp, one_micro_batch};
use oomph::plan::solver::Limits;
use oomph::plan::together::Fits;
use oomph::units::{AccumulationSteps, MicroBatch};
use random::Random;
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn a_ramp_changes_where_megatrons_own_rule_changes_it() {
    let mut draw = Random(17);
    for _ in 0..400 {
        let [start, increment, increments] =
            [1 + draw.below(64), 1 + draw.below(64), 1 + draw.below(20)];
        let samples = increments + draw.below(2000);
        let target = start + increment * increments;
        let stages = RampUp { start, increment, samples }.stages(target).unwrap();
        // `update` of core 0.17: int(consumed / (samples / increments)) increments, to the end.
        let batch =
            |consumed: u64| start + (consumed * increments / samples).min(increments) * increment;
        for consumed in 0..=samples + 3 {
            let ours = stages.iter().rfind(|(from, _)| *from <= consumed).unwrap().1;
            assert_eq!(ours, batch(consumed), "{start} {increment} {samples} at {consumed}");
        }
    }
}

/// A device whose limits are known; `gaps` are sizes within them that do not run.
struct Known {
    limits: Limits,
    gap: u64,
}

impl Fits for Known {
    type Error = Infallible;

    fn largest(&mut self, accumulation: AccumulationSteps) -> Result<u64, Infallible> {
        Ok(self.limits.at(accumulation.get()))
    }

    fn runs(&mut self, size: MicroBatch, steps: AccumulationSteps) -> Result<bool, Infallible> {
        Ok(size.get() <= self.limits.at(steps.get()) && size.get() != self.gap)
    }
}

#[test]
fn one_micro_batch_for_all_stages_is_the_largest_that_brute_force_finds() {
    let mut draw = Random(15);
    let mut found = 0;
    for _ in 0..20_000 {
        let mut judges: Vec<Known> = (0..1 + draw.below(3))
            .map(|_| {
                let single = draw.below(65);
                let limits = Limits { single, accumulated: draw.below(single + 1) };
                Known { limits, gap: draw.below(80) }
            })
            .collect();
        let unit = 1 + draw.below(24);
        let stages: Vec<(u64, usize)> = (0..1 + draw.below(6))
            .map(|_| (unit * (1 + draw.below(40)), draw.below(judges.len() as u64) as usize))
            .collect();
        let fixed =
            (draw.below(8) == 0).then(|| AccumulationSteps::new(1 + draw.below(16)).unwrap());
        let fixed_size =
            (draw.below(4) == 0).then(|| MicroBatch::new(1 + draw.below(unit)).unwrap());
        let does = |size: u64, judges: &[Known]| {
            stages.iter().all(|(samples, judge)| {
                let Known { limits, gap } = judges[*judge];
                samples % size == 0
                    && size <= limits.at(samples / size)
                    && size != gap
                    && fixed.is_none_or(|fixed| fixed.get() == samples / size)
                    && fixed_size.is_none_or(|fixed| fixed.get() == size)
            })
        };
        let brute = (1..=64).rev().find(|size| does(*size, &judges));
        let Ok(ours) = one_micro_batch(&stages, &mut judges, (fixed_size, fixed));
        assert_eq!(ours.map(MicroBatch::get), brute, "{stages:?} {fixed:?} {fixed_size:?}");
        found += u64::from(brute.is_some());
    }
    assert!(found > 2000, "{found} of the cases have one");
}

fn oomph(folder: &TempDir, line: &str) -> Output {
    oomph_in(folder.path(), &words(line))
}

const PLAN: &str = "plan gpt2 --precision bf16 --gpu sim:t4*4";
const RAMP: &str = "--effective-batch 1024 --ramp-up start=256,increment=96,samples=100000";

#[test]
fn each_stage_has_the_plan_that_it_would_have_alone() {
    let folder = TempDir::new().unwrap();
    let line = format!("{PLAN} --effective-tokens 262144 --seq-len-schedule 128,512,1024 --json");
    let plan = json(&oomph(&folder, &line));
    let schedule = &plan["schedule"];
    for (at, length) in [128, 512, 1024].into_iter().enumerate() {
        let alone = format!("{PLAN} --effective-tokens 262144 --seq-len {length} --json");
        let alone = json(&oomph(&folder, &alone));
        let stage = &schedule["stages"][at];
        for key in ["micro_batch", "accumulation_steps", "effective_batch", "exact"] {
            assert_eq!(stage[key], alone[key], "{key} at {length}");
        }
    }
    assert_eq!(schedule["ruling_stage"], 2, "the longest samples are the worst");
    assert_eq!(plan["estimate"]["setup"]["seq_len"], 1024);
    assert_eq!(plan["micro_batch"], schedule["one_micro_batch"]);
}

#[test]
fn a_ramp_is_planned_with_one_micro_batch_and_said_in_words() {
    let folder = TempDir::new().unwrap();
    let plan = json(&oomph(&folder, &format!("{PLAN} --seq-len 256 {RAMP} --json")));
    let stages = plan["schedule"]["stages"].as_array().unwrap();
    let one = plan["schedule"]["one_micro_batch"].as_u64().unwrap();
    assert_eq!((stages.len(), one, &plan["bound_by"]), (9, 8, &"schedule".into()));
    for stage in stages {
        let batch = stage["target_effective_batch"].as_u64().unwrap();
        assert_eq!(stage["accumulation_steps_of_one"].as_u64().unwrap() * one * 4, batch);
    }
    let shown = oomph(&folder, &format!("{PLAN} --seq-len 256 {RAMP}"));
    let shown = String::from_utf8(shown.stdout).unwrap();
    for part in ["9 of 9 rules: 1,024 samples", "steps of 8", "12,500", "22 x 4"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    // A size that the user fixes and that divides every stage is the one for all of them.
    let fixed =
        json(&oomph(&folder, &format!("{PLAN} --seq-len 256 {RAMP} --micro-batch 4 --json")));
    let one = &fixed["schedule"]["one_micro_batch"];
    assert_eq!((one, &fixed["bound_by"]), (&4.into(), &"micro_batch".into()));
    let odd = oomph(&folder, &format!("{PLAN} --seq-len 256 {RAMP} --micro-batch 6 --json"));
    assert_eq!(json(&odd)["schedule"]["one_micro_batch"], Value::Null);
    // A stage that devices do not share is no exact plan, and under --exact none at all.
    let odd = "--effective-batch 1024 --ramp-up start=256,increment=3,samples=100000";
    assert_eq!(oomph(&folder, &format!("{PLAN} {odd} --exact")).status.code(), Some(6));
}

#[test]
fn the_keys_are_read_from_oomph_toml_too() {
    let folder = TempDir::new().unwrap();
    let text = "effective-batch = 1024\nramp-up = \"start=256,increment=96,samples=100000\"\n\
                seq-len-schedule = \"64,256\"\n";
    std::fs::write(folder.path().join("oomph.toml"), text).unwrap();
    let plan = json(&oomph(&folder, &format!("{PLAN} --json")));
    assert_eq!(plan["schedule"]["stages"].as_array().map(Vec::len), Some(18));
    // Other commands work the worst stage out.
    let estimate = json(&oomph(&folder, "estimate gpt2 --json"));
    assert_eq!(estimate["setup"]["seq_len"], 256);
    let check = oomph(&folder, "check gpt2 --micro-batch 16 --gpu sim:t4*4");
    assert_eq!(check.status.code(), Some(6), "{check:?}");
    let check = oomph(&folder, "check gpt2 --micro-batch 8 --gpu sim:t4*4");
    assert_eq!(check.status.code(), Some(0), "{check:?}");
    // What another file says of its batch is not the key's.
    let file = "per_device_train_batch_size: 8\ngradient_accumulation_steps: 32\n";
    std::fs::write(folder.path().join("hf.yaml"), file).unwrap();
    let check = oomph(&folder, "check hf.yaml gpt2 --gpu sim:t4*4");
    assert_eq!(check.status.code(), Some(0), "{check:?}");
}

#[test]
fn mistakes_are_named() {
    let folder = TempDir::new().unwrap();
    for (flags, part) in [
        ("--ramp-up start=1,increment=3,samples=9", "needs the effective batch"),
        (
            "--effective-batch 64 --ramp-up start=1,increment=4,samples=99",
            "4 does not divide the 63",
        ),
        ("--effective-batch 64 --ramp-up start=64,increment=4,samples=99", "not below"),
        ("--effective-batch 64 --ramp-up start=4,increment=4,samples=9", "fewer than its 15"),
        ("--effective-batch 64 --ramp-up start=2,increment=2,samples=99", "less than one sample"),
        ("--effective-batch 64 --ramp-up start=8", "missing: increment, samples"),
        (
            "--effective-batch 64 --accumulation 2 --ramp-up start=4,increment=4,samples=99",
            "--accumulation 2 is given with --ramp-up",
        ),
        ("--seq-len 64 --seq-len-schedule 64,128", "both given"),
        ("--seq-len-schedule 64,4096", "--seq-len-schedule 4096 is more than the model's 1024"),
        ("--seq-len-schedule 64", "one length is no schedule"),
    ] {
        let output = oomph(&folder, &format!("{PLAN} {flags}"));
        let said = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags}: {output:?}");
        assert!(said.contains(part), "{flags}: {said}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
    let images = oomph(&folder, "plan resnet-18 --gpu sim:t4 --seq-len-schedule 64,128");
    assert_eq!(images.status.code(), Some(2), "{images:?}");
}

#[test]
fn the_memory_of_a_ramp_is_that_of_its_last_stage() {
    let folder = TempDir::new().unwrap();
    let job = "check gpt2 --micro-batch 4 --capacity 40GiB --json";
    let ramp = "--ramp-up start=16,increment=16,samples=1000";
    let of = |flags: &str| json(&oomph(&folder, &format!("{job} {flags}")));
    let ramped = of(&format!("--effective-batch 64 {ramp}"));
    assert_eq!(ramped["estimate"], of("--accumulation 16")["estimate"]);
    assert_eq!(ramped["accumulation_steps"], 16);
    // What settings refuse is refused here as well.
    for (flags, part) in [
        (ramp.to_owned(), "needs the effective batch"),
        (format!("--effective-batch 66 {ramp}"), "16 does not divide the 50"),
        (format!("--effective-batch 64 --accumulation 16 {ramp}"), "is given with --ramp-up"),
    ] {
        let output = oomph(&folder, &format!("{job} {flags}"));
        assert_eq!(output.status.code(), Some(2), "{flags}: {output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(part), "{flags}: {said}");
    }
}

fn check_words(folder: &TempDir, words: &str) -> Output {
    oomph(folder, &format!("check --only batch --world-size 4 -- {words}"))
}

#[test]
fn what_is_emitted_for_megatron_is_read_back_and_the_others_say_what_they_cannot() {
    let folder = TempDir::new().unwrap();
    for format in ["megatron", "megatron@0.17"] {
        let line = format!("{PLAN} --seq-len 256 {RAMP} --emit {format}");
        let emitted = oomph(&folder, &line);
        assert!(emitted.stderr.is_empty(), "{emitted:?}");
        let words = String::from_utf8(emitted.stdout).unwrap();
        let checked = check_words(&folder, &words);
        assert_eq!(checked.status.code(), Some(0), "{words}: {checked:?}");
        let said = String::from_utf8(checked.stdout).unwrap();
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("micro-batch 8 x accumulation 32 x 4 devices"), "{said}");
        // On twice the devices the stage of 352 samples is uneven.
        let more = oomph(&folder, &format!("check --only batch --world-size 8 -- {words}"));
        assert_eq!(more.status.code(), Some(6), "{more:?}");
    }
    let line = format!("{PLAN} --seq-len 256 {RAMP} --emit axolotl");
    let said = String::from_utf8(oomph(&folder, &line).stderr).unwrap();
    assert!(said.contains("axolotl has no key for this schedule"), "{said}");
    let lengths = "--effective-batch 64 --seq-len-schedule 64,128 --emit megatron";
    let said = String::from_utf8(oomph(&folder, &format!("{PLAN} {lengths}")).stderr).unwrap();
    assert!(said.contains("megatron has no key for this schedule"), "{said}");
}

#[test]
fn megatrons_schedules_are_checked_stage_by_stage() {
    let folder = TempDir::new().unwrap();
    let start = "--micro-batch-size 4 --seq-length 2048";
    for (words, code, part) in [
        // What oomph does not work out is none of Megatron's mistakes.
        ("--global-batch-size 16384 --rampup-batch-size 16 1 300000", 0, "are not checked: 16368"),
        ("--global-batch-size 1024 --rampup-batch-size 16 16 10", 0, "are not checked: 10 samples"),
        ("--global-batch-size 16 --rampup-batch-size 16 16 10", 6, "Megatron stops: it starts at"),
        (
            "--global-batch-size 1024 --rampup-batch-size 16 16 300000",
            0,
            "ignores it since core 0.18",
        ),
        ("--global-batch-size 1024 --rampup-batch-size 16 8 300000", 6, "16 16 300000"),
        ("--global-batch-size 1024 --rampup-batch-size 16 10 300000", 6, "10 does not divide"),
        ("--global-batch-size 1024 --rampup-batch-size 16", 2, "expected a start"),
        ("--rampup-batch-size 16 16 300000", 6, "no global_batch_size is said"),
        ("--step-batch-size-schedule 0:16,2.4B:320", 0, "accumulation 20"),
        ("--step-batch-size-schedule 0:24,2.4B:320", 6, "floors it silently"),
        ("--step-batch-size-schedule 0:16,2.4B:324", 6, "324 is no multiple"),
        ("--step-batch-size-schedule 5:16,2.4B:320", 2, "must begin at 0"),
        ("--step-batch-size-schedule 0:16,0:320", 2, "two stages begin at 0"),
        ("--step-batch-size-schedule 0:16,x:320", 2, "is no TOKENS:BATCH"),
        ("--global-batch-size 16 --step-batch-size-schedule 0:16", 2, "refuses it beside"),
    ] {
        let output = check_words(&folder, &format!("{start} {words}"));
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(code), "{words}: {output:?}");
        assert!(said.contains(part), "{words}: {said}");
    }
}

#[test]
fn the_batch_of_the_last_stage_is_mended_where_it_stands() {
    let folder = TempDir::new().unwrap();
    for (words, mended) in [
        ("--step-batch-size-schedule 2B:30,0:16", "--step-batch-size-schedule 2B:32,0:16"),
        ("--step-batch-size-schedule=0:16,2B:30", "--step-batch-size-schedule=0:16,2B:32"),
        (
            "--step-batch-size-schedule 0:16,,4B:30,2B:32",
            "--step-batch-size-schedule 0:16,,4B:32,2B:32",
        ),
    ] {
        let output = check_words(&folder, &format!("--micro-batch-size 4 {words} --bf16"));
        assert_eq!(output.status.code(), Some(6), "{words}: {output:?}");
        let diff = oomph(
            &folder,
            &format!(
                "check --only batch --world-size 4 --fix -- --micro-batch-size 4 {words} --bf16"
            ),
        );
        let diff = String::from_utf8(diff.stdout).unwrap();
        let line = format!("+--micro-batch-size 4 {mended} --bf16");
        assert!(diff.lines().any(|other| other == line), "{words}: {diff}");
    }
    // A blank in a word is quoted, before its name or behind it.
    for words in [
        ["--step-batch-size-schedule", "2B:30 0:16"].as_slice(),
        ["--step-batch-size-schedule=2B:30 0:16"].as_slice(),
    ] {
        let check = ["check", "--only", "batch", "--world-size", "4", "--fix", "--"];
        let sizes = ["--micro-batch-size", "4"];
        let diff = oomph_in(folder.path(), &[&check[..], &sizes, words].concat());
        let diff = String::from_utf8(diff.stdout).unwrap();
        assert!(diff.contains("2B:32 0:16'\n"), "{words:?}: {diff}");
    }
    // As a file, over two lines or by an escape.
    for (name, text) in [
        (
            "job.yaml",
            "micro_batch_size: 4\nstep_batch_size_schedule: &name 2B:30\n  0:16 # tokens\n",
        ),
        ("job.json", r#"{"micro_batch_size": 4, "step_batch_size_schedule": "0:16\n2B:30"}"#),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
        let line = format!("check {name} --framework megatron --only batch --world-size 4 --write");
        let written = oomph(&folder, &line);
        let mended = std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(mended, text.replace("2B:30", "2B:32"), "{written:?}");
    }
}
