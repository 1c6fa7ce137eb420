//! The solver against brute force: every pair on small lattices.

use oomph::plan::solver::{BoundBy, Kind, Limits, Request, Solution, Unsolvable, solve};
use oomph::plan::together::{Fits, Wish, solve_with};
use oomph::units::{AccumulationSteps, DataParallelSize, EffectiveBatch, MicroBatch};

fn request(limits: (u64, u64), replicas: u64, target: u64) -> Request {
    Request {
        limits: Limits { single: limits.0, accumulated: limits.1 },
        data_parallel: DataParallelSize::new(replicas).expect("not zero"),
        target: EffectiveBatch::new(target),
        micro_batch: None,
        accumulation: None,
    }
}

fn pair(solution: &Solution) -> (u64, u64) {
    (solution.best.micro_batch.get(), solution.best.accumulation.get())
}

/// Every pair that fits and honours what is fixed, with accumulation up to `most`.
fn lattice(request: &Request, most: u64) -> Vec<(u64, u64)> {
    let largest = request.limits.single.max(request.limits.accumulated);
    let mut pairs = Vec::new();
    for steps in 1..=most {
        for size in 1..=largest {
            let fits = size <= request.limits.at(steps);
            let as_fixed = request.micro_batch.is_none_or(|m| m.get() == size)
                && request.accumulation.is_none_or(|a| a.get() == steps);
            if fits && as_fixed {
                pairs.push((size, steps));
            }
        }
    }
    pairs
}

/// Every request with limits to 7, one to three replicas, targets to 40, fixed numbers or not.
fn requests() -> Vec<Request> {
    let mut all = Vec::new();
    for single in 0..=7 {
        for accumulated in 0..=7 {
            for replicas in 1..=3 {
                for target in 1..=40 {
                    let free = request((single, accumulated), replicas, target);
                    all.push(free);
                    for fixed in [1, 2, 3, 5] {
                        all.push(Request { micro_batch: MicroBatch::new(fixed), ..free });
                        all.push(Request { accumulation: AccumulationSteps::new(fixed), ..free });
                    }
                }
            }
        }
    }
    all
}

#[test]
fn the_best_exact_plan_equals_brute_force() {
    for request in requests() {
        let target = request.target.expect("set").get();
        let replicas = request.data_parallel.get();
        let brute = lattice(&request, 40)
            .into_iter()
            .filter(|(size, steps)| size * steps * replicas == target)
            .min_by_key(|(size, steps)| (*steps, *size));
        match (solve(&request), brute) {
            (Ok(solution), Some(best)) => {
                assert!(solution.exact, "{request:?}");
                assert_eq!(pair(&solution), best, "{request:?}");
            }
            (Ok(solution), None) => assert!(!solution.exact, "{request:?} {solution:?}"),
            (Err(error), Some(best)) => panic!("{request:?}: {error}, but {best:?} is exact"),
            (Err(_), None) => {}
        }
    }
}

#[test]
fn every_plan_and_alternative_fits_and_multiplies_out() {
    for request in requests() {
        let Ok(solution) = solve(&request) else { continue };
        let replicas = request.data_parallel.get();
        let kinds = solution.alternatives.iter().map(|other| (Some(other.kind), other.batches));
        for (kind, batches) in kinds.chain([(None, solution.best)]) {
            let (size, steps) = (batches.micro_batch.get(), batches.accumulation.get());
            assert!(size <= request.limits.at(steps), "{request:?} {batches:?}");
            let last = batches.last_micro_batch.map_or(size, MicroBatch::get);
            assert!(last <= size, "{request:?} {batches:?}");
            let samples = (size * (steps - 1) + last) * replicas;
            assert_eq!(samples, batches.effective_batch.get(), "{request:?} {batches:?}");
            let target = request.target.expect("set").get();
            match kind {
                Some(Kind::Exact | Kind::Uneven) => assert_eq!(samples, target),
                Some(Kind::NearestBelow) => assert!(samples < target),
                Some(Kind::NearestAbove) => assert!(samples > target),
                None => assert_eq!(solution.exact, samples == target),
            }
        }
    }
}

