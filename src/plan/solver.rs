//! Micro-batch and accumulation steps for an effective batch, given what fits.

use crate::plan::divisors::divisors;
use crate::plan::near;
use crate::units::{AccumulationSteps, DataParallelSize, EffectiveBatch, MicroBatch};

/// The largest micro-batch that runs (it and all smaller ones), by accumulation; 0: not even one.
///
/// From two micro-steps on, gradients stay alive through the forward, and the peak is the same for
/// any number of them: so there are two limits, not one a number of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// With one micro-step.
    pub single: u64,
    /// With two micro-steps and more.
    pub accumulated: u64,
}

impl Limits {
    /// Returns the largest micro-batch that runs with this many micro-steps.
    pub const fn at(self, accumulation: u64) -> u64 {
        if accumulation <= 1 { self.single } else { self.accumulated }
    }
}

/// What is asked of the solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What fits.
    pub limits: Limits,
    /// Replicas that share the effective batch.
    pub data_parallel: DataParallelSize,
    /// The effective batch to reach; without one, the largest micro-batch is the answer.
    pub target: Option<EffectiveBatch>,
    /// The micro-batch, where the user fixes it.
    pub micro_batch: Option<MicroBatch>,
    /// The accumulation steps, where the user fixes them.
    pub accumulation: Option<AccumulationSteps>,
}

/// One way to run an optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batches {
    /// Samples in each micro-step on each device.
    pub micro_batch: MicroBatch,
    /// Micro-steps.
    pub accumulation: AccumulationSteps,
    /// Samples of the last micro-step where it is smaller than the others.
    pub last_micro_batch: Option<MicroBatch>,
    /// Samples an optimizer step, over all devices.
    pub effective_batch: EffectiveBatch,
}

/// How an alternative differs from the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The same effective batch with more micro-steps, and more headroom.
    Exact,
    /// The nearest smaller effective batch that uses at least half of the largest micro-batch.
    NearestBelow,
    /// The nearest larger one.
    NearestAbove,
    /// The same effective batch with a smaller last micro-step.
    Uneven,
}

/// A way to run an optimizer step that is not the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alternative {
    /// How it differs.
    pub kind: Kind,
    /// The way.
    pub batches: Batches,
}

/// What keeps the plan from fewer micro-steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoundBy {
    /// A larger micro-batch does not fit.
    Memory,
    /// The whole effective batch fits in one micro-step.
    EffectiveBatch,
    /// Micro-batches of more than twice the size fit, and none of them divides the effective batch.
    Divisibility,
    /// The user fixes the micro-batch.
    MicroBatch,
    /// The user fixes the accumulation.
    Accumulation,
    /// The other stages of a schedule: a larger one does not do all of them.
    Schedule,
}

/// The plan, and what else could be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solution {
    /// The plan: fewest micro-steps, then the smallest micro-batch that gives them.
    pub best: Batches,
    /// Whether it reaches the effective batch asked for.
    pub exact: bool,
    /// The largest micro-batch that runs at the plan's accumulation.
    pub largest_micro_batch: u64,
    /// What bounds it.
    pub bound_by: BoundBy,
    /// Other exact plans with more micro-steps; near and uneven ones when no exact plan is good.
    pub alternatives: Vec<Alternative>,
    /// The exact plan that only a number of the user's own rules out, where it was looked for.
    pub unless_fixed: Option<Batches>,
}

/// Why there is no plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsolvable {
    /// Fewer samples than devices.
    #[error("an effective batch of {target} gives {replicas} devices less than one sample each")]
    FewerThanReplicas {
        /// The effective batch asked for.
        target: u64,
        /// Data-parallel size.
        replicas: u64,
    },
    /// Nothing fits.
    #[error("not even micro-batch 1 fits")]
    NothingFits,
    /// What the user fixed does not fit.
    #[error("micro-batch {wanted} does not fit: the largest that does is {largest}")]
    DoesNotFit {
        /// The micro-batch that the fixed numbers need.
        wanted: u64,
        /// The largest that runs at that accumulation.
        largest: u64,
        /// Micro-steps of the fixed numbers.
        accumulation: u64,
    },
    /// Micro-batch, accumulation and effective batch are all fixed, and disagree.
    #[error(
        "micro-batch {micro_batch} x accumulation {accumulation} x data-parallel size {replicas} \
         is {product}, not {target}"
    )]
    BrokenEquation {
        /// Fixed micro-batch.
        micro_batch: u64,
        /// Fixed accumulation.
        accumulation: u64,
        /// Data-parallel size.
        replicas: u64,
        /// Their product.
        product: u64,
        /// The effective batch asked for.
        target: u64,
    },
}

