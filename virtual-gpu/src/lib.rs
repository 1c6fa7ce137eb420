//! A GPU that is not there: the C interfaces of NVML and of the CUDA driver, answered from a
//! scenario file, with one state for all processes that use it. README.md has the file's format.
//!
//! Built by the package's `build.rs` with `std` alone, without a manifest of its own.

#![deny(unsafe_op_in_unsafe_fn)]
#![warn(missing_docs)]

mod aground;
mod c;
mod call;
mod cuda;
mod exports;
mod fork;
mod image;
mod libraries;
mod lifeline;
#[allow(dead_code, unused_imports, reason = "its readers' half is for oomph and the tests")]
mod machine;
mod mapped;
mod memory;
mod nccl;
mod note;
mod nvml;
mod oracle;
mod runtime;
mod start;
mod unanswered;
