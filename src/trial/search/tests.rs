//! Searches against laws of memory, with brute force as the judge.

use super::*;

const MIB: u64 = 1 << 20;

/// Laws of memory: what a size needs, and what a look at its run sees of it.
struct Machine<N, S> {
    capacity: u64,
    limit: u64,
    peaks: Peaks,
    needs: N,
    sees: S,
}

impl<N: Fn(u64) -> u64, S: Fn(u64) -> u64> Machine<N, S> {
    /// Runs a search; returns the answer and how many runs it took.
    fn settle(&self) -> (u64, u32) {
        let limit = MicroBatch::new(self.limit).unwrap();
        let mut search = Search::new(Bytes::new(self.capacity), self.peaks, limit);
        for asked in 0..200 {
            match search.next() {
                Next::Done(answer) => return (answer, asked),
                Next::Run(size) => {
                    let micro_batch = size.get();
                    assert!(search.at(micro_batch).is_none(), "{micro_batch} was run already");
                    let ran = (self.needs)(micro_batch) <= self.capacity;
                    let seen = ran && self.peaks != Peaks::Unknown;
                    let peak = seen.then(|| Bytes::new((self.sees)(micro_batch)));
                    search.record(Point { micro_batch, peak, ran });
                }
            }
        }
        panic!("it never settles");
    }

    fn brute_force(&self) -> u64 {
        let fits = |size: &u64| (self.needs)(*size) <= self.capacity;
        (1..=self.limit).take_while(fits).last().unwrap_or(0)
    }
}

fn exact<N: Fn(u64) -> u64 + Copy>(capacity: u64, limit: u64, law: N) -> Machine<N, N> {
    Machine { capacity, limit, peaks: Peaks::Exact, needs: law, sees: law }
}

fn random(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    }
}

#[test]
fn a_line_takes_four_runs_at_most() {
    for (base, sample) in [(500, 100), (10, 7), (5_000, 13), (0, 1_000), (9_000, 900)] {
        for capacity in [10_000, 10_099, 23_456] {
            let machine = exact(capacity, 100_000, |size| base + sample * size);
            let (answer, asked) = machine.settle();
            assert_eq!(answer, machine.brute_force(), "{base} {sample}");
            assert!(asked <= 4, "{base} + {sample} x size in {capacity}: {asked}");
        }
    }
}

#[test]
fn random_laws_end_where_brute_force_does_in_five_runs_in_the_median() {
    let mut random = random(11);
    let mut counts = Vec::new();
    for round in 0..600 {
        let (base, sample) = (random(9_000), 1 + random(900));
        let granule = [1, 20, 200][round % 3];
        let (at, jump) = (2 + random(40), [0, random(500)][round % 2]);
        let curve = [0, 0, random(3)][round % 3];
        let law = |size: u64| {
            let smooth = base + sample * size + size / at * jump + curve * size * size / 8;
            smooth.div_ceil(granule) * granule
        };
        let machine = exact(3_000 + random(40_000), 1 + random(2_000), law);
        let (answer, asked) = machine.settle();
        assert_eq!(answer, machine.brute_force(), "round {round}");
        counts.push(asked);
    }
    counts.sort_unstable();
    let at = |part: usize| counts[(counts.len() - 1) * part / 10];
    assert!(at(5) <= 5 && at(9) <= 10 && at(10) <= 17, "{} {} {}", at(5), at(9), at(10));
}

/// Of how many in 20,000 laws the search ends within four runs, what the longest takes, and how many
/// answers are one sample below brute force's, where the line spoke against a size that was not run; the
/// others are its answers. A sample takes what `sample` says of the bytes beside the base, in MiB.
fn sampled(sample: impl Fn(u64, &mut dyn FnMut(u64) -> u64) -> u64) -> (u32, u32, u32) {
    let (rounds, mut random) = (20_000, random(5));
    let (mut within_four, mut longest, mut missed) = (0, 0, 0);
    for round in 0..rounds {
        let capacity = [16, 24, 40, 48, 80][random(5) as usize] * 1024 - 300 - random(2_700);
        let base = capacity * (2 + random(58)) / 100;
        let sample = sample(capacity - base, &mut random).max(1);
        // Lines; granules; a kernel with more scratch from some size on, or at every so many; unseen
        // moments.
        let granule = if round % 4 == 1 { [4, 20, 32][random(3) as usize] } else { 2 };
        let (at, jump) = (2 + random(28), if round % 4 == 2 { random(128) } else { 0 });
        let most = if round % 8 == 2 { 1 } else { u64::MAX };
        let unseen = if round % 4 == 3 { 2 + random(30) } else { 0 };
        let needs = |size: u64| {
            let smooth = base + sample * size + (size / at).min(most) * jump;
            smooth.div_ceil(granule) * granule * MIB
        };
        let sees = |size: u64| needs(size) - (size * 7_919 + round) % (unseen + 1) * MIB;
        let (capacity, peaks) = (capacity * MIB, Peaks::Sampled);
        let machine = Machine { capacity, limit: 4_096, peaks, needs, sees };
        let (answer, asked) = machine.settle();
        let largest = machine.brute_force();
        assert!(answer == largest || answer + 1 == largest, "round {round}: {answer}, {largest}");
        missed += u32::from(answer < largest);
        within_four += u32::from(asked <= 4);
        longest = longest.max(asked);
    }
    println!("{within_four} of {rounds} in four runs, {longest} at most; {missed} one too small");
    (within_four, longest, missed)
}

