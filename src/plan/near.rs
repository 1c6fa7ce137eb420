//! Plans beside the exact ones: the nearest effective batches, and an uneven last micro-step.

use crate::plan::solver::{Batches, Limits, Pair, Request, batches};
use crate::units::{EffectiveBatch, MicroBatch};

/// Returns whether a pair fits and honours what the user fixed.
pub(crate) fn allowed(request: &Request, (micro_batch, accumulation): Pair) -> bool {
    micro_batch <= request.limits.at(accumulation)
        && request.micro_batch.is_none_or(|fixed| fixed.get() == micro_batch)
        && request.accumulation.is_none_or(|fixed| fixed.get() == accumulation)
}

/// Returns whether a pair wastes little: one micro-step, or at least half of the largest
/// micro-batch. A single micro-step cannot be bettered, however small it is.
pub(crate) fn uses_half(limits: Limits, (micro_batch, accumulation): Pair) -> bool {
    accumulation == 1 || micro_batch.saturating_mul(2) >= limits.at(accumulation)
}

/// Returns the fewest micro-steps in which `samples` can be done, were the last one smaller.
pub(crate) fn fewest_steps(limits: Limits, samples: u64) -> u64 {
    if samples <= limits.single || limits.accumulated == 0 {
        1
    } else {
        samples.div_ceil(limits.accumulated).max(2)
    }
}

/// Returns the largest effective batch below `target` that a good pair reaches.
pub(crate) fn below(request: &Request, target: u64) -> Option<Batches> {
    let replicas = request.data_parallel.get();
    let most = (target - 1) / replicas;
    let best = candidates(request, Side::AtMost(most))
        .into_iter()
        .max_by_key(|(micro_batch, steps)| (micro_batch * steps, std::cmp::Reverse(*steps)))?;
    Some(batches(best, replicas))
}

/// Returns the smallest effective batch above `target` that a good pair reaches.
pub(crate) fn above(request: &Request, target: u64) -> Option<Batches> {
    let replicas = request.data_parallel.get();
    let least = target / replicas + 1;
    let best = candidates(request, Side::AtLeast(least))
        .into_iter()
        .min_by_key(|(micro_batch, steps)| (micro_batch * steps, *steps))?;
    Some(batches(best, replicas))
}

/// On which side of a number of samples a replica a plan must lie.
#[derive(Debug, Clone, Copy)]
enum Side {
    AtMost(u64),
    AtLeast(u64),
}

impl Side {
    /// Returns the second factor that comes nearest from this side, which may be 0.
    fn other(self, factor: u64) -> u64 {
        match self {
            Side::AtMost(samples) => samples / factor,
            Side::AtLeast(samples) => samples.div_ceil(factor),
        }
    }

    fn holds(self, (micro_batch, steps): Pair) -> bool {
        match self {
            Side::AtMost(samples) => micro_batch * steps <= samples,
            Side::AtLeast(samples) => micro_batch * steps >= samples,
        }
    }
}

/// Returns the pairs among which the nearest is: for each size of the one factor, the other one
/// that comes nearest. The largest micro-batch is thousands at most, so this is quick.
fn candidates(request: &Request, side: Side) -> Vec<Pair> {
    let limits = request.limits;
    let pairs: Vec<Pair> = match (request.micro_batch, request.accumulation) {
        (_, Some(steps)) => vec![(side.other(steps.get()), steps.get())],
        (Some(fixed), None) => vec![(fixed.get(), side.other(fixed.get())), (fixed.get(), 1)],
        (None, None) => {
            let half = limits.accumulated.div_ceil(2).max(1);
            let several = (half..=limits.accumulated).map(|size| (size, side.other(size).max(2)));
            several.chain([(side.other(1).min(limits.single), 1)]).collect()
        }
    };
    let fits = |pair: &Pair| pair.0 >= 1 && pair.1 >= 1 && allowed(request, *pair);
    pairs.into_iter().filter(|pair| fits(pair) && side.holds(*pair)).collect()
}

/// Returns the plan with the fewest micro-steps whose last one is smaller than the others.
///
/// `None` when the fewest steps divide the samples evenly: that plan is exact.
pub(crate) fn uneven(request: &Request, samples: u64) -> Option<Batches> {
    let limits = request.limits;
    let accumulation = match (request.micro_batch, request.accumulation) {
        (_, Some(fixed)) => fixed.get(),
        (Some(fixed), None) => samples.div_ceil(fixed.get()),
        (None, None) => fewest_steps(limits, samples),
    };
    let micro_batch =
        request.micro_batch.map_or_else(|| samples.div_ceil(accumulation), MicroBatch::get);
    let last = samples.checked_sub(micro_batch.checked_mul(accumulation - 1)?)?;
    if accumulation < 2 || micro_batch > limits.at(accumulation) || last >= micro_batch {
        return None;
    }
    let mut plan = batches((micro_batch, accumulation), 1);
    plan.last_micro_batch = Some(MicroBatch::new(last)?);
    plan.effective_batch = EffectiveBatch::new(samples.checked_mul(request.data_parallel.get())?)?;
    Some(plan)
}
