//! Whether a command's memory grew as far as the size that is to be the answer: a size that does not
//! reach the program, or is more than its data set has, fits anywhere and says nothing.
//!
//! Memory is convex in the micro-batch, near enough: it follows the largest of a few lines. So a
//! peak below the line through smaller ones gives rise to a look at its neighbour, and only two
//! sizes with the same peak to a verdict.

use crate::units::MicroBatch;

/// The part of what the line through smaller sizes promises that is no growth.
const LITTLE: f64 = 1.0 / 20.0;
/// A fall that is no accident of one run, in bytes: where a loader drops a batch that is not full.
const FALL: f64 = (16 << 20) as f64;

/// What is known of the growth up to a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// It grew up to there.
    Whole,
    /// It grew up to this smaller size, and no further.
    UpTo(u64),
    /// It is the same from the first sample on.
    None,
    /// A run of this size tells more.
    Ask(MicroBatch),
}

/// What runs of one kind took.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Sizes that ran with their peaks in bytes, in order of size.
    pub points: &'a [(u64, u64)],
    /// How many bytes may be lost to granules of memory.
    pub rounding: f64,
    /// What a sample takes, where runs of another kind tell.
    pub slope: Option<f64>,
}

impl Seen<'_> {
    /// Says how far memory grew, up to `answer`, a size that ran.
    pub fn growth(&self, answer: u64) -> Growth {
        let upto = self.points.partition_point(|(size, _)| *size <= answer);
        let known = &self.points[..upto];
        let Some(&(last, _)) = known.last().filter(|(size, _)| *size == answer && answer > 1)
        else {
            return Growth::Whole;
        };
        let most = known.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0) as f64;
        // Lengths vary a little from run to run: as much as that is no growth.
        let as_much = |at: &usize| {
            let ((size, bytes), sample) = (known[*at], steepest(&known[..=*at]));
            let little = (sample * (answer - size) as f64 * LITTLE).min(sample / 2.0);
            most - bytes as f64 <= little
        };
        let Some(at) = (0..known.len()).find(as_much) else { return Growth::Whole };
        let (top, peak) = known[at];
        let slope = steepest(&known[..=at]);
        if let Some(&(next, bytes)) = known.get(at + 1)
            && (bytes as f64) < peak as f64 - slope / 2.0 - FALL
            && next - top > 1
        {
            return ask(top + (next - top) / 2);
        }
        let ended = if top == last { Growth::Whole } else { Growth::UpTo(top) };
        let below = &known[..at];
        let Some(&(lower, under)) = below.last() else {
            return match (top, known.len()) {
                (1, _) => Growth::None,
                (_, 1) => ask(self.beside(top, slope)),
                _ => ask(1),
            };
        };
        let line = steepest(below);
        let promised = line * (top - lower) as f64;
        let grown = (peak - under) as f64;
        let on_line =
            promised > 2.0 * self.rounding && promised - grown < self.rounding.max(line / 2.0);
        if top - lower == 1 || on_line {
            return ended;
        }
        let beside = self.beside(top, slope);
        if top == last {
            return if lower < beside { ask(beside) } else { ended };
        }
        // On a plateau: where the line below meets it, else the middle.
        let met = lower.saturating_add((grown / line.max(1.0)).round() as u64);
        ask(match known.len() % 3 {
            1 | 2 if line > 0.0 => met.clamp(lower + 1, top - 1),
            _ => lower + (top - lower) / 2,
        })
    }

    /// A size next to another, as near as lets a difference show beside what rounding hides.
    fn beside(&self, top: u64, slope: f64) -> u64 {
        let slope = if slope > 0.0 { slope } else { self.slope.unwrap_or(0.0) };
        let apart = (2.0 * self.rounding / slope).ceil();
        let half = (top / 2).max(1);
        top - if slope > 0.0 && apart < half as f64 { (apart as u64).max(1) } else { half }
    }
}

fn ask(size: u64) -> Growth {
    MicroBatch::new(size).map_or(Growth::Whole, Growth::Ask)
}

