//! One layer: attention and a gated MLP, each behind a norm.

use crate::model::blocks::activation::activation;
use crate::model::blocks::attention::{Attend, joined_heads};
use crate::model::blocks::linear::Linear;
use crate::model::blocks::norm::Norm;
use crate::model::blocks::rotary::{self, Rotary, Table};
use crate::model::builder::{Builder, Value};
use crate::model::config::ModernBertConfig;
use crate::model::decoder::architecture::Rotation;
use crate::model::graph::{Dtype, Op};
use crate::model::options::{Attention, GraphOptions};
use crate::model::versions::{MODERNBERT_AS_OTHERS, TRANSFORMERS_5};

/// A layer's weights.
#[derive(Debug)]
pub struct LayerWeights<'b> {
    before: Option<Norm<'b>>,
    qkv: Linear<'b>,
    /// Frequencies of the layer's own rotary embedding, until transformers 5.
    inv_freq: Option<Value<'b>>,
    out: Linear<'b>,
    after: Norm<'b>,
    up: Linear<'b>,
    down: Linear<'b>,
}

impl<'b> LayerWeights<'b> {
    /// Loads a layer's weights; `path` is its own.
    pub fn load(
        b: &'b Builder,
        c: &ModernBertConfig,
        o: &GraphOptions,
        path: &str,
        index: u64,
    ) -> LayerWeights<'b> {
        let (width, inner) = (c.hidden_size, c.intermediate_size);
        let attention = format!("{path}.attn");
        let mlp = format!("{path}.mlp");
        let norm = |name| Norm::load_layer_norm(b, path, name, width, c.norm_bias);
        let before = (index > 0).then(|| norm("attn_norm"));
        let qkv = Linear::load(b, &attention, "Wqkv", [3 * width, width], c.attention_bias);
        let inv_freq = (o.transformers < TRANSFORMERS_5)
            .then(|| b.buffer(&format!("{attention}.rotary_emb"), &[c.head_dim() / 2], Dtype::F32));
        LayerWeights {
            before,
            qkv,
            inv_freq,
            out: Linear::load(b, &attention, "Wo", [width, width], c.attention_bias),
            after: norm("mlp_norm"),
            up: Linear::load(b, &mlp, "Wi", [2 * inner, width], c.mlp_bias),
            down: Linear::load(b, &mlp, "Wo", [width, inner], c.mlp_bias),
        }
    }
}

/// One layer to run.
#[derive(Debug)]
pub struct Layer<'a, 'b> {
    /// The model's sizes.
    pub c: &'a ModernBertConfig,
    /// The batch, the implementation, versions.
    pub o: &'a GraphOptions,
    /// Its weights.
    pub w: &'a LayerWeights<'b>,
    /// The cosines and sines of its kind of layer, from transformers 5 on.
    pub table: Option<&'a Table<'b>>,
    /// The mask of its kind of layer.
    pub mask: Option<&'a Value<'b>>,
    /// What it is called with, and its attention too, read or not.
    pub passed: &'a [&'a Value<'b>],
}

impl<'b> Layer<'_, 'b> {
    /// Runs it.
    pub fn forward(&self, b: &'b Builder, input: &Value<'b>) -> Value<'b> {
        let (c, w) = (self.c, self.w);
        let normed = w.before.as_ref().map(|norm| norm.run(b, input));
        let (attended, _probabilities) = b
            .attention("attn", self.passed, || self.attention(b, normed.as_ref().unwrap_or(input)));
        drop(normed);
        let residual = b.add(input, &attended);
        let normed = w.after.run(b, &residual);
        let fed = {
            let _m = b.enter("mlp");
            let both = w.up.run(b, &normed);
            let [value, gate] = b.run_many(Op::Split { dim: -1, parts: 2 }, &[&both]);
            drop(both);
            let product = {
                let active = {
                    let _m = b.enter("act");
                    activation(b, c.hidden_activation, &value)
                };
                b.mul(&active, &gate)
            };
            let dropped = b.dropout(&product, c.mlp_dropout);
            drop(product);
            w.down.run(b, &dropped)
        };
        drop(normed);
        b.add(&residual, &fed)
    }

    /// Returns what attention made, and the probabilities that its layer holds from transformers 5 on.
    fn attention(&self, b: &'b Builder, x: &Value<'b>) -> (Value<'b>, Option<Value<'b>>) {
        let (c, o) = (self.c, self.o);
        let heads = [c.num_attention_heads, c.head_dim()];
        let sizes = [o.batch, o.seq_len, 3, heads[0], heads[1]].map(|n| n as i64);
        let qkv = {
            let flat = self.w.qkv.run(b, x);
            b.view(&flat, &sizes)
        };
        if o.transformers >= MODERNBERT_AS_OTHERS {
            let parts = b.run_many(Op::Unbind { dim: -3, parts: 3 }, &[&qkv]);
            let [q, k, v] = parts.each_ref().map(|part| b.transpose(part, 1, 2));
            drop(parts);
            let table = self.table.expect("transformers 5 makes the tables first");
            let attended = self.turned_and_attended(b, table, [q, k, v]);
            let projected = self.projected(b, &attended.joined);
            let probabilities = attended.probabilities;
            return (projected, probabilities);
        }
        let joined = {
            let made = self.w.inv_freq.as_ref();
            let made = made.map(|own| rotary::table_like(b, o, c.head_dim(), own, &qkv));
            let table = made.as_ref().or(self.table).expect("the layer's own, or the model's");
            let turned = b.transpose(&qkv, 3, 1);
            let parts = b.run_many(Op::Unbind { dim: 2, parts: 3 }, &[&turned]);
            self.turned_and_attended(b, table, parts).joined
        };
        let projected = self.projected(b, &joined);
        (projected, None)
    }

    fn projected(&self, b: &'b Builder, joined: &Value<'b>) -> Value<'b> {
        let projected = self.w.out.run(b, joined);
        b.dropout(&projected, self.c.attention_dropout)
    }

    /// Turns query and key by their positions and attends, (batch, seq_len, hidden).
    fn turned_and_attended(
        &self,
        b: &'b Builder,
        table: &Table<'b>,
        [q, k, v]: [Value<'b>; 3],
    ) -> Attended<'b> {
        let (c, o) = (self.c, self.o);
        let upcast = o.transformers >= MODERNBERT_AS_OTHERS;
        let rotary = Rotary {
            table,
            rotation: Rotation::Whole,
            head_dim: c.head_dim(),
            rotary_dim: c.head_dim(),
            cast_back: upcast,
            upcast,
        };
        let (q, k) = {
            let turned = rotary.apply(b, &q, &k);
            drop((q, k));
            turned
        };
        let attend = Attend {
            o,
            heads: c.num_attention_heads,
            key_value_heads: c.num_attention_heads,
            head_dim: c.head_dim(),
            dropout: c.attention_dropout,
            softcap: false,
            grouped: false,
            causal: false,
            mask: self.mask,
            adds_mask_in_place: false,
            calls_pytorch: o.transformers < MODERNBERT_AS_OTHERS,
            softmax_in_f32: true,
        };
        let (attended, probabilities) = attend.run(b, &q, &k, &v);
        debug_assert!(o.attention != Attention::Flash, "refused before");
        let joined = joined_heads(b, o, attended, c.hidden_size);
        Attended { joined, probabilities, _heads: [q, k, v] }
    }
}

/// What attention made, with query, key and value, which its function holds.
struct Attended<'b> {
    joined: Value<'b>,
    probabilities: Option<Value<'b>>,
    _heads: [Value<'b>; 3],
}
