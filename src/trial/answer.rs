//! What a trial has found, as plain data.

use crate::plan::result::{Goal, PlanGpu};
use crate::plan::solver::{Solution, Unsolvable};
use crate::trial::trial::Run;
use crate::units::DataParallelSize;

/// What keeps the largest micro-batch of a trial from being larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// Memory: the next one does not fit.
    Memory,
    /// The command: its memory grows up to this size, and no further.
    Command(u64),
    /// `--micro-batch-max`: nothing larger was to be tried.
    Limit(u64),
    /// The search's own end, where nothing else limits it.
    SearchEnd(u64),
}

/// The answer of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialAnswer {
    /// The command, its sizes left open.
    pub command: Vec<String>,
    /// The GPUs.
    pub gpus: Vec<PlanGpu>,
    /// Replicas.
    pub data_parallel: DataParallelSize,
    /// The effective batch asked for.
    pub goal: Option<Goal>,
    /// The plan, or why there is none.
    pub solution: Result<Solution, Unsolvable>,
    /// What keeps the largest micro-batch from being larger.
    pub bounds: Bounds,
    /// Every run that the answer rests on, in order.
    pub runs: Vec<Run>,
    /// How many of them were made by an earlier trial.
    pub reused: usize,
    /// What to keep in mind, each a line.
    pub notes: Vec<String>,
}

impl TrialAnswer {
    /// Returns the largest micro-batch that ran at the plan's accumulation; 0 when none did.
    pub fn largest(&self) -> u64 {
        match &self.solution {
            Ok(solution) => solution.largest_micro_batch,
            Err(Unsolvable::DoesNotFit { largest, .. }) => *largest,
            Err(_) => 0,
        }
    }

    /// Returns the run whose memory the plan's is: at its micro-batch, with as many micro-steps as
    /// change anything.
    pub fn planned(&self) -> Option<&Run> {
        let best = &self.solution.as_ref().ok()?.best;
        let several = best.accumulation.get() > 1;
        self.runs.iter().rfind(|run| {
            run.sizes.micro_batch == best.micro_batch
                && (run.sizes.accumulation.get() > 1) == several
        })
    }
}
