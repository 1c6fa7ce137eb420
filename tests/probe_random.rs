//! Probes of made-up models on made-up machines, on the stand-in driver: what they find is what brute
//! force finds, in few replays, also where neighbours take memory and give it back meanwhile.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod probe_support;
mod random;
mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use oomph::memory::allocator::{Capacity, GRANULE};
use oomph::memory::fit::{min_capacity, replay_in};
use oomph::memory::trace::{AllocatorMode, Trace};
use oomph::units::Bytes;
use probe_support::toy_steps::ToyModel;
use probe_support::{HEADROOM, Told, assert_as_before, outside, probe, said, value_of};
use random::Random;
use support::Scenario;

const SCENARIOS: u64 = 400;
/// Sizes that brute force tries: more than fit on any of the machines.
const LARGEST: u64 = 150;
/// What no search may take more than, however often others move.
const MOST_REPLAYS: usize = 6;

#[test]
fn the_probing_process() {
    probe_support::probing_process();
}

impl Random {
    /// A number of `least..=most`.
    fn from(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    fn one_of(&mut self, choices: &[u64]) -> u64 {
        choices[self.from(0, choices.len() as u64 - 1) as usize]
    }
}

/// A model on a machine, all from one number.
#[derive(Debug)]
struct Case {
    model: ToyModel,
    context: Bytes,
    granule: Bytes,
    /// How often others move.
    moves: u64,
    allocator: AllocatorMode,
    scenario: String,
}

impl Case {
    fn new(number: u64) -> Case {
        let mut random = Random(number);
        let model = ToyModel {
            layers: random.from(1, 12),
            hidden: 64 * random.from(16, 32),
            vocabulary: random.from(500, 30_000),
            tokens: random.from(2048, 4096),
            accumulation: random.from(1, 2),
        };
        let least = min_capacity(&model.trace(1)).unwrap();
        // From less than one sample takes to some tens of them.
        let capacity = Bytes::new(least.get() / 1000 * random.from(900, 6000));
        let context = Bytes::mib(random.from(0, 700));
        let granule = Bytes::mib(random.one_of(&[2, 2, 2, 2, 4, 16, 32, 64, 128]));
        // A driver with larger granules maps no pages of 2 MiB.
        let expandable = number % 5 < 2;
        let granule = if expandable { GRANULE } else { granule };
        let reserved = Bytes::mib(random.from(0, 600));
        let neighbour = Bytes::mib(random.one_of(&[0, 0, 1, 3]) * random.from(1, 900));
        let outside = HEADROOM + outside(context);
        let total = reserved + neighbour + outside + capacity;
        let limit = match random.from(1, 10) {
            1 => format!("client_limit={}", (total - reserved).percent(80.0).get()),
            _ => String::new(),
        };
        let mut scenario = format!(
            "gpu total={} reserved={} context={} granularity={} {limit}\n\
             process pid=4190001 bytes={}\n",
            total.get(),
            reserved.get(),
            context.get(),
            granule.get(),
            neighbour.get()
        );
        let allocator = match expandable {
            true => AllocatorMode::Expandable { total: total - reserved },
            false => AllocatorMode::Default,
        };
        let call = if expandable { "cuMemCreate" } else { "cuMemAlloc_v2" };
        let moves = random.one_of(&[0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 5, 9]);
        for _ in 0..moves {
            // Two looks at the granule, and a replay asks for some tens of segments.
            let after = random.from(0, 150);
            let verb = if random.from(0, 2) == 0 { "give" } else { "take" };
            let bytes = capacity.percent(random.from(1, 40) as f64);
            scenario.push_str(&format!(
                "steal {call} after={after} pid=4190001 {verb}={}\n",
                bytes.get()
            ));
        }
        Case { model, context, granule, moves, allocator, scenario }
    }

