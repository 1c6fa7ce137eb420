//! Which capacities a step runs on.
//!
//! Whether a step runs is not monotonic in the capacity: what was given back on the way decides
//! which blocks are there later. Llama-3.1-8B in bf16 runs on 79,324 to 79,328 MiB, not on 79,330
//! to 79,340, and from 79,342 on always (tests/data/allocator/llama-8b-bf16.trace).

use std::convert::Infallible;

use crate::memory::allocator::replay::Run;
use crate::memory::allocator::{Capacity, GRANULE, Outcome, Replay, replay};
use crate::memory::trace::{BlockId, Trace};
use crate::units::Bytes;

/// How many copies of itself a replay leaves on its way, for later ones to start from.
///
/// A copy costs about 2% of a replay, and each start from one saves all that lies before it.
const COPIES: usize = 8;

/// So many events are replayed, about, to look at intervals of capacities (see `scan_down`) one by one
/// below the largest, and as many again from the least one up: 8 to [`MOST_ONE_BY_ONE`] intervals. Where
/// there are more, as with a hundred layers or hundreds of experts of one, the rest is taken to run. So the
/// least capacity costs at most about ten times a trace with its replay (`cargo bench --bench plan`).
///
/// What does not run though less does lies mostly near the least (in the oracle's Llama-3.1-8B within 10
/// MiB, five intervals); 17 recorded traces have 55 intervals in all at most.
const EVENTS_ONE_BY_ONE: usize = 1 << 20;

/// See [`EVENTS_ONE_BY_ONE`].
const MOST_ONE_BY_ONE: usize = 64;

fn one_by_one(trace: &Trace) -> usize {
    (EVENTS_ONE_BY_ONE / trace.events.len().max(1)).clamp(8, MOST_ONE_BY_ONE)
}

/// So many intervals above a capacity are looked at by a search.
///
/// Of 34 steps of Llama-3.1-8B near a card's end, going up took 40 to 300 intervals in 12, of which 4
/// ended at one that fails.
const NEAR: usize = 4;

/// A step that no device can run: it asks for more than [`Capacity::UNLIMITED`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the step needs more memory than any device has: it asks for {requested} more at once")]
pub struct BeyondAnyDevice {
    /// The segment asked for in vain.
    pub requested: Bytes,
}

impl BeyondAnyDevice {
    /// Fails where a replay on an endless device ran out of memory.
    pub(crate) fn unless_ran(replayed: Result<Outcome, Infallible>) -> Result<(), BeyondAnyDevice> {
        match never_fails(replayed) {
            Outcome::Ran => Ok(()),
            Outcome::OutOfMemory { requested, .. } => Err(BeyondAnyDevice { requested }),
        }
    }
}

/// Replays a trace on a simulated device of `capacity` bytes.
pub fn replay_on(trace: &Trace, capacity: Bytes) -> Replay {
    replay_in(trace, &mut Capacity::new(capacity))
}

/// Replays a trace on a simulated device, which then knows what it granted and refused.
pub fn replay_in(trace: &Trace, device: &mut Capacity) -> Replay {
    never_fails(replay(trace, device))
}

/// Whether a step runs on a device on which the caching allocator may take `capacity` bytes.
pub fn runs(trace: &Trace, capacity: Bytes) -> bool {
    replay_on(trace, capacity).ran()
}

/// Returns the smallest capacity from which on every 2 MiB step runs; exact but for very many layers
/// or small segments (`EVENTS_ONE_BY_ONE`).
///
/// # Errors
///
/// [`BeyondAnyDevice`]
pub fn min_capacity(trace: &Trace) -> Result<Bytes, BeyondAnyDevice> {
    scan_down(trace, |_, _| {}).map(|(_, min_capacity)| min_capacity)
}

