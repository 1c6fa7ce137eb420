//! Arrays on the device that a descriptor stands for, and their sizes: work is given the descriptor
//! alone.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What a descriptor was made with.
#[derive(Clone, Default)]
pub struct Described {
    /// Its sizes, as the call that made it has them.
    pub sizes: Vec<u64>,
    /// Addresses of its arrays.
    pub arrays: Vec<u64>,
}

static KEPT: Mutex<Option<HashMap<u64, Described>>> = Mutex::new(None);

fn with<T>(body: impl FnOnce(&mut HashMap<u64, Described>) -> T) -> T {
    body(KEPT.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// Keeps a descriptor.
pub fn keep(descriptor: u64, described: Described) {
    with(|kept| kept.insert(descriptor, described));
}

/// Sets the last of a descriptor's arrays.
pub fn set(descriptor: u64, arrays: &[u64]) {
    with(|kept| {
        let known = &mut kept.entry(descriptor).or_default().arrays;
        known.truncate(known.len().saturating_sub(arrays.len()));
        known.extend_from_slice(arrays);
    });
}

/// Forgets a descriptor.
pub fn forget(descriptor: u64) {
    with(|kept| kept.remove(&descriptor));
}

/// Returns the sizes that a descriptor was made with.
pub fn sizes(descriptor: u64) -> Option<Vec<u64>> {
    with(|kept| kept.get(&descriptor).map(|described| described.sizes.clone()))
}

/// Returns the addresses that descriptors among these words stand for.
pub fn of(words: &[u64]) -> Vec<u64> {
    with(|kept| {
        // Most programs have none.
        let words = if kept.is_empty() { &[] } else { words };
        words.iter().filter_map(|word| kept.get(word)).flat_map(|it| it.arrays.clone()).collect()
    })
}
