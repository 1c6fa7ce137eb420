//! A whole trial: the search at each number of micro-steps, on a machine, remembering every run.

use crate::plan::together::Fits;
use crate::trial::growth::{Growth, Seen};
use crate::trial::machine::Machine;
use crate::trial::outcome::{Outcome, Verdict};
use crate::trial::search::{Next, Peaks, Point, Search};
use crate::trial::template::{Sizes, Template};
use crate::units::{AccumulationSteps, Bytes, DataParallelSize, MicroBatch};

/// Bytes of PyTorch's count that may be lost to the allocator's rounding, and of the device's to its
/// granules and PyTorch's segments.
const ROUNDING: (f64, f64) = ((2 << 20) as f64, (16 << 20) as f64);
/// Micro-steps from which on fragments gather no more (the same as the estimate's).
const SETTLED: u64 = 6;

/// One run of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its sizes.
    pub sizes: Sizes,
    /// What it came to.
    pub outcome: Outcome,
}

/// Why a trial has no answer.
#[derive(Debug, thiserror::Error)]
pub enum TrialError<E> {
    /// A run came to nothing that says anything about memory.
    #[error("micro-batch {} {}", .0.sizes.micro_batch, .0.outcome.verdict.name())]
    NoVerdict(Box<Run>),
    /// A run came to its end and left GPUs alone that count as replicas.
    #[error("micro-batch {} left GPUs alone", .0.sizes.micro_batch)]
    Idle(Box<Run>),
    /// Memory is the same at every size.
    #[error("memory is the same at every size")]
    SameAtEverySize,
    /// The machine could not run it.
    #[error(transparent)]
    Machine(#[from] E),
}

/// A trial in progress.
#[derive(Debug)]
pub struct Trial<M> {
    machine: M,
    template: Template,
    data_parallel: DataParallelSize,
    limit: MicroBatch,
    /// Samples of a replica in an optimizer step, where there is a target.
    samples: Option<u64>,
    /// GPUs that have to be used: as many as count as replicas; 0 where the user counts.
    counted: usize,
    /// The largest size up to which memory grew, where it did not grow any further.
    grown_to: Option<u64>,
    /// Every run, in order.
    pub runs: Vec<Run>,
    /// With one micro-step.
    single: Search,
    /// With more, as many as [`Trial::micro_steps`] says.
    accumulated: Search,
}

impl<M: Machine> Trial<M> {
    /// Prepares a trial; no micro-batch above `limit` is ever run, and none that is more than a
    /// replica's `samples` in an optimizer step.
    pub fn new(
        machine: M,
        template: Template,
        data_parallel: DataParallelSize,
        limit: MicroBatch,
        samples: Option<u64>,
    ) -> Trial<M> {
        let capacity = machine.capacity();
        let most = samples.unwrap_or(u64::MAX).clamp(1, limit.get());
        let most = MicroBatch::new(most).unwrap_or(MicroBatch::ONE);
        let single = Search::new(capacity, machine.peaks(), most);
        let (accumulated, runs) = (single.clone(), Vec::new());
        Trial {
            machine,
            template,
            data_parallel,
            limit,
            samples,
            counted: 0,
            grown_to: None,
            runs,
            single,
            accumulated,
        }
    }

    /// Makes a run that leaves GPUs alone an error where fewer than this many were used.
    pub fn counting(mut self, gpus: usize) -> Trial<M> {
        self.counted = gpus;
        self
    }

    /// Returns the size up to which memory grew, where larger ones ran and took the same.
    pub fn grown_to(&self) -> Option<u64> {
        self.grown_to
    }

    /// Returns the machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Returns a size that was not run with these micro-steps, as the line through the peaks is
    /// clear about it, and what it would take.
    pub fn beyond_by_line(&self, accumulation: AccumulationSteps) -> Option<(u64, Bytes)> {
        let search = match accumulation {
            AccumulationSteps::ONE => &self.single,
            _ => &self.accumulated,
        };
        let Next::Done(largest) = search.next() else { return None };
        Some((largest + 1, search.beyond_by_line()?))
    }

