//! What holds for every trace: the replay against a slow allocator written down independently, and
//! the promises of the replay and of min_capacity.

mod slow_allocator;
mod slow_expandable;
mod toy_steps;

use std::collections::BTreeMap;

use oomph::memory::allocator::{
    CachingAllocator, Capacity, GRANULE, MIN_BLOCK, Outcome, PageSource, Refusal, Segment,
    SegmentSource, replay,
};
use oomph::memory::fit::{min_capacity, replay_on, runs};
use oomph::memory::footprint::Footprint;
use oomph::memory::trace::{AllocatorMode, Block, BlockId, Category, Event, Phase, Trace};
use oomph::units::Bytes;
use proptest::prelude::*;
use slow_allocator::SlowAllocator;
use slow_expandable::SlowExpandable;
use toy_steps::ToyModel;

/// Sizes of all kinds: tiny, small pool, shared large segments, segments of their own.
fn sizes() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..2048u64,
        1..(1u64 << 20),
        (1u64 << 20)..(12 << 20),
        (1u64 << 20)..(80 << 20),
        prop::sample::select(vec![
            512,
            1 << 20,
            (1 << 20) + 1,
            10 << 20,
            (10 << 20) - 511,
            20 << 20
        ]),
    ]
}

/// Allocations and frees in any order; some blocks are never freed.
fn traces() -> impl Strategy<Value = Trace> {
    prop::collection::vec((sizes(), any::<prop::sample::Index>(), 0..5u8), 1..160).prop_map(
        |steps| {
            let mut trace = Trace::default();
            let mut live = Vec::new();
            for (bytes, which, action) in steps {
                if action < 3 || live.is_empty() {
                    let id = BlockId(trace.blocks.len() as u32);
                    let (category, phase) = (Category::Temporaries, Phase::Forward);
                    trace.blocks.push(Block {
                        bytes: Bytes::new(bytes),
                        category,
                        phase,
                        module: 0,
                    });
                    trace.events.push(Event::Alloc(id));
                    live.push(id);
                } else {
                    trace.events.push(Event::Free(live.swap_remove(which.index(live.len()))));
                }
            }
            trace
        },
    )
}

/// Either mode; devices as small as what is asked of them, where ranges fill up.
fn modes() -> impl Strategy<Value = AllocatorMode> {
    let expandable = |total| AllocatorMode::Expandable { total: Bytes::mib(total) };
    prop_oneof![
        Just(AllocatorMode::Default),
        (2..400u64).prop_map(expandable),
        Just(expandable(80 << 10)),
    ]
}

/// Allocations and frees in either mode.
fn traces_in_modes() -> impl Strategy<Value = Trace> {
    (traces(), modes()).prop_map(|(trace, allocator)| Trace { allocator, ..trace })
}

/// A device that notes what is held, and can break at a call.
#[derive(Default)]
struct Ledger {
    /// Segments, and parts of ranges with memory behind them.
    held: BTreeMap<u64, Bytes>,
    ranges: BTreeMap<u64, Bytes>,
    next_address: u64,
    calls: u64,
    fails_at: Option<u64>,
}

impl Ledger {
    fn call(&mut self) -> Result<(), u64> {
        self.calls += 1;
        if self.fails_at == Some(self.calls) { Err(self.calls) } else { Ok(()) }
    }

    fn total(&self) -> Bytes {
        self.held.values().copied().sum()
    }
}

impl SegmentSource for Ledger {
    type Error = u64;

    fn allocate(&mut self, bytes: Bytes) -> Result<Segment, Refusal<u64>> {
        self.call().map_err(Refusal::Failed)?;
        if self.total() + bytes > Bytes::mib(200) {
            return Err(Refusal::OutOfMemory);
        }
        let segment = Segment { address: self.next_address };
        self.next_address += bytes.get();
        self.held.insert(segment.address, bytes);
        Ok(segment)
    }

    fn release(&mut self, segment: Segment) -> Result<(), u64> {
        assert!(self.held.remove(&segment.address).is_some(), "only what is held is released");
        self.call()
    }
}

