//! Events: when they were recorded by the host's clock, and the capture they are a part of.
//!
//! A handle is the address of an event that is never freed but used again, so that recording one
//! takes no lock and a handle of a destroyed event is told apart.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use super::state::Ready;
use super::stream::{INVALID_HANDLE, INVALID_VALUE};
use crate::c::Out;

/// `cudaEventDisableTiming`
const NO_TIMING: u32 = 2;
const LIVE: u32 = 0x6576_6e74;

struct Event {
    live: AtomicU32,
    flags: AtomicU32,
    /// Nanoseconds after the process' first event, plus one; zero before it is recorded.
    recorded: AtomicU64,
    /// Number of the capture, or zero.
    capture: AtomicU64,
}

/// Destroyed events, to be used again.
static SPARE: Mutex<Vec<&'static Event>> = Mutex::new(Vec::new());

fn event(handle: u64) -> Option<&'static Event> {
    let at: *const Event = std::ptr::with_exposed_provenance(handle as usize);
    if !at.is_aligned() {
        return None;
    }
    // SAFETY: handles are addresses of events that are never freed; null is none.
    unsafe { at.as_ref() }.filter(|event| event.live.load(Relaxed) == LIVE)
}

fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64 + 1
}

/// `cudaEventCreateWithFlags`
pub fn create(_: Ready, handle: Out<u64>, flags: u32) -> u32 {
    let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let event = spare.unwrap_or_else(|| {
        Box::leak(Box::new(Event {
            live: AtomicU32::new(0),
            flags: AtomicU32::new(0),
            recorded: AtomicU64::new(0),
            capture: AtomicU64::new(0),
        }))
    });
    event.flags.store(flags, Relaxed);
    event.recorded.store(0, Relaxed);
    event.capture.store(0, Relaxed);
    event.live.store(LIVE, Relaxed);
    match handle.set(std::ptr::from_ref(event).expose_provenance() as u64) {
        Ok(()) => 0,
        Err(_) => INVALID_VALUE,
    }
}

/// `cudaEventCreate`
pub fn create_plain(ready: Ready, handle: Out<u64>) -> u32 {
    create(ready, handle, 0)
}

/// `cudaEventDestroy`
pub fn destroy(_: Ready, handle: u64) -> u32 {
    let Some(event) = event(handle) else {
        return INVALID_HANDLE;
    };
    event.live.store(0, Relaxed);
    SPARE.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    0
}

/// Records an event within a capture, or outside (zero).
pub fn record(handle: u64, capture: u64) -> u32 {
    let Some(event) = event(handle) else {
        return INVALID_HANDLE;
    };
    event.capture.store(capture, Relaxed);
    if event.flags.load(Relaxed) & NO_TIMING == 0 {
        event.recorded.store(now(), Relaxed);
    } else {
        event.recorded.store(1, Relaxed);
    }
    0
}

/// Returns the number of the capture that an event was recorded in, or zero.
pub fn capture(handle: u64) -> Option<u64> {
    event(handle).map(|event| event.capture.load(Relaxed))
}

/// `cudaEventQuery`, `cudaEventSynchronize`: what was recorded is done.
pub fn query(_: Ready, handle: u64) -> u32 {
    if event(handle).is_some() { 0 } else { INVALID_HANDLE }
}

/// `cudaEventElapsedTime`: by the host's clock, which is all the time there is.
pub fn elapsed(_: Ready, milliseconds: Out<f32>, start: u64, end: u64) -> u32 {
    let (Some(start), Some(end)) = (event(start), event(end)) else {
        return INVALID_HANDLE;
    };
    let untimed = (start.flags.load(Relaxed) | end.flags.load(Relaxed)) & NO_TIMING != 0;
    let times = (start.recorded.load(Relaxed), end.recorded.load(Relaxed));
    if untimed || times.0 == 0 || times.1 == 0 {
        return INVALID_HANDLE;
    }
    let nanoseconds = times.1 as i64 - times.0 as i64;
    match milliseconds.set(nanoseconds as f32 / 1e6) {
        Ok(()) => 0,
        Err(_) => INVALID_VALUE,
    }
}
