//! Which micro-batch a trial runs next: a pure state machine over the peaks of runs.
//!
//! Memory is close to a line in the micro-batch, and a run tells its peak, not only whether it
//! ran. So two runs give a line, the line gives the answer, and two more confirm it: the answer
//! ran, and one more did not. Where the line is wrong, the search takes the middle of what is known.
//! It often begins flat, as an optimizer's step may take more than a few samples do: the line counts
//! from where it rises.
//!
//! Peaks that were sampled lie near a line, not on it: the search then begins where two runs make a
//! line that is good far out, lands short where it is not, and where the line alone is clear about one
//! sample more, that is not run. Without peaks it doubles, then bisects.

use crate::trial::line::{Line, fit};
use crate::units::{Bytes, MicroBatch};

/// The second size, and the first where peaks are sampled: far enough from 1 that an error of a peak
/// turns the line little, and low enough that three more runs settle it where it does not fit.
const LEAP: u64 = 5;
/// The part of a sample by which a line from 1 to the first size may be off at the second one, where
/// that turns out not to fit.
const PINNED: f64 = 1.0 / 16.0;
/// How many times as large the next size is where all so far took the same. This and what follows
/// served well on laws like those of the tests below: what goes wrong costs a run, not the answer.
const FLAT: u64 = 3;
/// How many times the slope before it a slope is that has grown, and not by granules of memory alone.
const BENT: f64 = 1.25;
/// The part of the larger size by which two are apart whose peaks make a line.
const APART: f64 = 0.25;
/// How far off a line a peak is taken to be, in bytes: by granules of memory, or by what a look at it
/// missed.
const NOISE: f64 = (16 << 20) as f64;
/// The part of a sample by which samples may differ, where the line alone speaks against one more.
const VARIES: f64 = 0.02;

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

impl Point {
    /// Returns samples and bytes, where the peak is known.
    fn known(&self) -> Option<(f64, f64)> {
        Some((self.micro_batch as f64, self.peak?.get() as f64))
    }
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

    /// Returns whether a size ran and did not fit.
    pub fn is_refused(&self, micro_batch: u64) -> bool {
        self.at(micro_batch).is_some_and(|point| !point.ran)
    }

    /// Runs no size above this from now on.
    pub fn limit_to(&mut self, size: u64) {
        self.limit = self.limit.min(size);
    }