/// Solves micro-batch x accumulation x data-parallel size = effective batch under the limits.
///
/// Every exact pair is considered. The best has the fewest micro-steps. When none is exact (the
/// data-parallel size does not divide the target, or a fixed number does not), the nearest
/// effective batch is the plan, the smaller of two equally near ones, and `exact` is false.
///
/// # Errors
/// When nothing fits, or the numbers cannot be met by any plan.
pub fn solve(request: &Request) -> Result<Solution, Unsolvable> {
    let Request { limits, target, .. } = *request;
    let replicas = request.data_parallel.get();
    check_numbers(request)?;
    if limits.single.max(limits.accumulated) == 0 {
        return Err(Unsolvable::NothingFits);
    }
    let Some(target) = target.map(EffectiveBatch::get) else {
        return without_target(request);
    };
    let per_replica = target.is_multiple_of(replicas).then_some(target / replicas);
    let exact = per_replica.map_or(Vec::new(), |samples| exact_pairs(request, samples));
    if exact.is_empty()
        && let Some(unfit) = fixed_does_not_fit(request, target)
    {
        return Err(unfit);
    }
    let good = exact.first().is_some_and(|pair| near::uses_half(limits, *pair));
    let fixed = request.micro_batch.is_some() || request.accumulation.is_some();
    let mut alternatives = Vec::new();
    if !good && (exact.is_empty() || !fixed) {
        let below = near::below(request, target);
        let above = near::above(request, target);
        let uneven = per_replica.and_then(|samples| near::uneven(request, samples));
        let found =
            [(Kind::NearestBelow, below), (Kind::NearestAbove, above), (Kind::Uneven, uneven)];
        alternatives.extend(
            found
                .into_iter()
                .filter_map(|(kind, batches)| Some(Alternative { kind, batches: batches? })),
        );
    }
    let best = match exact.first() {
        Some(pair) => batches(*pair, replicas),
        None => nearest(&alternatives, target).ok_or(Unsolvable::NothingFits)?,
    };
    alternatives.retain(|alternative| alternative.batches != best);
    let others = exact.iter().skip(1);
    alternatives.extend(
        others.map(|pair| Alternative { kind: Kind::Exact, batches: batches(*pair, replicas) }),
    );
    Ok(Solution {
        best,
        exact: !exact.is_empty(),
        largest_micro_batch: limits.at(best.accumulation.get()),
        bound_by: bound_by(request, &best),
        alternatives,
        unless_fixed: None,
    })
}

/// Micro-batch and accumulation, both at least one.
pub(crate) type Pair = (u64, u64);

pub(crate) fn batches((micro_batch, accumulation): Pair, replicas: u64) -> Batches {
    Batches {
        micro_batch: MicroBatch::new(micro_batch).unwrap_or(MicroBatch::ONE),
        accumulation: AccumulationSteps::new(accumulation).unwrap_or(AccumulationSteps::ONE),
        last_micro_batch: None,
        effective_batch: EffectiveBatch::new(
            micro_batch.saturating_mul(accumulation).saturating_mul(replicas),
        )
        .unwrap_or(EffectiveBatch::ONE),
    }
}

/// Refuses numbers that no limit can help.
pub(crate) fn check_numbers(request: &Request) -> Result<(), Unsolvable> {
    let replicas = request.data_parallel.get();
    let Some(target) = request.target.map(EffectiveBatch::get) else { return Ok(()) };
    if target < replicas {
        return Err(Unsolvable::FewerThanReplicas { target, replicas });
    }
    if let (Some(micro_batch), Some(accumulation)) = (request.micro_batch, request.accumulation) {
        let (micro_batch, accumulation) = (micro_batch.get(), accumulation.get());
        let product = micro_batch.saturating_mul(accumulation).saturating_mul(replicas);
        if product != target {
            return Err(Unsolvable::BrokenEquation {
                micro_batch,
                accumulation,
                replicas,
                product,
                target,
            });
        }
    }
    Ok(())
}

/// Without an effective batch: the largest micro-batch, or what the user fixed if it fits.
fn without_target(request: &Request) -> Result<Solution, Unsolvable> {
    let accumulation = request.accumulation.map_or(1, AccumulationSteps::get);
    let largest = request.limits.at(accumulation);
    let wanted = request.micro_batch.map_or(largest.max(1), MicroBatch::get);
    if wanted > largest {
        return Err(Unsolvable::DoesNotFit { wanted, largest, accumulation });
    }
    Ok(Solution {
        best: batches((wanted, accumulation), request.data_parallel.get()),
        exact: true,
        largest_micro_batch: largest,
        bound_by: if request.micro_batch.is_some() { BoundBy::MicroBatch } else { BoundBy::Memory },
        alternatives: Vec::new(),
        unless_fixed: None,
    })
}

/// Every pair that multiplies to `samples`, fits and honours what is fixed; fewest steps first.
fn exact_pairs(request: &Request, samples: u64) -> Vec<Pair> {
    divisors(samples)
        .into_iter()
        .map(|accumulation| (samples / accumulation, accumulation))
        .filter(|pair| near::allowed(request, *pair))
        .collect()
}

/// When no exact pair is left because a fixed number asks for more than fits: that.
fn fixed_does_not_fit(request: &Request, target: u64) -> Option<Unsolvable> {
    let samples = target / request.data_parallel.get();
    let (wanted, accumulation) = match (request.micro_batch, request.accumulation) {
        (Some(micro_batch), _) => (micro_batch.get(), (samples / micro_batch.get()).max(1)),
        (None, Some(accumulation)) => ((samples / accumulation.get()).max(1), accumulation.get()),
        (None, None) => return None,
    };
    let largest = request.limits.at(accumulation);
    (wanted > largest).then_some(Unsolvable::DoesNotFit { wanted, largest, accumulation })
}

/// The near plan with the smallest distance to the target; below wins a tie.
fn nearest(alternatives: &[Alternative], target: u64) -> Option<Batches> {
    alternatives
        .iter()
        .filter(|alternative| alternative.kind != Kind::Uneven)
        .map(|alternative| alternative.batches)
        .min_by_key(|batches| batches.effective_batch.get().abs_diff(target))
}

/// A larger micro-batch always divides (the whole batch in one micro-step), so what stops a plan
/// is memory, unless it leaves most of what fits unused.
fn bound_by(request: &Request, best: &Batches) -> BoundBy {
    let pair = (best.micro_batch.get(), best.accumulation.get());
    match (request.micro_batch, request.accumulation) {
        (Some(_), _) => BoundBy::MicroBatch,
        (None, Some(_)) => BoundBy::Accumulation,
        (None, None) if best.accumulation == AccumulationSteps::ONE => BoundBy::EffectiveBatch,
        (None, None) if near::uses_half(request.limits, pair) => BoundBy::Memory,
        (None, None) => BoundBy::Divisibility,
    }
}
