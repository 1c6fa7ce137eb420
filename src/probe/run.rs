//! The run that finds the largest micro-batch of a device: simulate, try, confirm.

use super::search::{Next, Search};
use super::{Attempt, Prober, Room};
use crate::memory::allocator::Capacity;
use crate::memory::largest::largest_on;
use crate::memory::trace::Trace;
use crate::units::{Bytes, MicroBatch};

/// Replays after which a search gives up to find memory at rest, where others move: two for each of
/// three states of it.
const MOST_REPLAYS: usize = 6;

/// Under which terms to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How much of the device may be taken.
    pub room: Room,
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
    /// Set when others took or gave back memory for so long that no answer held: from the smallest
    /// to the largest that was right at some moment, 0 for none. `largest` is the smallest.
    pub contended: Option<(u64, u64)>,
    /// Free before the first replay, with the context in place.
    pub free_before: Bytes,
    /// Free after the last one.
    pub free_after: Bytes,
    /// Every replay, in order.
    pub tried: Vec<Tried>,
}

impl Found {
    /// Whether the answer, or a larger one, ran on the device: where others move for too long it may be
    /// the simulation's alone.
    pub fn is_confirmed(&self) -> bool {
        self.largest.is_none_or(|largest| {
            self.tried.iter().any(|tried| tried.attempt.fits && tried.micro_batch >= largest)
        })
    }
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

/// Finds the largest micro-batch whose step runs on the device, in the room there is.
///
/// `traces` makes the step of a micro-batch. The search starts at the answer of a simulation
/// against what is free, so two replays usually settle it: the answer runs, the next size does not.
/// Free memory is read after each replay. Where others have moved, the simulation is asked again,
/// and of the replays those count that would have gone the same way in what is free now.
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
    let simulated = simulate(free_before, terms, traces).map_err(RunError::Trace)?;
    let mut run = Run {
        prober,
        terms,
        traces,
        progress,
        tried: Vec::new(),
        free: free_before,
        guess: simulated,
        guesses: vec![simulated],
    };
    let (answer, contended) = loop {
        match run.next() {
            Next::Done(largest) => break (largest.map_or(0, MicroBatch::get), None),
            Next::Try(_) if run.others_move() && run.tried.len() >= MOST_REPLAYS => {
                let range = run.range();
                break (range.0, Some(range));
            }
            Next::Try(size) => run.attempt(size)?,
        }
    };
    Ok(Found {
        largest: MicroBatch::new(answer),
        simulated,
        at_limit: answer == terms.limit.get(),
        contended,
        free_before,
        free_after: run.free,
        tried: run.tried,
    })
}

struct Run<'a, P, T> {
    prober: &'a mut P,
    terms: &'a Terms,
    traces: &'a Traces<'a, T>,
    progress: &'a mut dyn FnMut(Progress),
    tried: Vec<Tried>,
    /// What is free now.
    free: Bytes,
    /// What the simulation says of that.
    guess: Option<MicroBatch>,
    /// What it said of each reading that differed from the one before.
    guesses: Vec<Option<MicroBatch>>,
}

impl<P: Prober, T> Run<'_, P, T> {
    /// Says what to try, by the replays that hold for what is free now.
    fn next(&self) -> Next {
        let holding = || self.tried.iter().filter(|tried| self.holds(tried));
        let mut search = Search::new(self.guess, self.terms.limit);
        let refused = holding().filter(|tried| !tried.attempt.fits).map(|tried| tried.micro_batch);
        let refused = refused.min();
        if let Some(refused) = refused {
            search.record(refused, false);
        }
        for tried in holding().filter(|tried| tried.attempt.fits) {
            if refused.is_none_or(|refused| tried.micro_batch < refused) {
                search.record(tried.micro_batch, true);
            }
        }
        search.next()
    }

    /// Whether a replay would go the same way now.
    ///
    /// A device that takes more than its granules say, or refuses what there is room for, cannot be
    /// told from others that move: what it says twice is believed.
    fn holds(&self, tried: &Tried) -> bool {
        let same = |other: &&Tried| {
            (other.micro_batch, other.attempt.fits) == (tried.micro_batch, tried.attempt.fits)
                && other.attempt.free_before == self.free
        };
        let capacity = self.terms.room.of(self.free);
        tried.attempt.same_on.contains(capacity) || self.tried.iter().filter(same).count() > 1
    }

    fn attempt(&mut self, micro_batch: MicroBatch) -> Result<(), RunError<P::Error, T>> {
        (self.progress)(Progress::Trying { micro_batch, replay: self.tried.len() + 1 });
        let trace = (self.traces)(micro_batch).map_err(RunError::Trace)?;
        let attempt = self.prober.attempt(&trace, self.terms.room).map_err(RunError::Prober)?;
        let tried = Tried { micro_batch, attempt };
        (self.progress)(Progress::Tried(tried.clone()));
        self.tried.push(tried);
        let free = self.prober.free().map_err(RunError::Prober)?;
        if free != self.free {
            self.free = free;
            self.guess = simulate(free, self.terms, self.traces).map_err(RunError::Trace)?;
            self.guesses.push(self.guess);
        }
        Ok(())
    }

    /// Whether free memory was not the same at all times.
    fn others_move(&self) -> bool {
        self.guesses.len() > 1
    }

    /// Returns the smallest and the largest answer that was right at some moment.
    fn range(&self) -> (u64, u64) {
        let guesses = self.guesses.iter().map(|guess| guess.map_or(0, MicroBatch::get));
        let tried = self.tried.iter().map(|tried| {
            let size = tried.micro_batch.get();
            if tried.attempt.fits { size } else { size - 1 }
        });
        let answers = || guesses.clone().chain(tried.clone());
        (answers().min().unwrap_or(0), answers().max().unwrap_or(0))
    }
}

/// Finds the answer on a simulated device; the search on the real one starts there.
fn simulate<T>(free: Bytes, terms: &Terms, traces: &Traces<T>) -> Result<Option<MicroBatch>, T> {
    let device = Capacity::in_granules(terms.room.of(free), terms.granule);
    Ok(largest_on(&device, terms.limit, traces)?.micro_batch)
}
