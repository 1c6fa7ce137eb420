//! A step made up by hand, a process that probes with it, and brute force to compare with.

#![allow(dead_code, reason = "every test file uses a part of this")]

#[path = "../toy_steps/mod.rs"]
pub mod toy_steps;

use std::convert::Infallible;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oomph::device::failure::Limits;
use oomph::device::interrupt::Interrupt;
use oomph::device::session::{ProbeRequest, Probed, probe_gpu};
use oomph::memory::allocator::{Capacity, replay};
use oomph::memory::trace::{AllocatorMode, Block, BlockId, Category, Event, Phase, Trace};
use oomph::plan::capacity::{KERNELS_ALLOWANCE, OutsideAllocator};
use oomph::probe::run::Progress;
use oomph::probe::target::Sharing;
use oomph::units::{Bytes, DataParallelSize, MicroBatch};

use self::toy_steps::ToyModel;
use crate::support::{Call, Scenario};

/// The UUID of a scenario's first card.
pub const UUID: &str = "GPU-00000001-0000-4000-8000-000000000000";
/// What probes leave free.
pub const HEADROOM: Bytes = Bytes::mib(200);
/// What the context of a training process with its kernels is allowed; on most machines here it takes
/// more.
const CONTEXT: Bytes = Bytes::mib(360);

/// What a training process is taken to need beside its allocator, where a bare context takes so much.
pub fn outside(context: Bytes) -> Bytes {
    (context + KERNELS_ALLOWANCE).max(CONTEXT)
}

