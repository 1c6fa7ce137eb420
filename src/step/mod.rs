//! Setup and graph to trace: the rules of autograd, the optimizers and checkpointing.

pub mod setup;
