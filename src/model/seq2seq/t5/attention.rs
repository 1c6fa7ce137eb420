//! T5's attention: no scale, a bias by position, and for the decoder keys and values of the encoder.
//!
//! Source: transformers `modeling_t5.py` (`T5Attention`), `integrations/sdpa_attention.py`
//! (`create_position_bias_mask`).

use crate::model::blocks::linear::Linear;
use crate::model::builder::{Builder, Value};
use crate::model::config::T5Config;
use crate::model::graph::{Dtype, Op};
use crate::model::options::{Attention, GraphOptions};
use crate::model::seq2seq::attention::eager;
use crate::model::seq2seq::t5::bias;
use crate::model::versions::T5_AS_BART;

/// An attention's weights.
#[derive(Debug)]
pub struct AttentionWeights<'b> {
    q: Linear<'b>,
    k: Linear<'b>,
    v: Linear<'b>,
    o: Linear<'b>,
    /// The table of biases, which a stack's first layer has.
    biases: Option<Value<'b>>,
}

impl<'b> AttentionWeights<'b> {
    /// Loads them; `module` is their path.
    pub fn load(b: &'b Builder, c: &T5Config, module: &str, has_biases: bool) -> Self {
        let inner = c.num_heads * c.d_kv;
        let into = |name| Linear::load(b, module, name, [inner, c.d_model], false);
        AttentionWeights {
            q: into("q"),
            k: into("k"),
            v: into("v"),
            o: Linear::load(b, module, "o", [c.d_model, inner], false),
            biases: has_biases.then(|| {
                let name = format!("{module}.relative_attention_bias");
                b.parameter(&name, &[c.buckets, c.num_heads])
            }),
        }
    }
}

/// One attention to run.
#[derive(Debug, Clone, Copy)]
pub struct T5Attention<'a, 'b> {
    /// The model's sizes.
    pub c: &'a T5Config,
    /// The batch as the queries see it.
    pub o: &'a GraphOptions,
    /// Its weights.
    pub w: &'a AttentionWeights<'b>,
    /// Tokens of keys and values.
    pub keys: u64,
    /// Whether it is the decoder's own.
    pub causal: bool,
    /// What attention may not see.
    pub mask: Option<&'a Value<'b>>,
    /// Transformers 4's `cache_position`.
    pub positions: Option<&'a Value<'b>>,
}

/// What attention returns.
#[derive(Debug)]
pub struct Attended<'b> {
    /// The result, (batch, seq_len, d_model).
    pub out: Value<'b>,
    /// The bias, where this attention made it.
    pub bias: Option<Value<'b>>,
    /// The probabilities, where they are returned.
    pub probabilities: Option<Value<'b>>,
}

