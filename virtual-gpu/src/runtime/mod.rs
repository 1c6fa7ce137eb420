//! The CUDA runtime's interface, on top of what `cuda/` knows: primary contexts, the current
//! device of a thread, its last error, streams, events, graphs, launches.
//!
//! It answers as version 12 or 13, whichever the process has mapped (`version.rs`). The calls of
//! `quick.rs` take no lock and look at no shared state: a training step makes thousands of them.

pub mod capture;
pub mod copies;
mod device;
mod error;
pub mod event;
mod exports;
mod graph;
pub mod launch;
mod libraries;
pub mod memory;
mod names;
pub mod pools;
mod properties;
mod quick;
mod registration;
pub mod state;
pub mod stream;
mod version;

use std::any::Any;

use crate::exports::Export;
use crate::memory::host;

pub use device::limit;
pub use state::Ready;
pub use version::version;

/// Counts a launch where its stream is captured.
pub fn captured(stream: u64) {
    capture::captures(stream, capture::Work::Device);
}

/// Every name of the runtime that is exported.
pub fn exports() -> Vec<Export> {
    [exports::EXPORTS, quick::EXPORTS, registration::EXPORTS, pools::EXPORTS, names::EXPORTS]
        .concat()
}

/// Waits for other threads, and keeps them out until the guard drops.
pub fn pause() -> Box<dyn Any> {
    Box::new((stream::pause(), host::pause()))
}

/// Forgets what a fork of a process does not have.
pub fn forget() {
    state::forget_contexts();
    state::set_device(0);
}