    /// Runs the command at these sizes, unless it was run at them before.
    fn try_at(
        &mut self,
        micro_batch: MicroBatch,
        accumulation: AccumulationSteps,
    ) -> Result<Point, TrialError<M::Error>> {
        let size = micro_batch.get();
        let known = |run: &&Run| {
            run.sizes.micro_batch == micro_batch && run.sizes.accumulation == accumulation
        };
        let run = match self.runs.iter().find(known) {
            Some(run) => run.clone(),
            None => {
                let replicas = self.data_parallel.get();
                let effective_batch =
                    size.saturating_mul(accumulation.get()).saturating_mul(replicas);
                let sizes = Sizes { micro_batch, accumulation, effective_batch };
                let run = Run { sizes, outcome: self.machine.run(&self.template, &sizes)? };
                self.runs.push(run.clone());
                run
            }
        };
        let outcome = &run.outcome;
        let ran = match outcome.verdict {
            Verdict::Ran if self.leaves_idle(outcome) => {
                return Err(TrialError::Idle(Box::new(run)));
            }
            Verdict::Ran => outcome.fits(),
            Verdict::OutOfMemory => false,
            Verdict::Failed | Verdict::TimedOut => {
                return Err(TrialError::NoVerdict(Box::new(run)));
            }
        };
        let at_end = outcome.verdict == Verdict::Ran && !outcome.met_out_of_memory;
        let peak = at_end.then(|| outcome.peak_within(self.machine.capacity())).flatten();
        let point = Point { micro_batch: size, peak, ran };
        if accumulation == AccumulationSteps::ONE {
            self.single.record(point);
            // What does not run so does not with more micro-steps, which keep gradients as well.
            if !ran && self.accumulated.at(size).is_none() {
                self.accumulated.record(point);
            }
        } else if accumulation == self.micro_steps(micro_batch) {
            self.accumulated.record(point);
        }
        Ok(point)
    }

    /// Whether GPUs that count as replicas were not used, which only a look at every allocation tells.
    fn leaves_idle(&self, outcome: &Outcome) -> bool {
        let used = outcome.gpus.len() - outcome.idle_gpus().count();
        self.machine.peaks() == Peaks::Exact && (used == 0 || used < self.counted)
    }

    /// Micro-steps of a run of this size where its plan has more than one.
    ///
    /// On simulated GPUs they cost next to nothing: as many as the plan has, up to where more
    /// change nothing. On real ones two, and the plan's own only where two leave it open.
    fn micro_steps(&self, micro_batch: MicroBatch) -> AccumulationSteps {
        if self.machine.peaks() != Peaks::Exact {
            return AccumulationSteps::TWO;
        }
        let plans = self.samples.map_or(SETTLED, |samples| samples.div_ceil(micro_batch.get()));
        let steps = AccumulationSteps::new(plans.min(SETTLED));
        steps.map_or(AccumulationSteps::TWO, |steps| steps.max(AccumulationSteps::TWO))
    }

    /// Whether the whole of an optimizer step in one micro-step is out of the question: what its
    /// samples alone take, by the line through runs of more, is more than there is.
    fn cannot_be_whole(&mut self, whole: MicroBatch) -> Result<bool, TrialError<M::Error>> {
        if whole.get() < 2 || self.machine.peaks() == Peaks::Unknown {
            return Ok(false);
        }
        for _ in 0..2 {
            match self.accumulated.next() {
                Next::Run(size) if self.accumulated.slope().is_none() => {
                    self.try_at(size, self.micro_steps(size))?;
                }
                _ => break,
            }
        }
        let capacity = self.machine.capacity().get() as f64;
        let slope = self.accumulated.slope();
        let nothing_runs = self.accumulated.next() == Next::Done(0);
        // With nothing at all left to several micro-steps, only one sample alone could be less.
        Ok(nothing_runs || slope.is_some_and(|slope| slope * whole.get() as f64 > capacity))
    }
}

impl<M: Machine> Fits for Trial<M> {
    type Error = TrialError<M::Error>;

