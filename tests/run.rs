//! `oomph run`: a command on simulated GPUs, by a program of our own that calls the driver.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod training;

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use training::{User, json, program, running, said, send};

const MIB: u64 = 1 << 20;

#[test]
fn a_run_has_every_key_and_its_peak_is_exact() {
    let user = User::new();
    let output = user
        .oomph(
            "run --gpu sim:rtx-4090*2 --json",
            "base=500 sample=100 micro_batch=8 ranks=2 say=hello",
        )
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let run = json(&output);
    assert_eq!(run["schema"], "oomph.run/1");
    assert_eq!((&run["verdict"], &run["exit_code"]), (&"ran".into(), &0.into()));
    assert_eq!(run["command"][0], program().to_str().unwrap());
    assert!(run["seconds"].as_f64().unwrap() > 0.0);
    let context = 400 * MIB;
    let profile = oomph::profile::gpu::GpuProfile::built_in("rtx-4090").unwrap();
    let context = context - context + profile.context.get();
    for (gpu, index) in run["gpus"].as_array().unwrap().iter().zip(0u64..) {
        assert_eq!(gpu["index"], index);
        assert_eq!(gpu["simulated"], true);
        assert!(gpu["uuid"].as_str().unwrap().starts_with("SIM-rtx-4090-"));
        assert_eq!(gpu["total_bytes"], profile.total.get());
        assert_eq!(gpu["peak_bytes"], context + 1300 * MIB);
    }
    let processes = run["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 2);
    for process in processes {
        assert!(process["pid"].as_u64().unwrap() > 0);
        assert_eq!(process["peak_device_bytes"], context + 1300 * MIB);
        for key in ["rank", "peak_allocated_bytes", "peak_reserved_bytes"] {
            assert!(process[key].is_null(), "only Python tells: {key}");
        }
        assert!(process["refused"].is_null());
    }
    assert_eq!(run["warnings"], serde_json::json!([]));
    // The command's own output goes where it does not spoil the JSON.
    assert!(String::from_utf8_lossy(&output.stderr).contains("hello"));
    user.assert_nothing_left();
}

#[test]
fn verdicts_and_exit_codes() {
    let user = User::new();
    for (options, words, verdict, code) in [
        ("", "base=100", "ran", 0),
        ("", "base=100 catch=yes", "ran", 0),
        ("", "base=30000", "out_of_memory", 3),
        ("", "base=30000 ranks=2", "out_of_memory", 3),
        ("", "base=100 exit=7", "failed", 5),
        ("", "base=100 signal=6", "failed", 5),
        ("", "cuda=no exit=0", "ran", 5),
        ("--timeout 300ms", "base=100 sleep_ms=60000", "timed_out", 5),
        ("--timeout 300ms", "base=100 sleep_ms=60000 term=ignored", "timed_out", 5),
        ("--until step.1", "base=100 sleep_ms=60000", "ran", 0),
        ("--until step.7 --timeout 300ms", "base=100 sleep_ms=60000", "timed_out", 5),
    ] {
        let output =
            user.oomph(&format!("run --gpu sim:t4*2 --json {options}"), words).output().unwrap();
        let run = json(&output);
        assert_eq!(run["verdict"], verdict, "{words}: {run:#}");
        assert_eq!(output.status.code(), Some(code), "{words}");
    }
    user.assert_nothing_left();
}

#[test]
fn until_matches_whole_lines_and_says_where_it_matched_none() {
    let user = User::new();
    let run = |until: &str, line: &str| {
        let mut command = user.plain("run --gpu sim:t4 --json --until");
        command.args([until, "--", "sh", "-c", line]);
        json(&command.output().unwrap())
    };
    let halves = "printf 'step 1'; sleep 0.1; printf '0 done\\n'; sleep 0.1";
    let warned = run("step 1$", halves)["warnings"].to_string();
    assert!(warned.contains("no line of its output matched --until 'step 1$'"), "{warned}");
    let prompt = run("step 1$", "printf 'step 1'; sleep 60");
    assert_eq!(prompt["reason"], "printed `step 1`, then ended", "{prompt:#}");
    assert!(prompt["warnings"].to_string().contains("two optimizer steps"), "{prompt:#}");
}

#[test]
fn a_command_that_uses_no_gpu_is_no_success() {
    let user = User::new();
    let output = user.plain("run --gpu sim:t4 -- ls").output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("\nno GPU was used: no verdict about memory\n"), "{text}");
    assert!(text.contains("no process of it called CUDA"), "{text}");
}

