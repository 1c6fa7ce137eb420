//! What a plan decides, as far as configurations have keys for it.

use crate::plan::result::Plan;
use crate::plan::schedule::{Scheduled, StagePlan};
use crate::plan::solver::{Kind, Solution};
use crate::step::setup::{Checkpointing, Precision};
use crate::units::MicroBatch;

/// The numbers and kinds that go into a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// Samples in one micro-step on one device.
    pub micro_batch: u64,
    /// Micro-steps.
    pub accumulation: u64,
    /// Samples of the last micro-step, where it is shorter.
    pub last_micro_batch: Option<u64>,
    /// Replicas.
    pub data_parallel: u64,
    /// GPUs of this machine, where they are known.
    pub gpus_here: Option<u64>,
    /// Tokens a sample; `None` for a model of images.
    pub seq_len: Option<u64>,
    /// Number formats.
    pub precision: Option<Precision>,
    /// Activation recomputation.
    pub checkpointing: Option<Checkpointing>,
    /// The effective batch that was asked for, where the plan does not reach it.
    pub missed: Option<u64>,
    /// The schedule whose worst stage this is.
    pub schedule: Option<DecidedSchedule>,
}

/// A schedule, as far as configurations have keys for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidedSchedule {
    /// Stages in all, and which of them this is.
    pub stages: (usize, usize),
    /// The first sample of each stage and its effective batch, where the batch changes alone.
    pub batches: Vec<(u64, u64)>,
    /// Whether one micro-batch does every stage.
    pub whole: bool,
}

impl DecidedSchedule {
    fn of(schedule: &Scheduled) -> DecidedSchedule {
        let batch =
            |plan: &StagePlan| Some((plan.stage.from_sample?, plan.stage.effective_batch?.get()));
        let alone = |pair: &[StagePlan]| pair[0].stage.seq_len == pair[1].stage.seq_len;
        let batches = schedule.stages.windows(2).all(alone);
        let batches = batches.then(|| schedule.stages.iter().map(batch).collect::<Option<_>>());
        DecidedSchedule {
            stages: (schedule.stages.len(), schedule.ruling + 1),
            batches: batches.flatten().unwrap_or_default(),
            whole: schedule.one.is_some(),
        }
    }

    /// Returns a ramp as its first batch, what each stage adds, and its samples.
    pub fn ramp(&self) -> Option<[u64; 3]> {
        let [(_, start), (_, second), ..] = *self.batches.as_slice() else { return None };
        let (samples, _) = *self.batches.last()?;
        Some([start, second.checked_sub(start)?, samples])
    }
}

impl Decided {
    /// Makes a decision about the batch alone.
    pub fn batch(micro_batch: u64, accumulation: u64, data_parallel: u64) -> Decided {
        Decided {
            micro_batch,
            accumulation,
            last_micro_batch: None,
            data_parallel,
            gpus_here: None,
            seq_len: None,
            precision: None,
            checkpointing: None,
            missed: None,
            schedule: None,
        }
    }

    /// Takes what a plan decides.
    pub fn of(plan: &Plan, solution: &Solution) -> Decided {
        let setup = &plan.estimate.setup;
        let best = &solution.best;
        let asked = plan.goal.map(|goal| goal.effective_batch.get());
        Decided {
            gpus_here: Some(plan.gpus.len() as u64).filter(|gpus| *gpus > 0),
            // A model without tokens has a length of one.
            seq_len: Some(setup.seq_len).filter(|tokens| *tokens > 1),
            precision: Some(setup.precision),
            checkpointing: Some(setup.checkpointing),
            missed: asked.filter(|asked| !solution.exact && *asked != best.effective_batch.get()),
            schedule: plan.schedule.as_ref().map(DecidedSchedule::of),
            ..Decided::batch(
                best.micro_batch.get(),
                best.accumulation.get(),
                plan.data_parallel.get(),
            )
        }
    }

    /// Takes the uneven plan that a framework of its own accord makes of the same batch, where that
    /// has fewer micro-steps.
    #[must_use]
    pub fn uneven(self, solution: &Solution) -> Decided {
        let mut others = solution.alternatives.iter();
        let uneven = others.find(|other| other.kind == Kind::Uneven).map(|other| other.batches);
        match uneven.filter(|uneven| uneven.accumulation < solution.best.accumulation) {
            Some(uneven) => Decided {
                micro_batch: uneven.micro_batch.get(),
                accumulation: uneven.accumulation.get(),
                last_micro_batch: uneven.last_micro_batch.map(MicroBatch::get),
                ..self
            },
            None => self,
        }
    }

    /// Returns samples an optimizer step.
    pub fn effective_batch(&self) -> u64 {
        let full = self.micro_batch.saturating_mul(self.accumulation);
        let short = self.last_micro_batch.map_or(0, |last| self.micro_batch.saturating_sub(last));
        full.saturating_sub(short).saturating_mul(self.data_parallel)
    }

    /// Returns the equation, for a comment.
    pub fn equation(&self) -> String {
        let Decided { micro_batch, accumulation, data_parallel, .. } = self;
        let asked = self.missed.map_or(String::new(), |asked| format!(" ({asked} was asked for)"));
        let stage = self.schedule.as_ref().map_or(String::new(), |schedule| {
            let (all, this) = schedule.stages;
            format!(", stage {this} of {all}")
        });
        let last =
            self.last_micro_batch.map_or(String::new(), |last| format!(" (the last {last})"));
        format!(
            "micro-batch {micro_batch} x accumulation {accumulation}{last} x {data_parallel} \
             devices = {}{asked}{stage}",
            self.effective_batch()
        )
    }
}
