//! The largest micro-batch and the accumulation, solved together: what runs at one micro-step may
//! not at two, and each question about what runs costs a trace or a replay on a device.

use crate::memory::largest::EVERY_ONE;
use crate::plan::solver::{
    Batches, Kind, Limits, Request, Solution, Unsolvable, check_numbers, solve,
};
use crate::units::{AccumulationSteps, DataParallelSize, EffectiveBatch, MicroBatch};

/// Says what runs: worked out from traces, or tried on a device.
pub trait Fits {
    /// What can go wrong, other than that it does not fit.
    type Error;

    /// Returns the largest micro-batch that runs with this many micro-steps, it and all smaller
    /// ones; 0 if not even one does. Two stands for two and more: the peak is the same.
    ///
    /// # Errors
    /// When it cannot be said.
    fn largest(&mut self, accumulation: AccumulationSteps) -> Result<u64, Self::Error>;

    /// Returns whether this micro-batch runs with this many micro-steps.
    ///
    /// # Errors
    /// When it cannot be said.
    fn runs(
        &mut self,
        micro_batch: MicroBatch,
        accumulation: AccumulationSteps,
    ) -> Result<bool, Self::Error>;
}

/// What is asked for, before it is known what fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Replicas that share the effective batch.
    pub data_parallel: DataParallelSize,
    /// The effective batch to reach.
    pub target: Option<EffectiveBatch>,
    /// The micro-batch, where the user fixes it.
    pub micro_batch: Option<MicroBatch>,
    /// The accumulation steps, where the user fixes them.
    pub accumulation: Option<AccumulationSteps>,
}

/// Solves a wish, asking only for the limits that the answer rests on.
///
/// # Errors
/// The outer one is of `fits`; the inner one says why there is no plan.
pub fn solve_with<F: Fits>(
    wish: &Wish,
    fits: &mut F,
) -> Result<Result<Solution, Unsolvable>, F::Error> {
    // Numbers that no limit can help are refused before anything is asked.
    if let Err(error) = check_numbers(&wish.with(Limits { single: 0, accumulated: 0 })) {
        return Ok(Err(error));
    }
    let fixed = match (wish.accumulation, wish.target) {
        (Some(steps), _) => Some(steps),
        (None, None) => Some(AccumulationSteps::ONE),
        (None, Some(_)) => None,
    };
    if let Some(steps) = fixed {
        let mut largest = fits.largest(steps)?;
        loop {
            let solved = solve(&wish.with(Limits { single: largest, accumulated: largest }));
            match &solved {
                Ok(Solution { best, .. })
                    if is_far_below(best.micro_batch, largest)
                        && !fits.runs(best.micro_batch, steps)? =>
                {
                    largest = best.micro_batch.get() - 1;
                }
                _ => return Ok(solved),
            }
        }
    }
    // One micro-step is best where it does everything.
    let mut single = None;
    if wish.whole_in_one_step().is_some_and(|size| size.get() < MANY) {
        let size = wish.whole_in_one_step().unwrap_or(MicroBatch::ONE);
        if fits.runs(size, AccumulationSteps::ONE)? {
            let largest = fits.largest(AccumulationSteps::ONE)?;
            single = Some(largest);
            if size.get() <= largest {
                return Ok(solve(&wish.with(Limits { single: largest, accumulated: 0 })));
            }
        }
    }
    let mut accumulated = fits.largest(AccumulationSteps::TWO)?;
    loop {
        let without = solve(&wish.with(Limits { single: single.unwrap_or(0), accumulated }));
        let solved = if single.is_some() || without.as_ref().is_ok_and(rests_on_accumulation) {
            without
        } else {
            let known = fits.largest(AccumulationSteps::ONE)?;
            single = Some(known);
            solve(&wish.with(Limits { single: known, accumulated }))
        };
        // Fragments gather over the micro-steps: what two take may be too tight for thirty.
        let limit = |best: &Batches| match best.accumulation {
            AccumulationSteps::ONE => single.unwrap_or(0),
            _ => accumulated,
        };
        match &solved {
            Ok(Solution { best, .. })
                if (best.accumulation > AccumulationSteps::TWO
                    || is_far_below(best.micro_batch, limit(best)))
                    && !fits.runs(best.micro_batch, best.accumulation)? =>
            {
                let smaller = best.micro_batch.get() - 1;
                match best.accumulation {
                    AccumulationSteps::ONE => single = Some(smaller),
                    _ => accumulated = smaller,
                }
            }
            _ => return Ok(solved),
        }
    }
}

/// Whether a search for the largest may not have looked at this one.
fn is_far_below(micro_batch: MicroBatch, largest: u64) -> bool {
    micro_batch.get().saturating_add(EVERY_ONE) < largest
}

/// More samples than any device takes in one micro-step: not worth the question.
const MANY: u64 = 1 << 20;

/// Whether a solution is the same whatever runs in one micro-step.
fn rests_on_accumulation(solution: &Solution) -> bool {
    solution.exact
        && solution.best.accumulation > AccumulationSteps::ONE
        && solution.alternatives.iter().all(|other| other.kind == Kind::Exact)
}

impl Wish {
    /// Returns the same with no number fixed but the target; `None` where none is.
    pub fn unless_fixed(&self) -> Option<Wish> {
        (self.micro_batch.is_some() || self.accumulation.is_some()).then_some(Wish {
            micro_batch: None,
            accumulation: None,
            ..*self
        })
    }

    fn with(&self, limits: Limits) -> Request {
        Request {
            limits,
            data_parallel: self.data_parallel,
            target: self.target,
            micro_batch: self.micro_batch,
            accumulation: self.accumulation,
        }
    }

    /// The micro-batch that does the whole target in one micro-step, if one may.
    fn whole_in_one_step(&self) -> Option<MicroBatch> {
        let target = self.target?.get();
        let replicas = self.data_parallel.get();
        let whole =
            MicroBatch::new(target / replicas).filter(|_| target.is_multiple_of(replicas))?;
        self.micro_batch.is_none_or(|fixed| fixed == whole).then_some(whole)
    }
}