/// The most that a sample takes, from the smallest size to another.
fn steepest(points: &[(u64, u64)]) -> f64 {
    let Some((&(first, least), rest)) = points.split_first() else { return 0.0 };
    let slope = |&(size, bytes): &(u64, u64)| (bytes as f64 - least as f64) / (size - first) as f64;
    rest.iter().map(slope).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Runs what is asked for, from these sizes on; returns the verdict and how many runs it took.
    fn settle(sizes: &[u64], law: impl Fn(u64) -> u64) -> (Growth, usize) {
        let mut points: Vec<(u64, u64)> = sizes.iter().map(|size| (*size, law(*size))).collect();
        let answer = *sizes.last().unwrap();
        for asked in 0..60 {
            let seen = Seen { points: &points, rounding: (2 * MIB) as f64, slope: None };
            match seen.growth(answer) {
                Growth::Ask(size) => {
                    let size = size.get();
                    assert!(size < answer && points.iter().all(|(known, _)| *known != size));
                    points.push((size, law(size)));
                    points.sort_unstable();
                }
                growth => return (growth, asked),
            }
        }
        panic!("it never settles");
    }

    #[test]
    fn a_data_set_that_ends_is_found_to_the_sample() {
        for end in [2, 7, 64, 70, 100, 255] {
            for sizes in [&[1, 36, 71, 96, 256][..], &[1, 5, 300], &[1, 256], &[256], &[1, 300]] {
                let (growth, asked) = settle(sizes, |n| (900 + 230 * n.min(end)) * MIB);
                assert_eq!(growth, Growth::UpTo(end), "{sizes:?}");
                assert!(asked <= 10, "{asked} after {sizes:?}, {end}");
                // A loader that drops what is no full batch: no step at all.
                let law = |n| if n > end { 500 * MIB } else { (900 + 230 * n) * MIB };
                assert_eq!(settle(sizes, law).0, Growth::UpTo(end), "{sizes:?}");
            }
        }
    }

    #[test]
    fn what_grows_to_the_last_sample_costs_hardly_a_run() {
        for (sizes, most) in
            [(&[1, 5, 60][..], 0), (&[1, 60], 1), (&[60], 2), (&[1, 2], 0), (&[1, 30, 59, 60], 0)]
        {
            let (growth, asked) = settle(sizes, |n| (900 + 23 * n) * MIB);
            assert_eq!(growth, Growth::Whole, "{sizes:?}");
            assert!(asked <= most, "{sizes:?}: {asked}");
        }
        // An optimizer's step that hides the first samples, and a kernel that takes more from one on.
        let hidden = |n: u64| (900 + 23 * n).max(1700) * MIB;
        assert_eq!(settle(&[1, 5, 15, 60], hidden).0, Growth::Whole);
        let jump = |n: u64| (900 + 23 * n + if n >= 16 { 3000 } else { 0 }) * MIB;
        assert_eq!(settle(&[1, 5, 16, 60], jump).0, Growth::Whole);
        assert_eq!(settle(&[1], jump).0, Growth::Whole);
        // Samples of a few KiB.
        assert_eq!(settle(&[1, 5, 4096], |n| 20 * MIB + 7000 * n).0, Growth::Whole);
    }

    #[test]
    fn what_never_grows_is_told_from_the_first_sample_on() {
        for sizes in [&[1, 5, 15, 256][..], &[1, 2], &[256]] {
            assert_eq!(settle(sizes, |_| 900 * MIB).0, Growth::None, "{sizes:?}");
        }
    }

    #[test]
    fn lengths_that_vary_a_little_do_not_hide_the_plateau() {
        let noise = |n: u64| n * 7919 % 40;
        let law = |n: u64| (900 + 230 * n.min(64)) * MIB + noise(n) * MIB;
        let (growth, _) = settle(&[1, 36, 71, 96, 256], law);
        assert_eq!(growth, Growth::UpTo(64));
    }
}
