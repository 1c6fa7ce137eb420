//! A probe's driver calls on the stand-in driver, with steps made up by hand: what it finds, what it
//! leaves behind, and what it says when anything breaks at any call.

mod support;

use std::convert::Infallible;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use oomph::device::interrupt::Interrupt;
use oomph::device::prober::Limits;
use oomph::device::session::{ProbeRequest, Probed, probe_gpu};
use oomph::memory::allocator::{Capacity, Refusal, Segment, SegmentSource, replay};
use oomph::memory::trace::{Block, BlockId, Category, Event, Phase, Trace};
use oomph::probe::target::Sharing;
use oomph::units::{Bytes, MicroBatch};
use support::{Call, Scenario};

const UUID: &str = "GPU-00000001-0000-4000-8000-000000000000";
const HEADROOM: Bytes = Bytes::mib(200);
/// What a training process is taken to need beside its allocator; on most machines below its context.
const OUTSIDE: Bytes = Bytes::mib(350);

/// A step of three layers, forward and backward, twice; sizes grow with the micro-batch.
fn step(micro_batch: MicroBatch) -> Trace {
    let mut trace = Trace { modules: vec![String::new()], ..Trace::default() };
    trace.phases.push((0, Phase::Forward));
    let mut request = |trace: &mut Trace, bytes: Bytes| {
        let id = BlockId(trace.blocks.len() as u32);
        let (category, phase) = (Category::Activations, Phase::Forward);
        trace.blocks.push(Block { bytes, category, phase, module: 0 });
        trace.events.push(Event::Alloc(id));
        id
    };
    for weight in [96, 11, 300] {
        request(&mut trace, Bytes::mib(weight));
    }
    for _ in 0..2 {
        let mut kept = Vec::new();
        for mib in [9, 31, 14] {
            let bytes = Bytes::mib(mib).checked_mul(micro_batch.get()).unwrap();
            kept.push(request(&mut trace, bytes));
            let scratch = request(&mut trace, Bytes::new(bytes.get() * 3 / 2));
            trace.events.push(Event::Free(scratch));
        }
        for id in kept.into_iter().rev() {
            let gradient = request(&mut trace, Bytes::mib(40));
            trace.events.push(Event::Free(id));
            trace.events.push(Event::Free(gradient));
        }
    }
    trace
}

fn request(folder: &Path) -> ProbeRequest {
    ProbeRequest {
        headroom: HEADROOM,
        outside: OUTSIDE,
        limit: MicroBatch::new(10_000).unwrap(),
        sharing: Sharing::Allowed,
        limits: Limits { call: Duration::from_secs(60), total: Duration::from_secs(120) },
        lock_timeout: Duration::ZERO,
        lock_folder: folder.join("locks"),
        program: env!("CARGO_BIN_EXE_oomph").into(),
    }
}

/// Where [`the_probing_process`] finds its lock folder; set only in a child of a test.
const PROBE_HERE: &str = "OOMPH_TEST_PROBE_HERE";

/// Not a test of its own: the process that the other tests start on their machines, which probes and
/// prints what came of it.
#[test]
fn the_probing_process() {
    let Some(folder) = std::env::var_os(PROBE_HERE) else { return };
    let interrupt = Interrupt::watch().unwrap();
    let mut traces = |size| Ok::<_, Infallible>(step(size));
    let request = request(Path::new(&folder));
    match probe_gpu(UUID, &request, &interrupt, &mut traces, &mut |_| {}) {
        Ok(probed) => {
            let Probed { found, context, kept_free, granule, warning, .. } = probed;
            for tried in &found.tried {
                let attempt = &tried.attempt;
                let sum = attempt.free_at_peak + attempt.peak_reserved;
                assert!(sum <= attempt.free_before, "{tried:?}");
            }
            println!("\nTERMS context={context} kept={kept_free} granule={granule}");
            println!("WARNING {}", warning.unwrap_or_default());
            println!("CONTENDED {:?}", found.contended);
            println!("ANSWER {}", found.largest.map_or(0, MicroBatch::get));
        }
        Err(error) => println!("\nERROR {error}"),
    }
}

/// Starts a probe on a machine.
fn command(machine: &Scenario) -> Command {
    let mut command = machine.command(std::env::current_exe().unwrap());
    command
        .args(["--exact", "the_probing_process", "--nocapture", "--test-threads=1"])
        .env(PROBE_HERE, machine.folder());
    command
}

