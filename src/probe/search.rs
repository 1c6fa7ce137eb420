//! Which micro-batch to try next: a pure state machine over answers of a device.
//!
//! Starts at a guess, which usually is right: then two answers settle it, the guess runs and the
//! next one does not; what is known already is not asked again. Where the device disagrees, the
//! search gallops away from the guess and then bisects. It takes every size below one that runs to
//! run as well; the guess is made so.

use crate::units::MicroBatch;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try this size and [`record`](Search::record) the answer.
    Try(MicroBatch),
    /// The largest that runs, or none.
    Done(Option<MicroBatch>),
}

/// The search for the largest micro-batch that runs.
#[derive(Debug, Clone)]
pub struct Search {
    guess: u64,
    limit: u64,
    /// The largest known to run; 0 while none is.
    runs: u64,
    /// The smallest known not to run.
    refused: Option<u64>,
}

impl Search {
    /// Starts at a guess, `None` for "not even one"; nothing above `limit` is ever tried.
    pub fn new(guess: Option<MicroBatch>, limit: MicroBatch) -> Search {
        let limit = limit.get();
        let guess = guess.map_or(0, MicroBatch::get).min(limit);
        Search { guess, limit, runs: 0, refused: None }
    }

    /// Says what to try, or that it is settled.
    pub fn next(&self) -> Next {
        match self.next_size() {
            Some(size) => Next::Try(size),
            None => Next::Done(MicroBatch::new(self.runs)),
        }
    }

    fn next_size(&self) -> Option<MicroBatch> {
        let Search { guess, limit, runs, refused } = *self;
        let end = refused.unwrap_or(limit.saturating_add(1));
        let size = match refused {
            _ if end == runs + 1 => return None,
            _ if runs < guess && guess < end => guess,
            // One above the guess settles it if the guess was right.
            _ if runs == guess => guess + 1,
            // Further on, ever larger steps up, or down, until the end is enclosed.
            None => runs.saturating_add((runs - guess) * 2).min(limit),
            Some(refused) if runs == 0 => refused.saturating_sub(((guess - refused) * 2).max(1)),
            Some(refused) => runs + (refused - runs) / 2,
        };
        MicroBatch::new(size.max(1))
    }

    /// Takes in one answer. A later answer about the same size replaces the earlier one, as memory
    /// comes and goes.
    pub fn record(&mut self, size: MicroBatch, runs: bool) {
        let size = size.get();
        if runs {
            self.runs = self.runs.max(size);
            self.refused = self.refused.filter(|refused| *refused > size);
        } else {
            self.refused = Some(self.refused.map_or(size, |refused| refused.min(size)));
            if self.runs >= size {
                // It ran once, or a larger one did: what is below has to be asked again.
                self.runs = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(n: u64) -> MicroBatch {
        MicroBatch::new(n).unwrap()
    }

    /// Returns the answer and how often the device was asked.
    fn settle(mut search: Search, largest: u64) -> (u64, u32) {
        for asked in 0..200 {
            match search.next() {
                Next::Done(answer) => return (answer.map_or(0, MicroBatch::get), asked),
                Next::Try(tried) => search.record(tried, tried.get() <= largest),
            }
        }
        panic!("it never settles");
    }

    #[test]
    fn a_right_guess_takes_two_answers() {
        for largest in 1..50 {
            let search = Search::new(MicroBatch::new(largest), size(1_000));
            assert_eq!(settle(search, largest), (largest, 2));
        }
    }

    #[test]
    fn nothing_fits_takes_one_answer() {
        assert_eq!(settle(Search::new(None, size(1_000)), 0), (0, 1));
        assert_eq!(settle(Search::new(Some(size(1)), size(1_000)), 0), (0, 1));
    }

    #[test]
    fn every_wrong_guess_ends_at_what_brute_force_finds() {
        for limit in [1, 2, 17, 40] {
            for largest in 0..=limit {
                for guess in 0..=limit + 2 {
                    let search = Search::new(MicroBatch::new(guess), size(limit));
                    assert_eq!(settle(search, largest).0, largest, "guess {guess} of {limit}");
                }
            }
        }
    }

    #[test]
    fn a_guess_that_is_far_off_takes_logarithmically_many_answers() {
        let search = Search::new(Some(size(1)), size(1_000_000));
        let (answer, asked) = settle(search, 600_000);
        assert_eq!(answer, 600_000);
        assert!(asked <= 45, "{asked}");
    }

    #[test]
    fn a_size_that_no_longer_runs_is_given_up() {
        let mut search = Search::new(Some(size(8)), size(100));
        search.record(size(8), true);
        search.record(size(9), false);
        assert_eq!(search.next(), Next::Done(Some(size(8))));
        search.record(size(8), false);
        assert_eq!(search.next(), Next::Try(size(7)));
        search.record(size(7), true);
        assert_eq!(search.next(), Next::Done(Some(size(7))));
    }

    #[test]
    fn memory_that_came_back_is_searched_upwards() {
        let mut search = Search::new(Some(size(8)), size(100));
        search.record(size(8), true);
        search.record(size(9), false);
        search.record(size(9), true);
        assert_eq!(search.next(), Next::Try(size(11)));
    }
}