impl PageSource for Ledger {
    fn reserve(&mut self, bytes: Bytes) -> Result<u64, u64> {
        self.call()?;
        // Ranges do not touch, so that no block may lie in two.
        let address = self.next_address + GRANULE.get();
        self.next_address = address + bytes.get();
        self.ranges.insert(address, bytes);
        Ok(address)
    }

    fn map(&mut self, address: u64, bytes: Bytes, page: Bytes) -> Result<(), Refusal<u64>> {
        let (start, range) =
            self.ranges.range(..=address).next_back().expect("pages lie in a range");
        let offset = Bytes::new(address - start);
        assert_eq!((offset.round_up(page), bytes.round_up(page)), (offset, bytes));
        assert!(bytes > Bytes::ZERO);
        assert!(offset + bytes <= *range, "pages lie in their range");
        self.call().map_err(Refusal::Failed)?;
        if self.total() + bytes > Bytes::mib(200) {
            return Err(Refusal::OutOfMemory);
        }
        for address in (address..address + bytes.get()).step_by(page.get() as usize) {
            assert!(self.held.insert(address, page).is_none(), "mapped twice");
        }
        Ok(())
    }

    fn unmap(&mut self, address: u64, bytes: Bytes, page: Bytes) -> Result<(), u64> {
        for address in (address..address + bytes.get()).step_by(page.get() as usize) {
            assert_eq!(self.held.remove(&address), Some(page), "only what is mapped is unmapped");
        }
        self.call()
    }

    fn release_range(&mut self, address: u64, bytes: Bytes) -> Result<(), u64> {
        assert_eq!(self.ranges.remove(&address), Some(bytes));
        let inside = self.held.range(address..address + bytes.get()).next();
        assert!(inside.is_none(), "nothing is mapped in a range that is given back");
        self.call()
    }
}

/// The most that requests, each rounded to 512 B, come to at once.
fn peak_rounded(trace: &Trace) -> Bytes {
    let (mut now, mut peak) = (Bytes::ZERO, Bytes::ZERO);
    for event in &trace.events {
        let rounded = |id: BlockId| trace.blocks[id.0 as usize].bytes.round_up(MIN_BLOCK);
        match *event {
            Event::Alloc(id) => now += rounded(id),
            Event::Free(id) => now -= rounded(id),
        }
        peak = peak.max(now);
    }
    peak
}