/// What a step needs, seen from a capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It runs, also where there is more, and takes so much of the capacity.
    Takes(Bytes),
    /// It does not run: so much alone is live at once (`peak_allocated`), more than is there.
    AtLeast(Bytes),
    /// It does not run, though what is live at once would fit: from so much on it always does.
    From(Bytes),
}

/// Returns what a step needs where `capacity` is there: one replay where it runs clearly, two where far
/// from it, those of [`min_capacity`] in between only.
///
/// # Errors
///
/// [`BeyondAnyDevice`]
pub fn need_on(trace: &Trace, capacity: Bytes) -> Result<Need, BeyondAnyDevice> {
    let again = match taken_looking(trace, capacity, one_by_one(trace)) {
        Ok(taken) => return Ok(Need::Takes(taken.bytes)),
        Err(again) => again,
    };
    let endless = replay_on(trace, Capacity::UNLIMITED);
    match endless.outcome {
        Outcome::OutOfMemory { requested, .. } => Err(BeyondAnyDevice { requested }),
        Outcome::Ran if endless.peak_allocated > capacity => {
            Ok(Need::AtLeast(endless.peak_allocated))
        }
        // Intervals that only one of the two looks at may fail.
        Outcome::Ran => min_capacity(trace).map(|least| Need::From(least.max(again))),
    }
}

/// Returns what a step takes of `capacity` where it runs on it and on every 2 MiB step above (but for
/// very many layers or small segments, `EVENTS_ONE_BY_ONE`); in one replay where that is refused nothing, or runs out.
///
/// Goes up from the capacity, interval by interval as `scan_down` goes down: where a larger one fails,
/// it is mostly not far.
pub fn taken_of(trace: &Trace, capacity: Bytes) -> Option<Bytes> {
    taken_looking(trace, capacity, one_by_one(trace)).ok().map(|taken| taken.bytes)
}

/// What a step takes of a capacity that it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// `torch.cuda.max_memory_reserved()`.
    pub bytes: Bytes,
    /// Whether it runs on all larger capacities, as was looked at; else on those near.
    pub sure: bool,
}

/// As [`taken_of`], but looks at `NEAR` intervals above the capacity only: for a search, whose finds
/// are then looked at in full.
pub fn taken_near(trace: &Trace, capacity: Bytes) -> Option<Taken> {
    taken_looking(trace, capacity, NEAR).ok()
}

/// Fails with a capacity below which some, from the one asked for on, do not run.
fn taken_looking(trace: &Trace, capacity: Bytes, intervals: usize) -> Result<Taken, Bytes> {
    // Most are refused nothing, or fail: only what lies above is worth copies on the way.
    let mut device = Capacity::new(capacity);
    let here = replay_in(trace, &mut device);
    if !here.ran() {
        return Err(capacity + GRANULE);
    }
    let (mut above, mut copies) = (device.smallest_refused(), Vec::new());
    for _ in 0..intervals {
        let Some(next) = above else { break };
        match look(trace, next, &mut copies) {
            Looked::Ran { below, .. } => above = below,
            Looked::Failed { below } => return Err(below),
        }
    }
    Ok(Taken { bytes: here.peak_reserved, sure: above.is_none() })
}

/// Returns the replay on an endless device, and the smallest capacity from which on all run; tells
/// `taken` what each allocation takes on the endless device.
///
/// From `peak_reserved` (of an endless device) on nothing is ever refused, so everything runs.
/// Below it one replay answers for a whole interval of capacities, those that would have granted
/// and refused the same; so the scan goes down interval by interval, to the first that does not
/// run: 2 to 12 replays in 16 of 17 recorded traces, 55 in one. Each is the same as the one before
/// up to the first grant that is now refused, and starts from a copy made before that. Together
/// they take as long as 1.1 to 9 whole replays (`cargo bench --bench allocator`).
pub(crate) fn scan_down(
    trace: &Trace,
    taken: impl FnMut(BlockId, Bytes),
) -> Result<(Replay, Bytes), BeyondAnyDevice> {
    let mut copies = Vec::new();
    let mut run = Run::new(trace, Capacity::unlimited());
    match drive(&mut run, &mut copies, taken) {
        Outcome::Ran => {
            let least = least(trace, run.source().largest_granted(), copies);
            Ok((run.result(Outcome::Ran), least))
        }
        Outcome::OutOfMemory { requested, .. } => Err(BeyondAnyDevice { requested }),
    }
}

