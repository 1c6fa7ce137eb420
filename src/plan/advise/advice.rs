//! The answer of `oomph advise`, as plain data.

use crate::plan::advise::change::{Change, Way};
use crate::plan::advise::cost::Cost;
use crate::plan::advise::search::Tally;
use crate::plan::capacity::Capacity;
use crate::plan::result::{Estimate, PlanGpu};
use crate::step::setup::Precision;
use crate::units::Bytes;

/// A setup to take in place of the one asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// What to change.
    pub changes: Vec<Change>,
    /// The setup with that changed.
    pub way: Way,
    /// What its step takes of what is there; where it does not fit, what it would take of more.
    pub taken: Bytes,
    /// Whether it fits.
    pub fits: bool,
    /// How it stands beside the others.
    pub standing: Standing,
    /// What it costs.
    pub cost: Cost,
    /// The largest micro-batch that fits with it, at its accumulation, where it was looked for.
    pub largest: Option<u64>,
}

/// How a suggestion stands beside the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// None costs no more than it in any respect and takes no more.
    Front,
    /// So many do.
    Beaten(usize),
    /// A part of what it changes would do, and takes more.
    MoreThanNeeded,
}

/// A card that a setup fits on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The name after `--gpu sim:`.
    pub name: String,
    /// The product's.
    pub product: String,
    /// Its memory.
    pub total: Bytes,
}

/// The smallest card for a setup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smallest {
    /// It, if any is large enough.
    pub card: Option<Card>,
    /// How many were looked at: those that can run it.
    pub looked_at: usize,
}

/// How the setup asked for fares on one built-in card.
#[derive(Debug, Clone, PartialEq)]
pub struct CardRow {
    /// The card.
    pub card: Card,
    /// The precision there: the card's default, where none is asked for.
    pub precision: Precision,
    /// Whether it is modelled, and all that it needs is there.
    pub runs: bool,
    /// Whether it fits.
    pub fits: bool,
    /// The largest micro-batch that does, where it fits.
    pub largest: Option<u64>,
    /// Where it does not, the cheapest that fits in its place.
    pub cheapest: Option<Suggestion>,
}

/// What to change, and what it brings.
#[derive(Debug, Clone, PartialEq)]
pub struct Advice {
    /// The setup asked for.
    pub estimate: Estimate,
    /// The GPU that it is for: of several kinds the one with the least room.
    pub gpu: Option<PlanGpu>,
    /// What there is.
    pub capacity: Capacity,
    /// To fit: setups of which nothing can be left out, the Pareto front of them first, the cheapest
    /// first; where those are few, some that change more. Empty where the one asked for fits.
    pub to_fit: Vec<Suggestion>,
    /// How all setups that were thought of fared.
    pub tally: Tally,
    /// Where nothing fits: what comes nearest to it.
    pub nearest: Option<Suggestion>,
    /// One change at a time, the one that saves most first.
    pub alone: Vec<Suggestion>,
    /// Where the setup asked for fits: what room is left for.
    pub back: Vec<Suggestion>,
    /// The smallest card for the setup asked for.
    pub card: Smallest,
    /// The smallest card for each of the first suggestions, or for what comes nearest.
    pub cards_with: Vec<Smallest>,
    /// All built-in cards, where they were asked for.
    pub cards: Vec<CardRow>,
}

impl Advice {
    /// Whether the setup asked for fits.
    pub fn fits(&self) -> bool {
        self.estimate.fits() == Some(true)
    }

    /// Returns what a change saves of what the setup asked for takes; negative where it costs.
    pub fn saved(&self, suggestion: &Suggestion) -> i64 {
        let signed = |bytes: Bytes| i64::try_from(bytes.get()).unwrap_or(i64::MAX);
        signed(self.taken()).saturating_sub(signed(suggestion.taken))
    }

    /// Returns what the setup asked for takes of what is there, or would take of more.
    pub fn taken(&self) -> Bytes {
        if self.fits() { self.estimate.taken() } else { self.estimate.footprint.peak_reserved }
    }
}
