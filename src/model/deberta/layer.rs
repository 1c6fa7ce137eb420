//! One layer: attention and MLP, each followed by a sum and a norm.

use crate::model::blocks::activation::activation;
use crate::model::blocks::linear::Linear;
use crate::model::blocks::norm::Norm;
use crate::model::builder::{Builder, Value};
use crate::model::config::DebertaConfig;
use crate::model::deberta::attention::{Disentangled, Projections};
use crate::model::decoder::architecture::NormKind;

/// `LayerNorm(dropout(dense(x)) + residual)`.
#[derive(Debug)]
struct Output<'b> {
    dense: Linear<'b>,
    norm: Norm<'b>,
}

impl<'b> Output<'b> {
    fn load(b: &'b Builder, path: &str, sizes: [u64; 2]) -> Output<'b> {
        let dense = Linear::load(b, path, "dense", sizes, true);
        let norm = Norm::load(b, NormKind::Layer, path, "LayerNorm", sizes[0]);
        Output { dense, norm }
    }

    fn run(&self, b: &'b Builder, dropout: f64, x: &Value<'b>, residual: &Value<'b>) -> Value<'b> {
        let _m = b.enter("output");
        let dense = self.dense.run(b, x);
        let dropped = b.dropout(&dense, dropout);
        drop(dense);
        let sum = b.add(&dropped, residual);
        self.norm.run(b, &sum)
    }
}

/// A layer's weights.
#[derive(Debug)]
pub struct LayerWeights<'b> {
    projections: Projections<'b>,
    attended: Output<'b>,
    up: Linear<'b>,
    fed: Output<'b>,
}

impl<'b> LayerWeights<'b> {
    /// Loads a layer's weights; `path` is its own.
    pub fn load(b: &'b Builder, c: &DebertaConfig, path: &str) -> LayerWeights<'b> {
        let (width, inner) = (c.hidden_size, c.intermediate_size);
        let at = |name: &str| format!("{path}.{name}");
        LayerWeights {
            projections: Projections::load(b, c, &at("attention.self")),
            attended: Output::load(b, &at("attention.output"), [width, width]),
            up: Linear::load(b, &at("intermediate"), "dense", [inner, width], true),
            fed: Output::load(b, &at("output"), [width, inner]),
        }
    }

    /// Returns the projections of its attention.
    pub fn projections(&self) -> &Projections<'b> {
        &self.projections
    }

    /// Runs the layer.
    pub fn forward(
        &self,
        b: &'b Builder,
        attention: &Disentangled<'_, 'b>,
        x: &Value<'b>,
    ) -> Value<'b> {
        let c = attention.c;
        let attended = b.attention("attention", attention.passed, || {
            let context = {
                let _m = b.enter("self");
                attention.run(b, x)
            };
            self.attended.run(b, c.hidden_dropout, &context, x)
        });
        let active = {
            let _m = b.enter("intermediate");
            let wide = self.up.run(b, &attended);
            activation(b, c.hidden_act, &wide)
        };
        self.fed.run(b, c.hidden_dropout, &active, &attended)
    }
}