impl<'b> T5Attention<'_, 'b> {
    /// Runs it on (batch, seq_len, d_model), with keys and values out of `source`.
    pub fn run(
        &self,
        b: &'b Builder,
        x: &Value<'b>,
        source: &Value<'b>,
        bias: Option<&Value<'b>>,
    ) -> Attended<'b> {
        let heads = |linear: &Linear<'b>, x: &Value<'b>, tokens: u64| {
            let flat = linear.run(b, x);
            let sizes = [self.o.batch, tokens, self.c.num_heads, self.c.d_kv].map(|n| n as i64);
            let split = b.view(&flat, &sizes);
            b.transpose(&split, 1, 2)
        };
        let q = heads(&self.w.q, x, self.o.seq_len);
        let k = heads(&self.w.k, source, self.keys);
        let v = heads(&self.w.v, source, self.keys);
        if self.o.transformers < T5_AS_BART {
            return self.as_before(b, [q, k, v], bias);
        }
        let made = bias.is_none().then(|| self.new_bias(b, &q));
        let used = bias.or(made.as_ref()).expect("one was passed or made");
        let (out, probabilities) = match self.o.attention {
            Attention::Sdpa => (self.sdpa(b, [&q, &k, &v], used), None),
            // Flash is refused before a graph is made.
            Attention::Eager | Attention::Flash => {
                let added = [Some(used), self.mask];
                let (out, probabilities) = eager(b, [&q, &k, &v], &added, self.c.dropout);
                (out, Some(probabilities))
            }
        };
        let flat = b.reshape(&out, &self.flat_sizes());
        drop(out);
        let out = self.w.o.run(b, &flat);
        Attended { out, bias: made, probabilities }
    }

    fn flat_sizes(&self) -> [i64; 3] {
        [self.o.batch, self.o.seq_len, self.c.num_heads * self.c.d_kv].map(|n| n as i64)
    }

    /// The bias by position, or zeros where there is no table.
    fn new_bias(&self, b: &'b Builder, like: &Value<'b>) -> Value<'b> {
        match &self.w.biases {
            Some(table) => bias::computed(b, self.o, table, self.positions, !self.causal),
            None => {
                let sizes = [1, self.c.num_heads, self.o.seq_len, self.keys].map(|n| n as i64);
                b.run(Op::ZeroBias { sizes: sizes.into_iter().collect() }, &[like])
            }
        }
    }

    /// `create_position_bias_mask`, then attention in one kernel.
    fn sdpa(&self, b: &'b Builder, [q, k, v]: [&Value<'b>; 3], bias: &Value<'b>) -> Value<'b> {
        let mask = {
            let hidden = match self.mask {
                None if self.causal && self.o.seq_len > 1 => Some(self.below(b)),
                _ => None,
            };
            match hidden.as_ref().or(self.mask) {
                None => b.contiguous(bias),
                Some(visible) => {
                    let chosen = {
                        let minimum = b.run(Op::NumberLike, &[bias]);
                        b.run(Op::Where, &[visible, bias, &minimum])
                    };
                    b.contiguous(&chosen)
                }
            }
        };
        let op = Op::Sdpa { dropout: self.c.dropout, causal: false, grouped: false };
        let attended = b.run(op, &[q, k, v, &mask]);
        let turned = b.transpose(&attended, 1, 2);
        drop(attended);
        b.contiguous(&turned)
    }

    /// `arange(queries)[:, None] >= arange(keys)[None, :]`, as (1, 1, queries, keys).
    fn below(&self, b: &'b Builder) -> Value<'b> {
        let (queries, keys) = (self.o.seq_len, self.keys);
        let is_below = {
            let _queries = b.fresh(&[queries], Dtype::I64);
            let _keys = b.fresh(&[keys], Dtype::I64);
            b.fresh(&[queries, keys], Dtype::Bool)
        };
        b.view(&is_below, &[1, 1, queries as i64, keys as i64])
    }

    fn product(&self, b: &'b Builder, q: &Value<'b>, k: &Value<'b>) -> Value<'b> {
        let turned = b.transpose(k, 2, 3);
        b.run(Op::Matmul, &[q, &turned])
    }

    /// The mask is a part of the bias, which is added in place; softmax is in float32.
    fn as_before(
        &self,
        b: &'b Builder,
        [q, k, v]: [Value<'b>; 3],
        bias: Option<&Value<'b>>,
    ) -> Attended<'b> {
        let scores = self.product(b, &q, &k);
        // cache_position[-1] + 1: the length, on the device.
        let makes_bias = bias.is_none() && self.w.biases.is_some();
        let _length = makes_bias.then(|| b.fresh(&[], Dtype::I64));
        let made = bias.is_none().then(|| {
            let bias = self.new_bias(b, &scores);
            match self.mask {
                Some(mask) => b.add(&bias, mask),
                None => bias,
            }
        });
        let used = bias.or(made.as_ref()).expect("one was passed or made");
        let biased = b.run(Op::AddInPlace, &[&scores, used]);
        drop(scores);
        let narrow = {
            let wide = b.run(Op::To { dtype: Dtype::F32 }, &[&biased]);
            let soft = b.run(Op::Softmax { in_f32: false }, &[&wide]);
            drop(wide);
            b.run(Op::ToLike, &[&soft, &biased])
        };
        let probabilities = b.dropout(&narrow, self.c.dropout);
        drop(narrow);
        let flat = {
            let attended = b.run(Op::Matmul, &[&probabilities, &v]);
            let turned = b.transpose(&attended, 1, 2);
            let dense = b.contiguous(&turned);
            b.view(&dense, &self.flat_sizes())
        };
        let out = self.w.o.run(b, &flat);
        drop((q, k, v, biased, probabilities, flat));
        Attended { out, bias: made, probabilities: None }
    }
}
