//! NCCL: communicators between the processes of a run, on one machine.
//!
//! Small collectives (64 KiB a rank) are really exchanged, so that checks and rendezvous of
//! training frameworks pass; of large ones nothing is known, and nothing is exchanged. A
//! communicator's buffers are charged as the scenario says (`nccl=SIZE` of a card).

mod board;
mod communicator;
pub mod error;
mod exports;
mod group;
mod names;
mod numbers;
mod operation;
mod split;

pub use communicator::pause;
pub use exports::EXPORTS;
