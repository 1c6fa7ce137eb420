//! Schedules of a training run: a batch that ramps up, samples that grow longer. Each stage has a
//! plan of its own; most frameworks have one micro-batch for all of them, so the worst stage rules.

use std::collections::BTreeMap;

use crate::plan::divisors::divisors;
use crate::plan::solver::{Solution, Unsolvable};
use crate::plan::together::Fits;
use crate::units::{AccumulationSteps, EffectiveBatch, MicroBatch};

/// The most stages that are worked out: a limit against a slip of the hand.
pub const MOST_STAGES: u64 = 4096;

/// An effective batch that grows in equal steps to the one that is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RampUp {
    /// Samples of the first optimizer steps.
    pub start: u64,
    /// Samples that each stage adds, at least one.
    pub increment: u64,
    /// Samples after which the ramp is at its end.
    pub samples: u64,
}

/// A ramp that does not lead to the effective batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRamp {
    /// It begins where it should end, or beyond.
    #[error("it starts at {start}, which is not below the effective batch of {target}")]
    StartsTooHigh {
        /// Where it starts.
        start: u64,
        /// Where it should end.
        target: u64,
    },
    /// No number of steps leads there.
    #[error("{increment} does not divide the {gap} samples from {start} to {target}")]
    MissesTheTarget {
        /// Samples of a step.
        increment: u64,
        /// Where it starts.
        start: u64,
        /// Where it should end.
        target: u64,
        /// What lies between.
        gap: u64,
    },
    /// Stages of less than a sample.
    #[error("{samples} samples are fewer than its {increments} increments")]
    TooShort {
        /// Samples of the ramp.
        samples: u64,
        /// Its increments.
        increments: u64,
    },
    /// More stages than are worked out.
    #[error("{increments} increments are more than the {MOST_STAGES} stages that are worked out")]
    TooLong {
        /// Its increments.
        increments: u64,
    },
}

impl RampUp {
    /// Returns the sample at which each stage begins, and its effective batch.
    ///
    /// Stage k of n begins with the first sample at or after k x samples / n, as Megatron-LM counts.
    ///
    /// Source: Megatron-LM core 0.17, `RampupBatchsizeNumMicroBatchesCalculator`.
    ///
    /// # Errors
    /// When it does not lead to `target`.
    pub fn stages(self, target: u64) -> Result<Vec<(u64, u64)>, NoRamp> {
        let RampUp { start, increment, samples } = self;
        let Some(gap) = target.checked_sub(start).filter(|gap| *gap > 0) else {
            return Err(NoRamp::StartsTooHigh { start, target });
        };
        if !gap.is_multiple_of(increment) {
            return Err(NoRamp::MissesTheTarget { increment, start, target, gap });
        }
        let increments = gap / increment;
        if increments >= MOST_STAGES {
            return Err(NoRamp::TooLong { increments });
        }
        if samples < increments {
            return Err(NoRamp::TooShort { samples, increments });
        }
        let begins = |stage: u64| {
            let sample = (u128::from(stage) * u128::from(samples)).div_ceil(increments.into());
            u64::try_from(sample).unwrap_or(u64::MAX)
        };
        Ok((0..=increments).map(|stage| (begins(stage), start + stage * increment)).collect())
    }
}

/// A stretch of a training run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// The sample at which it begins, where the schedule says it.
    pub from_sample: Option<u64>,
    /// Tokens a sample.
    pub seq_len: u64,
    /// Samples of an optimizer step, without a target none.
    pub effective_batch: Option<EffectiveBatch>,
    /// Whether that is what was asked for, and not the nearest number of whole samples.
    pub whole: bool,
}

/// A stage and its plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagePlan {
    /// The stage.
    pub stage: Stage,
    /// The plan that it would have by itself.
    pub solved: Result<Solution, Unsolvable>,
}

/// The plans of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    /// Every stage, in the order in which they are trained.
    pub stages: Vec<StagePlan>,
    /// The stage that the plan as a whole is for: the worst.
    pub ruling: usize,
    /// The largest micro-batch that does every stage exactly, or the one that the user fixed, if it does.
    pub one: Option<MicroBatch>,
}

impl Scheduled {
    /// Whether every stage has an exact plan.
    pub fn exact(&self) -> bool {
        let exact = |plan: &StagePlan| {
            plan.stage.whole && plan.solved.as_ref().is_ok_and(|solution| solution.exact)
        };
        self.stages.iter().all(exact)
    }
}

