//! Arrays on the device that a descriptor stands for: work is given the descriptor alone.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Addresses by descriptor.
static KEPT: Mutex<Option<HashMap<u64, Vec<u64>>>> = Mutex::new(None);

fn with<T>(body: impl FnOnce(&mut HashMap<u64, Vec<u64>>) -> T) -> T {
    body(KEPT.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// Keeps addresses, in place of as many that the descriptor had last.
pub fn set(descriptor: u64, addresses: &[u64]) {
    with(|kept| {
        let known = kept.entry(descriptor).or_default();
        known.truncate(known.len().saturating_sub(addresses.len()));
        known.extend_from_slice(addresses);
    });
}

/// Forgets a descriptor.
pub fn forget(descriptor: u64) {
    with(|kept| kept.remove(&descriptor));
}

/// Returns the addresses that descriptors among these words stand for.
pub fn of(words: &[u64]) -> Vec<u64> {
    with(|kept| {
        // Most programs have none.
        let words = if kept.is_empty() { &[] } else { words };
        words.iter().filter_map(|word| kept.get(word)).flatten().copied().collect()
    })
}