#[test]
fn near_plans_are_the_nearest_that_use_half_of_the_largest() {
    for request in requests() {
        if request.micro_batch.is_some() || request.accumulation.is_some() {
            continue;
        }
        let Ok(solution) = solve(&request) else { continue };
        let target = request.target.expect("set").get();
        let replicas = request.data_parallel.get();
        let good =
            |(size, steps): &(u64, u64)| *steps == 1 || 2 * size >= request.limits.at(*steps);
        let reached: Vec<u64> = lattice(&request, 45)
            .iter()
            .filter(|pair| good(pair))
            .map(|(size, steps)| size * steps * replicas)
            .collect();
        let brute_below = reached.iter().copied().filter(|batch| *batch < target).max();
        let brute_above = reached.iter().copied().filter(|batch| *batch > target).min();
        let is_good = solution.exact && good(&pair(&solution));
        if is_good {
            assert!(solution.alternatives.iter().all(|other| other.kind == Kind::Exact));
            continue;
        }
        let find = |kind: Kind| {
            let other = solution.alternatives.iter().find(|other| other.kind == kind);
            other.map(|other| other.batches.effective_batch.get())
        };
        if solution.exact {
            assert_eq!(find(Kind::NearestBelow), brute_below, "{request:?}");
            assert_eq!(find(Kind::NearestAbove), brute_above, "{request:?}");
        } else {
            let best = solution.best.effective_batch.get();
            let distance = |batch: Option<u64>| batch.map_or(u64::MAX, |b| b.abs_diff(target));
            let nearest = distance(brute_below).min(distance(brute_above));
            assert_eq!(best.abs_diff(target), nearest, "{request:?} {solution:?}");
        }
    }
}

#[test]
fn uneven_plans_take_the_fewest_micro_steps_that_any_split_takes() {
    for request in requests() {
        if request.micro_batch.is_some() || request.accumulation.is_some() {
            continue;
        }
        let Ok(solution) = solve(&request) else { continue };
        let samples = request.target.expect("set").get() / request.data_parallel.get();
        for other in solution.alternatives.iter().filter(|other| other.kind == Kind::Uneven) {
            let steps = other.batches.accumulation.get();
            let fewer = (1..steps).any(|fewer| request.limits.at(fewer) * fewer >= samples);
            assert!(!fewer, "{request:?} {other:?}");
            assert!(steps < solution.best.accumulation.get(), "worth it: {request:?} {other:?}");
        }
    }
}

#[test]
fn one_micro_step_may_run_what_two_do_not() {
    let solution = solve(&request((9, 6), 1, 9)).expect("fits in one micro-step");
    assert_eq!(pair(&solution), (9, 1));
    assert_eq!(solution.largest_micro_batch, 9);
    let solution = solve(&request((9, 6), 1, 18)).expect("fits in three");
    assert_eq!(pair(&solution), (6, 3), "two micro-steps of 9 do not fit");
    assert_eq!(solution.largest_micro_batch, 6);
    assert_eq!(solution.bound_by, BoundBy::Memory);
}

#[test]
fn a_prime_batch_gets_near_and_uneven_plans() {
    let solution = solve(&request((64, 64), 1, 254)).expect("254 = 2 x 127");
    assert_eq!(pair(&solution), (2, 127));
    assert_eq!(solution.bound_by, BoundBy::Divisibility);
    let shape = |kind: Kind| {
        let other = solution.alternatives.iter().find(|other| other.kind == kind);
        let batches = other.expect("offered").batches;
        let last = batches.last_micro_batch.map(MicroBatch::get);
        let sizes = (batches.micro_batch.get(), batches.accumulation.get(), last);
        (sizes, batches.effective_batch.get())
    };
    // 253 = 11 x 23 alone, so 23 of 64 would run: less than half. 252 = 63 x 4, 255 = 51 x 5.
    assert_eq!(shape(Kind::NearestBelow).1, 252);
    assert_eq!(shape(Kind::NearestAbove).1, 255);
    assert_eq!(shape(Kind::Uneven), ((64, 4, Some(62)), 254));
}

