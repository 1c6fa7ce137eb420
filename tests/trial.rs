//! `oomph trial`: the largest micro-batch by the command itself, against brute force.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
mod training;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use training::{User, json, program, running, said, send};

const MIB: u64 = 1 << 20;

/// Laws of memory that programs have: words of the stand-in program.
const PROGRAMS: [&str; 7] = [
    "base=500 sample=100",
    "base=3000 sample=17 gradients=900",
    "base=10 sample_kib=300",
    "base=700 sample=61 granule=20",
    "base=900 sample=45 jump_at=16 jump=700",
    "base=200 sample=1900 gradients=200",
    "base=400 sample=37 gradients=1500 granule=64",
];

fn trial(user: &User, options: &str, words: &str) -> (Option<i32>, Value) {
    let output = user.oomph(&format!("trial --json {options}"), words).output().unwrap();
    (output.status.code(), json(&output))
}

/// The largest micro-batch that runs, by `law` of the stand-in program, worked out again here.
fn brute_force(words: &str, room: u64, accumulation: u64, most: u64) -> u64 {
    let number = |name: &str, otherwise: u64| {
        let word = words.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        word.map_or(otherwise, |text| text.parse().unwrap())
    };
    let bytes = |size: u64| {
        let jump = match number("jump_at", 0) {
            0 => 0,
            at => size / at * number("jump", 0) * MIB,
        };
        let gradients = if accumulation > 1 { number("gradients", 0) * MIB } else { 0 };
        let sample = number("sample", 0) * MIB + number("sample_kib", 0) * 1024;
        let granule = number("granule", 2) * MIB;
        (number("base", 100) * MIB + gradients + size * sample + jump).div_ceil(granule) * granule
    };
    (1..=most).take_while(|size| bytes(*size) <= room).last().unwrap_or(0)
}

#[test]
fn a_trial_finds_what_brute_force_finds_in_five_runs_in_the_median() {
    let user = User::new();
    let mut counts = Vec::new();
    for law in PROGRAMS {
        for gib in [6, 11, 24] {
            let profile =
                oomph::profile::gpu::GpuProfile::generic(oomph::units::Bytes::gib(gib)).unwrap();
            let room =
                profile.total.get() - profile.context.get() - profile.total.percent(3.0).get();
            let words =
                format!("{law} micro_batch={{micro_batch}} accumulation={{accumulation_steps}}");
            let options = format!("--gpu sim:{gib}GiB --effective-batch 960");
            let (code, answer) = trial(&user, &options, &words);
            assert_eq!(code, Some(0), "{law} {answer:#}");
            let plan = &answer["plan"];
            let steps = plan["accumulation_steps"].as_u64().unwrap();
            // The device takes whole granules of 2 MiB of what is left.
            let room = room / (2 * MIB) * (2 * MIB);
            let largest = brute_force(law, room, steps, 960);
            assert_eq!(answer["largest_micro_batch"], largest, "{law} on {gib} GiB: {answer:#}");
            let size = plan["micro_batch"].as_u64().unwrap();
            assert!(size <= largest && size * steps == 960 && plan["exact"] == true);
            assert!((largest / 2 + 1..=largest).any(|n| 960 % n == 0) <= (size * 2 > largest));
            counts.push(answer["runs"].as_array().unwrap().len());
        }
    }
    counts.sort_unstable();
    println!("runs a trial: {counts:?}");
    assert!(counts[counts.len() / 2] <= 5, "{counts:?}");
    user.assert_nothing_left();
}

