//! The search over a device that is a few lines of arithmetic: what it finds, with how many replays,
//! and what it says when neighbours move.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::convert::Infallible;

use oomph::memory::allocator::{Capacity, replay};
use oomph::memory::trace::{Block, BlockId, Category, Event, Phase, Trace};
use oomph::probe::run::{Found, Terms, largest_micro_batch};
use oomph::probe::{Attempt, Capacities, Prober, Room};
use oomph::units::{Bytes, MicroBatch};

const GRANULE: Bytes = Bytes::mib(2);

/// A step whose activations grow with the micro-batch: weights, then three layers' worth.
fn step(micro_batch: MicroBatch) -> Trace {
    let sizes = [40, 40]
        .map(Bytes::mib)
        .into_iter()
        .chain([13, 7, 21].map(|mib| Bytes::mib(mib).checked_mul(micro_batch.get()).unwrap()));
    let blocks: Vec<Block> = sizes
        .map(|bytes| Block {
            bytes,
            category: Category::Activations,
            phase: Phase::Forward,
            module: 0,
        })
        .collect();
    let ids = || (0..5).map(BlockId);
    let events = ids().map(Event::Alloc).chain(ids().skip(2).map(Event::Free)).collect::<Vec<_>>();
    let phases = vec![(0, Phase::Forward)];
    Trace { blocks, events, modules: vec![String::new()], phases, ..Trace::default() }
}

/// A device that has what the neighbours leave: the list's next figure at each look.
struct Device {
    free: VecDeque<Bytes>,
    granule: Bytes,
    replays: u32,
}

impl Device {
    fn steady(free: Bytes) -> Device {
        Device { free: VecDeque::from([free]), granule: GRANULE, replays: 0 }
    }

    fn look(&mut self) -> Bytes {
        if self.free.len() > 1 { self.free.pop_front().unwrap() } else { self.free[0] }
    }
}

impl Prober for Device {
    type Error = Infallible;

    fn free(&mut self) -> Result<Bytes, Infallible> {
        Ok(self.look())
    }

    fn attempt(&mut self, trace: &Trace, room: Room) -> Result<Attempt, Infallible> {
        self.replays += 1;
        let free = self.look();
        let mut device = Capacity::in_granules(room.of(free), self.granule);
        let Ok(replayed) = replay(trace, &mut device);
        let peak = device.largest_granted();
        Ok(Attempt {
            fits: replayed.ran(),
            peak_reserved: replayed.peak_reserved,
            free_before: free,
            free_at_peak: free.saturating_sub(peak),
            same_on: Capacities { from: peak, below: device.smallest_refused() },
        })
    }
}

fn search(device: &mut Device, granule: Bytes) -> Found {
    let limit = MicroBatch::new(10_000).unwrap();
    let terms = Terms { room: Room { kept_free: Bytes::mib(100), cap: None }, granule, limit };
    let traces = |size| Ok::<_, Infallible>(step(size));
    let Ok(found) = largest_micro_batch(device, &terms, &traces, &mut |_| {});
    found
}

fn brute_force(free: Bytes, granule: Bytes) -> u64 {
    let runs = |size: u64| {
        let mut device = Capacity::in_granules(free.saturating_sub(Bytes::mib(100)), granule);
        let Ok(replayed) = replay(&step(MicroBatch::new(size).unwrap()), &mut device);
        replayed.ran()
    };
    (1..).take_while(|size| runs(*size)).last().unwrap_or(0)
}

fn answer(found: &Found) -> u64 {
    found.largest.map_or(0, MicroBatch::get)
}

#[test]
fn the_answer_is_brute_forces_with_two_replays_on_every_capacity() {
    for mib in (100..2_000).step_by(37) {
        let free = Bytes::mib(mib);
        let mut device = Device::steady(free);
        let found = search(&mut device, GRANULE);
        assert_eq!(answer(&found), brute_force(free, GRANULE), "{free}");
        assert!(device.replays <= 2, "{} replays on {free}", device.replays);
        assert_eq!(found.contended, None);
        assert_eq!(found.tried.len(), device.replays as usize);
    }
}

#[test]
fn a_known_granule_still_takes_two_replays() {
    for mib in (300..3_000).step_by(211) {
        for granule in [4, 32, 64].map(Bytes::mib) {
            let mut device = Device { granule, ..Device::steady(Bytes::mib(mib)) };
            let found = search(&mut device, granule);
            assert_eq!(answer(&found), brute_force(Bytes::mib(mib), granule));
            assert!(device.replays <= 2);
        }
    }
}

#[test]
fn a_device_that_disagrees_with_the_simulation_is_believed() {
    for mib in (300..3_000).step_by(211) {
        let granule = Bytes::mib(128);
        let mut device = Device { granule, ..Device::steady(Bytes::mib(mib)) };
        let found = search(&mut device, GRANULE);
        assert_eq!(answer(&found), brute_force(Bytes::mib(mib), granule));
    }
}

#[test]
fn a_neighbour_that_comes_during_the_search_makes_the_answer_be_confirmed() {
    let (before, after) = (Bytes::mib(2_000), Bytes::mib(1_500));
    // Free: at the start, at the replay that runs; gone by the replay that does not.
    let mut device =
        Device { free: VecDeque::from([before, before, after]), ..Device::steady(before) };
    let found = search(&mut device, GRANULE);
    assert_eq!(answer(&found), brute_force(after, GRANULE));
    assert_eq!(found.contended, None, "it held still in the end");
    assert_eq!(found.free_after, after);
}

#[test]
fn memory_that_came_back_is_found() {
    let (before, after) = (Bytes::mib(1_500), Bytes::mib(2_000));
    let mut device =
        Device { free: VecDeque::from([before, before, before, after]), ..Device::steady(before) };
    let found = search(&mut device, GRANULE);
    assert_eq!(answer(&found), brute_force(after, GRANULE));
}

#[test]
fn neighbours_that_never_hold_still_give_a_range_that_says_so() {
    let mut free = VecDeque::new();
    for round in 0..200_u64 {
        free.push_back(Bytes::mib(2_000 - round * 40 % 1_500));
    }
    let mut device = Device { free, ..Device::steady(Bytes::mib(500)) };
    let found = search(&mut device, GRANULE);
    let (low, high) = found.contended.expect("free memory fell at every look");
    assert!(low <= high);
    assert_eq!(answer(&found), low, "the cautious end is the answer");
}

#[test]
fn the_limit_ends_the_search() {
    let mut device = Device::steady(Bytes::gib(80));
    let limit = MicroBatch::new(3).unwrap();
    let terms = Terms { room: Room { kept_free: Bytes::ZERO, cap: None }, granule: GRANULE, limit };
    let traces = |size| Ok::<_, Infallible>(step(size));
    let Ok(found) = largest_micro_batch(&mut device, &terms, &traces, &mut |_| {});
    assert_eq!((answer(&found), found.at_limit, device.replays), (3, true, 1));
}
