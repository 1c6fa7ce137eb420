//! Ctrl-C, SIGTERM, sudden death and two probes at once: who holds what, and who is told what.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod probe_support;
mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::Duration;

use oomph::units::Bytes;
use probe_support::{HOLDING, Told, assert_as_before, brute_force, command, probe, said, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use support::Scenario;

const SMALL: &str = "gpu total=1500MiB reserved=10MiB context=100MiB";

#[test]
fn the_probing_process() {
    probe_support::probing_process();
}

fn answer() -> String {
    format!("ANSWER {}", brute_force(1490, Bytes::mib(100), Bytes::mib(2)))
}

/// A probe that waits before its second replay, its context and lock in place.
struct Held {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Held {
    fn start(machine: &Scenario) -> Held {
        let mut command = command(machine, &Told { hold_before: 2, ..Told::default() });
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains(HOLDING) {
            assert!(output.read_line(&mut text).unwrap() > 0, "it ended early:\n{text}");
        }
        Held { process, output }
    }

    /// Sends a signal and waits until its handler has run: on a busy machine it can come later than
    /// what this process does next.
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
        let status = format!("/proc/{}/status", self.process.id());
        wait_for("the signal's delivery", || {
            std::fs::read_to_string(&status).unwrap().lines().any(|line| {
                line.strip_prefix("ShdPnd:")
                    .is_some_and(|set| set.trim().bytes().all(|b| b == b'0'))
            })
        });
        std::thread::sleep(Duration::from_millis(200));
    }

    /// Lets it go on and returns what it says.
    fn go_on(mut self) -> String {
        drop(self.process.stdin.take());
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        self.process.wait().unwrap();
        text
    }
}

/// Who makes the driver calls.
fn probing_pid(machine: &Scenario) -> Pid {
    let calls = machine.calls();
    let call = calls.iter().rfind(|call| call.name.starts_with("cu")).unwrap();
    Pid::from_raw(call.pid.try_into().unwrap()).unwrap()
}

#[test]
fn an_interrupt_ends_the_probe_with_everything_given_back() {
    for signal in [Signal::INT, Signal::TERM] {
        let machine = Scenario::new(SMALL);
        let held = Held::start(&machine);
        assert!(machine.held(0) > 0, "the context is there");
        held.signal(signal);
        assert_eq!(said(&held.go_on()), "ERROR interrupted");
        machine.assert_balanced();
        assert_as_before(&machine);
        assert_eq!(said(&probe(&machine, &Told::default())), answer());
    }
}

#[test]
fn an_interrupt_in_a_call_that_hangs_still_ends_it() {
    let machine = Scenario::new(&format!("{SMALL}\n fault cuMemAlloc_v2 at=9 do=hang"));
    let mut process = command(&machine, &Told::default()).stdout(Stdio::piped()).spawn().unwrap();
    wait_for("the hang", || machine.calls().iter().any(|call| call.result == "hang"));
    kill_process(Pid::from_child(&process), Signal::INT).unwrap();
    let mut text = String::new();
    process.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    process.wait().unwrap();
    assert_eq!(said(&text), "ERROR interrupted");
    assert_as_before(&machine);
}

#[test]
fn a_probe_that_is_killed_takes_its_child_with_it() {
    // Between calls, and in one that never comes back.
    for scenario in [SMALL.to_owned(), format!("{SMALL}\n fault cuMemAlloc_v2 at=9 do=hang")] {
        let machine = Scenario::new(&scenario);
        let mut process = if scenario == SMALL {
            let held = Held::start(&machine);
            held.process
        } else {
            let started = command(&machine, &Told::default()).stdout(Stdio::null()).spawn();
            wait_for("the hang", || machine.calls().iter().any(|call| call.result == "hang"));
            started.unwrap()
        };
        assert!(machine.held(0) > 0);
        process.kill().unwrap();
        process.wait().unwrap();
        wait_for("the child's end", || machine.held(0) == 0);
        // The lock is free as soon as the child is gone, and not before.
        let told = Told { lock_timeout: Duration::from_secs(60), ..Told::default() };
        assert_eq!(said(&probe(&machine, &told)), answer());
    }
}

#[test]
fn a_probing_process_that_is_told_to_stop_gives_everything_back() {
    let machine = Scenario::new(SMALL);
    let held = Held::start(&machine);
    kill_process(probing_pid(&machine), Signal::TERM).unwrap();
    let output = held.go_on();
    assert!(said(&output).contains("was stopped by a signal"), "{output}");
    machine.assert_balanced();
    assert_as_before(&machine);
}

#[test]
fn a_second_probe_of_a_gpu_says_who_has_it_or_waits() {
    let machine = Scenario::new(SMALL);
    let held = Held::start(&machine);
    let pid = held.process.id();
    let refused = probe(&machine, &Told::default());
    let expected =
        format!("ERROR {} is being probed by another oomph (pid {pid})", probe_support::UUID);
    assert_eq!(said(&refused), expected);
    let told = Told { lock_timeout: Duration::from_secs(60), ..Told::default() };
    let mut waiting = command(&machine, &told).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(said(&held.go_on()), answer());
    let mut text = String::new();
    waiting.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    waiting.wait().unwrap();
    assert_eq!(said(&text), answer(), "the first one's memory is not taken for a neighbour's");
    machine.assert_balanced();
}