    fn largest(&mut self, accumulation: AccumulationSteps) -> Result<u64, Self::Error> {
        // An effective batch of one sample a replica has no two micro-steps.
        if accumulation >= AccumulationSteps::TWO && self.samples.is_some_and(|samples| samples < 2)
        {
            return Ok(0);
        }
        if accumulation == AccumulationSteps::ONE {
            self.start_where_accumulation_ended();
        }
        let whole = accumulation == AccumulationSteps::ONE;
        loop {
            let next = if whole { self.single.next() } else { self.accumulated.next() };
            let size = match next {
                Next::Done(largest) => match self.growth(largest, whole) {
                    Growth::Whole => return Ok(self.grown_to.unwrap_or(largest).min(largest)),
                    Growth::UpTo(grown_to) => {
                        self.grown_to = Some(grown_to);
                        self.single.limit_to(grown_to);
                        self.accumulated.limit_to(grown_to);
                        return Ok(grown_to);
                    }
                    Growth::None => return Err(TrialError::SameAtEverySize),
                    // It ran, and what it took is not known: nothing more can be asked of it.
                    Growth::Ask(size) if self.has_run(size, whole) => {
                        return Ok(self.grown_to.unwrap_or(largest).min(largest));
                    }
                    Growth::Ask(size) => size,
                },
                Next::Run(size) => size,
            };
            let steps = if whole { accumulation } else { self.micro_steps(size) };
            self.try_at(size, steps)?;
        }
    }

    fn runs(
        &mut self,
        micro_batch: MicroBatch,
        accumulation: AccumulationSteps,
    ) -> Result<bool, Self::Error> {
        if micro_batch > self.limit || self.grown_to.is_some_and(|most| micro_batch.get() > most) {
            return Ok(false);
        }
        if accumulation == AccumulationSteps::ONE {
            return Ok(
                !self.cannot_be_whole(micro_batch)? && self.try_at(micro_batch, accumulation)?.ran
            );
        }
        let steps = self.micro_steps(micro_batch);
        let point = self.try_at(micro_batch, steps)?;
        // Where nothing had to be given back, more micro-steps take no more.
        let tight = self.runs.iter().any(|run| {
            run.sizes.micro_batch == micro_batch
                && run.sizes.accumulation == steps
                && run.outcome.was_tight()
        });
        if accumulation <= steps || !point.ran || !tight {
            return Ok(point.ran);
        }
        let settled = AccumulationSteps::new(SETTLED).unwrap_or(accumulation);
        Ok(self.try_at(micro_batch, accumulation.min(settled))?.ran)
    }
}

impl<M: Machine> Trial<M> {
    fn has_run(&self, micro_batch: MicroBatch, whole: bool) -> bool {
        let search = if whole { &self.single } else { &self.accumulated };
        search.at(micro_batch.get()).is_some()
    }

    /// Says how far memory grew up to the largest size that ran, with one micro-step or with more.
    fn growth(&self, largest: u64, whole: bool) -> Growth {
        let search = if whole { &self.single } else { &self.accumulated };
        // The next sample ran out of memory, so that this one took what it does; and what a command
        // has no data for it has none for with more micro-steps.
        if search.is_refused(largest + 1) || self.grown_to.is_some() {
            return Growth::Whole;
        }
        let of_kind =
            |run: &&Run| (run.sizes.accumulation.get() == 1) == whole && run.outcome.fits();
        let sizes = || self.runs.iter().filter(of_kind);
        let (counted, held) = ROUNDING;
        let allocated = sizes().all(|run| run.outcome.most_allocated().is_some());
        let bytes = |run: &Run| match allocated {
            true => run.outcome.most_allocated(),
            false => run.outcome.peak_within(self.machine.capacity()),
        };
        let mut points: Vec<(u64, u64)> = sizes()
            .filter_map(|run| Some((run.sizes.micro_batch.get(), bytes(run)?.get())))
            .collect();
        points.sort_unstable();
        points.dedup_by_key(|(size, _)| *size);
        let rounding = if allocated { counted } else { held };
        let slope = self.single.slope().or(self.accumulated.slope());
        Seen { points: &points, rounding, slope }.growth(largest)
    }

    /// What runs with several micro-steps runs with one, which keeps no gradients meanwhile: the
    /// search at one begins there.
    fn start_where_accumulation_ended(&mut self) {
        if let Next::Done(largest) = self.accumulated.next() {
            for size in 1..=largest {
                if let (Some(point), None) = (self.accumulated.at(size), self.single.at(size))
                    && point.ran
                {
                    self.single.record(point);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
