//! The run that finds the largest micro-batch of a device: simulate, try, confirm.

use std::convert::Infallible;

use super::search::{Next, Search};
use super::{Attempt, Prober};
use crate::memory::allocator::{Capacity, GRANULE, Refusal, Segment, SegmentSource, replay};
use crate::memory::largest::largest_micro_batch as simulated_largest;
use crate::memory::trace::Trace;
use crate::units::{Bytes, MicroBatch};

/// How often the answer is confirmed anew when others take or give back memory meanwhile.
const MOST_CONFIRMATIONS: u32 = 3;

/// Under which terms to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Bytes to leave free at all times.
    pub kept_free: Bytes,
    /// What the device takes for a segment of 2 MiB; every segment takes a multiple of it.
    pub granule: Bytes,
    /// Nothing larger is tried.
    pub limit: MicroBatch,
}

/// One replay on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The micro-batch.
    pub micro_batch: MicroBatch,
    /// What came of it.
    pub attempt: Attempt,
}

/// What a search has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The largest micro-batch that runs, as do all smaller ones; `None`: not even one.
    pub largest: Option<MicroBatch>,
    /// What the simulation said before the device was asked.
    pub simulated: Option<MicroBatch>,
    /// Whether the search ended at [`Terms::limit`] and more might fit.
    pub at_limit: bool,
    /// Set when others took or gave back memory for so long that the answer never held still: the
    /// smallest and largest answers seen, 0 for none. `largest` is the smallest of them.
    pub contended: Option<(u64, u64)>,
    /// Free before the first replay, with the context in place.
    pub free_before: Bytes,
    /// Free after the last one.
    pub free_after: Bytes,
    /// Every replay, in order.
    pub tried: Vec<Tried>,
}

/// What is going on, for whoever watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The device is about to replay this micro-batch.
    Trying {
        /// The micro-batch.
        micro_batch: MicroBatch,
        /// Which replay it is, from 1.
        replay: usize,
    },
    /// It has: what is known should the next one break.
    Tried(Tried),
}

/// What makes the step of a micro-batch.
pub type Traces<'a, T> = dyn Fn(MicroBatch) -> Result<Trace, T> + 'a;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunError<P, T> {
    /// The device broke.
    Prober(P),
    /// A trace could not be made.
    Trace(T),
}

/// Finds the largest micro-batch whose step runs on the device, leaving `kept_free` bytes free.
///
/// `traces` makes the step of a micro-batch. The search starts at the answer of a simulation
/// against what is free, so two replays usually settle it: the answer runs, the next size does not.
/// Then free memory is read again: where less is free than the answer needed, or more than the
/// refusal saw, that side is tried again.
///
/// # Errors
///
/// When the device breaks, or a trace cannot be made. Out of memory is an answer.
pub fn largest_micro_batch<P: Prober, T>(
    prober: &mut P,
    terms: &Terms,
    traces: &Traces<T>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Found, RunError<P::Error, T>> {
    let free_before = prober.free().map_err(RunError::Prober)?;
    let capacity = free_before.saturating_sub(terms.kept_free);
    let simulated = simulate(capacity, terms, traces).map_err(RunError::Trace)?;
    let mut run = Run { prober, terms, traces, progress, tried: Vec::new() };
    let mut search = Search::new(simulated, terms.limit);
    let mut answers = Vec::new();
    let mut free_after;
    let contended = loop {
        let largest = run.settle(&mut search)?;
        free_after = run.prober.free().map_err(RunError::Prober)?;
        answers.push(largest.map_or(0, MicroBatch::get));
        let Some(doubtful) = run.doubtful(largest, free_after) else { break false };
        if answers.len() > MOST_CONFIRMATIONS as usize {
            break true;
        }
        let attempt = run.attempt(doubtful)?;
        search.record(doubtful, attempt.fits);
    };
    let last = answers.last().copied().unwrap_or(0);
    let smallest = answers.iter().copied().min().unwrap_or(0);
    let largest = answers.iter().copied().max().unwrap_or(0);
    let answer = if contended { smallest } else { last };
    Ok(Found {
        largest: MicroBatch::new(answer),
        simulated,
        at_limit: answer == terms.limit.get(),
        contended: contended.then_some((smallest, largest)),
        free_before,
        free_after,
        tried: run.tried,
    })
}

struct Run<'a, P, T> {
    prober: &'a mut P,
    terms: &'a Terms,
    traces: &'a Traces<'a, T>,
    progress: &'a mut dyn FnMut(Progress),
    tried: Vec<Tried>,
}

