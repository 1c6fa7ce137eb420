//! A GPU memory planner: models a training step as the sequence of allocations that PyTorch makes,
//! replays it by PyTorch's own allocator rules, and plans micro-batch and accumulation on it.
//!
//! Modules point down this list only: `cli`, `report`, `export`, `device`, `ingest`, `trial`,
//! `profile`, `probe`, `plan`, `memory`, `step`, `model`, `trace`, `parallel`,
//! `units`. See docs/design.md.

pub mod cli;
pub mod device;
pub mod export;
pub mod ingest;
pub mod memory;
pub mod model;
pub mod parallel;
pub mod plan;
pub mod probe;
pub mod profile;
pub mod report;
pub mod step;
pub mod trace;
#[cfg(unix)]
pub mod trial;
pub mod units;