/// Returns the largest micro-batch that does every stage exactly, each given as samples of a
/// replica and the number of its judge; of `fixed`, where the user fixes micro-batch or micro-steps.
///
/// # Errors
/// Those of the judges.
pub fn one_micro_batch<F: Fits>(
    stages: &[(u64, usize)],
    judges: &mut [F],
    fixed: (Option<MicroBatch>, Option<AccumulationSteps>),
) -> Result<Option<MicroBatch>, F::Error> {
    let (fixed_size, fixed_steps) = fixed;
    let common = stages.iter().fold(0, |common, (samples, _)| divisor(common, *samples));
    let sizes = divisors(common).into_iter().rev().filter_map(MicroBatch::new);
    for size in sizes.filter(|size| fixed_size.is_none_or(|fixed| fixed == *size)) {
        let mut does_all = true;
        for (samples, judge) in stages {
            let steps = samples / size.get();
            let steps = AccumulationSteps::new(steps).unwrap_or(AccumulationSteps::ONE);
            let judge = &mut judges[*judge];
            does_all = fixed_steps.is_none_or(|fixed| fixed == steps)
                && size.get() <= judge.largest(steps.min(AccumulationSteps::TWO))?
                && judge.runs(size, steps)?;
            if !does_all {
                break;
            }
        }
        if does_all {
            return Ok(Some(size));
        }
    }
    Ok(None)
}

/// Returns the greatest common divisor; of zero and a number, the number.
fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// A judge that is asked each question once: the stages of a schedule share most of theirs.
#[derive(Debug)]
pub struct Remembered<F> {
    judge: F,
    /// From so many micro-steps on the answers are the same.
    settled: AccumulationSteps,
    largest: BTreeMap<AccumulationSteps, u64>,
    runs: BTreeMap<(MicroBatch, AccumulationSteps), bool>,
}

impl<F> Remembered<F> {
    /// Wraps a judge whose answers change no more from `settled` micro-steps on.
    pub const fn new(judge: F, settled: AccumulationSteps) -> Remembered<F> {
        Remembered { judge, settled, largest: BTreeMap::new(), runs: BTreeMap::new() }
    }

    /// Returns the judge.
    pub fn into_inner(self) -> F {
        self.judge
    }
}

impl<F: Fits> Fits for Remembered<F> {
    type Error = F::Error;

    fn largest(&mut self, accumulation: AccumulationSteps) -> Result<u64, F::Error> {
        let steps = accumulation.min(self.settled);
        if let Some(known) = self.largest.get(&steps) {
            return Ok(*known);
        }
        let largest = self.judge.largest(accumulation)?;
        self.largest.insert(steps, largest);
        Ok(largest)
    }

    fn runs(
        &mut self,
        micro_batch: MicroBatch,
        accumulation: AccumulationSteps,
    ) -> Result<bool, F::Error> {
        let key = (micro_batch, accumulation.min(self.settled));
        if let Some(known) = self.runs.get(&key) {
            return Ok(*known);
        }
        let runs = self.judge.runs(micro_batch, accumulation)?;
        self.runs.insert(key, runs);
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_is_megatrons_own() {
        // The example of Megatron's help: 16 to 1024 by 8 is 126 intervals of about 2,380 samples.
        let stages = RampUp { start: 16, increment: 8, samples: 300_000 }.stages(1024);
        let stages = stages.expect("126 increments");
        assert_eq!(stages.len(), 127);
        assert_eq!(stages[..3], [(0, 16), (2381, 24), (4762, 32)]);
        assert_eq!(stages[126], (300_000, 1024));
    }

    #[test]
    fn a_ramp_that_leads_elsewhere_is_refused() {
        let stages = |start, increment, samples| RampUp { start, increment, samples }.stages(64);
        assert!(matches!(stages(64, 8, 100), Err(NoRamp::StartsTooHigh { .. })));
        assert!(matches!(stages(80, 8, 100), Err(NoRamp::StartsTooHigh { .. })));
        assert!(matches!(stages(16, 7, 100), Err(NoRamp::MissesTheTarget { gap: 48, .. })));
        assert!(matches!(stages(16, 8, 5), Err(NoRamp::TooShort { increments: 6, .. })));
        let endless = RampUp { start: 1, increment: 1, samples: u64::MAX }.stages(1 << 30);
        assert!(matches!(endless, Err(NoRamp::TooLong { .. })));
        let last = RampUp { start: 1, increment: 1, samples: u64::MAX }.stages(MOST_STAGES);
        assert_eq!(last.map(|all| all.len() as u64), Ok(MOST_STAGES));
    }
}