/// Goes down from a capacity from which on all run, to the last that does.
fn least<'t>(trace: &'t Trace, all_run: Bytes, mut copies: Vec<Run<'t, Capacity>>) -> Bytes {
    let mut near = all_run;
    for _ in 0..one_by_one(trace) {
        match look(trace, near.saturating_sub(GRANULE), &mut copies) {
            Looked::Ran { from, .. } if from > Bytes::ZERO => near = from,
            Looked::Ran { from, .. } => return from,
            Looked::Failed { .. } => return near,
        }
    }
    let mut next = far_below(trace, near, all_run - near, &mut copies);
    let (mut least, mut in_a_row) = (next, 0);
    while next < near && in_a_row < one_by_one(trace) {
        match look(trace, next, &mut copies) {
            Looked::Ran { below: None, .. } => break,
            Looked::Ran { below: Some(above), .. } => (next, in_a_row) = (above, in_a_row + 1),
            Looked::Failed { below } => (least, next, in_a_row) = (below, below, 0),
        }
    }
    least
}

/// Returns a capacity that runs while the one a granule smaller does not, going down from one that runs
/// by steps that double, from `first_step` on, until one fails.
fn far_below<'t>(
    trace: &'t Trace,
    near: Bytes,
    first_step: Bytes,
    copies: &mut Vec<Run<'t, Capacity>>,
) -> Bytes {
    let granules = |bytes: Bytes| bytes.get().div_ceil(GRANULE.get());
    let capacity = |granules: u64| Bytes::new(granules * GRANULE.get());
    let (mut fails, mut runs, mut step) = (0, granules(near), granules(first_step));
    while runs - fails > 1 {
        let by = if fails == 0 { step } else { (runs - fails) / 2 };
        step = step.saturating_mul(2);
        let next = runs.saturating_sub(by).max(fails + 1);
        match look(trace, capacity(next), copies) {
            Looked::Ran { from, .. } => runs = granules(from).max(fails + 1),
            Looked::Failed { below } => fails = granules(below).min(runs) - 1,
        }
    }
    capacity(runs)
}

/// What one replay says of a whole interval of capacities.
enum Looked {
    /// It runs on those from `from` on, and below `below` where something was refused on the way.
    Ran { from: Bytes, below: Option<Bytes> },
    /// It does not run on those from the one looked at to below `below`.
    Failed { below: Bytes },
}

fn look<'t>(trace: &'t Trace, capacity: Bytes, copies: &mut Vec<Run<'t, Capacity>>) -> Looked {
    let mut run = resumed(trace, capacity, copies);
    let outcome = drive(&mut run, copies, |_, _| {});
    let (from, below) = (run.source().largest_granted(), run.source().smallest_refused());
    match outcome {
        Outcome::Ran => Looked::Ran { from, below },
        Outcome::OutOfMemory { .. } => {
            Looked::Failed { below: below.unwrap_or(capacity + GRANULE) }
        }
    }
}

/// Drives a replay to its end, leaving copies on the way.
fn drive<'t>(
    run: &mut Run<'t, Capacity>,
    copies: &mut Vec<Run<'t, Capacity>>,
    mut taken: impl FnMut(BlockId, Bytes),
) -> Outcome {
    let events = run.trace().events.len();
    let stride = events.div_ceil(COPIES);
    loop {
        let stop = run.events_done() + stride;
        let outcome = never_fails(run.advance(stop, &mut taken));
        if outcome != Outcome::Ran || run.events_done() == events {
            return outcome;
        }
        copies.push(run.clone());
    }
}

