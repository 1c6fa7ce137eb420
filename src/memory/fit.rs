//! Which capacities a step runs on.
//!
//! Whether a step runs is not monotonic in the capacity: what was given back on the way decides
//! which blocks are there later. Llama-3.1-8B in bf16 runs on 79,328 MiB, not on 79,330 to 79,340,
//! and from 79,342 on always.

use crate::memory::allocator::{Capacity, GRANULE, Outcome, Replay, replay};
use crate::memory::trace::Trace;
use crate::units::Bytes;

/// A step that no device can run: it asks for more than [`Capacity::UNLIMITED`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the step needs more memory than any device has: it asks for {requested} more at once")]
pub struct BeyondAnyDevice {
    /// The segment asked for in vain.
    pub requested: Bytes,
}

/// Replays a trace on a simulated device of `capacity` bytes.
pub fn replay_on(trace: &Trace, capacity: Bytes) -> Replay {
    observed(trace, Capacity::new(capacity)).0
}

/// Whether a step runs on a device on which the caching allocator may take `capacity` bytes.
pub fn runs(trace: &Trace, capacity: Bytes) -> bool {
    replay_on(trace, capacity).ran()
}

/// Returns the smallest capacity from which on every 2 MiB step runs.
///
/// Exact. From `peak_reserved` (of an endless device) on nothing is ever refused, so everything
/// runs. Below it one replay answers for a whole interval of capacities, those that would have
/// granted and refused the same; so the scan goes down interval by interval to the first that
/// does not run. Two to six replays in 16 of 17 recorded traces, 55 in the other.
///
/// # Errors
///
/// [`BeyondAnyDevice`]
pub fn min_capacity(trace: &Trace) -> Result<Bytes, BeyondAnyDevice> {
    let (replay, device) = on_endless_device(trace)?;
    debug_assert!(replay.ran());
    Ok(min_capacity_below(trace, device.largest_granted()))
}

/// Returns what [`min_capacity`] does, given a capacity on which nothing is refused.
pub(crate) fn min_capacity_below(trace: &Trace, peak_reserved: Bytes) -> Bytes {
    let mut answer = peak_reserved;
    while answer > Bytes::ZERO {
        let (replay, device) = observed(trace, Capacity::new(answer - GRANULE));
        if !replay.ran() {
            break;
        }
        answer = device.largest_granted();
    }
    answer
}

/// Replays a trace on a device that never runs out.
pub(crate) fn on_endless_device(trace: &Trace) -> Result<(Replay, Capacity), BeyondAnyDevice> {
    let (replay, device) = observed(trace, Capacity::unlimited());
    match replay.outcome {
        Outcome::Ran => Ok((replay, device)),
        Outcome::OutOfMemory { requested, .. } => Err(BeyondAnyDevice { requested }),
    }
}

fn observed(trace: &Trace, mut device: Capacity) -> (Replay, Capacity) {
    match replay(trace, &mut device) {
        Ok(result) => (result, device),
        Err(never) => match never {},
    }
}
