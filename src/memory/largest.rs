//! The largest micro-batch that runs on a capacity: it and all smaller ones.
//!
//! A trace and its replay cost some milliseconds, so the search is thrifty: the first trace already
//! says roughly where the end is (`most_that_could_fit`), a failure says how much more it would
//! have taken, and two neighbours are looked at at once where there are two cores.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use crate::memory::allocator::{Capacity, Replay, round_request};
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

/// As [`CLEAR_PERCENT`], where one is enough: more than twice what fragmentation moves.
const VERY_CLEAR_PERCENT: f64 = 10.0;

/// How many traces may say where to look next; after that steps double, and halve once the end is
/// enclosed, so that a bound that creeps cannot make the search long.
const TRUSTED_BOUNDS: usize = 4;

/// What the search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Largest {
    /// The largest micro-batch that runs, and all smaller ones do; `None` if one sample does not.
    pub micro_batch: Option<MicroBatch>,
    /// Traces made.
    pub traces: usize,
}

/// Finds the largest micro-batch, `limit` at most, that runs on `capacity`, it and all smaller
/// ones.
///
/// # Errors
///
/// The first error of `trace_of`.
pub fn largest_micro_batch<E: Send, T: Borrow<Trace>>(
    capacity: Bytes,
    limit: MicroBatch,
    trace_of: impl Fn(MicroBatch) -> Result<T, E> + Sync,
) -> Result<Largest, E> {
    let mut search = Search { capacity, trace_of, known: BTreeMap::new() };
    let largest = search.largest(limit.get())?;
    Ok(Largest { micro_batch: MicroBatch::new(largest), traces: search.known.len() })
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
    /// It took so much less than the capacity that all smaller ones run, see
    /// [`VERY_CLEAR_PERCENT`].
    VeryClear,
    /// It took clearly less than the capacity, see [`CLEAR_PERCENT`].
    Clear,
    /// It ran.
    Tight,
    /// Out of memory.
    DoesNotRun,
}

/// What the trace of one micro-batch says.
#[derive(Debug, Clone, Copy)]
struct Known {
    verdict: Verdict,
    /// What it took, up to where it ran out of memory if it did.
    peak_reserved: Bytes,
    /// Where its trace says that the end is.
    bound: u64,
}

struct Search<F> {
    capacity: Bytes,
    trace_of: F,
    known: BTreeMap<u64, Known>,
}

impl<E: Send, T: Borrow<Trace>, F: Fn(MicroBatch) -> Result<T, E> + Sync> Search<F> {
    fn largest(&mut self, limit: u64) -> Result<u64, E> {
        let one = self.look(1, None)?;
        if one.verdict == Verdict::DoesNotRun {
            return Ok(0);
        }
        let found = self.close_in(limit, one.bound)?;
        self.walk_down(found)
    }

    /// Returns a micro-batch that runs while the next one does not, or `limit`.
    fn close_in(&mut self, limit: u64, bound: u64) -> Result<u64, E> {
        let (mut runs, mut fails) = (1, limit.saturating_add(1));
        let mut next = bound;
        let mut step = 1;
        while fails - runs > 1 {
            next = next.clamp(runs + 1, fails - 1);
            // Bounds are mostly a little high, so the one below is wanted next.
            let beside = Some(next - 1).filter(|&beside| beside > runs && next < limit);
            let known = self.look(next, beside)?;
            let ran = known.verdict != Verdict::DoesNotRun;
            *(if ran { &mut runs } else { &mut fails }) = next;
            let enclosed = runs > 1 && fails <= limit;
            let trusted = self.known.len() <= TRUSTED_BOUNDS && fails - runs > 1;
            let guess = match trusted {
                true if ran => known.bound,
                true => self.by_reserved(runs, next)?,
                false => 0,
            };
            if runs < guess && guess < fails {
                next = guess;
            } else if enclosed {
                next = runs + (fails - runs) / 2;
            } else {
                next = if ran { runs.saturating_add(step) } else { fails.saturating_sub(step) };
                step = step.saturating_mul(2);
            }
        }
        Ok(runs)
    }

    /// Returns where the line through what two micro-batches reserve meets the capacity, one more:
    /// cached segments are given back before memory runs out, so that a little more runs.
    fn by_reserved(&self, runs: u64, fails: u64) -> Result<u64, E> {
        let low = self.known.get(&runs).map_or(0, |known| known.peak_reserved.get());
        let trace = (self.trace_of)(MicroBatch::new(fails).unwrap_or(MicroBatch::ONE))?;
        let high = replay_on(trace.borrow(), Capacity::UNLIMITED).peak_reserved.get();
        let left = u128::from(self.capacity.get().saturating_sub(low));
        let slope = u128::from(high.saturating_sub(low)).max(1);
        Ok(runs + (left * u128::from(fails - runs) / slope) as u64 + 1)
    }

    /// Looks below for one that does not run, until all the rest is clear.
    fn walk_down(&mut self, found: u64) -> Result<u64, E> {
        let (mut largest, mut clear, mut next) = (found, 0, found);
        while next > 0 && clear < CLEAR_RUNS {
            let known = self.known.get(&next).copied();
            let known = match known {
                Some(known) => known,
                None => self.look(next, Some(next - 1).filter(|&below| below > 0))?,
            };
            match known.verdict {
                Verdict::VeryClear => break,
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

    /// Returns what is known of a micro-batch; where that takes a trace, and a second core has
    /// nothing to do, it looks at the one that may be wanted next.
    fn look(&mut self, micro_batch: u64, beside: Option<u64>) -> Result<Known, E> {
        if let Some(&known) = self.known.get(&micro_batch) {
            return Ok(known);
        }
        let two_cores = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        let beside = beside.filter(|size| two_cores && !self.known.contains_key(size));
        let (known, other) = std::thread::scope(|scope| {
            let this = &*self;
            let other = beside.map(|size| (size, scope.spawn(move || this.examine(size))));
            (this.examine(micro_batch), other.map(|(size, thread)| (size, thread.join())))
        });
        // What nobody asked for yet may fail in peace: it is asked again when it is wanted.
        if let Some((size, Ok(Ok(other)))) = other {
            self.known.insert(size, other);
        }
        let known = known?;
        self.known.insert(micro_batch, known);
        Ok(known)
    }

    fn examine(&self, micro_batch: u64) -> Result<Known, E> {
        let count = MicroBatch::new(micro_batch).unwrap_or(MicroBatch::ONE);
        let trace = (self.trace_of)(count)?;
        let trace = trace.borrow();
        let bound = most_that_could_fit(trace, micro_batch, self.capacity);
        let replay = replay_on(trace, self.capacity);
        Ok(Known { verdict: self.verdict(&replay), peak_reserved: replay.peak_reserved, bound })
    }

    fn verdict(&self, replay: &Replay) -> Verdict {
        let below = |percent| self.capacity - self.capacity.percent(percent);
        match replay.peak_reserved {
            _ if !replay.ran() => Verdict::DoesNotRun,
            taken if taken <= below(VERY_CLEAR_PERCENT) => Verdict::VeryClear,
            taken if taken <= below(CLEAR_PERCENT) => Verdict::Clear,
            _ => Verdict::Tight,
        }
    }
}
