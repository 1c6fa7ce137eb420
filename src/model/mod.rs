//! Architectures, built from operators into a graph. Knows no setup but what changes the graph.

pub mod builder;
pub mod config;
mod gpt2;
pub mod graph;
mod llama;
mod masks;
pub mod options;

use config::ModelConfig;
use graph::Graph;
use options::GraphOptions;

/// Builds the forward pass of one micro-batch, loss included.
///
/// The batch is `options.batch` samples of `options.seq_len` tokens with labels of the same size.
pub fn build(config: &ModelConfig, options: &GraphOptions) -> Graph {
    match config {
        ModelConfig::Llama(c) => llama::build(c, options),
        ModelConfig::Gpt2(c) => gpt2::build(c, options),
    }
}