#[test]
fn memory_that_runs_out_and_is_caught_is_a_warning() {
    let user = User::new();
    let output = user.oomph("run --gpu sim:t4", "base=30000 catch=yes").output().unwrap();
    let text = said(&output);
    assert!(text.contains("\nout of memory on Tesla T4 (simulated), and went on: peak"), "{text}");
    assert_eq!(output.status.code(), Some(0));
    for (words, code) in [("base=30000 catch=yes", 3), ("base=300", 0)] {
        let strict = user.oomph("run --gpu sim:t4 --strict", words).output().unwrap();
        assert_eq!(strict.status.code(), Some(code), "{}", said(&strict));
    }
    let output = user.oomph("run --gpu sim:t4 --json", "base=30000 catch=yes").output().unwrap();
    let run = json(&output);
    assert_eq!((&run["verdict"], &run["met_out_of_memory"]), (&"ran".into(), &true.into()));
    assert!(run["warnings"][0].as_str().unwrap().contains("went on"), "{run:#}");
    let output = user.oomph("run --gpu sim:t4 --json", "base=30 say=CUDA_out_of_memory?").output();
    assert_eq!(json(&output.unwrap())["met_out_of_memory"], false, "nothing was refused");
}

#[test]
fn the_last_byte_fits_and_one_granule_more_does_not() {
    let user = User::new();
    let profile = oomph::profile::gpu::GpuProfile::generic(oomph::units::Bytes::gib(4)).unwrap();
    let room = (4096 * MIB - profile.context.get()) / (2 * MIB) * 2;
    for (base, verdict) in [(room, "ran"), (room + 2, "out_of_memory")] {
        let output =
            user.oomph("run --gpu sim:4GiB --json", &format!("base={base}")).output().unwrap();
        assert_eq!(json(&output)["verdict"], verdict);
    }
}

#[test]
fn the_result_says_what_was_refused_and_what_was_left() {
    let user = User::new();
    let profile = oomph::profile::gpu::GpuProfile::generic(oomph::units::Bytes::gib(4)).unwrap();
    let room = 4096 * MIB - profile.context.get();
    let output = user.oomph("run --gpu sim:4GiB --json", "base=30001").output().unwrap();
    let run = json(&output);
    let refused = &run["processes"][0]["refused"];
    assert_eq!(refused["times"], 1, "{run:#}");
    assert_eq!(refused["wanted_bytes"], 30_002 * MIB, "in granules");
    assert_eq!(refused["left_bytes"], room);
    let reason = run["reason"].as_str().unwrap();
    let left = oomph::units::Bytes::new(room);
    assert!(reason.contains(&format!("GPU 0 refused it 29.3 GiB, with {left} left")), "{reason}");
    // What was caught is told as well; the verdict is another.
    let output = user.oomph("run --gpu sim:4GiB --json", "base=30000 catch=yes").output().unwrap();
    assert_eq!(json(&output)["processes"][0]["refused"]["times"], 2);
}

#[test]
fn a_context_that_finds_no_room_is_a_refusal_of_a_process_that_holds_nothing() {
    let user = User::new();
    let output = user.oomph("run --gpu sim:t4,free=64MiB --json", "base=2").output().unwrap();
    let run = json(&output);
    let profile = oomph::profile::gpu::GpuProfile::built_in("t4").unwrap();
    assert_eq!(run["verdict"], "out_of_memory", "{run:#}");
    assert_eq!(run["processes"][0]["peak_device_bytes"], 0);
    assert_eq!(run["processes"][0]["refused"]["wanted_bytes"], profile.context.get());
}

#[test]
fn what_a_dead_process_held_is_in_no_peak() {
    let user = User::new();
    // The first lives on, and takes its memory when the second has come and gone.
    let line = format!(
        "T={}; (sleep 0.4; $T base=100) & $T cuda=no; $T base=300; wait",
        program().display()
    );
    let mut command = user.plain("run --gpu sim:t4 --json -- sh -c");
    let run = json(&command.arg(&line).output().unwrap());
    let peak = |process: usize| run["processes"][process]["peak_device_bytes"].as_u64().unwrap();
    assert_eq!(run["processes"].as_array().unwrap().len(), 2, "{run:#}");
    assert_eq!(run["gpus"][0]["peak_bytes"], peak(0).max(peak(1)));
}