proptest! {
    #[test]
    fn the_replay_equals_an_allocator_that_searches_from_end_to_end(
        trace in traces(),
        granules in 1..200u64,
    ) {
        let capacity = Bytes::new(granules * GRANULE.get());
        let mut slow = SlowAllocator::default();
        let ran_out_at = slow.replay(&trace, capacity.get());
        let quick = replay_on(&trace, capacity);
        let event = match quick.outcome {
            Outcome::Ran => None,
            Outcome::OutOfMemory { event, .. } => Some(event),
        };
        prop_assert_eq!(event, ran_out_at);
        prop_assert_eq!(quick.peak_allocated.get(), slow.peak_allocated);
        prop_assert_eq!(quick.peak_reserved.get(), slow.peak_reserved);
    }

    #[test]
    fn expandable_segments_equal_pages_that_are_painted(
        trace in traces(),
        granules in 1..300u64,
        total in 0..600u64,
    ) {
        let capacity = Bytes::new(granules * GRANULE.get());
        let total = Bytes::mib(total).max(capacity);
        let mut slow = SlowExpandable::new(capacity.get(), total.get());
        let ran_out_at = slow.replay(&trace);
        let allocator = AllocatorMode::Expandable { total };
        let quick = replay_on(&Trace { allocator, ..trace }, capacity);
        let event = match quick.outcome {
            Outcome::Ran => None,
            Outcome::OutOfMemory { event, .. } => Some(event),
        };
        prop_assert_eq!(event, ran_out_at);
        prop_assert_eq!(quick.peak_allocated.get(), slow.peak_allocated);
        prop_assert_eq!(quick.peak_reserved.get(), slow.peak_reserved);
    }

    #[test]
    fn a_capacity_at_or_above_min_capacity_always_runs(trace in traces_in_modes()) {
        let footprint = Footprint::of(&trace).unwrap();
        let least = footprint.min_capacity.unwrap();
        prop_assert!(peak_rounded(&trace) <= least && least <= footprint.peak_reserved);
        let mut capacity = least;
        while capacity <= footprint.peak_reserved + GRANULE {
            prop_assert!(runs(&trace, capacity), "{} of {}", capacity, least);
            capacity += GRANULE;
        }
        prop_assert!(least == Bytes::ZERO || !runs(&trace, least - GRANULE));
    }

    #[test]
    fn live_blocks_lie_apart_and_inside_what_is_held(trace in traces_in_modes()) {
        let mut allocator = CachingAllocator::new(Ledger::default(), trace.allocator, trace.ties);
        let mut live = BTreeMap::new();
        for event in &trace.events {
            match *event {
                Event::Alloc(id) => {
                    let bytes = trace.blocks[id.0 as usize].bytes.max(Bytes::new(1));
                    if let Ok(handle) = allocator.allocate(bytes) {
                        prop_assert!(allocator.block(handle).1 >= bytes);
                        live.insert(id, handle);
                    }
                }
                Event::Free(id) => {
                    if let Some(handle) = live.remove(&id) {
                        allocator.free(handle);
                    }
                }
            }
            let blocks: BTreeMap<u64, Bytes> =
                live.values().map(|&handle| allocator.block(handle)).collect();
            prop_assert_eq!(blocks.len(), live.len());
            let mut free_from = 0;
            for (&address, &bytes) in &blocks {
                prop_assert!(address >= free_from);
                free_from = address + bytes.get();
                let held = &allocator.source().held;
                let mut covered = address;
                while covered < free_from {
                    // Pages of a range may lie side by side under one block, segments may not.
                    let segment = held.range(..=covered).next_back();
                    prop_assert!(segment.is_some_and(|(base, size)| covered < base + size.get()));
                    covered = segment.map_or(covered, |(base, size)| base + size.get());
                    prop_assert!(covered >= free_from || trace.allocator != AllocatorMode::Default);
                }
            }
            let statistics = allocator.statistics();
            prop_assert_eq!(statistics.allocated, blocks.values().copied().sum());
            prop_assert_eq!(statistics.reserved, allocator.source().total());
        }
    }

    #[test]
    fn everything_is_given_back_whichever_call_of_the_device_fails(
        trace in traces_in_modes(),
        fails_at in prop::option::of(1..60u64),
    ) {
        let mut device = Ledger { fails_at, ..Ledger::default() };
        let result = replay(&trace, &mut device);
        prop_assert!(device.held.is_empty() && device.ranges.is_empty());
        match fails_at {
            Some(call) if call <= device.calls => prop_assert_eq!(result, Err(call)),
            _ => prop_assert!(result.is_ok()),
        }
    }
}

#[test]
fn min_capacity_of_a_toy_model_is_where_the_highest_capacity_that_fails_ends() {
    let model = ToyModel { layers: 8, hidden: 300, vocabulary: 900, tokens: 90, accumulation: 2 };
    let trace = model.trace(3);
    let footprint = Footprint::of(&trace).unwrap();
    let mut capacity = footprint.peak_reserved;
    while runs(&trace, capacity) {
        capacity -= GRANULE;
    }
    assert_eq!(min_capacity(&trace), Ok(capacity + GRANULE));
    assert!(footprint.min_capacity.unwrap() < footprint.peak_reserved, "the model shows retries");
}

#[test]
fn absurd_requests_are_out_of_memory_and_do_not_overflow() {
    for bytes in [u64::MAX, u64::MAX / 2, 1 << 60] {
        let block = Block {
            bytes: Bytes::new(bytes),
            category: Category::Activations,
            phase: Phase::Forward,
            module: 0,
        };
        let events = (0..4).map(|id| Event::Alloc(BlockId(id))).collect();
        let trace = Trace { blocks: vec![block; 4], events, ..Trace::default() };
        assert!(!replay(&trace, &mut Capacity::unlimited()).unwrap().ran());
        assert!(Footprint::of(&trace).is_err());
        assert!(min_capacity(&trace).is_err());
    }
}
