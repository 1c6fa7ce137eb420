//! How long the allocator takes, on the recorded traces: `cargo bench --bench allocator`.
//!
//! One row a trace: events, one replay on an endless device (median, and per event), then what the
//! other questions cost as multiples of that replay, which another machine's speed does not change; the
//! last two with expandable segments.

#[path = "../tests/allocator_traces/mod.rs"]
#[expect(dead_code, reason = "what PyTorch answered is for the tests")]
mod allocator_traces;

use std::hint::black_box;
use std::time::{Duration, Instant};

use oomph::memory::fit::{min_capacity, replay_on};
use oomph::memory::footprint::{Footprint, live_at_peak};
use oomph::memory::trace::{AllocatorMode, Trace};
use oomph::units::Bytes;

const ROUNDS: usize = 41;

fn main() {
    println!(
        "{:<40} {:>7} {:>10} {:>9} {:>12} {:>9} {:>12} {:>10} {:>12}",
        "trace",
        "events",
        "replay",
        "per event",
        "min_capacity",
        "footprint",
        "live_at_peak",
        "expandable",
        "min_capacity"
    );
    for case in allocator_traces::all() {
        let trace = &case.trace;
        let replay = median(|| replay_on(trace, Bytes::gib(1 << 20)));
        let allocator = AllocatorMode::Expandable { total: Bytes::gib(141) };
        let expandable = Trace { allocator, ..trace.clone() };
        let times = |duration: Duration| duration.as_secs_f64() / replay.as_secs_f64();
        println!(
            "{:<40} {:>7} {:>7} us {:>6.1} ns {:>10.1} x {:>7.1} x {:>10.1} x {:>8.1} x {:>10.1} x",
            case.name,
            trace.events.len(),
            replay.as_micros(),
            replay.as_nanos() as f64 / trace.events.len() as f64,
            times(median(|| min_capacity(trace))),
            times(median(|| Footprint::of(trace))),
            times(median(|| live_at_peak(trace))),
            times(median(|| replay_on(&expandable, Bytes::gib(1 << 20)))),
            times(median(|| min_capacity(&expandable))),
        );
    }
}

fn median<T>(work: impl Fn() -> T) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}