#[test]
fn a_trial_has_every_key_and_its_runs_are_runs() {
    let user = User::new();
    let words =
        "base=500 sample=100 micro_batch={micro_batch} accumulation={accumulation_steps} ranks=2";
    let (code, answer) = trial(&user, "--gpu sim:t4*2 --effective-batch 256", words);
    assert_eq!((code, &answer["schema"]), (Some(0), &"oomph.trial/1".into()));
    assert!(answer["command"].to_string().contains("{micro_batch}"));
    let plan = &answer["plan"];
    assert_eq!(plan["schema"], "oomph.plan/1");
    assert_eq!(plan["method"], "tried");
    assert_eq!(plan["data_parallel_size"], 2);
    assert_eq!(plan["effective_batch"], 256);
    assert_eq!(plan["gpus"][1]["simulated"], true);
    for run in answer["runs"].as_array().unwrap() {
        assert_eq!(run["schema"], "oomph.run/1");
        let [size, steps] =
            ["micro_batch", "accumulation_steps"].map(|key| run[key].as_u64().unwrap());
        assert_eq!(run["effective_batch"], size * steps * 2);
        assert!(run["command"].to_string().contains(&format!("micro_batch={size}")));
        // As many micro-steps as a plan of that size has, six at most; one for the whole only.
        let plans = 128u64.div_ceil(size).clamp(2, 6);
        // The whole, and one less, which shows that it takes more.
        assert!(steps == plans || steps == 1 && [127, 128].contains(&size), "{run:#}");
    }
}

#[test]
fn one_micro_step_is_the_plan_where_it_does_everything() {
    let user = User::new();
    let words = "base=500 sample=100 gradients=300 micro_batch={micro_batch} accumulation={accumulation_steps}";
    let (_, answer) = trial(&user, "--gpu sim:t4 --effective-batch 16", words);
    let plan = &answer["plan"];
    assert_eq!((&plan["micro_batch"], &plan["accumulation_steps"]), (&16.into(), &1.into()));
    assert_eq!(plan["bound_by"], "effective_batch");
    let (_, answer) = trial(&user, "--gpu sim:t4 --effective-batch 1", words);
    assert_eq!(answer["plan"]["micro_batch"], 1, "{answer:#}");
}

#[test]
fn nothing_fits_is_exit_3_and_broken_numbers_are_said() {
    let user = User::new();
    let words = "base=90000 micro_batch={micro_batch}";
    let (code, answer) = trial(&user, "--gpu sim:t4 --effective-batch 64", words);
    assert_eq!((code, &answer["largest_micro_batch"]), (Some(3), &0.into()));
    assert!(answer["runs"].as_array().unwrap().len() <= 2, "{answer:#}");
    let (code, error) = trial(&user, "--gpu sim:t4*8 --effective-batch 4", words);
    assert_eq!(code, Some(2), "{error:#}");
    let words = "base=500 sample=100 micro_batch={micro_batch} ranks=3";
    let (code, _) = trial(&user, "--gpu sim:t4*3 --effective-batch 64 --exact", words);
    assert_eq!(code, Some(6));
}

#[test]
fn what_runs_out_of_memory_and_goes_on_does_not_fit() {
    let user = User::new();
    let words = "base=500 sample=100 micro_batch={micro_batch}";
    let (_, plain) = trial(&user, "--gpu sim:t4 --effective-batch 960", words);
    let catching = format!("{words} catch=yes");
    let (code, answer) = trial(&user, "--gpu sim:t4 --effective-batch 960", &catching);
    assert_eq!(code, Some(0), "{answer:#}");
    assert_eq!(answer["largest_micro_batch"], plain["largest_micro_batch"], "{answer:#}");
    let notes = answer["plan"]["notes"].to_string();
    assert!(notes.contains("ran out of memory, and the command went on by itself"), "{notes}");
    let output = user.oomph("trial --gpu sim:t4 --effective-batch 960", &catching).output();
    assert!(said(&output.unwrap()).contains(" out of memory, went on "));
}