/// Probes on a machine and returns what was printed.
fn probe(machine: &Scenario) -> String {
    let output = command(machine).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn said(output: &str) -> &str {
    let line =
        output.lines().find(|line| line.starts_with("ANSWER ") || line.starts_with("ERROR "));
    line.unwrap_or_else(|| panic!("neither answer nor error:\n{output}"))
}

struct Granular(Capacity, Bytes);

impl SegmentSource for Granular {
    type Error = Infallible;
    fn allocate(&mut self, bytes: Bytes) -> Result<Segment, Refusal<Infallible>> {
        self.0.allocate(bytes.round_up(self.1))
    }
    fn release(&mut self, segment: Segment) -> Result<(), Infallible> {
        self.0.release(segment)
    }
}

/// Counts up until a step no longer runs in what is free before the context, less all that is not
/// the allocator's.
fn brute_force(free_mib: u64, context: Bytes, granule: Bytes) -> u64 {
    let outside = HEADROOM + context.max(OUTSIDE);
    let capacity = Bytes::mib(free_mib).saturating_sub(outside);
    let runs = |size: u64| {
        let mut device = Granular(Capacity::new(capacity), granule);
        let Ok(replayed) = replay(&step(MicroBatch::new(size).unwrap()), &mut device);
        replayed.ran()
    };
    (1..).take_while(|size| runs(*size)).last().unwrap_or(0)
}

/// Returns how often a process went from holding nothing to holding something: one for each replay,
/// and one for the look at the granule.
fn fillings(calls: &[Call]) -> usize {
    let mut live = 0_i64;
    let mut fillings = 0;
    for call in calls.iter().filter(|call| call.succeeded()) {
        match call.name.as_str() {
            "cuMemAlloc_v2" => {
                fillings += usize::from(live == 0);
                live += 1;
            }
            "cuMemFree_v2" => live -= 1,
            _ => {}
        }
    }
    fillings
}

/// Fails unless nothing is held on the machine any more and another probe can have the GPU.
fn assert_as_before(machine: &Scenario) {
    assert_eq!(machine.held(0), 0, "memory is still held");
}

#[test]
fn the_answer_is_brute_forces_whatever_the_capacity_the_neighbours_and_the_granule() {
    let mut replays = Vec::new();
    for (total, reserved, context, granule, neighbour) in [
        (1024, 0, 0, 2, 0),
        (2048, 100, 250, 2, 0),
        (3000, 0, 300, 2, 500),
        (4096, 128, 300, 2, 0),
        (4096, 128, 300, 4, 0),
        (4096, 128, 300, 32, 0),
        (6144, 256, 450, 2, 1000),
        (6144, 256, 450, 64, 1000),
        (8192, 256, 450, 2, 0),
        (8192, 300, 450, 2, 3000),
        (12_288, 300, 450, 2, 1),
        (12_288, 300, 450, 16, 0),
        (16_384, 400, 500, 2, 7777),
        (24_576, 400, 500, 2, 0),
        (24_576, 400, 500, 128, 0),
        (700, 0, 100, 2, 0),
        (760, 0, 100, 2, 0),
        (900, 0, 100, 2, 0),
        (1500, 0, 100, 2, 999),
        (5000, 1, 1, 2, 333),
        (40_960, 600, 500, 2, 0),
        (10_000, 0, 0, 2, 5000),
    ] {
        let process = match neighbour {
            0 => String::new(),
            mib => format!("process gpu=0 pid=4190001 bytes={mib}MiB"),
        };
        let machine = Scenario::new(&format!(
            "gpu total={total}MiB reserved={reserved}MiB context={context}MiB \
             granularity={granule}MiB\n {process}"
        ));
        let free = total - reserved - neighbour;
        let expected = brute_force(free, Bytes::mib(context), Bytes::mib(granule));
        let output = probe(&machine);
        assert_eq!(said(&output), format!("ANSWER {expected}"), "{total} {granule} {neighbour}");
        machine.assert_balanced();
        assert_as_before(&machine);
        // `taken` by the log, so granules count: never into the headroom, nor, but for the look at
        // the granule, into what is kept for kernels.
        let peak = Bytes::new(machine.peak_bytes());
        let context = Bytes::mib(context);
        assert!(peak + context + HEADROOM <= Bytes::mib(free), "it ate into the headroom");
        let kept = if expected == 0 { context } else { context.max(OUTSIDE) };
        assert!(peak + kept + HEADROOM <= Bytes::mib(free), "it ate into the kernels' room");
        replays.push(fillings(&machine.calls()) - 1);
    }
    replays.sort_unstable();
    let median = replays[replays.len() / 2];
    assert!(median <= 2, "{replays:?}");
    assert!(replays.iter().all(|replays| *replays <= 3), "{replays:?}");
}

#[test]
fn the_context_and_the_room_for_kernels_are_accounted() {
    let machine = Scenario::new("gpu total=8GiB reserved=100MiB context=300MiB granularity=32MiB");
    let output = probe(&machine);
    // The process is taken to need 350 MiB outside the allocator, of which its context has 300.
    assert!(output.contains("TERMS context=300.0 MiB kept=250.0 MiB granule=32.0 MiB"), "{output}");
    assert!(output.contains("WARNING \n") && output.contains("CONTENDED None"), "{output}");
}

/// The calls of a whole probe on a small card, made once without a fault.
fn calls_of_a_probe(scenario: &str) -> Vec<Call> {
    let machine = Scenario::new(scenario);
    let output = probe(&machine);
    assert!(said(&output).starts_with("ANSWER"), "{output}");
    machine.calls()
}

const SMALL: &str = "gpu total=1500MiB reserved=10MiB context=100MiB";

#[test]
fn a_kill_at_any_call_leaves_nothing_and_the_next_probe_runs() {
    let calls = calls_of_a_probe(SMALL);
    let expected = format!("ANSWER {}", brute_force(1490, Bytes::mib(100), Bytes::mib(2)));
    assert!(calls.len() > 60, "{} calls", calls.len());
    for number in 1..=calls.len() {
        let machine = Scenario::new(&format!("{SMALL}\n fault * at={number} do=kill"));
        let output = probe(&machine);
        let call = &calls[number - 1].name;
        if call.starts_with("cu") {
            assert!(output.contains("was killed (SIGKILL) in "), "call {number}: {output}");
            assert!(output.contains(&call.replace("Uuid_v2", "Uuid")), "{output}");
            // By the release of the context, the answer is there.
            let known = call.starts_with("cuDevicePrimaryCtxRelease");
            assert_eq!(said(&output).starts_with("ANSWER"), known, "call {number}: {output}");
        } else {
            assert!(!output.contains("ANSWER"), "the parent was killed at call {number}");
        }
        assert_as_before(&machine);
        let output = probe(&machine);
        assert_eq!(said(&output), expected, "after a kill at call {number}");
        assert_as_before(&machine);
    }
}
