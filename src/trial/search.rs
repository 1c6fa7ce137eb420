//! Which micro-batch a trial runs next: a pure state machine over the peaks of runs.
//!
//! Memory is close to a line in the micro-batch, and a run tells its peak, not only whether it
//! ran. So two runs give a line, the line gives the answer, and two more confirm it: the answer
//! ran, and one more did not. Where the line is wrong, the search bisects between what is known.
//!
//! Peaks that were sampled lie near a line, not on it: the search then aims a little low, and where
//! the line alone is clear about one sample more, that is not run. Without peaks it doubles, then
//! bisects.

use crate::trial::line::{Line, fit};
use crate::units::{Bytes, MicroBatch};

/// The second size of a search with sampled peaks: far enough from 1 that a sampling error turns
/// the line little, and low enough that three more runs settle it where it does not fit.
const LEAP: u64 = 5;
/// How far off a sampled peak is taken to be. This and the next two are what served best on the
/// laws of the tests below: a sampled search that goes wrong costs a run, not the answer.
const NOISE: f64 = (16 << 20) as f64;
/// The part of a leap beyond all known sizes that is held back, as memory may bend upwards.
const BEND: f64 = 0.01;
/// How far above the capacity the line must be to speak for a run: granules of the device, and a
/// part of a sample.
const CLEAR: (f64, f64) = ((8 << 20) as f64, 0.08);

/// How well the peak of a run is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peaks {
    /// Every allocation was written down.
    Exact,
    /// Looked at many times a second.
    Sampled,
    /// Not at all: verdicts alone.
    Unknown,
}

/// What a run of one size came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// The size.
    pub micro_batch: u64,
    /// The most that one GPU had in use, where the run came to its end and that is known.
    pub peak: Option<Bytes>,
    /// Whether it ran, within the capacity.
    pub ran: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Run this size and [`record`](Search::record) what it came to.
    Run(MicroBatch),
    /// The largest that runs; 0 when none does.
    Done(u64),
}

/// The search for the largest micro-batch that runs, from 1 to a limit.
#[derive(Debug, Clone)]
pub struct Search {
    capacity: Bytes,
    peaks: Peaks,
    limit: u64,
    points: Vec<Point>,
}

impl Search {
    /// Starts a search on GPUs that each have this much for the command.
    pub fn new(capacity: Bytes, peaks: Peaks, limit: MicroBatch) -> Search {
        Search { capacity, peaks, limit: limit.get(), points: Vec::new() }
    }

    /// Takes in a run.
    pub fn record(&mut self, point: Point) {
        self.points.retain(|known| known.micro_batch != point.micro_batch);
        self.points.push(point);
        self.points.sort_by_key(|point| point.micro_batch);
    }

    /// Returns what a size came to, if it was run.
    pub fn at(&self, micro_batch: u64) -> Option<Point> {
        self.points.iter().find(|point| point.micro_batch == micro_batch).copied()
    }

    /// Says what to run, or that it is settled.
    pub fn next(&self) -> Next {
        let runs = self.largest_that_ran();
        let refused = self.smallest_refused();
        let settled = runs >= self.limit || refused == runs + 1;
        if settled || self.beyond_by_line().is_some() {
            return Next::Done(runs);
        }
        let aim = match self.peaks {
            Peaks::Exact => self.aim(runs, refused),
            Peaks::Sampled => self.aim_low(runs, refused),
            Peaks::Unknown => halfway(runs, refused),
        };
        let size = aim.clamp(runs + 1, refused.min(self.limit + 1) - 1);
        MicroBatch::new(size).map_or(Next::Done(runs), Next::Run)
    }

    /// Returns the bytes that one more sample takes, as the largest runs have it.
    pub fn slope(&self) -> Option<f64> {
        match self.peaks {
            Peaks::Exact => {
                let [a, b] = self.last_two()?;
                Some((b.1 - a.1) / (b.0 - a.0))
            }
            Peaks::Sampled => self.line().map(|line| line.slope),
            Peaks::Unknown => None,
        }
    }

    /// Returns what one sample more than the largest that ran takes by the line, where that is
    /// clearly more than there is, so that nobody needs to run it.
    pub fn beyond_by_line(&self) -> Option<Bytes> {
        let runs = self.largest_that_ran();
        if self.peaks != Peaks::Sampled || runs == 0 || self.smallest_refused() == runs + 1 {
            return None;
        }
        let (line, peak) = (self.line()?, self.at(runs)?.peak?);
        let next = peak.get() as f64 + line.slope;
        let (granules, part) = CLEAR;
        let doubt = granules.max(2.0 * line.residual).max(part * line.slope);
        (line.slope > 0.0 && next - doubt > self.capacity.get() as f64)
            .then(|| Bytes::new(next as u64))
    }