#[test]
fn what_bounds_a_plan_is_named() {
    let bound = |request: Request| solve(&request).expect("a plan").bound_by;
    assert_eq!(bound(request((64, 64), 1, 256)), BoundBy::Memory);
    assert_eq!(bound(request((64, 64), 1, 32)), BoundBy::EffectiveBatch);
    assert_eq!(bound(request((5, 5), 1, 14)), BoundBy::Divisibility);
    assert_eq!(bound(request((9, 9), 1, 256)), BoundBy::Memory);
    let four = MicroBatch::new(4);
    assert_eq!(
        bound(Request { micro_batch: four, ..request((64, 64), 1, 256) }),
        BoundBy::MicroBatch
    );
    let steps = AccumulationSteps::new(8);
    assert_eq!(
        bound(Request { accumulation: steps, ..request((64, 64), 1, 256) }),
        BoundBy::Accumulation
    );
    assert_eq!(bound(Request { target: None, ..request((64, 64), 1, 1) }), BoundBy::Memory);
}

#[test]
fn what_cannot_be_met_says_why() {
    assert_eq!(
        solve(&request((8, 8), 16, 8)),
        Err(Unsolvable::FewerThanReplicas { target: 8, replicas: 16 })
    );
    assert_eq!(solve(&request((0, 0), 1, 8)), Err(Unsolvable::NothingFits));
    let fixed = Request { micro_batch: MicroBatch::new(9), ..request((8, 6), 1, 18) };
    assert_eq!(
        solve(&fixed),
        Err(Unsolvable::DoesNotFit { wanted: 9, largest: 6, accumulation: 2 })
    );
    let broken = Request {
        micro_batch: MicroBatch::new(4),
        accumulation: AccumulationSteps::new(4),
        ..request((8, 8), 2, 64)
    };
    assert!(matches!(solve(&broken), Err(Unsolvable::BrokenEquation { product: 32, .. })));
}

#[test]
fn huge_batches_are_solved_at_once() {
    let solution = solve(&request((3, 3), 1, 999_999_937)).expect("a prime below 10^9");
    assert_eq!(pair(&solution), (1, 999_999_937));
    assert!(solution.alternatives.iter().any(|other| other.kind == Kind::Uneven));
}

/// Limits that are known, and how often they were asked for.
struct Known {
    limits: Limits,
    asked: u64,
}

impl Fits for Known {
    type Error = std::convert::Infallible;

    fn largest(&mut self, accumulation: AccumulationSteps) -> Result<u64, Self::Error> {
        self.asked += 1;
        Ok(self.limits.at(accumulation.get()))
    }

    fn runs(&mut self, size: MicroBatch, steps: AccumulationSteps) -> Result<bool, Self::Error> {
        Ok(size.get() <= self.limits.at(steps.get()))
    }
}

#[test]
fn asking_for_what_is_needed_gives_the_plan_that_knowing_all_gives() {
    for request in requests() {
        let wish = Wish {
            data_parallel: request.data_parallel,
            target: request.target,
            micro_batch: request.micro_batch,
            accumulation: request.accumulation,
        };
        let mut known = Known { limits: request.limits, asked: 0 };
        let Ok(lazy) = solve_with(&wish, &mut known);
        match (lazy, solve(&request)) {
            (Ok(lazy), Ok(full)) => {
                assert_eq!(lazy.best, full.best, "{request:?}");
                assert_eq!(lazy.exact, full.exact, "{request:?}");
                assert_eq!(lazy.largest_micro_batch, full.largest_micro_batch, "{request:?}");
                assert_eq!(lazy.bound_by, full.bound_by, "{request:?}");
                if full.best.accumulation > AccumulationSteps::ONE {
                    assert_eq!(lazy.alternatives, full.alternatives, "{request:?}");
                }
            }
            (lazy, full) => assert_eq!(lazy.is_ok(), full.is_ok(), "{request:?} {lazy:?} {full:?}"),
        }
        assert!(known.asked <= 2);
    }
}