    /// Whether a size runs in what is free.
    fn runs(&self, size: u64, free: Bytes) -> bool {
        let capacity = free.saturating_sub(HEADROOM + outside(self.context));
        let mut device = Capacity::in_granules(capacity, self.granule);
        let trace = Trace { allocator: self.allocator, ..self.model.trace(size) };
        replay_in(&trace, &mut device).ran()
    }

    /// Returns every size that runs while the next one does not, ascending: more than one where
    /// fragments make a size need more than the next. 0 where one sample does not run.
    fn ends(&self, free: Bytes) -> Vec<u64> {
        let runs: Vec<bool> = (1..=LARGEST).map(|size| self.runs(size, free)).collect();
        let end = |size: &u64| {
            let at = *size as usize;
            (at == 0 || runs[at - 1]) && !runs.get(at).copied().unwrap_or(false)
        };
        (0..LARGEST).filter(end).collect()
    }
}

/// What one probe came to.
struct Verdict {
    replays: usize,
    contended: bool,
    /// A smaller size does not run, and the simulation was too thrifty to look at it.
    beyond_a_gap: bool,
    moved: bool,
    wrong: Option<String>,
}

fn judge(number: u64) -> Verdict {
    let case = Case::new(number);
    let machine = Scenario::new(&case.scenario);
    let before = free(&machine);
    let expandable = case.allocator != AllocatorMode::Default;
    let output = probe(&machine, &Told { model: Some(case.model), expandable, ..Told::default() });
    let after = free(&machine);
    assert_as_before(&machine);
    machine.assert_balanced();
    let replays = value_of(&output, "REPLAYS").parse().unwrap();
    let answer: u64 = said(&output).strip_prefix("ANSWER ").unwrap().parse().unwrap();
    let contended = value_of(&output, "CONTENDED");
    let ends = case.ends(after);
    let right = ends[0];
    let good = match contended.strip_prefix("Some((").and_then(|range| range.split_once(", ")) {
        Some((low, high)) => {
            let [low, high] = [low, high.trim_end_matches("))")].map(|text| text.parse().unwrap());
            case.moves > 1 && answer == low && low <= right && right <= high
        }
        None => ends.contains(&answer) && (case.moves > 0 || before == after),
    };
    let wrong = || format!("{number}: {ends:?} in {after}:\n{}{output}", case.scenario);
    Verdict {
        replays,
        contended: contended != "None",
        beyond_a_gap: contended == "None" && answer != right,
        moved: before != after,
        wrong: (!good || replays > MOST_REPLAYS).then(wrong),
    }
}

/// What a probing process could get now.
fn free(machine: &Scenario) -> Bytes {
    let machine = support::machine::Machine::open(&machine.path()).unwrap();
    let locked = machine.lock().unwrap();
    locked.reap();
    let limit = machine.scenario.gpus[0].client_limit;
    Bytes::new(locked.free(0).min(limit))
}

#[test]
fn the_answer_is_brute_forces_on_random_machines() {
    let (next, results) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, Relaxed)).filter(|n| *n < SCENARIOS)
                {
                    let result = judge(number);
                    results.lock().unwrap().push(result);
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    let mut replays: Vec<usize> = results.iter().map(|result| result.replays).collect();
    replays.sort_unstable();
    let (median, most) = (replays[replays.len() / 2], replays[replays.len() - 1]);
    let contended = results.iter().filter(|result| result.contended).count();
    let moved = results.iter().filter(|result| result.moved).count();
    let gaps = results.iter().filter(|result| result.beyond_a_gap).count();
    println!(
        "{SCENARIOS} machines, {moved} with other free memory at the end, {contended} contended, \
         {gaps} answers beyond a gap; replays: median {median}, most {most}"
    );
    let wrong: Vec<&str> = results.iter().filter_map(|result| result.wrong.as_deref()).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(median <= 3, "{replays:?}");
    assert!(gaps <= SCENARIOS as usize / 50, "{gaps} answers with sizes below that do not run");
    assert!(moved >= SCENARIOS as usize / 4 && contended > 0, "too tame to show anything");
}
