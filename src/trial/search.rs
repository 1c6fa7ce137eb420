//! Which micro-batch a trial runs next: a pure state machine over the peaks of runs.
//!
//! Memory is close to a line in the micro-batch, and a run tells its peak, not only whether it
//! ran. So two runs give a line, the line gives the answer, and two more confirm it: the answer
//! ran, and one more did not. Where the line is wrong, the search bisects between what is known.

use crate::units::{Bytes, MicroBatch};

/// What a run of one size came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// The size.
    pub micro_batch: u64,
    /// The most that one GPU had in use; of a size that did not run, what it had before.
    pub peak: Bytes,
    /// Whether it ran.
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
    limit: u64,
    points: Vec<Point>,
}

impl Search {
    /// Starts a search on GPUs that each have this much for the command.
    pub fn new(capacity: Bytes, limit: MicroBatch) -> Search {
        Search { capacity, limit: limit.get(), points: Vec::new() }
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
        if runs >= self.limit || refused == runs + 1 {
            return Next::Done(runs);
        }
        let size = self.aim(runs, refused).clamp(runs + 1, refused.min(self.limit + 1) - 1);
        MicroBatch::new(size).map_or(Next::Done(runs), Next::Run)
    }

    /// Returns the bytes that one more sample takes, as the largest runs have it.
    pub fn slope(&self) -> Option<f64> {
        let (a, b) = self.last_two()?;
        let samples = (b.micro_batch - a.micro_batch) as f64;
        Some((b.peak.get() as f64 - a.peak.get() as f64) / samples)
    }

    /// What to run next, before it is kept between what ran and what did not.
    fn aim(&self, runs: u64, refused: u64) -> u64 {
        let Some(last) = self.at(runs).filter(|_| runs > 0) else { return 1 };
        let Some(slope) = self.slope() else {
            // One run alone: were all of its memory the sample's, this many would fit; so they do.
            return (self.capacity.get() / last.peak.get().max(1)).max(2);
        };
        let middle = runs + (refused.saturating_sub(runs)) / 2;
        if slope <= 0.0 {
            return if refused == u64::MAX { self.limit } else { middle };
        }
        let left = self.capacity.saturating_sub(last.peak).get() as f64;
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

    /// The two largest sizes that ran: what is nearest to the answer knows best.
    fn last_two(&self) -> Option<(Point, Point)> {
        let runs = self.largest_that_ran();
        let mut ran =
            self.points.iter().rev().filter(|point| point.ran && point.micro_batch <= runs);
        let (b, a) = (ran.next()?, ran.next()?);
        Some((*a, *b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a search against a law of memory; returns the answer and how many runs it took.
    fn settle(capacity: u64, limit: u64, law: impl Fn(u64) -> u64) -> (u64, u32) {
        let mut search = Search::new(Bytes::new(capacity), MicroBatch::new(limit).unwrap());
        for asked in 0..200 {
            match search.next() {
                Next::Done(answer) => return (answer, asked),
                Next::Run(size) => {
                    let micro_batch = size.get();
                    assert!(search.at(micro_batch).is_none(), "{micro_batch} was run already");
                    let needs = law(micro_batch);
                    let ran = needs <= capacity;
                    let peak = Bytes::new(needs.min(capacity));
                    search.record(Point { micro_batch, peak, ran });
                }
            }
        }
        panic!("it never settles");
    }

    fn brute_force(capacity: u64, limit: u64, law: impl Fn(u64) -> u64) -> u64 {
        (1..=limit).take_while(|size| law(*size) <= capacity).last().unwrap_or(0)
    }

    #[test]
    fn a_line_takes_four_runs_at_most() {
        for (base, sample) in [(500, 100), (10, 7), (5_000, 13), (0, 1_000), (9_000, 900)] {
            for capacity in [10_000, 10_099, 23_456] {
                let law = |size| base + sample * size;
                let (answer, asked) = settle(capacity, 100_000, law);
                assert_eq!(answer, brute_force(capacity, 100_000, law), "{base} {sample}");
                assert!(asked <= 4, "{base} + {sample} x size in {capacity}: {asked}");
            }
        }
    }

    #[test]
    fn random_laws_end_where_brute_force_does_in_five_runs_in_the_median() {
        let mut seed = 11u64;
        let mut random = move |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut counts = Vec::new();
        for round in 0..600 {
            let (base, sample) = (random(9_000), 1 + random(900));
            let granule = [1, 20, 200][round % 3];
            let (at, jump) = (2 + random(40), [0, random(500)][round % 2]);
            let curve = [0, 0, random(3)][round % 3];
            let law = |size: u64| {
                let smooth = base + sample * size + size / at * jump + curve * size * size / 8;
                smooth.div_ceil(granule) * granule
            };
            let (capacity, limit) = (3_000 + random(40_000), 1 + random(2_000));
            let (answer, asked) = settle(capacity, limit, law);
            assert_eq!(answer, brute_force(capacity, limit, law), "round {round}");
            counts.push(asked);
        }
        counts.sort_unstable();
        assert!(counts[counts.len() / 2] <= 5, "median {}", counts[counts.len() / 2]);
        assert!(
            counts[counts.len() * 9 / 10] <= 10,
            "nine in ten {}",
            counts[counts.len() * 9 / 10]
        );
        assert!(counts[counts.len() - 1] <= 17, "most {}", counts[counts.len() - 1]);
    }

    #[test]
    fn nothing_fits_takes_one_run_and_a_limit_is_an_answer() {
        assert_eq!(settle(100, 64, |_| 101), (0, 1));
        assert_eq!(settle(1_000, 8, |size| size).0, 8);
        assert_eq!(settle(1_000, 1, |size| size), (1, 1));
    }

    #[test]
    fn a_program_that_takes_the_same_at_any_size_is_asked_at_the_limit() {
        let (answer, asked) = settle(1_000, 512, |_| 300);
        assert_eq!(answer, 512);
        assert!(asked <= 3, "{asked}");
    }
}
