//! What a step needs of a device: the trace, PyTorch's caching allocator replayed over it, the
//! footprint read off the replay, and what lies outside the allocator.
//!
//! No I/O, no device: where segments come from is behind [`allocator::SegmentSource`].

pub mod alive;
pub mod allocator;
pub mod explain;
pub mod fit;
pub mod footprint;
pub mod largest;
pub use crate::trace;
