//! A limit of this process' own on what it may allocate, which the oracle's script sets between
//! forks of itself (`oracle.rs`). A scenario sets its cards' sizes instead.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::error;
use crate::call::{Call, Code};
use crate::machine::Scenario;

static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Sets the limit: bytes of allocations on each device, contexts apart.
pub fn set(bytes: u64) {
    LIMIT.store(bytes, Relaxed);
}

/// What CUDA calls the total of a place: without what the driver keeps.
pub fn total(scenario: &Scenario, place: usize) -> u64 {
    let (total, reserved) = scenario.memory(place);
    total.saturating_sub(reserved).min(LIMIT.load(Relaxed))
}

impl Call<'_> {
    /// Bytes that this process can still allocate at a place.
    pub fn available(&self, place: usize) -> u64 {
        let own = match LIMIT.load(Relaxed) {
            u64::MAX => u64::MAX,
            limit => limit.saturating_sub(self.machine.allocated(place)),
        };
        self.machine.available(place).min(own)
    }

    /// Whether memory can be taken, in granules.
    pub fn has_room(&self, place: usize, bytes: u64) -> bool {
        let taken = self.machine.in_granules(place, bytes);
        taken.is_some_and(|taken| {
            self.is_within_limit(place, taken) && self.machine.has_room(place, taken)
        })
    }

    /// Takes memory in granules; returns what was taken.
    pub fn take(&self, place: usize, bytes: u64) -> Result<u64, Code> {
        let wanted = self.machine.in_granules(place, bytes).ok_or(error::OUT_OF_MEMORY)?;
        if !self.is_within_limit(place, wanted) {
            self.machine.note_refusal(place, wanted, self.available(place));
            return Err(error::OUT_OF_MEMORY);
        }
        self.machine.take(place, bytes).map_err(|_| error::OUT_OF_MEMORY)
    }

    fn is_within_limit(&self, place: usize, taken: u64) -> bool {
        let limit = LIMIT.load(Relaxed);
        limit == u64::MAX || taken <= limit.saturating_sub(self.machine.allocated(place))
    }
}
