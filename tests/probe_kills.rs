//! SIGINT, SIGTERM and SIGKILL to `oomph probe` and to its probing process, each at fifty of the driver
//! calls: by count, so that every run is the same.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod probe_command;
mod probe_support;
mod support;

use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;
use std::time::Duration;

use oomph::device::lock::GpuLock;
use probe_command::{command, side_by_side};
use probe_support::{UUID, assert_as_before};
use support::{Scenario, log};

const MACHINE: &str = "gpu total=900MiB context=100MiB
    process pid=4190001 bytes=5MiB";
/// How many of a probe's calls each signal comes at.
const PLACES: usize = 50;

const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// One signal at one call.
#[derive(Debug)]
struct Case {
    /// The call's number among all calls of a clean run.
    at: usize,
    name: String,
    signal: i32,
    /// To the process that probes, not to the one that was started.
    to_child: bool,
    /// Whether memory can be held by then, so that signals are watched for.
    watched: bool,
    /// More flags.
    flags: &'static [&'static str],
}

impl Case {
    /// Returns the scenario: a call of CUDA is made by the child, one of NVML by its parent.
    fn scenario(&self) -> String {
        let to = if self.name.starts_with("cu") && !self.to_child { "parent" } else { "self" };
        let Case { at, signal, .. } = self;
        format!("{MACHINE}\n fault * at={at} do=signal signal={signal} to={to}")
    }

    /// Returns how the started process ends: its exit code, or the signal that ends it.
    fn allowed(&self) -> &'static [Ended] {
        let releases = self.name.starts_with("cuDevicePrimaryCtxRelease");
        match (self.to_child, self.signal) {
            // Once the context is released, or while it is being, the answer is there.
            (true, SIGKILL) if releases => &[Ended::Code(0)],
            (true, SIGKILL) => &[Ended::Code(5)],
            // It ends as it would have, if it has nothing left to do.
            (true, _) if releases => &[Ended::Code(0)],
            (true, _) => &[Ended::Code(5)],
            (false, SIGKILL) => &[Ended::Signal(SIGKILL)],
            (false, SIGINT) if self.watched => &[Ended::Code(130)],
            (false, _) if self.watched => &[Ended::Code(143)],
            // A shell calls these 130 and 143 as well.
            (false, SIGINT) => &[Ended::Signal(SIGINT)],
            (false, _) => &[Ended::Signal(SIGTERM)],
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Code(i32),
    Signal(i32),
}

/// Returns `PLACES` of the calls of a clean run, from the first to the last, and which of all calls
/// ends the look at what GPUs there are; of a child only those that it makes.
fn places(to_child: bool, flags: &[&str]) -> (Vec<(usize, String)>, usize) {
    let machine = Scenario::new(MACHINE);
    assert!(command(&machine, true, flags).output().unwrap().status.success());
    let calls = machine.calls().into_iter().enumerate().map(|(at, call)| (at + 1, call.name));
    let calls: Vec<_> = calls.collect();
    let listed = calls.iter().find(|(_, name)| name == "nvmlShutdown").unwrap().0;
    let theirs = |(_, name): &&(usize, String)| !to_child || name.starts_with("cu");
    let calls: Vec<_> = calls.iter().filter(theirs).cloned().collect();
    assert!(calls.len() >= PLACES, "{} calls", calls.len());
    let place = |place: usize| calls[place * (calls.len() - 1) / (PLACES - 1)].clone();
    ((0..PLACES).map(place).collect(), listed)
}

fn cases(flags: &'static [&'static str]) -> Vec<Case> {
    let mut cases = Vec::new();
    for to_child in [false, true] {
        let (places, listed) = places(to_child, flags);
        for (at, name) in places {
            let watched = at > listed;
            for signal in [SIGINT, SIGTERM, SIGKILL] {
                cases.push(Case { at, name: name.clone(), signal, to_child, watched, flags });
            }
        }
    }
    cases
}

/// Says what is wrong about how a signal was taken.
fn wrongs(case: &Case) -> Vec<String> {
    let machine = Scenario::new(&case.scenario());
    let output = command(&machine, true, case.flags).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let ended = match (output.status.code(), output.status.signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, signal) => Ended::Signal(signal.unwrap()),
    };
    let mut wrongs = Vec::new();
    if !case.allowed().contains(&ended) {
        wrongs.push(format!("{ended:?}: {said}"));
    }
    assert_as_before(&machine);
    if case.signal != SIGKILL && matches!(ended, Ended::Code(_)) {
        let calls = machine.calls();
        if !calls.iter().any(|call| call.arguments.contains_key("signal")) {
            wrongs.push("no signal came".to_owned());
        }
        let left = log::left(&calls);
        if !left.is_empty() {
            wrongs.push(format!("{left:?}"));
        }
    }
    // The lock goes with the last process that has it, which may be about to end.
    let folder = machine.folder().join("oomph");
    if let Err(error) = GpuLock::take(&folder, UUID, Duration::from_secs(10), || false) {
        wrongs.push(error.to_string());
    }
    wrongs
}

#[test]
fn a_signal_at_any_call_leaves_the_machine_as_it_was() {
    assert_as_it_was(&cases(&[]));
}

#[test]
fn a_signal_at_any_call_of_expandable_segments_leaves_the_machine_as_it_was() {
    assert_as_it_was(&cases(&["--allocator", "expandable"]));
}

unsafe extern "C" {
    safe fn signal(number: i32, handler: usize) -> usize;
}

fn assert_as_it_was(cases: &[Case]) {
    // A shell starts what it runs in the background with SIGINT ignored, which is inherited.
    const DEFAULT: usize = 0;
    signal(SIGINT, DEFAULT);
    let table = Mutex::new(Vec::new());
    side_by_side(cases.len(), |at| {
        let wrongs = wrongs(&cases[at]);
        if !wrongs.is_empty() {
            table.lock().unwrap().push(format!("{:?}: {}", cases[at], wrongs.join("; ")));
        }
    });
    let table = table.into_inner().unwrap();
    println!("{} signals, {} of them wrong", cases.len(), table.len());
    assert!(table.is_empty(), "{}", table.join("\n"));
}
