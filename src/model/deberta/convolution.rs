//! `ConvLayer`: what neighbours say, added behind the first layer.

use crate::model::blocks::activation::activation;
use crate::model::blocks::norm::Norm;
use crate::model::builder::{Builder, Value};
use crate::model::config::{DebertaConfig, DebertaConvolution};
use crate::model::decoder::architecture::NormKind;
use crate::model::graph::{Conv2d, Dtype, Op};
use crate::model::options::GraphOptions;
use crate::model::vision::conv::{Convolution, Filters};

/// Its weights.
#[derive(Debug)]
pub struct ConvLayer<'b> {
    what: DebertaConvolution,
    convolution: Convolution<'b>,
    norm: Norm<'b>,
}

impl<'b> ConvLayer<'b> {
    /// Loads its weights, where the model has such a layer.
    pub fn load(b: &'b Builder, c: &DebertaConfig) -> Option<ConvLayer<'b>> {
        let what = c.convolution?;
        let path = "deberta.encoder.conv";
        let filters = Filters {
            outputs: c.hidden_size,
            inputs: c.hidden_size,
            kernel: [1, what.kernel_size],
        };
        let padding = (what.kernel_size - 1) / 2;
        let how = Conv2d { stride: 1, padding, groups: 1, one_row: true };
        let convolution = Convolution::load(b, path, "conv", filters, how, true);
        let norm = Norm::load(b, NormKind::Layer, path, "LayerNorm", c.hidden_size);
        Some(ConvLayer { what, convolution, norm })
    }

    /// Runs it on the embeddings and what the first layer made of them, (batch, seq_len, hidden).
    pub fn run(
        &self,
        b: &'b Builder,
        c: &DebertaConfig,
        o: &GraphOptions,
        [embedded, residual, mask]: [&Value<'b>; 3],
    ) -> Value<'b> {
        let _m = b.enter("conv");
        let turned = |x: &Value<'b>| {
            let turned = b.run(Op::Permute { order: [0, 2, 1].into_iter().collect() }, &[x]);
            b.contiguous(&turned)
        };
        let mut out = {
            let convolved = {
                let rows = turned(embedded);
                let image = b.run(Op::Unsqueeze { dim: 2 }, &[&rows]);
                drop(rows);
                self.convolution.run(b, &image)
            };
            let sizes = [o.batch, c.hidden_size, o.seq_len].map(|n| n as i64);
            let rows = b.view(&convolved, &sizes);
            drop(convolved);
            turned(&rows)
        };
        let is_padding = {
            let _inverted = b.add_number(mask);
            b.fresh(&[o.batch, o.seq_len], Dtype::Bool)
        };
        out = {
            let column = b.run(Op::Unsqueeze { dim: 2 }, &[&is_padding]);
            let sizes = [o.batch, o.seq_len, c.hidden_size].map(|n| n as i64);
            let all = b.run(Op::Expand { sizes: sizes.into_iter().collect() }, &[&column]);
            b.run(Op::MaskedFillInPlace, &[&out, &all])
        };
        out = {
            let dropped = b.dropout(&out, c.hidden_dropout);
            activation(b, self.what.activation, &dropped)
        };
        let sum = b.add(residual, &out);
        let normed = self.norm.run(b, &sum);
        let normed = b.run(Op::ToLike, &[&normed, &sum]);
        let column = b.run(Op::Unsqueeze { dim: 2 }, &[mask]);
        let column = b.run(Op::ToLike, &[&column, &normed]);
        b.mul(&normed, &column)
    }
}