#[test]
fn a_data_set_that_ends_and_a_size_that_is_not_used_are_no_fit() {
    let user = User::new();
    for (sample, limit) in [(230, 256), (20, 256), (230, 100), (230, 65), (230, 64)] {
        let words = format!("base=900 sample={sample} samples=64 micro_batch={{micro_batch}}");
        let options = format!("--gpu sim:h100-80gb --effective-batch {limit}");
        let (code, answer) = trial(&user, &options, &words);
        assert_eq!(code, Some(0), "{answer:#}");
        assert_eq!(answer["largest_micro_batch"], 64, "{sample} {limit}: {answer:#}");
        let plan = &answer["plan"];
        let (bound, told) = (&plan["bound_by"], plan["notes"].to_string());
        // 65 samples are 5 x 13: there the numbers bound the plan.
        let expected = match limit {
            64 => "effective_batch",
            65 => "divisibility",
            _ => "command",
        };
        assert_eq!(bound, expected, "{answer:#}");
        assert_eq!(told.contains("above micro-batch 64 the command took no more"), limit != 64);
        let runs = answer["runs"].as_array().unwrap().len();
        assert!(runs <= 10, "{runs} runs for {limit}");
    }
    for size in ["micro_batch=4", "samples=1 micro_batch={micro_batch}"] {
        let words = format!("base=900 sample=230 {size} named={{micro_batch}}");
        let (code, error) = trial(&user, "--gpu sim:t4 --effective-batch 16", &words);
        assert_eq!(code, Some(5), "{error:#}");
        assert!(error["error"].to_string().contains("took the same memory"), "{error:#}");
        assert!(error["runs"].as_array().unwrap().len() >= 2);
    }
}

#[test]
fn a_gpu_that_the_command_leaves_alone_is_no_replica() {
    let user = User::new();
    let words = "base=500 sample=100 micro_batch={micro_batch} ranks=1";
    let (code, error) = trial(&user, "--gpu sim:t4*2 --effective-batch 64", words);
    assert_eq!(code, Some(5), "{error:#}");
    let fact = error["error"].as_str().unwrap();
    assert!(fact.starts_with("the command left GPU 1 alone"), "{error:#}");
    assert!(error["cause"].to_string().contains("GPU 1: 0 B"), "{error:#}");
    assert!(error["hint"].to_string().contains("--gpu sim:t4; or one process"), "{error:#}");
    assert_eq!(error["runs"].as_array().unwrap().len(), 1, "the first run tells");
    let counted = "--gpu sim:t4*2 --world-size 1 --effective-batch 64";
    assert_eq!(trial(&user, counted, words).0, Some(0));
    let (code, error) = trial(&user, "--gpu sim:t4 --effective-batch 64", "cuda=no {micro_batch}");
    assert_eq!((code, &error["error"]), (Some(5), &"the command never used a GPU".into()));
}

#[test]
fn without_an_effective_batch_the_largest_is_the_answer() {
    let user = User::new();
    let words = "base=500 sample=1000 micro_batch={micro_batch}";
    let (code, answer) = trial(&user, "--gpu sim:t4 --headroom 0%", words);
    let profile = oomph::profile::gpu::GpuProfile::built_in("t4").unwrap();
    let room = profile.total.get() - profile.reserved.get() - profile.context.get();
    assert_eq!(code, Some(0));
    assert_eq!(answer["largest_micro_batch"], brute_force("base=500 sample=1000", room, 1, 99));
}

#[test]
fn a_failure_that_is_not_memory_stops_the_trial_and_shows_the_log() {
    let user = User::new();
    let words = "base=100 sample=10 micro_batch={micro_batch} exit=9 say=KeyError:_what_it_was";
    let output = user.oomph("trial --gpu sim:t4 --effective-batch 64", words).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(5), "{text}");
    for part in ["| KeyError:_what_it_was", "micro-batch 1", "exit code 9", "oomph run"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let words = "base=100 micro_batch={micro_batch} sleep_ms=60000";
    let options = "trial --gpu sim:t4 --effective-batch 64 --timeout 200ms";
    let output = user.oomph(options, words).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(said(&output).contains("timed out"), "{}", said(&output));
}

