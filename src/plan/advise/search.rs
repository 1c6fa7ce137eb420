//! Finds every setup that fits while none milder does.
//!
//! Points are looked at from the mildest on. Most need no look: a milder one fits already, or what
//! others have shown is too much by itself: what is held whatever the micro-batch (weights, gradients,
//! the optimizer's state), or what is alive in forward and backward with any optimizer, beside the
//! state of this one.

use std::collections::{BTreeMap, BTreeSet};

use crate::memory::alive::Alive;
use crate::memory::fit::Taken;
use crate::parallel::each;
use crate::plan::advise::change::Way;
use crate::plan::advise::lattice::{Lattice, Point};
use crate::units::Bytes;

/// What was seen of one setup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It fits, and takes so much.
    Fits(Taken),
    /// It does not.
    TooMuch {
        /// What is alive at once.
        alive: Alive,
        /// What there is.
        room: Bytes,
    },
    /// It is not modelled, or the model or its libraries refuse it.
    Refused,
}

/// How the points of a lattice fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Setups in all.
    pub setups: usize,
    /// Those that fit while none milder does.
    pub fit: usize,
    /// Not looked at, since a milder one fits.
    pub milder_fits: usize,
    /// Those that do not fit.
    pub too_much: usize,
    /// Not looked at, since what they hold alone is too much.
    pub ruled_out: usize,
    /// Left out: refused.
    pub refused: usize,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// Points that fit while none milder does, the mildest first, and what each takes.
    pub fitting: Vec<(Point, Taken)>,
    /// How all fared.
    pub tally: Tally,
}

/// Searches a lattice; `look` says how a setup fares.
///
/// # Errors
/// The first of `look`.
pub fn search<E: Send>(
    lattice: &Lattice,
    look: impl Fn(&Way) -> Result<Seen, E> + Sync,
) -> Result<Found, E> {
    let points = lattice.points();
    let mut found =
        Found { tally: Tally { setups: points.len(), ..Tally::default() }, ..Found::default() };
    // By what decides on them: what is held, and what is alive with any optimizer.
    let mut held: BTreeMap<[u8; 4], (Alive, Bytes)> = BTreeMap::new();
    let mut passing: BTreeMap<Point, Bytes> = BTreeMap::new();
    // Those whose live tensors alone are too much, whatever the allocator.
    let mut full: BTreeSet<Point> = BTreeSet::new();
    // None of a depth is milder than another: they can be looked at side by side.
    for level in points.chunk_by(|a, b| lattice.depth(a) == lattice.depth(b)) {
        let Found { fitting, tally } = &mut found;
        let mut open = Vec::new();
        for point in level {
            if fitting.iter().any(|(fits, _)| lattice.is_milder(fits, point)) {
                tally.milder_fits += 1;
                continue;
            }
            let passing = passing.get(&Lattice::with_any_optimizer(point));
            let is_too_much = held.get(&Lattice::held(point)).is_some_and(|(alive, room)| {
                alive.held > *room || passing.is_some_and(|&bytes| bytes + alive.state > *room)
            });
            if is_too_much || full.contains(&Lattice::with_any_allocator(point)) {
                tally.ruled_out += 1;
            } else {
                open.push(*point);
            }
        }
        let seen = each(&open, |point| look(&lattice.way(point)));
        for (point, seen) in open.iter().zip(seen) {
            match seen? {
                Seen::Fits(taken) => {
                    tally.fit += 1;
                    fitting.push((*point, taken));
                }
                Seen::TooMuch { alive, room } => {
                    tally.too_much += 1;
                    held.entry(Lattice::held(point)).or_insert((alive, room));
                    if alive.most > room {
                        full.insert(Lattice::with_any_allocator(point));
                    }
                    passing.insert(Lattice::with_any_optimizer(point), alive.passing);
                }
                Seen::Refused => tally.refused += 1,
            }
        }
    }
    Ok(found)
}