/// As docs/guide/trial-on-a-card.md has it.
#[test]
fn up_to_64_samples_by_sampled_peaks_are_found_in_four_runs() {
    let (within_four, longest, missed) = sampled(|left, random| left * 100 / (50 + random(6_400)));
    assert!(
        within_four >= 19_800 && longest <= 7 && missed <= 4,
        "{within_four} {longest} {missed}"
    );
}

/// As docs/guide/trial-on-a-card.md has it.
#[test]
fn hundreds_of_small_samples_by_sampled_peaks_take_hardly_more() {
    let (within_four, longest, missed) = sampled(|_, random| {
        let sample = 100 << random(5);
        sample + random(sample)
    });
    assert!(
        within_four >= 19_400 && longest <= 9 && missed <= 8,
        "{within_four} {longest} {missed}"
    );
}

#[test]
fn a_peak_that_could_not_be_read_does_not_stop_the_search() {
    for hidden in 1..=8 {
        let mut search =
            Search::new(Bytes::new(800 * MIB), Peaks::Sampled, MicroBatch::new(64).unwrap());
        let mut runs = Vec::new();
        while let Next::Run(size) = search.next() {
            let micro_batch = size.get();
            assert!(!runs.contains(&micro_batch), "{micro_batch} again after {runs:?}");
            runs.push(micro_batch);
            let needs = (100 + 100 * micro_batch) * MIB;
            let ran = needs <= 800 * MIB;
            let peak = (ran && micro_batch != hidden).then(|| Bytes::new(needs));
            search.record(Point { micro_batch, peak, ran });
        }
        assert_eq!(search.next(), Next::Done(7), "{hidden}: {runs:?}");
    }
}

#[test]
fn without_peaks_it_doubles_and_bisects() {
    for (capacity, runs) in [(10_000, 14), (450, 1), (601, 4)] {
        let law = |size| 400 + 100 * size;
        let machine = Machine { peaks: Peaks::Unknown, ..exact(capacity, 4_096, law) };
        let (answer, asked) = machine.settle();
        assert_eq!(answer, machine.brute_force());
        assert!(asked <= runs, "{capacity}: {asked}");
    }
}

#[test]
fn what_the_line_says_of_one_more_is_told_where_it_is_clear() {
    let gib = |n: u64| Bytes::gib(n);
    let mut search = Search::new(gib(40), Peaks::Sampled, MicroBatch::new(100).unwrap());
    for (micro_batch, peak) in [(1, 6), (5, 14), (17, 38)] {
        assert_eq!(search.beyond_by_line(), None);
        search.record(Point { micro_batch, peak: Some(gib(peak)), ran: true });
    }
    // 18 takes 40 GiB by the line: that could be.
    assert_eq!(search.next(), Next::Run(MicroBatch::new(18).unwrap()));
    search.record(Point { micro_batch: 18, peak: Some(gib(40)), ran: true });
    assert_eq!((search.next(), search.beyond_by_line()), (Next::Done(18), Some(gib(42))));
}

#[test]
fn nothing_fits_is_soon_clear_and_a_limit_is_an_answer() {
    for peaks in [Peaks::Exact, Peaks::Sampled, Peaks::Unknown] {
        let settle = |capacity, limit, each: u64| {
            let law = |size| each * size;
            Machine { peaks, ..exact(capacity, limit, law) }.settle()
        };
        let first = if peaks == Peaks::Sampled { 2 } else { 1 };
        assert_eq!(settle(100, 64, 101), (0, first));
        assert_eq!(settle(1_000, 8, 1).0, 8);
        assert_eq!(settle(1_000, 1, 1), (1, 1));
    }
}

#[test]
fn an_optimizers_peak_that_hides_the_first_samples_costs_few_runs() {
    for peaks in [Peaks::Exact, Peaks::Sampled] {
        let (mut random, mut counts) = (random(3), Vec::new());
        for round in 0..600 {
            let capacity = 3_000 + random(80_000);
            let base = capacity * (1 + random(60)) / 100;
            let sample = 1 + capacity * (1 + random(120)) / 1_000;
            let hidden = capacity * (20 + random(75)) / 100;
            let law = |size: u64| (base + sample * size).max(hidden) * MIB;
            let machine = Machine { peaks, ..exact(capacity * MIB, 1 + random(4_096), law) };
            let (answer, asked) = machine.settle();
            assert_eq!(answer, machine.brute_force(), "round {round}");
            counts.push(asked);
        }
        counts.sort_unstable();
        let at = |part: usize| counts[(counts.len() - 1) * part / 10];
        println!("{peaks:?}: {} {} {} runs", at(5), at(9), at(10));
        assert!(at(5) <= 6 && at(9) <= 10 && at(10) <= 20, "{} {} {}", at(5), at(9), at(10));
    }
}

#[test]
fn a_program_that_takes_the_same_at_any_size_is_asked_up_to_the_limit() {
    for peaks in [Peaks::Exact, Peaks::Sampled] {
        let (answer, asked) = Machine { peaks, ..exact(1_000, 512, |_| 300) }.settle();
        assert_eq!(answer, 512);
        assert!(asked <= 6, "{asked}");
    }
}
