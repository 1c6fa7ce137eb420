//! A whole trial: the search at each number of micro-steps, on a machine, remembering every run.

use crate::plan::together::Fits;
use crate::trial::machine::Machine;
use crate::trial::outcome::{Outcome, Verdict};
use crate::trial::search::{Next, Peaks, Point, Search};
use crate::trial::template::{Sizes, Template};
use crate::units::{AccumulationSteps, Bytes, DataParallelSize, MicroBatch};

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
        Trial { machine, template, data_parallel, limit, samples, runs, single, accumulated }
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
        let outcome = match self.runs.iter().find(known) {
            Some(run) => run.outcome.clone(),
            None => {
                let replicas = self.data_parallel.get();
                let effective_batch =
                    size.saturating_mul(accumulation.get()).saturating_mul(replicas);
                let sizes = Sizes { micro_batch, accumulation, effective_batch };
                let outcome = self.machine.run(&self.template, &sizes)?;
                self.runs.push(Run { sizes, outcome: outcome.clone() });
                outcome
            }
        };
        let ran = match outcome.verdict {
            Verdict::Ran => outcome.within_free(),
            Verdict::OutOfMemory => false,
            Verdict::Failed | Verdict::TimedOut => {
                let last = self.runs.iter().rfind(known).or(self.runs.last());
                return match last {
                    Some(run) => Err(TrialError::NoVerdict(Box::new(run.clone()))),
                    None => Ok(Point { micro_batch: size, peak: None, ran: false }),
                };
            }
        };
        let at_end = outcome.verdict == Verdict::Ran;
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
                Next::Done(largest) => return Ok(largest),
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
        if micro_batch > self.limit {
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
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::plan::together::{Wish, solve_with};
    use crate::trial::outcome::{Ending, GpuPeak, PeakSource, ProcessPeak};
    use crate::units::EffectiveBatch;

    /// A machine on which memory is a line, and gradients are kept from two micro-steps on.
    #[derive(Clone, Copy)]
    struct Line {
        peaks: Peaks,
        capacity: u64,
        gradients: u64,
        retries: u64,
        /// What gathers over six micro-steps.
        fragments: u64,
    }

    impl Machine for Line {
        type Error = Infallible;

        fn capacity(&self) -> Bytes {
            Bytes::new(self.capacity)
        }

        fn peaks(&self) -> Peaks {
            self.peaks
        }

        fn run(&mut self, _: &Template, sizes: &Sizes) -> Result<Outcome, Infallible> {
            let steps = sizes.accumulation.get();
            let kept = if steps > 1 { self.gradients } else { 0 };
            let fragments = if steps >= SETTLED { self.fragments } else { 0 };
            let needs = 100 + kept + fragments + 10 * sizes.micro_batch.get();
            let ran = needs <= self.capacity;
            let peak_bytes = Bytes::new(needs.min(self.capacity));
            let gpu = GpuPeak {
                index: 0,
                name: "test".to_owned(),
                uuid: "SIM-test-0".to_owned(),
                simulated: true,
                total_bytes: Bytes::new(self.capacity),
                free_bytes: Bytes::new(self.capacity),
                peak_bytes,
                source: PeakSource::Allocations,
            };
            let process = ProcessPeak {
                pid: 1,
                rank: None,
                gpu: 0,
                peak_device_bytes: peak_bytes,
                peak_allocated_bytes: None,
                peak_reserved_bytes: None,
                allocation_retries: Some(self.retries),
                refused: None,
            };
            Ok(Outcome {
                command: Vec::new(),
                ending: Some(Ending::Exit(i32::from(!ran))),
                verdict: if ran { Verdict::Ran } else { Verdict::OutOfMemory },
                reason: String::new(),
                seconds: 0.0,
                gpus: vec![gpu],
                processes: vec![process],
                versions: Default::default(),
                warnings: Vec::new(),
                contended: false,
                tail: Vec::new(),
            })
        }
    }

    /// Solves for 480 samples; returns micro-batch, accumulation, and the sizes of all runs.
    fn solve(machine: Line) -> (u64, u64, Vec<(u64, u64)>) {
        let wish = Wish {
            data_parallel: DataParallelSize::ONE,
            target: EffectiveBatch::new(480),
            micro_batch: None,
            accumulation: None,
        };
        let limit = MicroBatch::new(480).unwrap();
        let template = Template::new(Vec::new(), false);
        let mut trial = Trial::new(machine, template, wish.data_parallel, limit, Some(480));
        let Ok(solved) = solve_with(&wish, &mut trial) else { panic!("every run has a verdict") };
        let best = solved.unwrap().best;
        let sizes = |run: &Run| (run.sizes.micro_batch.get(), run.sizes.accumulation.get());
        let runs = trial.runs.iter().map(sizes).collect();
        (best.micro_batch.get(), best.accumulation.get(), runs)
    }

    const LINE: Line =
        Line { peaks: Peaks::Exact, capacity: 1000, gradients: 50, retries: 0, fragments: 0 };

    #[test]
    fn every_run_has_its_plans_micro_steps_up_to_six() {
        let (micro_batch, accumulation, runs) = solve(LINE);
        assert_eq!((micro_batch, accumulation), (80, 6));
        assert_eq!(runs, [(1, 6), (6, 6), (85, 6), (86, 6), (80, 6)]);
        // 480 samples are 3 micro-steps of 160, and 4 of 159.
        let (micro_batch, accumulation, runs) = solve(Line { capacity: 1755, ..LINE });
        assert_eq!((micro_batch, accumulation), (160, 3));
        assert!(runs.contains(&(160, 3)) && runs.contains(&(161, 3)), "{runs:?}");
    }

    #[test]
    fn what_gathers_over_micro_steps_is_in_the_peaks() {
        let (micro_batch, _, runs) = solve(Line { fragments: 60, ..LINE });
        assert!(
            micro_batch == 60 && runs.contains(&(80, 6)) && !runs.contains(&(85, 2)),
            "{runs:?}"
        );
    }

    #[test]
    fn on_real_gpus_every_run_has_two_micro_steps_where_the_plan_has_more() {
        let (micro_batch, accumulation, runs) = solve(Line { peaks: Peaks::Sampled, ..LINE });
        assert_eq!((micro_batch, accumulation), (80, 6));
        assert!(runs.iter().all(|(_, steps)| *steps == 2), "{runs:?}");
    }

    #[test]
    fn the_whole_in_one_micro_step_is_run_only_where_it_may_fit() {
        let (micro_batch, accumulation, runs) = solve(Line { capacity: 4910, ..LINE });
        assert_eq!((micro_batch, accumulation), (480, 1));
        assert_eq!(runs.last(), Some(&(480, 1)), "{runs:?}");
    }

    #[test]
    fn on_real_gpus_a_tight_plan_is_run_with_as_many_micro_steps_as_change_anything() {
        let line = Line { peaks: Peaks::Sampled, retries: 1, ..LINE };
        let (_, accumulation, runs) = solve(line);
        assert!(accumulation == 6 && runs.contains(&(80, 6)), "{runs:?}");
        // Where it does not run so, a smaller one is the plan.
        let (micro_batch, accumulation, _) = solve(Line { fragments: 60, ..line });
        assert_eq!((micro_batch, accumulation), (60, 8));
    }
}
