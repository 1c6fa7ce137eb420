//! The largest micro-batch that runs on a capacity: it and all smaller ones.
//!
//! Which sizes run is not monotonic, so below the end each one is looked at, until the rest is clear;
//! where that would be hundreds, the farther ones are looked at a few at a time ([`EVERY_ONE`]).
//!
//! A trace and its replay cost some milliseconds, so the search is thrifty: the first trace already
//! says roughly where the end is (`Growth`), and two failures in a row say how much more it would
//! have taken. (Two looks at once on two cores saved nothing: what a fresh thread touches is new
//! memory, and that is a third of the time.)

mod growth;

use std::borrow::Borrow;
use std::collections::BTreeMap;

use crate::memory::allocator::{Capacity, Replay};
use crate::memory::fit::replay_in;
use crate::memory::trace::Trace;
use crate::units::{Bytes, MicroBatch};
use growth::{Growth, growth};

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

/// As [`VERY_CLEAR_PERCENT`], where what is taken is read off the line from one sample to one that
/// ran: three times what fragmentation moves.
const CLEAR_BY_LINE_PERCENT: f64 = 12.0;

/// So many sizes below the largest are looked at one by one; what is farther below takes less by so
/// many samples that fragments hardly make up for it, and steps double with each `SAME_STEP` looks.
///
/// Below a largest micro-batch of 266 or less this is every one that is not clear of the capacity.
pub const EVERY_ONE: u64 = 32;

/// Looks between two doublings of the step.
const SAME_STEP: u64 = 8;

/// How many traces may say where to look next; after that steps double, and halve once the end is
/// enclosed, so that a bound that creeps cannot make the search long.
const TRUSTED_BOUNDS: usize = 4;

/// What the search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Largest {
    /// The largest micro-batch that runs, and all smaller ones do (those looked at, see
    /// [`EVERY_ONE`]); `None` if one sample does not.
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
pub fn largest_micro_batch<E, T: Borrow<Trace>>(
    capacity: Bytes,
    limit: MicroBatch,
    trace_of: impl Fn(MicroBatch) -> Result<T, E>,
) -> Result<Largest, E> {
    largest_on(&Capacity::new(capacity), limit, trace_of)
}

/// As [`largest_micro_batch`], of those that run with the headroom taken as well as left free: what runs
/// is not monotonic in the capacity.
///
/// # Errors
///
/// The first error of `trace_of`.
pub fn largest_beside_headroom<E, T: Borrow<Trace>>(
    capacity: Bytes,
    headroom: Bytes,
    limit: MicroBatch,
    trace_of: impl Fn(MicroBatch) -> Result<T, E>,
) -> Result<Largest, E> {
    search(&Capacity::new(capacity), headroom, limit, trace_of)
}

/// As [`largest_micro_batch`], on a device like this one.
///
/// # Errors
///
/// The first error of `trace_of`.
pub fn largest_on<E, T: Borrow<Trace>>(
    device: &Capacity,
    limit: MicroBatch,
    trace_of: impl Fn(MicroBatch) -> Result<T, E>,
) -> Result<Largest, E> {
    search(device, Bytes::ZERO, limit, trace_of)
}

/// Whether a step runs on `capacity`, and with the headroom taken as well.
pub fn runs_beside_headroom(trace: &Trace, capacity: Bytes, headroom: Bytes) -> bool {
    replay_beside(trace, &mut Capacity::new(capacity), headroom).1
}

/// Replays a trace on a device; also says whether it runs with the headroom taken as well.
fn replay_beside(trace: &Trace, device: &mut Capacity, headroom: Bytes) -> (Replay, bool) {
    let replay = replay_in(trace, device);
    // What was refused nothing runs the same where there is more.
    let alike = headroom == Bytes::ZERO || device.smallest_refused().is_none();
    let whole = || replay_in(trace, &mut device.anew(device.capacity() + headroom)).ran();
    (replay, replay.ran() && (alike || whole()))
}

fn search<E, T: Borrow<Trace>>(
    device: &Capacity,
    headroom: Bytes,
    limit: MicroBatch,
    trace_of: impl Fn(MicroBatch) -> Result<T, E>,
) -> Result<Largest, E> {
    let mut search = Search { device, headroom, trace_of, known: BTreeMap::new() };
    let largest = search.largest(limit.get())?;
    Ok(Largest { micro_batch: MicroBatch::new(largest), traces: search.known.len() })
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
    /// What it took at most, up to where it ran out of memory if it did, and what a size near it could
    /// take for the same segments.
    taken: Bytes,
    /// What its trace says of other micro-batches.
    growth: Growth,
}

/// How far below the last one the next is that is looked at.
fn step_after(looks: u64) -> u64 {
    let doublings = looks.saturating_sub(EVERY_ONE).div_ceil(SAME_STEP);
    1 << doublings.min(u64::from(u64::BITS) - 1)
}

struct Search<'a, F> {
    device: &'a Capacity,
    headroom: Bytes,
    trace_of: F,
    known: BTreeMap<u64, Known>,
}

