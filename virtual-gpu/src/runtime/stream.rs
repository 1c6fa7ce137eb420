//! Streams, and what is captured from them. Nothing is ever under way: work is done when it is
//! asked for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::capture::Capture;
use super::graph::Graphs;
use super::state::{self, Ready};
use crate::c::Out;

// cudaError_t
/// `cudaErrorInvalidValue`
pub const INVALID_VALUE: u32 = 1;
/// `cudaErrorInvalidResourceHandle`
pub const INVALID_HANDLE: u32 = 400;
/// `cudaErrorStreamCaptureUnsupported`
pub const CAPTURE_UNSUPPORTED: u32 = 900;

/// Handles up to this are streams that are always there: the legacy default under two names, and
/// each thread's own default.
const BUILT_IN: u64 = 2;

/// What a process knows of its streams.
#[derive(Default)]
pub struct Streams {
    /// Handles so far, of everything in here.
    made: u64,
    pub(super) live: BTreeMap<u64, Stream>,
    /// Captures that have begun and not ended, by number.
    pub(super) captures: BTreeMap<u64, Capture>,
    pub(super) graphs: Graphs,
}

/// A stream.
pub struct Stream {
    device: i32,
    flags: u32,
    priority: i32,
    /// Number of the capture that it is a part of.
    pub(super) capture: Option<u64>,
}

static STREAMS: Mutex<Option<Streams>> = Mutex::new(None);
/// How many captures are under way: while none is, the table need not be looked at.
static CAPTURING: AtomicUsize = AtomicUsize::new(0);

/// Looks at the streams, or changes them.
pub fn with<T>(body: impl FnOnce(&mut Streams) -> T) -> T {
    let mut guard = STREAMS.lock().unwrap_or_else(PoisonError::into_inner);
    let streams = guard.get_or_insert_default();
    let answer = body(streams);
    CAPTURING.store(streams.captures.len(), Relaxed);
    answer
}

/// Waits for other threads, and keeps them out until the guard drops.
pub fn pause() -> MutexGuard<'static, impl Sized> {
    STREAMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether any stream is capturing.
pub fn any_capturing() -> bool {
    CAPTURING.load(Relaxed) > 0
}

impl Streams {
    /// Returns a new handle, which looks like an address.
    pub fn new_handle(&mut self) -> u64 {
        self.made += 1;
        0x5700_0000 + self.made * 16
    }

    /// Returns the capture that a stream is a part of.
    pub fn capture_of(&mut self, stream: u64) -> Option<(u64, &mut Capture)> {
        let number = self.live.get(&stream)?.capture?;
        Some((number, self.captures.get_mut(&number)?))
    }

    fn knows(&self, stream: u64) -> bool {
        stream <= BUILT_IN || self.live.contains_key(&stream)
    }
}

/// Makes a stream.
pub fn create(ready: Ready, stream: Out<u64>, flags: u32, priority: i32) -> u32 {
    with(|streams| {
        let handle = streams.new_handle();
        if stream.set(handle).is_err() {
            return INVALID_VALUE;
        }
        // Priorities are 0 to -5; others are cut to that (cudaStreamCreateWithPriority).
        let priority = priority.clamp(-5, 0);
        let made = Stream { device: ready.device, flags, priority, capture: None };
        streams.live.insert(handle, made);
        0
    })
}

/// `cudaStreamCreate`
pub fn create_plain(ready: Ready, stream: Out<u64>) -> u32 {
    create(ready, stream, 0, 0)
}

/// `cudaStreamCreateWithFlags`
pub fn create_with_flags(ready: Ready, stream: Out<u64>, flags: u32) -> u32 {
    create(ready, stream, flags, 0)
}

/// `cudaStreamDestroy`
pub fn destroy(_: Ready, stream: u64) -> u32 {
    with(|streams| match streams.live.remove(&stream) {
        Some(_) => 0,
        None => INVALID_HANDLE,
    })
}

/// `cudaStreamSynchronize`: not while it is captured, which a capture does not survive.
pub fn synchronize(_: Ready, stream: u64) -> u32 {
    if !any_capturing() {
        return 0;
    }
    with(|streams| match streams.capture_of(stream) {
        Some((_, capture)) => {
            capture.invalid = true;
            CAPTURE_UNSUPPORTED
        }
        None => 0,
    })
}

/// `cudaStreamGetPriority`
pub fn priority(_: Ready, stream: u64, priority: Out<i32>) -> u32 {
    ask(stream, priority, 0, |stream| stream.priority)
}

/// `cudaStreamGetFlags`
pub fn flags(_: Ready, stream: u64, flags: Out<u32>) -> u32 {
    ask(stream, flags, 0, |stream| stream.flags)
}

/// `cudaStreamGetDevice`
pub fn device(_: Ready, stream: u64, device: Out<i32>) -> u32 {
    ask(stream, device, state::device(), |stream| stream.device)
}

/// `cudaStreamGetId`
pub fn id(_: Ready, stream: u64, id: Out<u64>) -> u32 {
    ask(stream, id, stream, |_| stream)
}

fn ask<T>(stream: u64, out: Out<T>, built_in: T, answer: impl Fn(&Stream) -> T) -> u32 {
    with(|streams| {
        if !streams.knows(stream) {
            return INVALID_HANDLE;
        }
        let answer = streams.live.get(&stream).map_or(built_in, answer);
        if out.set(answer).is_ok() { 0 } else { INVALID_VALUE }
    })
}
