//! How other setups of a job fare on its GPU: the looks of `oomph advise`, each a trace and a replay.

use crate::cli::error::CliError;
use crate::cli::fits::{OnDevice, SETTLED};
use crate::cli::job::Job;
use crate::cli::support;
use crate::cli::target::{self, ChosenGpu};
use crate::cli::values::Headroom;
use crate::memory::alive::Alive;
use crate::memory::allocator::Capacity as Endless;
use crate::memory::fit::{replay_on, taken_of};
use crate::memory::largest::largest_micro_batch;
use crate::plan::advise::advice::{Card, Smallest, Suggestion};
use crate::plan::advise::change::{Change, Way};
use crate::plan::advise::cost::Cost;
use crate::plan::advise::search::Seen;
use crate::plan::capacity::Capacity;
use crate::profile::gpu;
use crate::step::setup::{Optimizer, Precision, Setup};
use crate::step::{self, StepError};
use crate::trace::Trace;
use crate::units::{AccumulationSteps, Bytes, MicroBatch};

/// A job on one GPU, whose setup may change.
#[derive(Debug)]
pub struct Bench<'a> {
    /// The job.
    pub job: &'a Job,
    /// The setup asked for.
    pub base: Way,
    /// What the allocator may take, gradient buckets of several devices not taken off.
    pub capacity: Bytes,
}

/// A setup that was looked at.
struct Judged {
    seen: Seen,
    trace: Trace,
}