impl<E, T: Borrow<Trace>, F: Fn(MicroBatch) -> Result<T, E>> Search<'_, F> {
    fn largest(&mut self, limit: u64) -> Result<u64, E> {
        let one = growth(self.trace(1)?.borrow(), 1, self.device.capacity());
        let found = self.close_in(limit, one.bound)?;
        self.walk_down(found, one)
    }

    /// Returns a micro-batch that runs while the next one does not, or `limit`; 0 if none does.
    fn close_in(&mut self, limit: u64, bound: u64) -> Result<u64, E> {
        let (mut runs, mut fails) = (0, limit.saturating_add(1));
        let mut next = bound;
        let mut step = 1;
        while fails - runs > 1 {
            next = next.clamp(runs + 1, fails - 1);
            let known = self.look(next)?;
            let ran = known.verdict != Verdict::DoesNotRun;
            *(if ran { &mut runs } else { &mut fails }) = next;
            let enclosed = runs > 0 && fails <= limit;
            let trusted = self.known.len() <= TRUSTED_BOUNDS && fails - runs > 1;
            let guess = match trusted {
                true if ran => known.growth.bound,
                // Bounds are mostly a little high.
                true if self.known.len() == 1 => next - 1,
                true => self.by_reserved(next, known.growth)?,
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

    /// Returns a micro-batch that is about the largest that reserves no more than the capacity,
    /// judged by one that did not run.
    fn by_reserved(&self, failed: u64, growth: Growth) -> Result<u64, E> {
        let mut endless = self.device.anew(Capacity::UNLIMITED);
        replay_in(self.trace(failed)?.borrow(), &mut endless);
        let over = endless.largest_granted().saturating_sub(self.device.capacity()).get();
        Ok(failed.saturating_sub((over / growth.per_sample.get().max(1)).max(1)))
    }

    /// Looks below for one that does not run, until all the rest is clear.
    fn walk_down(&mut self, found: u64, one: Growth) -> Result<u64, E> {
        let (mut largest, mut clear, mut next) = (found, 0, found);
        let mut looks = 0;
        while next > 0 && clear < CLEAR_RUNS {
            if !self.known.contains_key(&next) && self.is_clear_by_line(one, found, next) {
                break;
            }
            looks += 1;
            match self.look(next)?.verdict {
                Verdict::VeryClear => break,
                Verdict::Clear => clear += 1,
                Verdict::Tight => clear = 0,
                Verdict::DoesNotRun => {
                    (clear, looks) = (0, 0);
                    largest = next - 1;
                }
            }
            next = next.saturating_sub(step_after(looks));
        }
        Ok(largest)
    }

    /// Whether a micro-batch is clear of the capacity by what `found` reserved, less what the tensors
    /// of smaller ones need less, by the line from one sample to `found`.
    ///
    /// Peaks bend upwards only, so that just below `found` the line says too little.
    fn is_clear_by_line(&self, one: Growth, found: u64, size: u64) -> bool {
        let Some(known) = self.known.get(&found) else { return false };
        let slope = known.growth.peak.saturating_sub(one.peak).get() / (found - 1).max(1);
        let less = Bytes::new(slope.saturating_mul(found - size));
        let capacity = self.device.capacity();
        let clear = capacity - capacity.percent(CLEAR_BY_LINE_PERCENT);
        known.taken.saturating_sub(less) <= clear
    }

    /// Returns what is known of a micro-batch, looked at where it is new.
    fn look(&mut self, micro_batch: u64) -> Result<Known, E> {
        if let Some(&known) = self.known.get(&micro_batch) {
            return Ok(known);
        }
        let known = self.examine(micro_batch)?;
        self.known.insert(micro_batch, known);
        Ok(known)
    }

    fn examine(&self, micro_batch: u64) -> Result<Known, E> {
        let trace = self.trace(micro_batch)?;
        let capacity = self.device.capacity();
        let growth = growth(trace.borrow(), micro_batch, capacity);
        let mut device = self.device.anew(capacity);
        let (replay, runs) = replay_beside(trace.borrow(), &mut device, self.headroom);
        let granted = device.largest_granted();
        // A driver with larger granules takes up to so much more for another size.
        let beyond = self.device.beyond_2_mib().checked_mul(replay.segments_granted);
        let taken = granted + beyond.unwrap_or(Capacity::UNLIMITED);
        Ok(Known { verdict: self.verdict(runs, taken), taken, growth })
    }

    fn trace(&self, micro_batch: u64) -> Result<T, E> {
        (self.trace_of)(MicroBatch::new(micro_batch).unwrap_or(MicroBatch::ONE))
    }

    fn verdict(&self, ran: bool, taken: Bytes) -> Verdict {
        let capacity = self.device.capacity();
        let below = |percent| capacity - capacity.percent(percent);
        match taken {
            _ if !ran => Verdict::DoesNotRun,
            taken if taken <= below(VERY_CLEAR_PERCENT) => Verdict::VeryClear,
            taken if taken <= below(CLEAR_PERCENT) => Verdict::Clear,
            _ => Verdict::Tight,
        }
    }
}
