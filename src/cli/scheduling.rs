//! `oomph plan` for a schedule: a plan for each stage, and the worst of them as the plan.

use crate::cli::composing::{Solved, compose};
use crate::cli::error::CliError;
use crate::cli::fits::{Detail, SETTLED};
use crate::cli::job::Job;
use crate::cli::on_all::OnAll;
use crate::cli::plan::{Judge, ProbeWhen};
use crate::cli::settings::{Target, samples};
use crate::plan::result::Plan;
use crate::plan::schedule::{Remembered, Scheduled, Stage, StagePlan, one_micro_batch};
use crate::plan::solver::{BoundBy, Unsolvable};
use crate::plan::together::{Wish, solve_with};
use crate::units::{AccumulationSteps, EffectiveBatch};

/// Works out the plan of each stage, and which of them rules.
///
/// What the GPUs themselves are asked about is the longest sample; the others are estimated.
///
/// # Errors
/// Those of [`compose`], and where a stage has less than a sample for each device.
pub fn plan(job: &Job, wish: &Wish, probe: ProbeWhen, detail: Detail) -> Result<Plan, CliError> {
    let longest = job.settings.setup.seq_len;
    let mut lengths = job.settings.lengths.clone();
    lengths.sort_unstable();
    lengths.dedup();
    if lengths.is_empty() {
        lengths.push(longest);
    }
    let jobs: Vec<Job> = lengths.iter().map(|length| of_length(job, *length)).collect();
    let mut kinds = jobs.iter().map(OnAll::of).collect::<Result<Vec<_>, _>>()?;
    let settled = AccumulationSteps::new(SETTLED).unwrap_or(AccumulationSteps::ONE);
    let mut judges = Vec::new();
    for ((job, all), length) in jobs.iter().zip(&mut kinds).zip(&lengths) {
        let probe = if *length == longest { probe } else { ProbeWhen::Never };
        judges.push(Remembered::new(Judge::new(job, all, probe)?, settled));
    }
    let judge_of = |stage: &Stage| {
        lengths.iter().position(|length| *length == stage.seq_len).unwrap_or_default()
    };
    let of_stage = |stage: &Stage| Wish { target: stage.effective_batch, ..*wish };
    let mut planned = Vec::new();
    for stage in stages(job, wish) {
        let solved = solve_with(&of_stage(&stage), &mut judges[judge_of(&stage)])?;
        if let Err(few @ Unsolvable::FewerThanReplicas { replicas, .. }) = &solved {
            return Err(CliError::usage(format!("a stage of the schedule: {few}"))
                .hint(format!("stages of {replicas} samples or more, or fewer GPUs")));
        }
        planned.push(StagePlan { stage, solved });
    }
    let shares: Option<Vec<(u64, usize)>> = planned
        .iter()
        .map(|StagePlan { stage, .. }| {
            let batch = stage.effective_batch?.get();
            let replicas = wish.data_parallel.get();
            batch.is_multiple_of(replicas).then(|| (batch / replicas, judge_of(stage)))
        })
        .collect();
    let fits = planned.iter().all(|plan| plan.solved.is_ok());
    let one = match shares.filter(|_| fits) {
        Some(shares) => {
            one_micro_batch(&shares, &mut judges, (wish.micro_batch, wish.accumulation))?
        }
        None => None,
    };
    let ruling = ruling(&planned);
    let stage = planned[ruling].stage;
    let at = judge_of(&stage);
    let wish = Wish { micro_batch: wish.micro_batch.or(one), ..of_stage(&stage) };
    let mut batches = solve_with(&wish, &mut judges[at])?;
    if let (Ok(solution), None, Some(_)) = (&mut batches, job.settings.micro_batch, one) {
        let alone = planned[ruling].solved.as_ref();
        let as_alone = alone.is_ok_and(|alone| alone.best == solution.best);
        solution.bound_by = match alone {
            Ok(alone) if as_alone => alone.bound_by,
            _ => BoundBy::Schedule,
        };
    }
    let (method, notes) = judges.swap_remove(at).into_inner().finish();
    drop(judges);
    let schedule = Some(Scheduled { stages: planned, ruling, one });
    let solved = Solved { batches, schedule, method };
    let mut plan = compose(&jobs[at], &wish, &mut kinds[at].kinds, solved, detail)?;
    plan.estimate.notes.extend(notes);
    Ok(plan)
}

/// The job with samples of another length.
fn of_length(job: &Job, seq_len: u64) -> Job {
    let mut job = job.clone();
    job.settings.setup.seq_len = seq_len;
    job
}

/// Lists the stages as they are trained; where batch and length both change, each batch with each
/// length, since nothing says which come together.
fn stages(job: &Job, wish: &Wish) -> Vec<Stage> {
    let settings = &job.settings;
    let lengths = match settings.lengths.as_slice() {
        [] => &[settings.setup.seq_len],
        lengths => lengths,
    };
    let target = wish.target.map(EffectiveBatch::get);
    let ramp = settings.ramp_up.zip(target).and_then(|(ramp, target)| ramp.stages(target).ok());
    let mut all = Vec::new();
    for &seq_len in lengths {
        let mut push = |from_sample, batch, whole| {
            let effective_batch = EffectiveBatch::new(batch);
            all.push(Stage { from_sample, seq_len, effective_batch, whole });
        };
        match (&ramp, settings.target) {
            (Some(ramp), _) => {
                ramp.iter().for_each(|(from, batch)| push(Some(*from), *batch, true));
            }
            (None, Some(Target::Tokens(tokens))) => {
                push(None, samples(tokens, seq_len), tokens.is_multiple_of(seq_len));
            }
            (None, _) => push(None, target.unwrap_or(0), true),
        }
    }
    all
}

/// Returns the worst stage: one that does not fit before all others, then the longest samples, then
/// the largest batch.
fn ruling(planned: &[StagePlan]) -> usize {
    let rank = |at: &usize| {
        let StagePlan { stage, solved } = &planned[*at];
        (solved.is_err(), stage.seq_len, stage.effective_batch)
    };
    (0..planned.len()).max_by_key(rank).unwrap_or_default()
}
