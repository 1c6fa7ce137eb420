//! The embedded profiles of models and GPUs, a user's own, and their schema.

pub mod gpu;