    /// What to run next, before it is kept between what ran and what did not.
    fn aim(&self, runs: u64, refused: u64) -> u64 {
        let Some(last) = self.at(runs).filter(|_| runs > 0) else { return 1 };
        let Some(slope) = self.slope() else {
            // One run alone: were all of its memory the sample's, this many would fit; so they do.
            let peak = last.peak.unwrap_or(self.capacity);
            return (self.capacity.get() / peak.get().max(1)).max(2);
        };
        let middle = runs + (refused.saturating_sub(runs)) / 2;
        if slope <= 0.0 {
            return if refused == u64::MAX { self.limit } else { middle };
        }
        let peak = last.peak.unwrap_or(self.capacity);
        let left = self.capacity.saturating_sub(peak).get() as f64;
        let more = (left / slope) as u64;
        let promised = runs.saturating_add(more.max(1));
        // A line that promises what was refused is wrong there. Just below may be right; if not,
        // the line and the middle take turns: the one is quick, the other sure.
        match self.refusals() {
            0 => promised,
            1 if promised >= refused => refused - 1,
            n if promised < refused && (n == 1 || self.points.len().is_multiple_of(2)) => promised,
            _ => middle,
        }
    }

    /// As `aim`, for sampled peaks: a leap lands short of what the line promises by as
    /// much as the line may be off there, so that it runs and tells its own peak.
    fn aim_low(&self, runs: u64, refused: u64) -> u64 {
        let Some(last) = self.at(runs).filter(|_| runs > 0) else { return 1 };
        let Some(peak) = last.peak else { return halfway(runs, refused) };
        let Some(line) = self.line() else {
            let sure = self.capacity.get() / peak.get().max(1);
            return if refused == u64::MAX { sure.max(LEAP) } else { halfway(runs, refused) };
        };
        if line.slope <= 0.0 {
            return if refused == u64::MAX { self.limit } else { halfway(runs, refused) };
        }
        let known = (line.last - line.first).max(1.0);
        let mut more = self.capacity.saturating_sub(peak).get() as f64 / line.slope;
        let off = more * (BEND + NOISE.max(2.0 * line.residual) / known / line.slope);
        if runs as f64 + more > line.last + known && off > 0.5 {
            more = (more - off).max(more / 2.0);
        }
        let promised = runs.saturating_add((more as u64).max(1));
        match refused.saturating_sub(runs) {
            _ if promised < refused => promised,
            0..=3 => refused - 1,
            // The line was off by a little, once.
            room if self.refusals() == 1 && off < room as f64 / 2.0 => refused - 1 - off as u64,
            _ => halfway(runs, refused),
        }
    }

    /// The line through all peaks that are known.
    fn line(&self) -> Option<Line> {
        let points = self.points.iter();
        let known = |point: &Point| Some((point.micro_batch as f64, point.peak?.get() as f64));
        fit(&points.filter_map(known).collect::<Vec<_>>())
    }

    fn largest_that_ran(&self) -> u64 {
        let refused = self.smallest_refused();
        let ran = self.points.iter().filter(|point| point.ran && point.micro_batch < refused);
        ran.map(|point| point.micro_batch).max().unwrap_or(0)
    }

    fn smallest_refused(&self) -> u64 {
        let refused = self.points.iter().filter(|point| !point.ran);
        refused.map(|point| point.micro_batch).min().unwrap_or(u64::MAX)
    }

    fn refusals(&self) -> usize {
        self.points.iter().filter(|point| !point.ran).count()
    }

    /// The two largest sizes that ran, with their peaks: what is nearest to the answer knows best.
    fn last_two(&self) -> Option<[(f64, f64); 2]> {
        let runs = self.largest_that_ran();
        let ran = self.points.iter().rev().filter(|point| point.ran && point.micro_batch <= runs);
        let known = |point: &Point| Some((point.micro_batch as f64, point.peak?.get() as f64));
        let mut ran = ran.filter_map(known);
        let (b, a) = (ran.next()?, ran.next()?);
        Some([a, b])
    }
}

/// Doubles until something is refused, then takes the middle.
fn halfway(runs: u64, refused: u64) -> u64 {
    if refused == u64::MAX { (2 * runs).max(1) } else { runs + (refused - runs) / 2 }
}

#[cfg(test)]
mod tests;
