//! The replay against stock PyTorch's own allocator statistics, to the byte, on random allocations
//! and frees at random capacities: with expandable segments, and without.
//!
//! tests/oracle/allocator_random.py has PyTorch serve them and describes the data.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;

use oomph::memory::allocator::{Capacity, Outcome, replay};
use oomph::memory::trace::{AllocatorMode, Block, BlockId, Category, Event, Phase, Ties, Trace};
use oomph::units::Bytes;

const MIB: u64 = 1 << 20;

/// Knuth's MMIX generator; the top 31 bits.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

/// The allocations and frees that a seed stands for; as `sequence` of the Python script.
fn sequence(seed: u64) -> Trace {
    const SIZES: [u64; 8] =
        [512, MIB, MIB + 1, 10 * MIB, 10 * MIB - 511, 20 * MIB, 40 * MIB, 2 * MIB];
    let mut random = Random(seed);
    let (frees, largest) = (30 + random.below(25), 20 + random.below(100));
    let mut trace = Trace::default();
    let mut live = Vec::new();
    for _ in 0..60 + random.below(240) {
        if !live.is_empty() && random.below(100) < frees {
            let place = random.below(live.len() as u64) as usize;
            trace.events.push(Event::Free(live.swap_remove(place)));
            continue;
        }
        let bytes = match random.below(10) {
            0..2 => 1 + random.below(2048),
            2..4 => 1 + random.below(MIB),
            4..7 => MIB + random.below(11 * MIB),
            7..9 => MIB + random.below(largest * MIB),
            _ => SIZES[random.below(SIZES.len() as u64) as usize],
        };
        let id = BlockId(trace.blocks.len() as u32);
        trace.blocks.push(Block {
            bytes: Bytes::new(bytes),
            category: Category::Temporaries,
            phase: Phase::Forward,
            module: 0,
        });
        trace.events.push(Event::Alloc(id));
        live.push(id);
    }
    trace
}

/// One run: torch, mode, seed, total, capacity; then what came of it, as it is written.
fn ours(row: &[&str]) -> String {
    let number = |at: usize| row[at].parse::<u64>().unwrap();
    let mut trace = sequence(number(2));
    trace.allocator = match row[1] {
        "expandable" => AllocatorMode::Expandable { total: Bytes::new(number(3)) },
        _ => AllocatorMode::Default,
    };
    trace.ties = if row[0] == "2.12" { Ties::Age } else { Ties::Address };
    let replay = replay(&trace, &mut Capacity::new(Bytes::new(number(4)))).unwrap();
    let (verdict, events) = match replay.outcome {
        Outcome::Ran => ("ran", trace.events.len()),
        Outcome::OutOfMemory { event, .. } => ("oom", event),
    };
    let is_allocation = |event: &&Event| matches!(event, Event::Alloc(_));
    let allocations = trace.events[..events].iter().filter(is_allocation).count();
    format!(
        "{verdict} {allocations} {} {} {} {} {}",
        replay.peak_allocated.get(),
        replay.peak_reserved.get(),
        replay.retries,
        replay.segments_granted,
        replay.segments_released
    )
}

#[test]
fn random_runs_equal_pytorch_to_the_byte() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/allocator/random.txt");
    let text = std::fs::read_to_string(file).unwrap();
    let mut wrong = Vec::new();
    let (mut ran, mut out, mut retried) = (0, 0, 0);
    for line in text.lines() {
        let row: Vec<&str> = line.split(' ').collect();
        let theirs = row[5..].join(" ");
        *(if row[5] == "ran" { &mut ran } else { &mut out }) += 1;
        retried += usize::from(row[5] == "ran" && row[9] != "0");
        let ours = ours(&row);
        if ours != theirs {
            wrong.push(format!("{line}\n  ours: {ours}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), ran + out, wrong.join("\n"));
    assert!(ran > 100 && out > 100 && retried > 50, "{ran} ran, {out} did not, {retried} retried");
}
