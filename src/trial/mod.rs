//! A training command as the judge: running it and all its descendants on simulated or real GPUs,
//! telling out of memory from other failures, choosing the next size.
//!
//! Does not print, and knows no model: what it learns comes from the command itself.

pub mod answer;
pub mod environment;
pub mod folder;
pub mod growth;
pub mod guard;
pub mod installed;
pub mod judge;
pub mod kept;
pub mod launch;
mod ledger;
mod lifeline;
mod line;
pub mod machine;
pub mod messages;
pub mod outcome;
pub mod private;
pub mod program;
pub mod real;
mod reports;
pub mod sampled;
pub mod sampler;
pub mod scenario;
pub mod search;
mod signals;
pub mod simulated;
mod start;
pub mod sweeper;
pub mod template;
mod terminal;
pub mod tree;
#[expect(clippy::module_inception, reason = "the room is named for what it holds")]
pub mod trial;
pub mod virtual_library;
mod watch;
