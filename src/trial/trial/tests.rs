//! Trials on machines whose memory is a law.

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
    /// Whether what a run of so many samples took is known.
    told: fn(u64) -> bool,
    /// From this many samples on, more take no more.
    data: u64,
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
        let samples = sizes.micro_batch.get();
        let needs = 100 + kept + fragments + 10 * samples.min(self.data);
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
            source: match self.peaks {
                Peaks::Exact => PeakSource::Allocations,
                Peaks::Sampled => PeakSource::Processes,
                Peaks::Unknown => PeakSource::Unknown,
            },
        };
        let process = ProcessPeak {
            pid: 1,
            rank: None,
            gpu: 0,
            peak_device_bytes: peak_bytes,
            peak_allocated_bytes: (self.told)(samples).then_some(peak_bytes),
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
            met_out_of_memory: false,
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

const LINE: Line = Line {
    peaks: Peaks::Exact,
    capacity: 1000,
    gradients: 50,
    retries: 0,
    fragments: 0,
    told: |_| false,
    data: u64::MAX,
};

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
    assert!(micro_batch == 60 && runs.contains(&(80, 6)) && !runs.contains(&(85, 2)), "{runs:?}");
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
    // And one of fewer, to see that the whole takes more.
    assert_eq!(runs, [(1, 6), (30, 6), (480, 1), (240, 1)]);
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

#[test]
fn a_search_without_peaks_ends_whatever_programs_tell_of_themselves() {
    // No driver says what is in use; PyTorch's counters are there always, never, or now and then.
    let told: [fn(u64) -> bool; 5] = [|_| true, |_| false, |n| n > 1, |n| n % 2 == 0, |n| n < 9];
    for told in told {
        for (capacity, data) in [(1000, u64::MAX), (100_000, u64::MAX), (100_000, 7), (90, 480)] {
            let limit = MicroBatch::new(480).unwrap();
            let template = Template::new(Vec::new(), false);
            let machine = Line { peaks: Peaks::Unknown, capacity, told, data, ..LINE };
            let one = DataParallelSize::ONE;
            let mut trial = Trial::new(machine, template, one, limit, None);
            let largest = trial.largest(AccumulationSteps::TWO);
            let runs = trial.runs.len();
            assert!(runs <= 40, "{runs} runs, capacity {capacity}, {data} samples");
            let Ok(largest) = largest else { panic!("every run has a verdict") };
            let fits = match capacity {
                1000 => 85,
                90 => 0,
                _ => 480,
            };
            // A data set that ends is seen where the counters tell, and nowhere else.
            assert!(largest == fits || largest == data, "{largest}, capacity {capacity}, {data}");
            if data == 7 && told(1) && told(2) && told(9) {
                assert_eq!(largest, 7);
            }
        }
    }
}
