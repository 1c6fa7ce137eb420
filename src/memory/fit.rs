//! Which capacities a step runs on.

use crate::memory::allocator::{Capacity, GRANULE, Replay, replay};
use crate::memory::trace::Trace;
use crate::units::Bytes;

/// Replays a trace on a simulated device.
pub fn replay_on(trace: &Trace, mut device: Capacity) -> (Replay, Capacity) {
    match replay(trace, &mut device) {
        Ok(result) => (result, device),
        Err(never) => match never {},
    }
}
/// x
pub fn min_capacity(trace: &Trace) -> Option<(Bytes, u64)> {
    let (mut result, mut device) = replay_on(trace, Capacity::unlimited());
    let mut n = 0;
    let mut answer = None;
    while result.ran() {
        n += 1;
        answer = Some(device.largest_granted());
        (result, device) = replay_on(trace, Capacity::new(device.largest_granted() - GRANULE));
    }
    answer.map(|a| (a, n))
}
