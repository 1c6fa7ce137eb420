//! Counts what the host reads of the device that only a kernel could have written.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::machine::notes::Kind;
use crate::note;

/// The largest single value: a complex number of two doubles.
const VALUE: u64 = 16;

/// Single values, bytes of arrays, and reads of what may be older than a kernel's result.
static COUNTS: [(Kind, AtomicU64); 3] = [
    (Kind::Value, AtomicU64::new(0)),
    (Kind::Readback, AtomicU64::new(0)),
    (Kind::Older, AtomicU64::new(0)),
];
/// The process that counts: a fork starts anew.
static PID: AtomicU64 = AtomicU64::new(0);

/// Counts a read of `bytes`.
pub fn count(bytes: u64) {
    let [values, arrays, _] = &COUNTS;
    if bytes <= VALUE { add(values, 1) } else { add(arrays, bytes) }
}

/// Counts a read of what the host wrote, and work that is not followed may have written since.
pub fn count_older() {
    let [.., older] = &COUNTS;
    add(older, 1);
}

/// Adds to a sum; notes it as it passes a power of ten.
fn add((kind, sum): &(Kind, AtomicU64), more: u64) {
    let pid = u64::from(std::process::id());
    if PID.swap(pid, Relaxed) != pid {
        COUNTS.iter().for_each(|(_, count)| count.store(0, Relaxed));
    }
    let before = sum.fetch_add(more, Relaxed);
    let after = before + more;
    if before.checked_ilog10() != after.checked_ilog10() {
        note::write(*kind, &after.to_string());
    }
}

/// Notes the sums when the process ends.
extern "C" fn at_exit() {
    if PID.load(Relaxed) != u64::from(std::process::id()) {
        return;
    }
    for (kind, count) in &COUNTS {
        let count = count.load(Relaxed);
        if count > 0 {
            note::write(*kind, &count.to_string());
        }
    }
}

#[used]
// SAFETY: a function pointer, as the loader expects there.
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = at_exit;