impl<'a> Bench<'a> {
    /// Puts a job of these sizes on a device.
    pub fn new(
        device: &OnDevice<'a>,
        (micro_batch, accumulation): (MicroBatch, AccumulationSteps),
    ) -> Bench<'a> {
        let job = device.job;
        let tuning = job.settings.tuning.clone();
        let base = Way { setup: device.setup(micro_batch, accumulation), tuning };
        let whole = job.capacity_on(device.gpu, &job.outside(device.gpu, Bytes::ZERO));
        Bench { job, base, capacity: whole.map_or(Bytes::ZERO, |whole| whole.bytes) }
    }

    /// Returns the trace of a setup, with no more micro-steps than change anything.
    fn trace(&self, way: &Way) -> Result<Trace, StepError> {
        let settled = AccumulationSteps::new(SETTLED).unwrap_or(AccumulationSteps::ONE);
        let accumulation = way.setup.accumulation.min(settled);
        let setup = Setup { accumulation, ..way.setup };
        step::trace_tuned(&self.job.model.config, &way.tuning, &setup)
    }

    /// Returns what gradient buckets take off the capacity: gradients once more, of several devices.
    fn buckets(&self, way: &Way) -> Result<Bytes, StepError> {
        if self.job.data_parallel().get() < 2 {
            return Ok(Bytes::ZERO);
        }
        let (micro_batch, accumulation) = (MicroBatch::ONE, AccumulationSteps::ONE);
        let setup = Setup { micro_batch, accumulation, ..way.setup };
        let trace = step::trace_tuned(&self.job.model.config, &way.tuning, &setup)?;
        Ok(Alive::of(&trace).gradients)
    }

    fn room(&self, way: &Way) -> Result<Bytes, StepError> {
        Ok(self.capacity.saturating_sub(self.buckets(way)?))
    }

    /// Says how a setup fares.
    pub fn look(&self, way: &Way) -> Seen {
        self.judge(way).map_or(Seen::Refused, |judged| judged.seen)
    }

    fn judge(&self, way: &Way) -> Result<Judged, StepError> {
        let (trace, room) = (self.trace(way)?, self.room(way)?);
        let alive = Alive::of(&trace);
        let taken = if alive.most <= room { taken_of(&trace, room) } else { None };
        let seen = taken.map_or(Seen::TooMuch { alive, room }, Seen::Fits);
        Ok(Judged { seen, trace })
    }

    /// Works out what a change takes and costs; `None` where it is refused.
    pub fn suggestion(&self, changes: Vec<Change>, way: Way) -> Option<Suggestion> {
        let Judged { seen, trace } = self.judge(&way).ok()?;
        match seen {
            Seen::Fits(taken) => self.fitting(changes, way, taken),
            _ => {
                let taken = replay_on(&trace, Endless::UNLIMITED).peak_reserved;
                let one = self.fitting(changes, way, taken);
                one.map(|one| Suggestion { fits: false, ..one })
            }
        }
    }

    /// Works out what changes cost that fit.
    pub fn fitting(&self, changes: Vec<Change>, way: Way, taken: Bytes) -> Option<Suggestion> {
        let cost = self.cost(&changes, &way)?;
        Some(Suggestion { changes, way, taken, fits: true, beaten: false, cost, largest: None })
    }

    fn cost(&self, changes: &[Change], way: &Way) -> Option<Cost> {
        let model = &self.job.model.config;
        let work = |way: &Way| {
            let setup = Setup { micro_batch: MicroBatch::ONE, ..way.setup };
            Some((step::work(model, &way.tuning, &setup).ok()?, setup.seq_len))
        };
        let both = [work(&self.base)?, work(way)?];
        Some(Cost::of(changes, model.has_batch_norm(), both, self.host(way)?))
    }

    /// Returns what a paged optimizer moves in a step at most: its state to the host and back.
    fn host(&self, way: &Way) -> Option<Bytes> {
        if way.setup.optimizer != Optimizer::PagedAdamW8Bit {
            return Some(Bytes::ZERO);
        }
        let state = |optimizer| {
            let setup = Setup { optimizer, ..way.setup };
            Some(Alive::of(&self.trace(&Way { setup, ..way.clone() }).ok()?).state)
        };
        let here = state(Optimizer::AdamW8Bit)?;
        let paged = here.saturating_sub(state(Optimizer::PagedAdamW8Bit)?);
        Some(paged + paged)
    }

    /// Returns the largest micro-batch that fits with a setup, at its accumulation.
    pub fn largest(&self, way: &Way) -> Option<u64> {
        let (limit, room) = (self.job.settings.search_limit(), self.room(way).ok()?);
        let found = largest_micro_batch(room, limit, |micro_batch| {
            self.trace(&Way { setup: Setup { micro_batch, ..way.setup }, ..way.clone() })
        });
        Some(found.ok()?.micro_batch.map_or(0, MicroBatch::get))
    }

    /// Finds the smallest built-in card that a setup fits on, of those that PyTorch has kernels for
    /// and, where it is in bfloat16, that have it.
    ///
    /// # Errors
    /// When a built-in profile cannot be read.
    pub fn smallest_card(&self, way: &Way) -> Result<Smallest, CliError> {
        let torch = self.job.settings.versions.torch;
        let in_bf16 = matches!(way.setup.precision, Precision::Bf16 | Precision::AmpBf16);
        let mut cards = Vec::new();
        for name in gpu::names() {
            for card in target::simulated(&format!("sim:{name}"))? {
                if support::kernels(card.arch, torch).is_ok() && (card.arch.has_bf16() || !in_bf16)
                {
                    cards.push((name, card));
                }
            }
        }
        cards.sort_by_key(|(_, card)| card.free);
        let looked_at = cards.len();
        for (name, card) in cards {
            let setup = Setup { gpu: card.arch, ..way.setup };
            let base = self.base.clone();
            let bench = Bench { job: self.job, base, capacity: self.capacity_of(&card) };
            if let Seen::Fits(_) = bench.look(&Way { setup, ..way.clone() }) {
                let card = Card { name: name.to_owned(), product: card.name, total: card.total };
                return Ok(Smallest { card: Some(card), looked_at });
            }
        }
        Ok(Smallest { card: None, looked_at })
    }

    /// Returns what the allocator may take of an idle card, gradient buckets not taken off.
    fn capacity_of(&self, card: &ChosenGpu) -> Bytes {
        let headroom = self.job.settings.headroom.unwrap_or(Headroom::DEFAULT).of(card.total);
        let outside = self.job.outside(Some(card), Bytes::ZERO);
        Capacity::of_device(card.free, &outside, headroom).bytes
    }
}
