//! A training command as the judge: running it and all its descendants on simulated GPUs, telling
//! out of memory from other failures, choosing the next size.
//!
//! Does not print, and knows no model: what it learns comes from the command itself.

pub mod environment;
pub mod folder;
pub mod guard;
pub mod installed;
pub mod judge;
pub mod launch;
mod ledger;
pub mod messages;
pub mod outcome;
pub mod private;
mod reports;
pub mod scenario;
mod signals;
pub mod simulated;
mod terminal;
mod tree;
pub mod virtual_library;
mod watch;
