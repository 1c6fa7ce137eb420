//! The solver against brute force on 100,000 jobs drawn at random.

mod random;

use std::collections::BTreeSet;

use oomph::plan::solver::{Kind, Limits, Request, Solution, solve};
use oomph::units::{AccumulationSteps, DataParallelSize, EffectiveBatch, MicroBatch};
use random::Random;

const CASES: u64 = 100_000;

impl Random {
    /// Targets to 2,000, worlds to 16, limits to 64; one in eight fixes a number.
    fn request(&mut self) -> Request {
        let single = self.below(65);
        // More micro-steps never take a larger micro-batch, and may take a smaller one.
        let accumulated = if self.below(2) == 0 { single } else { self.below(single + 1) };
        let fixed = self.below(16);
        Request {
            limits: Limits { single, accumulated },
            data_parallel: DataParallelSize::new(1 + self.below(16)).expect("not zero"),
            target: EffectiveBatch::new(1 + self.below(2000)),
            micro_batch: (fixed == 0).then(|| MicroBatch::new(1 + self.below(64))).flatten(),
            accumulation: (fixed == 1)
                .then(|| AccumulationSteps::new(1 + self.below(64)))
                .flatten(),
        }
    }
}

/// Every pair that fits and honours what is fixed, as far as one can be exact or nearest: of each
/// size the distance to the target falls and then rises with the steps, so those around the turn,
/// and the first two, since one step may have another limit.
fn pairs(request: &Request) -> Vec<(u64, u64)> {
    let largest = request.limits.single.max(request.limits.accumulated);
    let target = request.target.expect("set").get();
    let mut pairs = Vec::new();
    for size in 1..=largest {
        let turn = target / (size * request.data_parallel.get());
        let around = turn.saturating_sub(2).max(3)..=turn + 2;
        let fixed = request.accumulation.map(AccumulationSteps::get);
        let steps: BTreeSet<u64> = (1..=2).chain(around).chain(fixed).collect();
        pairs.extend(steps.into_iter().map(|steps| (size, steps)));
    }
    pairs.retain(|(size, steps)| {
        *size <= request.limits.at(*steps)
            && request.micro_batch.is_none_or(|fixed| fixed.get() == *size)
            && request.accumulation.is_none_or(|fixed| fixed.get() == *steps)
    });
    pairs
}

fn agrees(request: &Request) {
    let target = request.target.expect("set").get();
    let replicas = request.data_parallel.get();
    let all = pairs(request);
    let batch = |(size, steps): &(u64, u64)| size * steps * replicas;
    let mut exact: Vec<(u64, u64)> =
        all.iter().copied().filter(|pair| batch(pair) == target).collect();
    exact.sort_by_key(|(_, steps)| *steps);
    match solve(request) {
        Err(error) => assert!(exact.is_empty(), "{request:?}: {error}, but {exact:?}"),
        Ok(solution) if exact.is_empty() => nearest(request, &solution, &all),
        Ok(solution) => {
            let best = (solution.best.micro_batch.get(), solution.best.accumulation.get());
            assert!(solution.exact, "{request:?}");
            assert_eq!(best, exact[0], "{request:?}");
            let others = solution.alternatives.iter().filter(|other| other.kind == Kind::Exact);
            let others: Vec<(u64, u64)> = others
                .map(|other| (other.batches.micro_batch.get(), other.batches.accumulation.get()))
                .collect();
            assert_eq!(others, exact[1..], "{request:?}: every exact pair, in the settled order");
        }
    }
}

/// Without an exact pair the plan is the nearest that wastes little.
fn nearest(request: &Request, solution: &Solution, all: &[(u64, u64)]) {
    let target = request.target.expect("set").get();
    let replicas = request.data_parallel.get();
    assert!(!solution.exact, "{request:?}");
    let fixed = request.micro_batch.is_some() || request.accumulation.is_some();
    let good =
        |(size, steps): &&(u64, u64)| fixed || *steps == 1 || 2 * size >= request.limits.at(*steps);
    let reached = all.iter().filter(good).map(|(size, steps)| size * steps * replicas);
    let brute = reached.map(|batch| batch.abs_diff(target)).min();
    let found = solution.best.effective_batch.get().abs_diff(target);
    assert_eq!(Some(found), brute, "{request:?} {solution:?}");
}

#[test]
fn one_hundred_thousand_sampled_jobs_are_solved_as_brute_force_solves_them() {
    let mut random = Random(0x00e0_0f15);
    for _ in 0..CASES {
        agrees(&random.request());
    }
}
