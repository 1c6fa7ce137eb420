//! One layer: attention and MLP, each followed by a sum and a norm.

use crate::model::blocks::activation::activation;
use crate::model::blocks::linear::Linear;
use crate::model::blocks::norm::Norm;
use crate::model::builder::{Builder, Value};
use crate::model::config::{EncoderConfig, EncoderFamily};
use crate::model::decoder::architecture::NormKind;
use crate::model::encoder::attention::{Attended, Projections, SelfAttention};
use crate::model::options::GraphOptions;
use crate::model::versions::{BERT_ATTENTION_ANEW, TRANSFORMERS_5};

/// A layer's weights.
#[derive(Debug)]
pub struct LayerWeights<'b> {
    projections: Projections<'b>,
    out: Linear<'b>,
    attention_norm: Norm<'b>,
    up: Linear<'b>,
    down: Linear<'b>,
    norm: Norm<'b>,
}

impl<'b> LayerWeights<'b> {
    /// Loads a layer's weights; `layer` is its path.
    pub fn load(b: &'b Builder, c: &EncoderConfig, layer: &str) -> LayerWeights<'b> {
        let (width, inner) = (c.hidden_size, c.intermediate_size);
        let linear = |module: &str, name, sizes| {
            Linear::load(b, &format!("{layer}.{module}"), name, sizes, true)
        };
        let norm = |parent: &str, name| Norm::load(b, NormKind::Layer, parent, name, width);
        let square = [width, width];
        if c.family == EncoderFamily::DistilBert {
            return LayerWeights {
                projections: Projections {
                    q: linear("attention", "q_lin", square),
                    k: linear("attention", "k_lin", square),
                    v: linear("attention", "v_lin", square),
                },
                out: linear("attention", "out_lin", square),
                attention_norm: norm(layer, "sa_layer_norm"),
                up: linear("ffn", "lin1", [inner, width]),
                down: linear("ffn", "lin2", [width, inner]),
                norm: norm(layer, "output_layer_norm"),
            };
        }
        LayerWeights {
            projections: Projections {
                q: linear("attention.self", "query", square),
                k: linear("attention.self", "key", square),
                v: linear("attention.self", "value", square),
            },
            out: linear("attention.output", "dense", square),
            attention_norm: norm(&format!("{layer}.attention.output"), "LayerNorm"),
            up: linear("intermediate", "dense", [inner, width]),
            down: linear("output", "dense", [width, inner]),
            norm: norm(&format!("{layer}.output"), "LayerNorm"),
        }
    }
}

/// One layer to run.
#[derive(Debug)]
pub struct Layer<'a, 'b> {
    /// The model's sizes.
    pub c: &'a EncoderConfig,
    /// The batch, the implementation, versions.
    pub o: &'a GraphOptions,
    /// Its weights.
    pub w: &'a LayerWeights<'b>,
    /// What it is given as mask.
    pub mask: Option<&'a Value<'b>>,
}

/// What a layer returns.
#[derive(Debug)]
pub struct Outputs<'b> {
    /// The hidden states.
    pub hidden: Value<'b>,
    /// Probabilities that are returned as well, until transformers 5.
    pub probabilities: Option<Value<'b>>,
}

impl<'b> Layer<'_, 'b> {
    /// Runs it.
    pub fn forward(&self, b: &'b Builder, x: &Value<'b>) -> Outputs<'b> {
        match self.c.family {
            EncoderFamily::DistilBert => {
                Outputs { hidden: self.distilbert(b, x), probabilities: None }
            }
            _ => self.bert(b, x),
        }
    }

    fn attend(&self, b: &'b Builder, x: &Value<'b>) -> Attended<'b> {
        let (c, o, w) = (self.c, self.o, &self.w.projections);
        SelfAttention { c, o, w, mask: self.mask }.run(b, x)
    }

    /// `LayerNorm(dropout(dense(x)) + residual)`
    fn output(
        &self,
        b: &'b Builder,
        [dense, norm]: [&dyn Fn(&Value<'b>) -> Value<'b>; 2],
        x: &Value<'b>,
        residual: &Value<'b>,
    ) -> Value<'b> {
        let projected = dense(x);
        let dropped = {
            let _m = b.enter("dropout");
            b.dropout(&projected, self.c.hidden_dropout)
        };
        drop(projected);
        let sum = b.add(&dropped, residual);
        norm(&sum)
    }

    fn bert(&self, b: &'b Builder, x: &Value<'b>) -> Outputs<'b> {
        let w = self.w;
        let (attention_out, probabilities) = b.attention("attention", &[], || {
            let Attended { out, probabilities, names } = {
                let _m = b.enter("self");
                self.attend(b, x)
            };
            drop(names);
            let probabilities =
                probabilities.filter(|_| self.o.transformers >= BERT_ATTENTION_ANEW);
            let _m = b.enter("output");
            let dense = |x: &Value<'b>| w.out.run(b, x);
            let norm = |x: &Value<'b>| w.attention_norm.run(b, x);
            (self.output(b, [&dense, &norm], &out, x), probabilities)
        });
        let active = {
            let _m = b.enter("intermediate");
            let wide = w.up.run(b, &attention_out);
            let _m = b.enter("intermediate_act_fn");
            activation(b, self.c.hidden_act, &wide)
        };
        let hidden = {
            let _m = b.enter("output");
            let dense = |x: &Value<'b>| w.down.run(b, x);
            let norm = |x: &Value<'b>| w.norm.run(b, x);
            self.output(b, [&dense, &norm], &active, &attention_out)
        };
        drop((active, attention_out));
        // From transformers 5 on the layer lets go of the probabilities.
        let probabilities = probabilities.filter(|_| self.o.transformers < TRANSFORMERS_5);
        Outputs { hidden, probabilities }
    }

    fn distilbert(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let w = self.w;
        let (attended, _probabilities) = b.attention("attention", &[], || {
            let Attended { out, probabilities, names } = self.attend(b, x);
            let projected = w.out.run(b, &out);
            drop((out, names));
            (projected, probabilities)
        });
        let attended = {
            let sum = b.add(&attended, x);
            let normed = w.attention_norm.run(b, &sum);
            drop((sum, attended));
            normed
        };
        let fed = {
            let _m = b.enter("ffn");
            let wide = w.up.run(b, &attended);
            let active = {
                let _m = b.enter("activation");
                activation(b, self.c.hidden_act, &wide)
            };
            drop(wide);
            let narrow = w.down.run(b, &active);
            drop(active);
            let _m = b.enter("dropout");
            b.dropout(&narrow, self.c.hidden_dropout)
        };
        let sum = b.add(&fed, &attended);
        w.norm.run(b, &sum)
    }
}
