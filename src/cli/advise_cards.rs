//! The built-in cards: which a setup fits on, and what makes it fit.

use crate::cli::advising::{Bench, FEW};
use crate::cli::error::CliError;
use crate::cli::support;
use crate::cli::target::{self, ChosenGpu};
use crate::cli::values::Headroom;
use crate::memory::alive::Alive;
use crate::parallel::each;
use crate::plan::advise::advice::{Card, CardRow, Smallest, Suggestion};
use crate::plan::advise::change::Way;
use crate::plan::advise::cost::Cost;
use crate::plan::advise::lattice::{Lattice, Point};
use crate::plan::advise::search::Seen;
use crate::plan::capacity::Capacity;
use crate::profile::gpu;
use crate::step::setup::{Precision, Setup};
use crate::units::Bytes;

/// A built-in card that the PyTorch in question has kernels for, idle.
#[derive(Debug)]
pub struct Idle {
    card: Card,
    gpu: ChosenGpu,
    /// What the allocator may take, gradient buckets not taken off.
    capacity: Bytes,
}

impl Idle {
    /// Whether a setup's number formats are there in hardware.
    fn takes(&self, way: &Way) -> bool {
        let in_bf16 = matches!(way.setup.precision, Precision::Bf16 | Precision::AmpBf16);
        self.gpu.arch.has_bf16() || !in_bf16
    }
}

/// Returns the built-in cards, the smallest first.
///
/// # Errors
/// When a built-in profile cannot be read.
pub fn cards(bench: &Bench) -> Result<Vec<Idle>, CliError> {
    let torch = bench.job.settings.versions.torch;
    let mut cards = Vec::new();
    for name in gpu::names() {
        for gpu in target::simulated(&format!("sim:{name}"))? {
            if support::kernels(gpu.arch, torch).is_ok() {
                let (product, total) = (gpu.name.clone(), gpu.total);
                let card = Card { name: name.to_owned(), product, total };
                cards.push(Idle { card, capacity: capacity_of(bench, &gpu), gpu });
            }
        }
    }
    cards.sort_by_key(|card| card.gpu.free);
    Ok(cards)
}

/// Returns what the allocator may take of an idle card, gradient buckets not taken off.
fn capacity_of(bench: &Bench, card: &ChosenGpu) -> Bytes {
    let headroom = bench.job.settings.headroom.unwrap_or(Headroom::DEFAULT).of(card.total);
    let outside = bench.job.outside(Some(card), Bytes::ZERO);
    Capacity::of_device(card.free, &outside, headroom).bytes
}

/// Finds the smallest built-in card that a setup fits on, of those that PyTorch has kernels for and,
/// where it is in bfloat16, that have it.
pub fn smallest(bench: &Bench, cards: &[Idle], way: &Way) -> Smallest {
    let looked_at = cards.iter().filter(|card| card.takes(way)).count();
    // On any card: weights, gradients and state do not depend on its kernels.
    let held = bench.trace(way, FEW).map_or(Bytes::ZERO, |trace| Alive::of(&trace).held);
    let mut large = cards.iter().filter(|card| card.takes(way) && card.capacity >= held);
    let card = large.find(|card| {
        let (gpu, device_total) = (card.gpu.arch, card.gpu.usable);
        let setup = Setup { gpu, device_total, ..way.setup };
        let bench = Bench::with(bench.job, bench.base.clone(), card.capacity);
        let way = Way { setup, ..way.clone() };
        matches!(bench.look(&way), Seen::Fits(taken) if bench.is_sure(&way, taken))
    });
    Smallest { card: card.map(|card| card.card.clone()), looked_at }
}

/// So many points are weighed at once.
const AT_ONCE: usize = 64;

/// Says of each built-in card how the setup asked for fares on it, and the cheapest that fits in its
/// place.
pub fn all(bench: &Bench, cards: Vec<Idle>, lattice: &Lattice) -> Vec<CardRow> {
    let benches: Vec<(Idle, Bench)> = cards
        .into_iter()
        .map(|card| {
            let mut base = bench.base.clone();
            (base.setup.gpu, base.setup.device_total) = (card.gpu.arch, card.gpu.usable);
            if bench.job.settings.precision_by_default {
                let default = support::default_precision(card.gpu.arch);
                base.setup.precision = support::precision(default);
            }
            let bench = Bench::with(bench.job, base, card.capacity);
            (card, bench)
        })
        .collect();
    let mut rows: Vec<CardRow> = each(&benches, |(card, bench)| {
        let runs = card.takes(&bench.base);
        let seen = if runs { bench.look(&bench.base) } else { Seen::Refused };
        let fits = matches!(seen, Seen::Fits(taken) if bench.is_sure(&bench.base, taken));
        CardRow {
            card: card.card.clone(),
            precision: bench.base.setup.precision,
            runs: seen != Seen::Refused,
            fits,
            largest: fits.then(|| bench.largest(&bench.base)).flatten(),
            cheapest: None,
        }
    });
    let mut open: Vec<usize> = (0..rows.len()).filter(|&at| !rows[at].fits).collect();
    let points = by_cost(bench, lattice);
    for some in points.chunks(AT_ONCE) {
        let most = open.iter().map(|&at| benches[at].1.capacity).max().unwrap_or(Bytes::ZERO);
        let floors = each(some, |point| bench.floor(&lattice.way(point)).filter(|f| *f <= most));
        for (point, floor) in some.iter().zip(floors) {
            let Some(floor) = floor else { continue };
            let large: Vec<usize> =
                open.iter().copied().filter(|&at| benches[at].1.capacity >= floor).collect();
            let found = each(&large, |&at| on_card(&benches[at], lattice, point));
            for (at, found) in large.into_iter().zip(found) {
                if found.is_some() {
                    rows[at].cheapest = found;
                    open.retain(|&other| other != at);
                }
            }
        }
        if open.is_empty() {
            break;
        }
    }
    rows
}

/// Returns the points that change something, the cheapest first.
fn by_cost(bench: &Bench, lattice: &Lattice) -> Vec<Point> {
    let points = lattice.points();
    let costs = each(&points, |point| {
        let changes = lattice.changes(point);
        if changes.is_empty() { None } else { bench.cost(&changes, &lattice.way(point)) }
    });
    let mut all: Vec<(Point, Cost)> =
        points.into_iter().zip(costs).filter_map(|(point, cost)| Some((point, cost?))).collect();
    all.sort_by(|(_, a), (_, b)| a.order(b));
    all.into_iter().map(|(point, _)| point).collect()
}

/// Returns the suggestion of a point on a card, if it fits.
fn on_card((card, bench): &(Idle, Bench), lattice: &Lattice, point: &Point) -> Option<Suggestion> {
    let changes = lattice.changes(point);
    let way = changes.iter().fold(bench.base.clone(), |way, change| change.applied(&way));
    if !card.takes(&way) {
        return None;
    }
    match bench.look(&way) {
        Seen::Fits(taken) if bench.is_sure(&way, taken) => bench.fitting(changes, way, taken.bytes),
        _ => None,
    }
}
