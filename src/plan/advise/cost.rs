//! What a setup costs beside the one asked for, in every respect that is told apart.

use crate::plan::advise::change::{Change, Departure};
use crate::step::work::Work;
use crate::units::Bytes;

/// What a setup costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// What it does to the numbers.
    pub departure: Departure,
    /// Arithmetic of a token (or an image), as a part of that of the setup asked for: 1.0 is as much.
    pub compute: f64,
    /// Bytes that each step moves over the link to the host at most, when the GPU is full.
    pub host: Bytes,
    /// Bytes that each of several devices sends the others in a step, to sum gradients.
    pub sent: Bytes,
    /// How many changes it takes.
    pub changes: usize,
}

/// What a step of a setup moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// To the host and back, at most.
    pub host: Bytes,
    /// From one of several devices to the others.
    pub sent: Bytes,
}

impl Cost {
    /// Adds up what changes cost.
    ///
    /// The arithmetic is that of one sample of so many tokens, before and after.
    pub fn of(
        changes: &[Change],
        batch_norm: bool,
        [before, after]: [(Work, u64); 2],
        moved: Moved,
    ) -> Cost {
        let a_token = |(work, tokens): (Work, u64)| work.total() as f64 / tokens.max(1) as f64;
        let departures = changes.iter().map(|change| change.departure(batch_norm));
        Cost {
            departure: departures.fold(Departure::NONE, Departure::and),
            compute: match a_token(before) {
                0.0 => 1.0,
                before => a_token(after) / before,
            },
            host: moved.host,
            sent: moved.sent,
            changes: changes.len(),
        }
    }

    /// Returns how much more arithmetic it is, in per cent; less where that is negative.
    pub fn compute_percent(&self) -> f64 {
        (self.compute - 1.0) * 100.0
    }

    /// Whether it is more arithmetic, by half a per cent at least: what is printed as more.
    pub fn is_more_compute(&self) -> bool {
        self.compute_percent() >= 0.5
    }

    /// Whether it costs as much as another in no respect, or less.
    pub fn is_no_more_than(&self, other: &Cost) -> bool {
        self.departure.is_within(other.departure)
            && self.compute <= other.compute
            && self.host <= other.host
            && self.sent <= other.sent
            && self.changes <= other.changes
    }

    /// Orders costs: by how far a setup goes from the training asked for, then by arithmetic, by
    /// what is moved, by how much there is to change.
    pub fn order(&self, other: &Cost) -> std::cmp::Ordering {
        let far = |cost: &Cost| (cost.departure.reach(), cost.departure.count().0);
        let rest = |cost: &Cost| (cost.host, cost.sent, cost.departure.count().1, cost.changes);
        far(self)
            .cmp(&far(other))
            .then(self.compute.total_cmp(&other.compute))
            .then(rest(self).cmp(&rest(other)))
    }
}
