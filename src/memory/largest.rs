//! The largest micro-batch that runs on a capacity: it and all smaller ones.
//!
//! A trace and its replay cost a millisecond or two, so the search is thrifty. The first trace
//! already says roughly where the end is (`most_that_could_fit`); from there it closes in.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use crate::memory::allocator::{Capacity, round_request};
use crate::memory::fit::replay_on;
use crate::memory::trace::{Category, Event, Trace};
use crate::units::{Bytes, MicroBatch};

/// After this many micro-batches in a row that run clear of the capacity, all smaller ones are
/// taken to run.
const CLEAR_RUNS: u64 = 3;

/// How far below the capacity `peak_reserved` stays where a micro-batch runs clear, in per cent.
///
/// `peak_reserved` grows with the micro-batch, but for fragmentation: from one micro-batch to the
/// next that moves it up or down by up to 4% (made-up models of tests/largest_micro_batch.rs, where
/// parameters and optimizer state outweigh activations).
const CLEAR_PERCENT: f64 = 5.0;

/// How many traces may say where to look next; after that steps double, and halve once the end is
/// enclosed, so that a bound that creeps cannot make the search long.
const TRUSTED_BOUNDS: usize = 3;

/// What the search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Largest {
    /// The largest micro-batch that runs, and all smaller ones do; `None` if one sample does not.
    pub micro_batch: Option<MicroBatch>,
    /// Traces made and replayed.
    pub replays: usize,
}

/// Finds the largest micro-batch, `limit` at most, that runs on `capacity`, it and all smaller
/// ones.
///
/// # Errors
///
/// The first error of `trace_of`.
pub fn largest_micro_batch<E, T: Borrow<Trace>>(
    capacity: Bytes,
    limit: MicroBatch,
    trace_of: impl FnMut(MicroBatch) -> Result<T, E>,
) -> Result<Largest, E> {
    let mut search = Search { capacity, trace_of, known: BTreeMap::new(), bound: limit.get() };
    let largest = search.largest(limit.get())?;
    Ok(Largest { micro_batch: MicroBatch::new(largest), replays: search.known.len() })
}

/// Returns the largest micro-batch whose tensors could fit, judged by the trace of another one.
///
/// At each moment activations, logits, temporaries and inputs are taken to grow with the
/// micro-batch, and all else to stay. Fragmentation is left out, so this is mostly a little high.
fn most_that_could_fit(trace: &Trace, micro_batch: u64, capacity: Bytes) -> u64 {
    let (mut fixed, mut growing, mut most) = (0u64, 0u64, u64::MAX);
    for event in &trace.events {
        let (id, born) = match *event {
            Event::Alloc(id) => (id, true),
            Event::Free(id) => (id, false),
        };
        let Some(block) = trace.blocks.get(id.0 as usize) else { continue };
        let sum = if grows(block.category) { &mut growing } else { &mut fixed };
        let bytes = round_request(block.bytes.min(Capacity::UNLIMITED)).get();
        if !born {
            *sum = sum.saturating_sub(bytes);
            continue;
        }
        *sum = sum.saturating_add(bytes);
        let left = capacity.get().saturating_sub(fixed);
        // Only a moment that is tighter than all before is worth a division.
        let needed = u128::from(growing) * u128::from(most);
        if growing > 0 && needed > u128::from(left) * u128::from(micro_batch) {
            most = (u128::from(left) * u128::from(micro_batch) / u128::from(growing)) as u64;
        }
    }
    most
}

fn grows(category: Category) -> bool {
    match category {
        Category::Activations | Category::LogitsLoss | Category::Temporaries | Category::Inputs => {
            true
        }
        Category::Parameters
        | Category::Gradients
        | Category::OptimizerState
        | Category::OptimizerTemp
        | Category::Workspace => false,
    }
}

/// How a micro-batch ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It took clearly less than the capacity, see [`CLEAR_PERCENT`].
    Clear,
    /// It ran.
    Tight,
    /// Out of memory.
    DoesNotRun,
}

struct Search<F> {
    capacity: Bytes,
    trace_of: F,
    known: BTreeMap<u64, Verdict>,
    /// What the trace looked at last says of where the end is.
    bound: u64,
}

impl<E, T: Borrow<Trace>, F: FnMut(MicroBatch) -> Result<T, E>> Search<F> {
    fn largest(&mut self, limit: u64) -> Result<u64, E> {
        if self.verdict(1)? == Verdict::DoesNotRun {
            return Ok(0);
        }
        let found = self.close_in(limit)?;
        self.walk_down(found)
    }

    /// Returns a micro-batch that runs while the next one does not, or `limit`.
    fn close_in(&mut self, limit: u64) -> Result<u64, E> {
        let (mut runs, mut fails) = (1, limit.saturating_add(1));
        let mut next = self.bound;
        let mut step = 1;
        while fails - runs > 1 {
            next = next.clamp(runs + 1, fails - 1);
            let ran = self.verdict(next)? != Verdict::DoesNotRun;
            *(if ran { &mut runs } else { &mut fails }) = next;
            let enclosed = runs > 1 && fails <= limit;
            if self.known.len() <= TRUSTED_BOUNDS && runs < self.bound && self.bound < fails {
                next = self.bound;
            } else if enclosed {
                next = runs + (fails - runs) / 2;
            } else {
                next = if ran { runs.saturating_add(step) } else { fails.saturating_sub(step) };
                step = step.saturating_mul(2);
            }
        }
        Ok(runs)
    }

    /// Looks below for one that does not run, until all the rest is clear.
    fn walk_down(&mut self, found: u64) -> Result<u64, E> {
        let (mut largest, mut clear, mut next) = (found, 0, found);
        while next > 0 && clear < CLEAR_RUNS {
            match self.verdict(next)? {
                Verdict::Clear => clear += 1,
                Verdict::Tight => clear = 0,
                Verdict::DoesNotRun => {
                    clear = 0;
                    largest = next - 1;
                }
            }
            next -= 1;
        }
        Ok(largest)
    }

    fn verdict(&mut self, micro_batch: u64) -> Result<Verdict, E> {
        if let Some(&verdict) = self.known.get(&micro_batch) {
            return Ok(verdict);
        }
        let count = MicroBatch::new(micro_batch).unwrap_or(MicroBatch::ONE);
        let trace = (self.trace_of)(count)?;
        let trace = trace.borrow();
        self.bound = most_that_could_fit(trace, micro_batch, self.capacity);
        let replay = replay_on(trace, self.capacity);
        let clear = self.capacity - self.capacity.percent(CLEAR_PERCENT);
        let verdict = match replay.ran() {
            false => Verdict::DoesNotRun,
            true if replay.peak_reserved <= clear => Verdict::Clear,
            true => Verdict::Tight,
        };
        self.known.insert(micro_batch, verdict);
        Ok(verdict)
    }
}
