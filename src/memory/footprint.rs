//! What one step needs, read off a replay: peaks, what is alive at them, the smallest capacity.

use std::collections::BTreeMap;

use crate::memory::allocator::replay::Run;
use crate::memory::allocator::{Capacity, Outcome, Replay};
use crate::memory::fit::{BeyondAnyDevice, min_capacity_below};
use crate::memory::trace::{BlockId, Category, Event, Phase, Trace};
use crate::units::Bytes;

/// What one training step needs of one device, inside the caching allocator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footprint {
    /// `torch.cuda.max_memory_allocated()`: tensors, each rounded up by the allocator.
    pub peak_allocated: Bytes,
    /// `torch.cuda.max_memory_reserved()` on a device with room to spare: segments.
    pub peak_reserved: Bytes,
    /// The smallest capacity from which on every 2 MiB step runs.
    pub min_capacity: Bytes,
    /// The phase in which `peak_allocated` is first reached.
    pub peak_phase: Phase,
    /// What is alive at that moment, by category (rounded); sums to `peak_allocated`.
    pub at_peak: BTreeMap<Category, Bytes>,
}

/// A block that is alive when a step's allocated bytes are at their highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveBlock {
    /// Which block of the trace.
    pub id: BlockId,
    /// What it takes: the request rounded up, and what was too little to split off.
    pub bytes: Bytes,
}

impl Footprint {
    /// Replays a trace on a device with room to spare, and on as many smaller ones as
    /// `min_capacity` takes.
    ///
    /// # Errors
    ///
    /// [`BeyondAnyDevice`]
    pub fn of(trace: &Trace) -> Result<Footprint, BeyondAnyDevice> {
        let (replay, live) = peak(trace)?;
        let mut at_peak = BTreeMap::new();
        for block in &live {
            let category = trace.blocks[block.id.0 as usize].category;
            *at_peak.entry(category).or_insert(Bytes::ZERO) += block.bytes;
        }
        Ok(Footprint {
            peak_allocated: replay.peak_allocated,
            peak_reserved: replay.peak_reserved,
            min_capacity: min_capacity_below(trace, replay.peak_reserved),
            peak_phase: trace.phase_at(replay.peak_event),
            at_peak,
        })
    }
}

/// Returns the blocks that are alive when a step's allocated bytes are first at their highest, the
/// largest first (of equal ones the eldest).
///
/// # Errors
///
/// [`BeyondAnyDevice`]
pub fn live_at_peak(trace: &Trace) -> Result<Vec<LiveBlock>, BeyondAnyDevice> {
    let (_, mut live) = peak(trace)?;
    live.sort_by_key(|block| (std::cmp::Reverse(block.bytes), block.id));
    Ok(live)
}

/// Replays a trace on an endless device; the live blocks are in the order of their ids.
fn peak(trace: &Trace) -> Result<(Replay, Vec<LiveBlock>), BeyondAnyDevice> {
    let mut run = Run::new(trace, Capacity::unlimited());
    let outcome = match run.finish() {
        Ok(outcome) => outcome,
        Err(never) => match never {},
    };
    if let Outcome::OutOfMemory { requested, .. } = outcome {
        return Err(BeyondAnyDevice { requested });
    }
    let replay = run.result(outcome);
    let mut alive = vec![false; trace.blocks.len()];
    for event in trace.events.iter().take(replay.peak_event + 1) {
        let (id, born) = match *event {
            Event::Alloc(id) => (id, true),
            Event::Free(id) => (id, false),
        };
        if let Some(alive) = alive.get_mut(id.0 as usize) {
            *alive = born;
        }
    }
    let live = (0u32..)
        .zip(alive.iter().zip(run.sizes()))
        .filter(|(_, (alive, bytes))| **alive && **bytes > Bytes::ZERO)
        .map(|(id, (_, &bytes))| LiveBlock { id: BlockId(id), bytes })
        .collect();
    Ok((replay, live))
}