/// Returns the latest copy that is the same on `capacity`, or a start; forgets the copies after it.
fn resumed<'t>(
    trace: &'t Trace,
    capacity: Bytes,
    copies: &mut Vec<Run<'t, Capacity>>,
) -> Run<'t, Capacity> {
    let same = |copy: &Run<Capacity>| {
        let (granted, refused) =
            (copy.source().largest_granted(), copy.source().smallest_refused());
        granted <= capacity && refused.is_none_or(|refused| refused > capacity)
    };
    while copies.last().is_some_and(|copy| !same(copy)) {
        copies.pop();
    }
    let mut run = copies.last().cloned().unwrap_or_else(|| Run::new(trace, Capacity::unlimited()));
    run.source_mut().change_to(capacity);
    run
}

fn never_fails<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::trace::{Block, Category, Event, Phase};

    /// Blocks of so many MiB, named by their order, that come (+) and go (-).
    fn trace(sizes: &[u64], events: &[i32]) -> Trace {
        let block = |&mib: &u64| Block {
            bytes: Bytes::mib(mib),
            category: Category::Activations,
            phase: Phase::Forward,
            module: 0,
        };
        let event = |&event: &i32| match event {
            born if born > 0 => Event::Alloc(BlockId(born as u32 - 1)),
            gone => Event::Free(BlockId((-gone) as u32 - 1)),
        };
        Trace {
            blocks: sizes.iter().map(block).collect(),
            events: events.iter().map(event).collect(),
            ..Trace::default()
        }
    }

    /// By its definition: every step of 2 MiB from the capacity on.
    fn runs_from(trace: &Trace, capacity: Bytes) -> bool {
        let most = replay_on(trace, Capacity::UNLIMITED).peak_reserved;
        let steps = (0..).map(|n| capacity + Bytes::mib(2 * n));
        steps.take_while(|step| *step <= most + GRANULE).all(|step| runs(trace, step))
    }

    /// Of growing segments that none can be used again, each capacity gives back others.
    #[test]
    fn the_least_capacity_is_found_below_more_intervals_than_are_looked_at() {
        let sizes: Vec<u64> = (0..100).map(|n| 12 + 2 * n).collect();
        let events: Vec<i32> = (1..=100).flat_map(|n| [n, -n]).collect();
        let trace = trace(&sizes, &events);
        let intervals = std::iter::successors(Some(Bytes::gib(1)), |below| {
            let mut device = Capacity::new(*below - GRANULE);
            replay_in(&trace, &mut device).ran().then(|| device.largest_granted())
        });
        assert!(intervals.count() > MOST_ONE_BY_ONE);
        let steps = (1..2000).map(|n| Bytes::mib(2 * n));
        assert_eq!(
            min_capacity(&trace).ok(),
            steps.into_iter().find(|least| runs_from(&trace, *least))
        );
    }

    #[test]
    fn what_is_taken_is_known_exactly_where_every_larger_capacity_runs() {
        let traces = [
            trace(&[40, 30, 60, 20], &[1, 2, -1, 3, 4, -2, -3, -4]),
            trace(&[24, 24, 24, 50, 30, 70], &[1, 2, 3, -1, -3, 4, -2, 5, -4, 6, -5, -6]),
            trace(&[100, 64, 30, 28, 90], &[1, -1, 2, 3, 4, -2, -3, 5]),
        ];
        for trace in traces {
            let least = min_capacity(&trace).expect("small");
            for mib in (2..260).step_by(2) {
                let capacity = Bytes::mib(mib);
                let taken = taken_of(&trace, capacity);
                assert_eq!(taken.is_some(), runs_from(&trace, capacity), "{mib}");
                assert_eq!(taken.is_some(), capacity >= least, "{mib}");
                assert!(taken.is_none_or(|taken| taken <= capacity), "{mib}");
            }
        }
    }
}
