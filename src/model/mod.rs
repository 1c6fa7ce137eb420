//! Architectures, built from operators into a graph. Knows no setup but what changes the graph.

pub mod config;
