//! The largest micro-batch of a capacity against the oracle's: real PyTorch, run at every size
//! (tests/oracle/largest.py) on capacities of cards from a T4 to a B200, halved until few samples fit.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod oracle_case;

use oomph::memory::largest::largest_beside_headroom;
use oomph::model::config::ModelConfig;
use oomph::step::StepError;
use oomph::step::setup::{Setup, Version};
use oomph::trace::Trace;
use oomph::units::{Bytes, MicroBatch};
use oracle_case::rows::model_of;
use serde_json::Value;

const ROWS: &str = include_str!("data/largest_micro_batches.jsonl");

/// The headroom where nothing is said, in per cent of the capacity.
const HEADROOM: f64 = 3.0;

fn largest(case: &Value, model: &ModelConfig, capacity: Bytes, headroom: Bytes) -> u64 {
    let setup = oracle_case::setup(case, Version::new(2, 15), Version::new(5, 23));
    let trace_of = |micro_batch| {
        let setup = Setup { micro_batch, ..setup };
        Ok::<Trace, StepError>(oracle_case::trace(case, model, &setup))
    };
    let limit = MicroBatch::new(4096).unwrap();
    let found = largest_beside_headroom(capacity - headroom, headroom, limit, trace_of).unwrap();
    found.micro_batch.map_or(0, MicroBatch::get)
}

#[test]
fn the_largest_micro_batch_is_pytorchs_and_never_more_with_headroom() {
    let (mut rows, mut equal) = (0, 0);
    for line in ROWS.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let model = model_of(&case);
        let capacity = Bytes::new(case["capacity"].as_u64().unwrap());
        let theirs = case["result"]["largest"].as_u64().unwrap();
        let ours = largest(&case, &model, capacity, Bytes::ZERO);
        let with_headroom = largest(&case, &model, capacity, capacity.percent(HEADROOM));
        println!("{}: {theirs}, ours {ours}, {with_headroom} with headroom", case["id"]);
        assert!(with_headroom <= theirs, "{}: {with_headroom} of {theirs}", case["id"]);
        rows += 1;
        equal += u32::from(ours == theirs);
    }
    assert!(rows >= 30, "only {rows} rows");
    assert_eq!(equal, rows, "largest micro-batches that are PyTorch's");
}