/// A step of three layers, forward and backward, twice; sizes grow with the micro-batch.
pub fn step(micro_batch: MicroBatch) -> Trace {
    let mut trace = Trace { modules: vec![String::new()], ..Trace::default() };
    trace.phases.push((0, Phase::Forward));
    let request = |trace: &mut Trace, bytes: Bytes| {
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

/// What a probing process is told otherwise than usual.
#[derive(Debug, Clone)]
pub struct Told {
    /// Which GPU.
    pub uuid: &'static str,
    /// Limit of one driver call.
    pub call: Duration,
    /// Limit of the probe.
    pub total: Duration,
    /// How long to wait for the lock.
    pub lock_timeout: Duration,
    /// Whether others may use the GPU.
    pub shared: bool,
    /// Which replay to hold before, until standard input ends; 0 for none.
    pub hold_before: usize,
    /// The model, other than the one that is made up here.
    pub model: Option<ToyModel>,
    /// Whether segments are expandable.
    pub expandable: bool,
}

impl Default for Told {
    fn default() -> Told {
        Told {
            uuid: UUID,
            call: Duration::from_secs(60),
            total: Duration::from_secs(120),
            lock_timeout: Duration::ZERO,
            shared: true,
            hold_before: 0,
            model: None,
            expandable: false,
        }
    }
}

/// Where a probing process finds what it is told; set only in a child of a test.
const TOLD: &str = "OOMPH_TEST_PROBE";
/// What it prints when it holds.
pub const HOLDING: &str = "HOLDING";

/// Within the child: probes and prints what came of it. Nothing in a test process itself.
pub fn probing_process() {
    let Ok(told) = std::env::var(TOLD) else { return };
    let words: Vec<&str> = told.split('|').collect();
    let [folder, uuid, call, total, lock_timeout, shared, hold_before, model, expandable] =
        words[..]
    else {
        panic!("{told}")
    };
    let model = read_model(model);
    let millis = |text: &str| Duration::from_millis(text.parse().unwrap());
    let request = ProbeRequest {
        headroom: HEADROOM,
        outside: OutsideAllocator::new(CONTEXT, DataParallelSize::ONE, Bytes::ZERO),
        cap: None,
        limit: MicroBatch::new(10_000).unwrap(),
        sharing: if shared == "true" { Sharing::Allowed } else { Sharing::Refused },
        limits: Limits { call: millis(call), total: millis(total) },
        lock_timeout: millis(lock_timeout),
        lock_folder: Path::new(folder).join("locks"),
        program: env!("CARGO_BIN_EXE_oomph").into(),
    };
    let hold_before: usize = hold_before.parse().unwrap();
    let interrupt = Interrupt::watch().unwrap();
    let mut allocator = AllocatorMode::Default;
    if expandable == "true" {
        allocator = AllocatorMode::Expandable { total: Capacity::UNLIMITED };
    }
    let traces = |size| Ok::<_, Infallible>(Trace { allocator, ..step_of(model, size) });
    let mut progress = |progress| {
        if matches!(progress, Progress::Trying { replay, .. } if replay == hold_before) {
            println!("\n{HOLDING}");
            let _ = std::io::stdin().read(&mut [0]);
        }
    };
    match probe_gpu(uuid, &request, &interrupt, &traces, &mut progress) {
        Ok(probed) => {
            let Probed { found, context, kept_free, granule, warning, .. } = probed;
            let steady = model.is_none() && found.free_after == found.free_before;
            for tried in found.tried.iter().filter(|_| steady) {
                let attempt = &tried.attempt;
                let sum = attempt.free_at_peak + attempt.peak_reserved;
                assert!(sum <= attempt.free_before, "{tried:?}");
            }
            println!("\nTERMS context={context} kept={kept_free} granule={granule}");
            println!("WARNING {}", warning.unwrap_or_default());
            println!("CONTENDED {:?}", found.contended);
            println!("REPLAYS {}", found.tried.len());
            for tried in &found.tried {
                println!("TRIED {tried:?}");
            }
            println!("ANSWER {}", found.largest.map_or(0, MicroBatch::get));
        }
        Err(error) => println!("\nERROR {error}"),
    }
}

fn write_model(model: ToyModel) -> String {
    let ToyModel { layers, hidden, vocabulary, tokens, accumulation } = model;
    format!("{layers},{hidden},{vocabulary},{tokens},{accumulation}")
}

/// Reads what [`write_model`] wrote; nothing is no model.
fn read_model(text: &str) -> Option<ToyModel> {
    let numbers: Vec<u64> = text.split(',').map_while(|number| number.parse().ok()).collect();
    let [layers, hidden, vocabulary, tokens, accumulation] = numbers[..] else { return None };
    Some(ToyModel { layers, hidden, vocabulary, tokens, accumulation })
}

/// Returns the command that probes on a machine.
pub fn command(machine: &Scenario, told: &Told) -> Command {
    let mut command = machine.command(std::env::current_exe().unwrap());
    let Told { uuid, call, total, lock_timeout, shared, hold_before, model, expandable } = told;
    let [call, total, lock_timeout] = [call, total, lock_timeout].map(Duration::as_millis);
    let folder = machine.folder().display();
    let model = model.map(write_model).unwrap_or_default();
    let told = format!(
        "{folder}|{uuid}|{call}|{total}|{lock_timeout}|{shared}|{hold_before}|{model}|{expandable}"
    );
    command
        .args(["--exact", "the_probing_process", "--nocapture", "--test-threads=1"])
        .env(TOLD, told)
        .stdin(Stdio::null());
    command
}

/// Probes on a machine and returns all that was printed.
pub fn probe(machine: &Scenario, told: &Told) -> String {
    let output = command(machine, told).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Returns what follows a word at the start of a line.
pub fn value_of<'a>(output: &'a str, word: &str) -> &'a str {
    let lines = || output.lines().filter_map(|line| line.strip_prefix(word));
    lines().next().unwrap_or_else(|| panic!("no {word}:\n{output}")).trim()
}

/// Returns the line with the answer or the error.
pub fn said(output: &str) -> &str {
    let line =
        output.lines().find(|line| line.starts_with("ANSWER ") || line.starts_with("ERROR "));
    line.unwrap_or_else(|| panic!("neither answer nor error:\n{output}"))
}

/// Counts up until a step no longer runs in what is free before the context, less all that is not
/// the allocator's.
pub fn brute_force(free_mib: u64, context: Bytes, granule: Bytes) -> u64 {
    brute_force_in(AllocatorMode::Default, free_mib, context, granule)
}

/// As [`brute_force`], in either mode.
pub fn brute_force_in(
    allocator: AllocatorMode,
    free_mib: u64,
    context: Bytes,
    granule: Bytes,
) -> u64 {
    let outside = HEADROOM + outside(context);
    let capacity = Bytes::mib(free_mib).saturating_sub(outside);
    let runs = |size: u64| {
        let mut device = Capacity::in_granules(capacity, granule);
        let step = Trace { allocator, ..step(MicroBatch::new(size).unwrap()) };
        let Ok(replayed) = replay(&step, &mut device);
        replayed.ran()
    };
    (1..).take_while(|size| runs(*size)).last().unwrap_or(0)
}

/// Returns the step of a made-up model, or of the one that is made up here.
fn step_of(model: Option<ToyModel>, micro_batch: MicroBatch) -> Trace {
    model.map_or_else(|| step(micro_batch), |model| model.trace(micro_batch.get()))
}

/// Returns how often a process went from holding nothing to holding something: one for each replay,
/// and one for the look at the granule.
pub fn fillings(calls: &[Call]) -> usize {
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

/// Fails unless nothing is held on the machine any more.
///
/// A process that is being killed has closed its files before it is gone, so this waits a little.
pub fn assert_as_before(machine: &Scenario) {
    wait_for("the memory", || machine.held(0) == 0);
}

/// Waits for what must come, and fails only when it has not for very long.
pub fn wait_for(what: &str, mut come: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !come() {
        assert!(begun.elapsed() < Duration::from_secs(60), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
