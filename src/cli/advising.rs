//! How other setups of a job fare on its GPU: the looks of `oomph advise`, each a trace and a replay.

use std::sync::{Mutex, PoisonError};

use crate::cli::fits::{OnDevice, SETTLED, most_at_once};
use crate::cli::job::Job;
use crate::memory::alive::Alive;
use crate::memory::allocator::{Capacity as Simulated, GRANULE, Outcome};
use crate::memory::fit::{Taken, replay_in, replay_on, taken_near, taken_of};
use crate::memory::largest::largest_micro_batch;
use crate::plan::advise::advice::{Standing, Suggestion};
use crate::plan::advise::change::{Change, Way};
use crate::plan::advise::cost::{Cost, Moved};
use crate::plan::advise::lattice::Lattice;
use crate::plan::advise::search::Seen;
use crate::plan::sync::{Sharing, Sizes, Traffic, When, traffic};
use crate::step::setup::{Allocator, Attention, Optimizer, Precision, Setup, ZeroGrad};
use crate::step::work::Work;
use crate::step::{self, StepError};
use crate::trace::{Category, Phase, Trace};
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
    /// Arithmetic of a sample, of what was worked out before.
    works: Memo<Option<Work>>,
    /// Bytes of gradients, of what was worked out before.
    gradients: Memo<Result<Bytes, StepError>>,
    /// Bytes of paged state, of what was worked out before.
    paged: Memo<Option<Bytes>>,
    /// What is alive beside an optimizer's state, and the state of each.
    floors: [Memo<Option<Bytes>>; 2],
}

/// What was worked out before, by setup.
#[derive(Debug)]
struct Memo<T> {
    known: Mutex<Vec<(Way, T)>>,
}

impl<T: Clone> Memo<T> {
    fn new() -> Memo<T> {
        Memo { known: Mutex::new(Vec::new()) }
    }

    /// Returns what is known of a setup, or works it out.
    fn of(&self, way: Way, work_out: impl FnOnce(&Way) -> T) -> T {
        // A poisoned lock still holds whole entries: each is pushed when it is done.
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = lock().iter().find(|(known, _)| *known == way) {
            return known.clone();
        }
        let made = work_out(&way);
        lock().push((way, made.clone()));
        made
    }
}

/// Returns a setup of one sample and one micro-step, with the optimizer that holds nothing: what
/// setups have in common that differ in no more than that.
fn one_sample(way: &Way) -> Way {
    let setup = Setup {
        micro_batch: MicroBatch::ONE,
        accumulation: AccumulationSteps::ONE,
        optimizer: Optimizer::Sgd,
        zero_grad: ZeroGrad::None,
        allocator: Allocator::Default,
        ..way.setup
    };
    Way { setup, tuning: way.tuning.clone() }
}

/// A setup that was looked at.
struct Judged {
    seen: Seen,
    /// Its trace, of two micro-steps at most: more of them have the same peaks.
    trace: Trace,
}

