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

    /// Takes memory in granules; returns what was taken.
    pub fn take(&self, place: usize, bytes: u64) -> Result<u64, Code> {
        let limit = LIMIT.load(Relaxed);
        if limit != u64::MAX {
            let granularity = self.scenario.gpu_at(place).granularity;
            let granules = bytes.div_ceil(granularity);
            let wanted = granules.checked_mul(granularity).ok_or(error::OUT_OF_MEMORY)?;
            if wanted > limit.saturating_sub(self.machine.allocated(place)) {
                return Err(error::OUT_OF_MEMORY);
            }
        }
        self.machine.take(place, bytes).map_err(|_| error::OUT_OF_MEMORY)
    }
}