impl<P: Prober, T> Run<'_, P, T> {
    fn settle(&mut self, search: &mut Search) -> Result<Option<MicroBatch>, RunError<P::Error, T>> {
        loop {
            match search.next() {
                Next::Done(largest) => return Ok(largest),
                Next::Try(size) => {
                    let attempt = self.attempt(size)?;
                    search.record(size, attempt.fits);
                }
            }
        }
    }

    fn attempt(&mut self, micro_batch: MicroBatch) -> Result<Attempt, RunError<P::Error, T>> {
        (self.progress)(Progress::Trying { micro_batch, replay: self.tried.len() + 1 });
        let trace = (self.traces)(micro_batch).map_err(RunError::Trace)?;
        let attempt =
            self.prober.attempt(&trace, self.terms.kept_free).map_err(RunError::Prober)?;
        let tried = Tried { micro_batch, attempt: attempt.clone() };
        (self.progress)(Progress::Tried(tried.clone()));
        self.tried.push(tried);
        Ok(attempt)
    }

    /// Returns the size whose last answer does not hold for what is free now, if there is one.
    fn doubtful(&self, largest: Option<MicroBatch>, free: Bytes) -> Option<MicroBatch> {
        let last = |size: u64| self.tried.iter().rfind(|tried| tried.micro_batch.get() == size);
        let winner = largest.map_or(0, MicroBatch::get);
        if let Some(won) = last(winner).filter(|won| free < won.attempt.free_before) {
            return Some(won.micro_batch);
        }
        let lost = last(winner + 1)?;
        // One more try for a refusal that saw less at some moment; two in a row are believed.
        let twice = self.tried.iter().filter(|tried| *tried == lost).count() > 1;
        let more =
            free > lost.attempt.free_before || (free > lost.attempt.least_capacity && !twice);
        more.then_some(lost.micro_batch)
    }
}

/// Finds the answer on a simulated device; the search on the real one starts there.
fn simulate<T>(
    capacity: Bytes,
    terms: &Terms,
    traces: &Traces<T>,
) -> Result<Option<MicroBatch>, T> {
    let guess = simulated_largest(capacity, terms.limit, traces)?.micro_batch;
    if terms.granule <= GRANULE {
        return Ok(guess);
    }
    // Larger granules only take more: what remains is a short search downwards.
    let mut search = Search::new(guess, terms.limit);
    loop {
        match search.next() {
            Next::Done(largest) => return Ok(largest),
            Next::Try(size) => {
                let trace = traces(size)?;
                let device = Capacity::new(capacity);
                let mut device = Granular { device, granule: terms.granule };
                let Ok(replayed) = replay(&trace, &mut device);
                search.record(size, replayed.ran());
            }
        }
    }
}

/// A simulated device whose driver takes more than PyTorch's own 2 MiB at a time.
struct Granular {
    device: Capacity,
    granule: Bytes,
}

impl SegmentSource for Granular {
    type Error = Infallible;

    fn allocate(&mut self, bytes: Bytes) -> Result<Segment, Refusal<Infallible>> {
        self.device.allocate(bytes.round_up(self.granule))
    }

    fn release(&mut self, segment: Segment) -> Result<(), Infallible> {
        self.device.release(segment)
    }
}
