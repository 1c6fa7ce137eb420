//! What one step needs, read off a replay: peaks, what is alive at them, the smallest capacity.

use std::collections::BTreeMap;

use crate::memory::allocator::replay::Run;
use crate::memory::allocator::{Capacity, Outcome, Replay};
use crate::memory::fit::{BeyondAnyDevice, scan_down};
use crate::memory::trace::{BlockId, Category, Event, Phase, Trace};
use crate::units::Bytes;

/// What one training step needs of one device, inside the caching allocator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footprint {
    /// `torch.cuda.max_memory_allocated()`: tensors, each rounded up by the allocator.
    pub peak_allocated: Bytes,
    /// `torch.cuda.max_memory_reserved()` on a device with room to spare: segments.
    pub peak_reserved: Bytes,
    /// The smallest capacity from which on every 2 MiB step runs; `None` where it was not worked
    /// out, see [`Footprint::peaks_of`].
    pub min_capacity: Option<Bytes>,
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
        let mut sizes = vec![Bytes::ZERO; trace.blocks.len()];
        let (replay, least) = scan_down(trace, |id, bytes| sizes[id.0 as usize] = bytes)?;
        Ok(Footprint { min_capacity: Some(least), ..Footprint::read_off(trace, &replay, &sizes) })
    }

    /// As [`Footprint::of`] without `min_capacity`, in half the time: all that is of interest on a
    /// device that has room for `peak_reserved`.
    ///
    /// # Errors
    ///
    /// [`BeyondAnyDevice`]
    pub fn peaks_of(trace: &Trace) -> Result<Footprint, BeyondAnyDevice> {
        let (replay, sizes) = endless(trace)?;
        Ok(Footprint::read_off(trace, &replay, &sizes))
    }

    fn read_off(trace: &Trace, replay: &Replay, sizes: &[Bytes]) -> Footprint {
        let mut at_peak = BTreeMap::new();
        for block in live_after(trace, replay.peak_event, sizes) {
            let category = trace.blocks[block.id.0 as usize].category;
            *at_peak.entry(category).or_insert(Bytes::ZERO) += block.bytes;
        }
        Footprint {
            peak_allocated: replay.peak_allocated,
            peak_reserved: replay.peak_reserved,
            min_capacity: None,
            peak_phase: trace.phase_at(replay.peak_event),
            at_peak,
        }
    }
}

/// Returns the blocks that are alive when a step's allocated bytes are first at their highest, the
/// largest first (of equal ones the eldest).
///
/// # Errors
///
/// [`BeyondAnyDevice`]
pub fn live_at_peak(trace: &Trace) -> Result<Vec<LiveBlock>, BeyondAnyDevice> {
    let (replay, sizes) = endless(trace)?;
    let mut live = live_after(trace, replay.peak_event, &sizes);
    live.sort_by_key(|block| (std::cmp::Reverse(block.bytes), block.id));
    Ok(live)
}

/// Replays a trace on an endless device; also returns what each block takes.
fn endless(trace: &Trace) -> Result<(Replay, Vec<Bytes>), BeyondAnyDevice> {
    let mut sizes = vec![Bytes::ZERO; trace.blocks.len()];
    let mut run = Run::new(trace, Capacity::unlimited());
    let replayed = run.advance(trace.events.len(), |id, bytes| sizes[id.0 as usize] = bytes);
    BeyondAnyDevice::unless_ran(replayed)?;
    Ok((run.result(Outcome::Ran), sizes))
}

/// Returns the blocks that are alive after an event, in the order of their ids.
fn live_after(trace: &Trace, event: usize, sizes: &[Bytes]) -> Vec<LiveBlock> {
    let mut alive = vec![false; trace.blocks.len()];
    for event in trace.events.iter().take(event + 1) {
        let (id, born) = match *event {
            Event::Alloc(id) => (id, true),
            Event::Free(id) => (id, false),
        };
        if let Some(alive) = alive.get_mut(id.0 as usize) {
            *alive = born;
        }
    }
    (0u32..)
        .zip(alive.iter().zip(sizes))
        .filter(|(_, (alive, bytes))| **alive && **bytes > Bytes::ZERO)
        .map(|(id, (_, &bytes))| LiveBlock { id: BlockId(id), bytes })
        .collect()
}