/// So many micro-steps have the peaks of any number.
pub const FEW: u64 = 2;

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
        Bench::with(job, base, whole.map_or(Bytes::ZERO, |whole| whole.bytes))
    }

    /// Puts a job on a device of which the allocator may take so much.
    pub fn with(job: &'a Job, base: Way, capacity: Bytes) -> Bench<'a> {
        let (works, gradients, paged) = (Memo::new(), Memo::new(), Memo::new());
        let floors = [Memo::new(), Memo::new()];
        Bench { job, base, capacity, works, gradients, paged, floors }
    }

    /// Returns the setups to look at.
    ///
    /// The package flash-attn is not among them where it keeps as much as sdpa, which runs PyTorch's
    /// own copy of the same kernel unless there is a mask.
    pub fn lattice(&self) -> Lattice {
        let lattice = Lattice::of(&self.job.model.config, &self.base);
        if self.flash_saves() {
            return lattice;
        }
        lattice.without_last(&Change::Attention(Attention::Flash))
    }

    /// Whether flash-attn saves more than a step of the allocator beside sdpa, or runs where sdpa does not.
    fn flash_saves(&self) -> bool {
        let setup = self.base.setup;
        // Not in float32; what it saves are masks, whatever the precision.
        let precision =
            if setup.precision.is_half() { setup.precision } else { Precision::AmpBf16 };
        let passing = |attention| {
            let way = Way { setup: Setup { attention, precision, ..setup }, ..self.base.clone() };
            Some(Alive::of(&self.trace(&way, 1).ok()?).passing)
        };
        let Some(flash) = passing(Attention::Flash) else { return false };
        passing(Attention::Sdpa).is_none_or(|sdpa| sdpa > flash + GRANULE)
    }

    /// Returns the trace of a setup, with so many micro-steps at most.
    ///
    /// # Errors
    /// Where the setup is refused.
    pub fn trace(&self, way: &Way, at_most: u64) -> Result<Trace, StepError> {
        let at_most = AccumulationSteps::new(at_most).unwrap_or(AccumulationSteps::ONE);
        let accumulation = way.setup.accumulation.min(at_most);
        let setup = Setup { accumulation, ..way.setup };
        step::trace_tuned(&self.job.model.config, &way.tuning, &setup)
    }

    /// Returns what gradients take, where several devices hold them once more in buckets.
    fn shared_gradients(&self, way: &Way) -> Result<Bytes, StepError> {
        if self.job.data_parallel().get() < 2 {
            return Ok(Bytes::ZERO);
        }
        self.gradients.of(one_sample(way), |way| Ok(Alive::of(&self.trace(way, 1)?).gradients))
    }

    fn room(&self, way: &Way) -> Result<Bytes, StepError> {
        Ok(self.capacity.saturating_sub(self.shared_gradients(way)?))
    }

    /// Says how a setup fares: whether it fits is said of a little more room too, not of all, which
    /// [`is_sure`](Self::is_sure) does.
    pub fn look(&self, way: &Way) -> Seen {
        self.judge(way).map_or(Seen::Refused, |judged| judged.seen)
    }

    /// Returns what a setup needs at least, on this GPU and on all whose kernels keep as much: what is
    /// alive at once but scratch, of as few traces as tell it; `None` where it is refused.
    pub fn floor(&self, way: &Way) -> Option<Bytes> {
        let accumulation = way.setup.accumulation.min(AccumulationSteps::new(FEW)?);
        let (optimizer, allocator) = (Optimizer::Sgd, Allocator::Default);
        let setup = Setup { accumulation, optimizer, allocator, ..way.setup };
        let [passing, state] = &self.floors;
        let passing = passing.of(Way { setup, ..way.clone() }, |way| {
            let trace = self.trace(way, FEW).ok()?;
            let scratch = most_at_once(&trace, Category::Workspace);
            Some(Alive::of(&trace).passing.saturating_sub(scratch))
        })?;
        let Setup { optimizer, precision, .. } = way.setup;
        let held = Way {
            setup: Setup { optimizer, precision, ..one_sample(&self.base).setup },
            ..way.clone()
        };
        let state = state.of(held, |_| Some(Alive::of(&self.trace(way, 1).ok()?).state))?;
        Some(passing + state + self.shared_gradients(way).ok()?)
    }

    fn judge(&self, way: &Way) -> Result<Judged, StepError> {
        let (trace, room) = (self.trace(way, FEW)?, self.room(way)?);
        let alive = Alive::of(&trace);
        let taken =
            if alive.most <= room { self.taken(way, &trace, room, taken_near)? } else { None };
        let seen = taken.map_or(Seen::TooMuch { alive, room }, Seen::Fits);
        Ok(Judged { seen, trace })
    }

    /// Returns what a setup takes, if it fits, judged by no more micro-steps than decide on it: where
    /// nothing is refused to a few, more change nothing, and what fails among the first fails.
    fn taken(
        &self,
        way: &Way,
        few: &Trace,
        room: Bytes,
        taken: impl Fn(&Trace, Bytes) -> Option<Taken>,
    ) -> Result<Option<Taken>, StepError> {
        if way.setup.accumulation.get() <= FEW {
            return Ok(taken(few, room));
        }
        let mut device = Simulated::new(room);
        let replay = replay_in(few, &mut device);
        let optimizer = few.phases.iter().find(|(_, phase)| *phase == Phase::Optimizer);
        match replay.outcome {
            Outcome::Ran if device.smallest_refused().is_none() => {
                Ok(Some(Taken { bytes: replay.peak_reserved, sure: true }))
            }
            Outcome::OutOfMemory { event, .. } if optimizer.is_some_and(|&(at, _)| event < at) => {
                Ok(None)
            }
            _ => Ok(taken(&self.trace(way, SETTLED)?, room)),
        }
    }

    /// Whether a setup that was seen to fit runs on what is there and on all that is more: what a look
    /// says of what is near.
    pub fn is_sure(&self, way: &Way, seen: Taken) -> bool {
        let whole =
            |trace: &Trace, room| taken_of(trace, room).map(|bytes| Taken { bytes, sure: true });
        let taken = || self.taken(way, &self.trace(way, FEW)?, self.room(way)?, whole);
        seen.sure || taken().is_ok_and(|taken: Option<Taken>| taken.is_some())
    }

    /// Works out what a change takes and costs; `None` where it is refused.
    pub fn suggestion(&self, changes: Vec<Change>, way: Way) -> Option<Suggestion> {
        let Judged { seen, trace } = self.judge(&way).ok()?;
        match seen {
            Seen::Fits(taken) if self.is_sure(&way, taken) => {
                self.fitting(changes, way, taken.bytes)
            }
            _ => {
                let taken = replay_on(&trace, Simulated::UNLIMITED).peak_reserved;
                let one = self.fitting(changes, way, taken);
                one.map(|one| Suggestion { fits: false, ..one })
            }
        }
    }

    /// Works out what changes cost that fit.
    pub fn fitting(&self, changes: Vec<Change>, way: Way, taken: Bytes) -> Option<Suggestion> {
        let cost = self.cost(&changes, &way)?;
        let (fits, standing, largest) = (true, Standing::Front, None);
        Some(Suggestion { changes, way, taken, fits, standing, cost, largest })
    }

    /// Works out what changes cost, whether they fit or not.
    pub fn cost(&self, changes: &[Change], way: &Way) -> Option<Cost> {
        let model = &self.job.model.config;
        let work = |way: &Way| {
            let of = |way: &Way| step::work(model, &way.tuning, &way.setup).ok();
            Some((self.works.of(one_sample(way), of)?, way.setup.seq_len))
        };
        let both = [work(&self.base)?, work(way)?];
        let moved = Moved { host: self.host(way)?, sent: self.sent(way)? };
        Some(Cost::of(changes, model.has_batch_norm(), both, moved))
    }

    /// Returns what a paged optimizer moves in a step at most: its state to the host and back.
    fn host(&self, way: &Way) -> Option<Bytes> {
        let (here, paged) = match way.setup.optimizer {
            Optimizer::PagedAdamW8Bit => (Optimizer::AdamW8Bit, Optimizer::PagedAdamW8Bit),
            Optimizer::PagedAdamW8BitHf => (Optimizer::AdamW8BitHf, Optimizer::PagedAdamW8BitHf),
            _ => return Some(Bytes::ZERO),
        };
        let state = |way: &Way, optimizer| {
            let setup = Setup { optimizer, ..way.setup };
            Some(Alive::of(&self.trace(&Way { setup, ..way.clone() }, 1).ok()?).state)
        };
        let paged = self.paged.of(one_sample(way), |way| {
            Some(state(way, here)?.saturating_sub(state(way, paged)?))
        })?;
        Some(paged + paged)
    }

    /// Returns what each of several devices sends in a step.
    fn sent(&self, way: &Way) -> Option<Bytes> {
        let gradients = self.shared_gradients(way).ok()?;
        let sizes = Sizes { gradients, parameters: Bytes::ZERO, room_when_sharded: None };
        let all = traffic(sizes, self.job.data_parallel(), way.setup.accumulation);
        let when = self.job.settings.grad_sync.unwrap_or(When::Once);
        let ddp = |one: &&Traffic| one.sharing == Sharing::Ddp && one.when == when;
        all.iter().find(ddp).map(|one| one.sent)
    }

    /// Returns the largest micro-batch that fits with a setup, at its accumulation.
    pub fn largest(&self, way: &Way) -> Option<u64> {
        let (limit, room) = (self.job.settings.search_limit(), self.room(way).ok()?);
        let found = largest_micro_batch(room, limit, |micro_batch| {
            self.trace(&Way { setup: Setup { micro_batch, ..way.setup }, ..way.clone() }, SETTLED)
        });
        Some(found.ok()?.micro_batch.map_or(0, MicroBatch::get))
    }
}
