//! Keeps the library usable in a process that forks while other threads are in calls.
//!
//! A fork copies locks as they are; whoever holds one does not exist in the child. So the thread
//! that forks takes every lock first, and both sides let go of them afterwards.

use std::any::Any;
use std::cell::UnsafeCell;
use std::sync::Once;

use crate::{call, image, nccl, note, runtime};

unsafe extern "C" {
    /// Registers what the forking thread does before a fork, and after it in both processes.
    pub fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> i32;
}

/// The locks that the forking thread holds.
struct Held(UnsafeCell<Vec<Box<dyn Any>>>);

// SAFETY: only touched between `before` and `after` of one fork, by the thread that forks and
// holds the first of the locks.
unsafe impl Sync for Held {}

static HELD: Held = Held(UnsafeCell::new(Vec::new()));

/// Registers what happens around a fork, once.
pub fn stay_whole() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the functions live as long as the process: the library is never unloaded.
        unsafe { pthread_atfork(Some(before), Some(after), Some(after_in_child)) };
    });
}

extern "C" fn before() {
    // In the order in which calls take them.
    let driver: Box<dyn Any> = Box::new(call::pause());
    // SAFETY: the driver's lock is held, and every fork comes by here.
    let held = unsafe { &mut *HELD.0.get() };
    held.push(driver);
    held.push(Box::new(runtime::pause()));
    held.push(Box::new(nccl::pause()));
    held.push(Box::new(image::pause()));
    held.push(Box::new(note::pause()));
}

extern "C" fn after() {
    // SAFETY: as in `before`.
    let held = std::mem::take(unsafe { &mut *HELD.0.get() });
    // The last one taken goes first.
    held.into_iter().rev().for_each(drop);
}

extern "C" fn after_in_child() {
    runtime::forget();
    after();
}