#[test]
fn the_runs_before_a_failure_are_in_the_answer_all_the_same() {
    let user = User::new();
    let words = "base=500 sample=100 micro_batch={micro_batch} exit_from=2 exit=9";
    let (code, error) = trial(&user, "--gpu sim:t4 --effective-batch 64", words);
    assert_eq!((code, &error["schema"]), (Some(5), &"oomph.error/1".into()), "{error:#}");
    let runs = error["runs"].as_array().unwrap();
    let verdicts: Vec<&str> = runs.iter().map(|run| run["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["ran", "failed"], "{error:#}");
    assert_eq!((&runs[0]["micro_batch"], &runs[0]["schema"]), (&1.into(), &"oomph.run/1".into()));
    let output = user.oomph("trial --gpu sim:t4 --effective-batch 64", words).output().unwrap();
    let text = said(&output);
    let rows = text.split_once("Runs\n").unwrap().1;
    assert!(rows.contains(" ran ") && rows.contains(" failed "), "{text}");
}

#[test]
fn kept_runs_are_used_again_and_only_for_the_same_question() {
    let user = User::new();
    let words = "base=500 sample=100 micro_batch={micro_batch}";
    let options = "--gpu sim:t4 --effective-batch 960 --keep kept";
    let (_, first) = trial(&user, options, words);
    let runs = first["runs"].as_array().unwrap().len() as u64;
    assert_eq!(first["reused_runs"], 0);
    let files: Vec<String> = fs::read_dir(user.path("work/kept"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files.iter().filter(|name| name.ends_with(".log")).count() as u64, runs);
    assert_eq!(files.len() as u64, 2 * runs, "{files:?}");
    let log = files.iter().find(|name| name.starts_with("mb1-acc6-") && name.ends_with(".log"));
    let log = fs::read_to_string(user.path("work/kept").join(log.unwrap())).unwrap();
    assert!(log.starts_with("step 0 memory 600 MiB\n"), "{log}");
    let (_, second) = trial(&user, options, words);
    assert_eq!(second["reused_runs"], runs);
    assert_eq!(second["plan"], first["plan"]);
    // One that is lost, cut short or of another question is run again.
    let mut kept = files.iter().filter(|name| name.ends_with(".json"));
    fs::remove_file(user.path("work/kept").join(kept.next().unwrap())).unwrap();
    fs::write(user.path("work/kept").join(kept.next().unwrap()), "{\"schema\":").unwrap();
    let (_, third) = trial(&user, options, words);
    assert_eq!(third["reused_runs"], runs - 2);
    assert_eq!(third["plan"], first["plan"]);
    let (_, other) = trial(&user, &options.replace("t4", "l4"), words);
    assert_eq!(other["reused_runs"], 0);
}

#[test]
fn sizes_reach_the_command_by_the_environment_and_by_a_shell() {
    let user = User::new();
    let script = user.path("work/train.sh");
    let line =
        format!("exec {} base=500 sample=100 micro_batch=$OOMPH_MICRO_BATCH", program().display());
    fs::write(&script, &line).unwrap();
    let mut command = user.plain("trial --json --gpu sim:t4 --effective-batch 960 -- sh train.sh");
    let by_script = json(&command.output().unwrap());
    let mut command = user.plain("trial --json --gpu sim:t4 --effective-batch 960 --shell --");
    let by_shell = json(&command.arg(&line).output().unwrap());
    let words = "base=500 sample=100 micro_batch={micro_batch}";
    let (_, by_argument) = trial(&user, "--gpu sim:t4 --effective-batch 960", words);
    let largest = &by_argument["largest_micro_batch"];
    assert!(largest.as_u64().unwrap() > 50);
    assert_eq!([&by_script["largest_micro_batch"], &by_shell["largest_micro_batch"]], [largest; 2]);
}

#[test]
fn mistakes_are_refused_before_anything_runs() {
    let user = User::new();
    for (words, parts) in [
        ("trial --gpu sim:t4 --effective-batch 64", &["missing", "CMD"][..]),
        ("trial --gpu sim:t4 --effective-batch 64 -- true", &["{micro_batch}", "nowhere"]),
        ("trial --gpu sim:t4 --effective-batch 64 -- nowhere/x {micro_batch}", &["nowhere/x"]),
        (
            "trial --gpu t4 --effective-batch 64 -- true {micro_batch}",
            &["t4", "a simulated one is sim:t4"],
        ),
        ("trial --gpu sim:t4 --effective-batch 0 -- true {micro_batch}", &["at least 1"]),
        ("trial --gpu sim:x9 --effective-batch 8 -- true {micro_batch}", &["sim:x9", "known"]),
        ("trial --gpu sim:t4 --headroom 5 -- true {micro_batch}", &["--headroom", "unit"]),
        ("trial --gpu sim:t4 --until [ -- true {micro_batch}", &["--until"]),
        ("trial --gpu sim:t4 --keep /proc/x -- true {micro_batch}", &["--keep /proc/x"]),
    ] {
        let output = user.plain(words).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{words}: {text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{words}: {text}");
    }
}

#[test]
fn an_interrupt_ends_the_whole_trial() {
    let user = User::new();
    let mark = format!("mark={}-trial", std::process::id());
    let words = format!("base=10 micro_batch={{micro_batch}} sleep_ms=60000 {mark}");
    let mut command = user.oomph("trial --gpu sim:t4 --effective-batch 64", &words);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while running(&mark).len() < 3 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    send(child.id(), Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert_eq!(running(&mark), Vec::<u32>::new());
    user.assert_nothing_left();
}

#[test]
fn the_text_is_a_plan_labelled_simulated_and_the_examples_of_the_help_run() {
    let user = User::new();
    let words = "base=500 sample=100 micro_batch={micro_batch}";
    let output = user.oomph("trial --gpu sim:t4 --effective-batch 960", words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("micro-batch 120 x accumulation 8 x 1 GPU = effective batch 960, exactly"),
        "{text}"
    );
    assert!(text.contains("Tesla T4 (simulated)"));
    assert!(text.contains("tried, on a simulated GPU"));
    assert!(output.stderr.is_empty(), "no progress in a pipe");
    assert!(text.contains("the command is not told {accumulation_steps}"), "{text}");
    fs::create_dir(user.path("bin")).unwrap();
    for (name, ranks) in [("python", 0), ("torchrun", 4)] {
        let path = user.path("bin").join(name);
        // Long enough for a look at it; the size is the last word.
        let script = format!(
            "#!/bin/sh\nfor size; do :; done\n\
             exec {} step_ms=100 sample=60 ranks={ranks} micro_batch=$size\n",
            program().display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let help = String::from_utf8(user.plain("trial --help").output().unwrap().stdout).unwrap();
    let examples = help.split_once("Examples:\n").unwrap().1;
    let lines: Vec<&str> =
        examples.lines().filter_map(|line| line.trim().strip_prefix("oomph ")).collect();
    assert_eq!(lines.len(), 3, "{help}");
    let machine = support::Scenario::unlogged("gpu total=24GiB context=400MiB");
    for line in lines {
        let mut command = user.plain("");
        command.envs(machine.environment());
        let path = format!("{}:/usr/bin:/bin", user.path("bin").display());
        command.env("PATH", path).args(shell_words(line));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {}", said(&output));
    }
}

/// Splits a line as a shell does that knows single quotes alone.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (i, part) in line.split('\'').enumerate() {
        if i % 2 == 1 {
            words.last_mut().unwrap().push_str(part);
            continue;
        }
        for (j, piece) in part.split(' ').enumerate() {
            if j > 0 {
                words.push(String::new());
            }
            words.last_mut().unwrap().push_str(piece);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn a_rank_that_was_killed_and_a_placeholder_that_is_none_are_told() {
    let user = User::new();
    let script = user.path("killed.sh");
    fs::write(&script, "echo 'traceback : Signal 9 (SIGKILL) received by PID 7' >&2; exit 1\n")
        .unwrap();
    let options = "trial --gpu sim:6GiB --effective-batch 8";
    let run = |words: &str| {
        let mut command = user.plain(options);
        command.args(["--", "sh"]).arg(&script).args(words.split(' '));
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let (code, said) = run("{micro_batch}");
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("a process of it was killed: "), "{said}");
    assert!(said.contains("Signal 9 (SIGKILL) received by PID 7`"), "{said}");
    let (code, said) = run("{micro_batch} {accumulation}");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("{accumulation} is no placeholder"), "{said}");
    assert!(said.contains("hint: {accumulation_steps}"), "{said}");
    let (_, said) = run("{micro_batch} {seed}");
    assert!(said.contains("warning: {seed} stays as it is"), "{said}");
}
