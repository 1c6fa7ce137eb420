//! The search for the largest micro-batch against trying every one of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod toy_steps;

use std::convert::Infallible;

use oomph::memory::fit::{min_capacity, runs};
use oomph::memory::largest::{Largest, largest_micro_batch};
use oomph::memory::trace::Trace;
use oomph::units::{Bytes, MicroBatch};
use toy_steps::ToyModel;

const MODELS: [ToyModel; 4] = [
    ToyModel { layers: 2, hidden: 256, vocabulary: 1000, tokens: 128, accumulation: 1 },
    ToyModel { layers: 12, hidden: 512, vocabulary: 8000, tokens: 256, accumulation: 1 },
    ToyModel { layers: 6, hidden: 768, vocabulary: 30000, tokens: 64, accumulation: 2 },
    ToyModel { layers: 24, hidden: 320, vocabulary: 500, tokens: 100, accumulation: 1 },
];

fn search(model: ToyModel, capacity: Bytes, limit: u64) -> Largest {
    let trace_of =
        |micro_batch: MicroBatch| Ok::<Trace, Infallible>(model.trace(micro_batch.get()));
    largest_micro_batch(capacity, MicroBatch::new(limit).unwrap(), trace_of).unwrap()
}

/// The largest that runs, it and all smaller ones, found by trying all of them.
fn brute_force(model: ToyModel, capacity: Bytes, limit: u64) -> Option<MicroBatch> {
    let first_failure = (1..=limit).find(|&micro_batch| !runs(&model.trace(micro_batch), capacity));
    MicroBatch::new(first_failure.unwrap_or(limit + 1) - 1)
}

#[test]
fn the_search_finds_what_trying_all_finds() {
    let mut traces = Vec::new();
    for model in MODELS {
        let least = min_capacity(&model.trace(1)).unwrap();
        for per_mille in [990, 1000, 1010, 1100, 1250, 1500, 2000, 3100, 4700, 8000] {
            let capacity = Bytes::new(least.get() / 1000 * per_mille);
            let found = search(model, capacity, 64);
            let expected = brute_force(model, capacity, 64);
            assert_eq!(found.micro_batch, expected, "{model:?} on {capacity}");
            traces.push(found.traces);
        }
    }
    traces.sort_unstable();
    let (median, most) = (traces[traces.len() / 2], traces[traces.len() - 1]);
    println!("traces: median {median}, most {most}");
    assert!(median <= 8, "{traces:?}");
}

#[test]
fn no_micro_batch_runs_where_one_sample_does_not() {
    let found = search(MODELS[0], Bytes::mib(2), 64);
    assert_eq!(found, Largest { micro_batch: None, traces: 1 });
}

#[test]
fn the_limit_is_taken_where_it_runs() {
    let found = search(MODELS[0], Bytes::gib(900), 48);
    assert_eq!(found.micro_batch, MicroBatch::new(48));
    assert!(found.traces <= 5, "{}", found.traces);
    assert_eq!(search(MODELS[0], Bytes::gib(900), 1).micro_batch, MicroBatch::new(1));
}

#[test]
fn an_error_of_the_trace_ends_the_search() {
    let failing = |micro_batch: MicroBatch| {
        if micro_batch.get() == 1 { Ok(MODELS[0].trace(1)) } else { Err(micro_batch.get()) }
    };
    let limit = MicroBatch::new(4).unwrap();
    assert_eq!(largest_micro_batch(Bytes::gib(900), limit, failing), Err(4));
}

#[test]
fn a_step_of_absurd_size_does_not_overflow() {
    let absurd = |micro_batch: MicroBatch| {
        let mut trace = MODELS[0].trace(micro_batch.get());
        for block in &mut trace.blocks {
            block.bytes = Bytes::new(u64::MAX);
        }
        Ok::<Trace, Infallible>(trace)
    };
    let found = largest_micro_batch(Bytes::gib(80), MicroBatch::new(8).unwrap(), absurd).unwrap();
    assert_eq!(found.micro_batch, None);
}

#[test]
fn among_thousands_a_search_looks_at_a_hundred() {
    let small = ToyModel { layers: 2, hidden: 64, vocabulary: 100, tokens: 8, accumulation: 1 };
    let capacity = Bytes::gib(2);
    let found = search(small, capacity, 1 << 20);
    let largest = found.micro_batch.unwrap().get();
    assert!(largest > 5000, "{largest}");
    assert!(found.traces < 150, "{} traces for {largest}", found.traces);
    let failing = (largest - 200..=largest).find(|&size| !runs(&small.trace(size), capacity));
    assert_eq!(failing, None, "of the 200 below {largest}");
}
