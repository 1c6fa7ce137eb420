//! Counts what the host reads of the device that only a kernel could have written.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::machine::notes::Kind;
use crate::note;

static BYTES: AtomicU64 = AtomicU64::new(0);
/// The process that counts: a fork starts anew.
static PID: AtomicU64 = AtomicU64::new(0);

/// Counts `bytes`; notes the sum as it passes a power of ten.
pub fn count(bytes: u64) {
    let pid = u64::from(std::process::id());
    if PID.swap(pid, Relaxed) != pid {
        BYTES.store(0, Relaxed);
    }
    let before = BYTES.fetch_add(bytes, Relaxed);
    let after = before + bytes;
    if before.checked_ilog10() != after.checked_ilog10() {
        note::write(Kind::Readback, &after.to_string());
    }
}

/// Notes the sum when the process ends.
extern "C" fn at_exit() {
    let bytes = BYTES.load(Relaxed);
    if bytes > 0 && PID.load(Relaxed) == u64::from(std::process::id()) {
        note::write(Kind::Readback, &bytes.to_string());
    }
}

#[used]
// SAFETY: a function pointer, as the loader expects there.
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = at_exit;