#[test]
fn the_text_says_simulated_and_names_the_verdict_first() {
    let user = User::new();
    let output = user.oomph("run --gpu sim:t4", "base=100").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("step 0 memory 100 MiB\n"), "{text}");
    let report = text.split_once("\n\n").unwrap().1;
    assert!(report.starts_with("ran on Tesla T4 (simulated): peak"), "{report}");
    assert!(report.contains("Keep in mind\n  - simulated: no GPU was used"));
    assert!(report.lines().all(|line| line.chars().count() <= 80 || line.contains("/training")));
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_is_made() {
    let user = User::new();
    std::fs::write(user.path("work/data.txt"), "no program").unwrap();
    for (words, parts) in [
        ("run --gpu sim:t4", &["missing", "CMD"][..]),
        ("run --gpu sim:t4 --", &["missing", "CMD"]),
        ("run -- true", &["missing", "--gpu"]),
        (
            "run --gpu sim:t4 -- no-such-program-anywhere",
            &["no-such-program-anywhere", "No such file"],
        ),
        ("run --gpu sim:t4 -- ./data.txt", &["Permission denied", "-- python ./data.txt"]),
        ("run --gpu sim:t4 -- /", &["`/`", "Permission denied"]),
        ("run --gpu sim:t5 -- true", &["sim:t5", "known"]),
        ("run --gpu 0 -- true", &["not yet", "--gpu sim:"]),
        ("run --gpu all -- true", &["not yet", "--gpu sim:"]),
        ("run --gpu sim:t4 --until ( -- true", &["--until", "unclosed group"]),
        ("run --gpu sim:t4 --timeout 0s -- true", &["--timeout", "no time at all"]),
        ("run --gpu sim:t4 --timeout 10 -- true", &["--timeout", "90s"]),
        ("run --gpu sim:t4 --record no/such/folder/x -- true", &["--record", "no such folder"]),
        ("run --gpu sim:t4 true", &["`true`", "-- true ..."]),
        ("run --gpu t4*2 -- true", &["no GPU of this machine", "sim:t4*2"]),
        ("run --gpu sim:24 -- true", &["did you mean 24GiB"]),
    ] {
        let output = user.plain(words).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{words}: {text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{words}: {text}");
    }
    assert!(!user.path("home/.cache").exists());
}

#[test]
fn the_users_own_environment_stays_behind_oomphs() {
    let user = User::new();
    let output = user
        .plain("run --gpu sim:t4 -- env")
        .env("PYTHONPATH", "/mine")
        .env("LD_LIBRARY_PATH", "/also/mine")
        .env("CUDA_VISIBLE_DEVICES", "")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let value = |name: &str| {
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    };
    assert!(value("PYTHONPATH").unwrap().ends_with("/python:/mine"));
    assert!(value("LD_LIBRARY_PATH").unwrap().ends_with("/driver:/also/mine"));
    assert!(value("LD_PRELOAD").unwrap().ends_with("/libvirtual_gpu.so"));
    assert!(value("OOMPH_VIRTUAL_GPU").unwrap().ends_with("/scenario"));
    assert_eq!(value("CUDA_VISIBLE_DEVICES"), None);
}

#[test]
fn a_command_reads_what_oomph_is_given_to_read() {
    let user = User::new();
    let mut command = user.plain("run --gpu sim:t4 -- cat");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"typed\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(said(&output).starts_with("typed\n"), "{}", said(&output));
}

#[test]
fn two_runs_at_once_do_not_see_each_other() {
    let user = User::new();
    let start = |base: u64| {
        let words = format!("base={base} sleep_ms=500");
        let mut command = user.oomph("run --gpu sim:4GiB --json", &words);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    // Together they would not fit, and the peaks would be those of both.
    let runs = [start(2000), start(2500)].map(|run| json(&run.wait_with_output().unwrap()));
    let context = runs[0]["gpus"][0]["peak_bytes"].as_u64().unwrap() - 2000 * MIB;
    assert_eq!(runs[1]["gpus"][0]["peak_bytes"], context + 2500 * MIB);
    assert!(runs.iter().all(|run| run["verdict"] == "ran"));
    user.assert_nothing_left();
}

#[test]
fn who_has_gone_into_a_session_of_its_own_is_ended_too() {
    let user = User::new();
    let mark = format!("mark={}-apart", std::process::id());
    let words = format!("base=10 leave=3 sleep_ms=200 term=ignored {mark}");
    // Those left behind sleep longer than the test may take.
    let words = words.replace("sleep_ms=200", "sleep_ms=100");
    let output = user.oomph("run --gpu sim:t4 --json", &words).output().unwrap();
    assert_eq!(json(&output)["verdict"], "ran");
    assert_eq!(running(&mark), Vec::<u32>::new());
}

#[test]
fn an_interrupt_ends_all_and_is_said() {
    let user = User::new();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let mark = format!("mark={}-{code}", std::process::id());
        let words = format!("base=10 sleep_ms=60000 leave=1 ranks=2 {mark}");
        let mut command = user.oomph("run --gpu sim:t4*2", &words);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("the ranks", || running(&mark).len() >= 6);
        send(child.id(), signal);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(said(&output).contains("interrupted"));
        assert_eq!(running(&mark), Vec::<u32>::new());
    }
    user.assert_nothing_left();
}

#[test]
fn a_command_that_ignores_the_interrupt_is_killed_by_the_second() {
    let user = User::new();
    let mark = format!("mark={}-ignores", std::process::id());
    let words = format!("base=10 sleep_ms=60000 term=ignored {mark}");
    let mut command = user.oomph("run --gpu sim:t4 --until never", &words);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the program", || running(&mark).len() == 3);
    let begun = Instant::now();
    send(child.id(), Signal::INT);
    std::thread::sleep(Duration::from_millis(300));
    send(child.id(), Signal::INT);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(6), "the second one does not wait");
    assert_eq!(running(&mark), Vec::<u32>::new());
}