    /// Says what to run, or that it is settled.
    pub fn next(&self) -> Next {
        let runs = self.largest_that_ran();
        let refused = self.smallest_refused();
        let settled = runs >= self.limit || refused == runs + 1;
        if settled || self.beyond_by_line().is_some() {
            return Next::Done(runs);
        }
        if self.lacks_a_line(runs, refused) {
            return Next::Run(MicroBatch::ONE);
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
        let settled = runs == 0 || self.smallest_refused() == runs + 1;
        // Where memory bends, the line does not know what comes next.
        if self.peaks != Peaks::Sampled || settled || self.bent() {
            return None;
        }
        let (line, peak) = (self.line()?, self.at(runs)?.peak?);
        let next = peak.get() as f64 + line.slope;
        let doubt = doubt(&line).max(VARIES * line.slope);
        (line.slope > 0.0 && next - doubt > self.capacity.get() as f64)
            .then(|| Bytes::new(next as u64))
    }

    /// What to run next, before it is kept between what ran and what did not.
    fn aim(&self, runs: u64, refused: u64) -> u64 {
        let Some(last) = self.at(runs).filter(|_| runs > 0) else { return 1 };
        let peak = last.peak.unwrap_or(self.capacity);
        let sure = self.sure(runs, peak);
        let Some(slope) = self.slope() else { return second(runs, sure, refused) };
        if slope <= 0.0 {
            return past_the_flat(runs, sure, refused);
        }
        let promised = runs.saturating_add(((self.left(peak) / slope) as u64).max(1));
        let promised = self.unless_bent(promised, runs, sure);
        if promised < refused && (self.refusals() < 2 || self.points.len().is_multiple_of(2)) {
            return promised;
        }
        // A line that promises what was refused is wrong there: by granules of memory, or because it
        // began on the part that the samples do not show in.
        let length = self.last_two().map_or(1.0, |[a, b]| b.0 - a.0);
        let off = (refused - runs) as f64 * NOISE / length / slope;
        match refused - runs {
            room if self.refusals() == 1 && off < room as f64 / 2.0 => refused - 1 - off as u64,
            _ => between(runs, sure, refused),
        }
    }

    /// As `aim`, for sampled peaks: a leap lands short of what the line promises by as
    /// much as the line may be off there, so that it runs and tells its own peak.
    fn aim_low(&self, runs: u64, refused: u64) -> u64 {
        let Some(last) = self.at(runs).filter(|_| runs > 0) else {
            return if refused == u64::MAX { LEAP } else { 1 };
        };
        let Some(peak) = last.peak else { return halfway(runs, refused) };
        let sure = self.sure(runs, peak);
        let Some(line) = self.line() else {
            return match refused {
                u64::MAX => self.reach(runs, peak).max(sure).max(LEAP),
                _ if runs > 1 => sure,
                _ => between(runs, sure, refused),
            };
        };
        if line.slope <= 0.0 {
            return past_the_flat(runs, sure, refused);
        }
        let known = (line.last - line.first).max(1.0);
        let mut more = self.left(peak) / line.slope;
        let off = more * doubt(&line) / known / line.slope;
        if runs as f64 + more > line.last + known && off > 1.0 {
            more = (more - off).max(more / 2.0);
        }
        let promised = self.unless_bent(runs.saturating_add((more as u64).max(1)), runs, sure);
        if promised < refused {
            return promised;
        }
        // How often the line was off already: by a little, or it is wrong.
        let broken = self.points.iter().filter(|point| !point.ran && point.micro_batch <= promised);
        let (broken, room) = (broken.count() as f64, refused - runs);
        match room {
            0..=3 => refused - 1,
            _ if broken <= 2.0 && off * broken < room as f64 / 2.0 => {
                refused - 1 - (off * (2.0 * broken - 1.0)) as u64
            }
            _ => halfway(runs, refused),
        }
    }

    /// Returns the bytes between a peak and the capacity.
    fn left(&self, peak: Bytes) -> f64 {
        self.capacity.saturating_sub(peak).get() as f64
    }

    /// Returns a second size that is near enough to the first: should it not fit, a sample takes so much
    /// that the line from 1 to the first is still good there.
    fn reach(&self, runs: u64, peak: Bytes) -> u64 {
        (self.left(peak) * runs.saturating_sub(1) as f64 * PINNED / NOISE).sqrt() as u64
    }

    /// Whether sampled peaks make no line yet, and 1 gives a longer one than what is sure to run.
    fn lacks_a_line(&self, runs: u64, refused: u64) -> bool {
        let Some(peak) = self.at(runs).and_then(|point| point.peak) else { return false };
        let sure = self.sure(runs, peak);
        self.peaks == Peaks::Sampled
            && runs > 1
            && self.at(1).is_none()
            && refused < u64::MAX
            && self.line().is_none()
            && (sure >= refused || sure - runs < runs - 1)
    }

    /// Returns a size that runs unless a sample takes more than the ones before it on average: were
    /// all memory the samples', this many would fit.
    fn sure(&self, runs: u64, peak: Bytes) -> u64 {
        // Refused again and again on the way down to it, it is not.
        if self.refusals() > 2 {
            return runs;
        }
        let capacity = u128::from(self.capacity.get()) * u128::from(runs);
        u64::try_from(capacity / u128::from(peak.get().max(1))).unwrap_or(u64::MAX)
    }

    /// Returns what a line promises, or less where the slope has grown: it did so somewhere between
    /// the last two, and the line promises too much, down to what is sure.
    fn unless_bent(&self, promised: u64, runs: u64, sure: u64) -> u64 {
        if self.bent() { between(runs, sure, promised).max(runs + 1) } else { promised }
    }

    /// Whether the last of three peaks lies clearly above the line through the other two: what does
    /// not depend on the samples (an optimizer's step) hid the line there.
    fn bent(&self) -> bool {
        let mut known = self.points.iter().rev().filter_map(Point::known);
        let (Some(c), Some(b), Some(a)) = (known.next(), known.next(), known.next()) else {
            return false;
        };
        let slope = |a: (f64, f64), b: (f64, f64)| (b.1 - a.1) / (b.0 - a.0);
        slope(b, c) > BENT * slope(a, b) + NOISE / (b.0 - a.0).min(c.0 - b.0)
    }

    /// The line through all peaks that are known; where they bend, through the last two.
    fn line(&self) -> Option<Line> {
        let known: Vec<(f64, f64)> = self.points.iter().filter_map(Point::known).collect();
        let first = if self.bent() { known.len().saturating_sub(2) } else { 0 };
        fit(&known[first..])
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

    /// The largest size that ran, and the next below it that is far enough away for granules of
    /// memory to turn their line little; with their peaks. Where memory bends, the two largest: what is
    /// nearest to the answer knows best.
    fn last_two(&self) -> Option<[(f64, f64); 2]> {
        let runs = self.largest_that_ran();
        let ran = self.points.iter().rev().filter(|point| point.ran && point.micro_batch <= runs);
        let mut ran = ran.filter_map(Point::known);
        let (b, next) = (ran.next()?, ran.next()?);
        let far = |a: &(f64, f64)| b.0 - a.0 >= APART * b.0;
        let a = if self.bent() || far(&next) { next } else { ran.find(far).unwrap_or(next) };
        Some([a, b])
    }
}

/// Returns how far off a line a peak may be, in bytes. Of three on a line, one may lie there by chance.
fn doubt(line: &Line) -> f64 {
    let least = if line.points > 3 { NOISE / 2.0 } else { NOISE };
    least.max(2.0 * line.residual)
}

/// Returns the second size.
fn second(runs: u64, sure: u64, refused: u64) -> u64 {
    if refused == u64::MAX { sure.max(LEAP) } else { between(runs, sure, refused) }
}

/// Returns the next size where all so far took the same.
fn past_the_flat(runs: u64, sure: u64, refused: u64) -> u64 {
    if refused == u64::MAX { sure.max(FLAT * runs) } else { between(runs, sure, refused) }
}

/// Returns the middle between what is known or taken to run and what was refused; the geometric one
/// where they are far apart.
fn between(runs: u64, sure: u64, refused: u64) -> u64 {
    let low = if sure < refused { sure.max(runs) } else { runs };
    match refused / 8 {
        far if far >= low => (low as f64 * refused as f64).sqrt() as u64,
        _ => low + (refused - low) / 2,
    }
}

/// Doubles until something is refused, then takes the middle.
fn halfway(runs: u64, refused: u64) -> u64 {
    if refused == u64::MAX { (2 * runs).max(1) } else { runs + (refused - runs) / 2 }
}

#[cfg(test)]
mod tests;
