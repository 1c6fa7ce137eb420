//! Architectures, built from operators into a graph. Knows no setup but what changes the graph.

pub mod adapters;
mod bidirectional;
mod blocks;
pub mod builder;
mod classify;
pub mod config;
mod deberta;
pub mod decoder;
mod encoder;
pub mod freeze;
pub mod fused_loss;
mod gpt2;
pub mod graph;
pub mod masks;
mod modernbert;
mod opt;
pub mod options;
pub mod quantize;
mod seq2seq;
pub mod tuning;
pub(crate) mod update_causal_mask;
pub(crate) mod versions;
mod vision;

use config::ModelConfig;
use graph::Graph;
use options::GraphOptions;

/// Builds the forward pass of one micro-batch, loss included.
///
/// The batch is `options.batch` samples of `options.seq_len` tokens with labels of the same size, or
/// of images with one label each.
pub fn build(config: &ModelConfig, options: &GraphOptions) -> Graph {
    match config {
        ModelConfig::Decoder(c) => decoder::build(c, options),
        ModelConfig::Vit(c) => vision::vit::build(c, options),
        ModelConfig::ConvNext(c) => vision::convnext::build(c, options),
        ModelConfig::Swin(c) => vision::swin::build(c, options),
        ModelConfig::ResNet(c) => vision::resnet::build(c, options),
        ModelConfig::Encoder(c) => encoder::build(c, options),
        ModelConfig::Deberta(c) => deberta::build(c, options),
        ModelConfig::ModernBert(c) => modernbert::build(c, options),
        ModelConfig::T5(c) => seq2seq::t5::build(c, options),
        ModelConfig::Whisper(c) => seq2seq::whisper::build(c, options),
        ModelConfig::Bart(c) => seq2seq::bart::build(c, options),
        ModelConfig::Opt(c) => opt::build(c, options),
        ModelConfig::Gpt2(c) => gpt2::build(c, options),
    }
}