#[test]
fn the_examples_of_the_help_run() {
    let user = User::new();
    std::fs::create_dir(user.path("bin")).unwrap();
    for name in ["python", "torchrun"] {
        std::os::unix::fs::symlink(program(), user.path("bin").join(name)).unwrap();
    }
    let help = String::from_utf8(user.plain("run --help").output().unwrap().stdout).unwrap();
    let examples = help.split_once("Examples:\n").unwrap().1;
    let lines: Vec<&str> =
        examples.lines().filter_map(|line| line.trim().strip_prefix("oomph ")).collect();
    assert!(lines.len() >= 2, "{help}");
    for line in lines {
        let line = line.replace("'step 3'", "step.3");
        let output = user.plain(&line).env("PATH", user.path("bin")).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {}", said(&output));
    }
}

/// Kills somebody of a run at a moment of its own and returns what is left.
fn kill_one(user: &User, number: u64) {
    let mark = format!("mark={}-kill-{number}", std::process::id());
    let words = format!("base=10 leave=1 ranks=2 sleep_ms=60000 {mark}");
    let mut command = user.oomph("run --gpu sim:t4*2", &words);
    let mut oomph = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // From before the guard is there to when all ranks sleep.
    std::thread::sleep(Duration::from_micros(number * 7919 % 40_000));
    let victims = running(&mark);
    // In order of their start: oomph, its guard, the command, its ranks.
    let guard = *victims.get(1).unwrap_or(&oomph.id());
    let victim = match number % 4 {
        0 => oomph.id(),
        1 | 2 => guard,
        _ => *victims.get(number as usize / 4 % victims.len().max(1)).unwrap_or(&oomph.id()),
    };
    send(victim, Signal::KILL);
    if number % 4 == 2 {
        send(oomph.id(), Signal::KILL);
    }
    // Without its guard oomph ends everything by itself.
    if victim != oomph.id() && guard != victim {
        // One rank's end is not the command's: it has to be told as well.
        std::thread::sleep(Duration::from_millis(20));
        send(oomph.id(), Signal::KILL);
    }
    oomph.wait().unwrap();
    wait_for("the end of all", || running(&mark).is_empty());
}

#[test]
fn kills_at_200_moments_leave_no_process_no_file_and_no_lock() {
    let user = User::new();
    for number in 0..200 {
        kill_one(&user, number);
    }
    // What a guard was killed with its oomph for is swept by the next run, which starts clean.
    let output = user.oomph("run --gpu sim:t4 --json", "base=100").output().unwrap();
    assert_eq!(json(&output)["verdict"], "ran");
    user.assert_nothing_left();
}

#[test]
fn oomph_and_its_guard_killed_at_one_moment_leave_nothing() {
    let user = User::new();
    let mark = format!("mark={}-both", std::process::id());
    let words = format!("base=10 leave=1 ranks=2 sleep_ms=60000 {mark}");
    let mut command = user.oomph("run --gpu sim:t4*2", &words);
    let mut oomph = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Oomph, its guard, the command and both ranks.
    wait_for("the ranks", || running(&mark).len() >= 5);
    let base = user.path("tmp").read_dir().unwrap().next().unwrap().unwrap().path();
    let runs = || base.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let folder = runs().find(|path| path.is_dir()).unwrap();
    let of_folder = || running(folder.to_str().unwrap());
    assert_eq!(of_folder().len(), 2, "a guard and a sweeper");
    let guard = running(&mark).into_iter().find(|pid| of_folder().contains(pid)).unwrap();
    send(guard, Signal::KILL);
    send(oomph.id(), Signal::KILL);
    oomph.wait().unwrap();
    wait_for("the end of all", || running(&mark).is_empty() && of_folder().is_empty());
    user.assert_nothing_left();
}

#[test]
fn a_reader_that_goes_away_ends_an_endless_command() {
    let user = User::new();
    let mut command = user.plain("run --gpu sim:t4 -- yes");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    wait_for("its end", || child.try_wait().unwrap().is_some());
}

/// Waits for what must come, and fails only when it has not for very long.
fn wait_for(what: &str, mut come: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !come() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}
