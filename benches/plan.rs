//! Where the time of a plan goes: `cargo bench --bench plan`.
//!
//! One row a model (bf16, sequences of 2,048, two micro-steps): events of its trace, the time of
//! the trace and of one replay (medians of the cores' time, and per event), then what the other questions cost as
//! multiples of a trace with its replay, which another machine's speed does not change. Below it, by
//! the clock, the whole process as a user waits for it, beside one that only prints its version.

use std::convert::Infallible;
use std::hint::black_box;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use oomph::ingest::config_json;
use oomph::memory::fit::replay_on;
use oomph::memory::footprint::Footprint;
use oomph::memory::largest::largest_micro_batch;
use oomph::memory::trace::Trace;
use oomph::model::config::ModelConfig;
use oomph::profile::model::ModelProfile;
use oomph::step::setup::{Precision, Setup};
use oomph::units::{AccumulationSteps, Bytes, MicroBatch};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 31;

const SETUP: Setup = Setup { seq_len: 2048, precision: Precision::Bf16, ..Setup::PLAIN };

fn main() {
    println!(
        "{:<16} {:>7} {:>9} {:>9} {:>9} {:>9} {:>10} {:>20}",
        "model",
        "events",
        "trace",
        "an event",
        "replay",
        "an event",
        "footprint",
        "largest micro-batch"
    );
    for (name, layers) in [("llama-3.2-1b", 16), ("llama-3.1-8b", 32), ("llama-3.1-8b", 126)] {
        row(name, layers);
    }
    println!();
    for args in [
        "--version",
        "estimate llama-3.1-8b --precision bf16",
        "plan llama-3.1-8b --precision bf16 --effective-batch 256 --gpu sim:b200",
        "plan llama-3.1-8b --precision bf16 --checkpointing full --effective-batch 256 --gpu sim:b200",
        "plan llama-3.2-1b --seq-len 2048 --precision bf16 --effective-batch 256 --gpu sim:h100-80gb",
    ] {
        println!("{:>9.1?}  oomph {args}", median(|| process(args)));
    }
}

/// Prints the phases of one model; 126 layers are those of a 405B Llama.
fn row(name: &str, layers: u64) {
    let Ok(profile) = ModelProfile::built_in(name) else { return println!("{name}: no profile") };
    let Ok(read) = config_json::from_map(&profile.config) else { return println!("{name}: ?") };
    let mut model = read.config;
    if let ModelConfig::Decoder(config) = &mut model {
        config.num_hidden_layers = layers;
    }
    let at = |micro_batch: MicroBatch| Setup {
        micro_batch,
        accumulation: AccumulationSteps::new(2).unwrap_or(AccumulationSteps::ONE),
        ..SETUP
    };
    let made = |n| oomph::step::trace(&model, &at(n)).map(Rc::new).unwrap_or_default();
    let trace: Rc<Trace> = made(MicroBatch::ONE);
    let tracing = of_cores(|| made(MicroBatch::ONE));
    let replay = of_cores(|| replay_on(&trace, Bytes::gib(1 << 20)));
    let footprint = of_cores(|| Footprint::of(&trace));
    let capacity =
        Footprint::of(&trace).ok().and_then(|footprint| footprint.min_capacity).unwrap_or_default();
    let capacity = capacity + capacity;
    let limit = MicroBatch::new(1 << 20).unwrap_or(MicroBatch::ONE);
    let search = || largest_micro_batch(capacity, limit, |n| Ok::<_, Infallible>(made(n)));
    let largest = of_cores(search);
    let traces = search().map_or(0, |found| found.traces);
    let events = trace.events.len();
    let each = |time: Duration| time.as_nanos() as f64 / events as f64;
    let once = (tracing + replay).as_secs_f64();
    println!(
        "{:<16} {events:>7} {:>6} us {:>6.1} ns {:>6} us {:>6.1} ns {:>8.1} x {:>8.1} x of {traces}",
        format!("{name}/{layers}"),
        tracing.as_micros(),
        each(tracing),
        replay.as_micros(),
        each(replay),
        footprint.as_secs_f64() / once,
        largest.as_secs_f64() / once,
    );
}

fn process(args: &str) {
    let status = Command::new(env!("CARGO_BIN_EXE_oomph"))
        .args(args.split(' '))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.is_ok_and(|status| status.success()), "oomph {args}");
}

/// The median by the clock.
fn median<T>(work: impl Fn() -> T) -> Duration {
    let start = Instant::now();
    median_by(|| start.elapsed(), work)
}

/// The median of the cores' time, of all threads: what else runs on the machine changes it little.
fn of_cores<T>(work: impl Fn() -> T) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    median_by(now, work)
}

fn median_by<T>(now: impl Fn() -> Duration, work: impl Fn() -> T) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = now();
            black_box(work());
            now() - start
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}
