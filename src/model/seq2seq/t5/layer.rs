//! A T5 block: attention, for the decoder attention to the encoder, and an MLP, each behind a norm.

use crate::model::blocks::activation::activation;
use crate::model::blocks::linear::Linear;
use crate::model::builder::{Builder, Value};
use crate::model::config::T5Config;
use crate::model::graph::{Dtype, Op};
use crate::model::options::GraphOptions;
use crate::model::seq2seq::t5::attention::{AttentionWeights, T5Attention};
use crate::model::seq2seq::t5::norm::Norm;
use crate::model::versions::T5_AS_BART;

/// The MLP's weights.
#[derive(Debug)]
struct MlpWeights<'b> {
    /// One projection, or the gate and what passes it.
    up: Vec<Linear<'b>>,
    down: Linear<'b>,
}

/// A block's weights.
#[derive(Debug)]
pub struct BlockWeights<'b> {
    attention: AttentionWeights<'b>,
    attention_norm: Norm<'b>,
    cross: Option<(AttentionWeights<'b>, Norm<'b>)>,
    mlp: MlpWeights<'b>,
    mlp_norm: Norm<'b>,
}

impl<'b> BlockWeights<'b> {
    /// Loads them; `block` is their path.
    pub fn load(b: &'b Builder, c: &T5Config, block: &str, first: bool, decodes: bool) -> Self {
        let norm =
            |layer: u32| Norm::load(b, &format!("{block}.layer.{layer}"), "layer_norm", c.d_model);
        let attention = |layer: u32, name: &str, first| {
            AttentionWeights::load(b, c, &format!("{block}.layer.{layer}.{name}"), first)
        };
        let own = attention(0, "SelfAttention", first);
        let attention_norm = norm(0);
        let cross = decodes.then(|| {
            let weights = attention(1, "EncDecAttention", false);
            (weights, norm(1))
        });
        let last = if decodes { 2 } else { 1 };
        let module = format!("{block}.layer.{last}.DenseReluDense");
        let names: &[&'static str] = if c.gated { &["wi_0", "wi_1"] } else { &["wi"] };
        let into = |&name| Linear::load(b, &module, name, [c.d_ff, c.d_model], false);
        let up = names.iter().map(into).collect();
        let down = Linear::load(b, &module, "wo", [c.d_model, c.d_ff], false).not_in_f16(b);
        let mlp = MlpWeights { up, down };
        BlockWeights { attention: own, attention_norm, cross, mlp, mlp_norm: norm(last) }
    }
}

/// What the encoder gives the decoder.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a, 'b> {
    /// The encoder's last hidden states.
    pub hidden: &'a Value<'b>,
    /// Their tokens.
    pub tokens: u64,
    /// Which of them attention may not see.
    pub mask: Option<&'a Value<'b>>,
}

/// One block to run.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a, 'b> {
    /// The model's sizes.
    pub c: &'a T5Config,
    /// The batch as this stack sees it.
    pub o: &'a GraphOptions,
    /// Its weights.
    pub w: &'a BlockWeights<'b>,
    /// The mask of its own attention.
    pub mask: Option<&'a Value<'b>>,
    /// The encoder's side, in a decoder.
    pub source: Option<Source<'a, 'b>>,
    /// Transformers 4's `cache_position`.
    pub positions: Option<&'a Value<'b>>,
}

/// Biases that a stack's first block makes and all others get.
#[derive(Debug, Default)]
pub struct Biases<'b> {
    /// Of its own attention.
    pub own: Option<Value<'b>>,
    /// Of the attention to the encoder.
    pub cross: Option<Value<'b>>,
}

/// What a block's Python names until it returns.
#[derive(Debug, Default)]
struct Names<'b> {
    /// Until transformers 5 the tuples of what attention returned.
    returned: Vec<Value<'b>>,
    /// The last `clamp_value`.
    bound: Option<Value<'b>>,
}

impl<'b> Block<'_, 'b> {
    /// Runs it; adds to `biases` what it makes.
    pub fn forward(&self, b: &'b Builder, x: &Value<'b>, biases: &mut Biases<'b>) -> Value<'b> {
        let (mut hidden, mut probabilities) = self.own_attention(b, x, biases);
        let mut names = Names::default();
        hidden = self.clamped(b, hidden, &mut names);
        if let (Some(source), Some(cross)) = (self.source, &self.w.cross) {
            let _length = self.positions.map(|_| b.fresh(&[], Dtype::I64));
            (hidden, probabilities) = self.cross_attention(b, &hidden, source, cross, biases);
            hidden = self.clamped(b, hidden, &mut names);
        }
        // What it returns is in float32 where the model is in float16, and not clamped.
        let out = self.feed_forward(b, &hidden);
        drop((names, probabilities, hidden));
        out
    }

    /// Clamps what attention returned to finite numbers, where that is in float16.
    fn clamped(&self, b: &'b Builder, attended: Value<'b>, names: &mut Names<'b>) -> Value<'b> {
        let bound = b.run(Op::FiniteBound, &[&attended]);
        let bound = names.bound.insert(bound);
        let out = b.run(Op::ClampTo, &[&attended, bound]);
        if self.o.transformers < T5_AS_BART {
            names.returned.push(attended);
        }
        out
    }

    /// `hidden_states + dropout(attention_output)`
    fn added(&self, b: &'b Builder, x: &Value<'b>, attended: &Value<'b>) -> Value<'b> {
        let dropped = {
            let _m = b.enter("dropout");
            b.dropout(attended, self.c.dropout)
        };
        b.add(x, &dropped)
    }

    fn own_attention(
        &self,
        b: &'b Builder,
        x: &Value<'b>,
        biases: &mut Biases<'b>,
    ) -> (Value<'b>, Option<Value<'b>>) {
        let attention = T5Attention {
            c: self.c,
            o: self.o,
            w: &self.w.attention,
            keys: self.o.seq_len,
            causal: self.source.is_some(),
            mask: self.mask,
            positions: self.positions,
        };
        let _m = b.enter("layer.0");
        let normed = self.w.attention_norm.run(b, x);
        let attended = {
            let _m = b.enter("SelfAttention");
            attention.run(b, &normed, &normed, biases.own.as_ref())
        };
        let hidden = self.added(b, x, &attended.out);
        biases.own = biases.own.take().or(attended.bias);
        (hidden, attended.probabilities)
    }

    fn cross_attention(
        &self,
        b: &'b Builder,
        x: &Value<'b>,
        source: Source<'_, 'b>,
        (weights, norm): &(AttentionWeights<'b>, Norm<'b>),
        biases: &mut Biases<'b>,
    ) -> (Value<'b>, Option<Value<'b>>) {
        let attention = T5Attention {
            c: self.c,
            o: self.o,
            w: weights,
            keys: source.tokens,
            causal: false,
            mask: source.mask,
            positions: self.positions,
        };
        let _m = b.enter("layer.1");
        let normed = norm.run(b, x);
        let attended = {
            let _m = b.enter("EncDecAttention");
            attention.run(b, &normed, source.hidden, biases.cross.as_ref())
        };
        let hidden = self.added(b, x, &attended.out);
        biases.cross = biases.cross.take().or(attended.bias);
        (hidden, attended.probabilities)
    }

    fn feed_forward(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let _m = b.enter(if self.source.is_some() { "layer.2" } else { "layer.1" });
        let mut fed = self.w.mlp_norm.run(b, x);
        fed = self.mlp(b, &fed);
        self.added(b, x, &fed)
    }

    fn mlp(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let w = &self.w.mlp;
        let _m = b.enter("DenseReluDense");
        let activate = |x: &Value<'b>| {
            let _m = b.enter("act");
            activation(b, self.c.activation, x)
        };
        let first = w.up[0].run(b, x);
        let active = activate(&first);
        drop(first);
        let linear = w.up.get(1).map(|up| up.run(b, x));
        let gated = linear.as_ref().map(|linear| b.mul(&active, linear));
        let dropped = {
            let _m = b.enter("dropout");
            b.dropout(gated.as_ref().unwrap_or(&active), self.c.dropout)
        };
        // The gate and what passes it are names until the end; without a gate all is one name.
        let names = linear.map(|linear| (linear, active));
        drop(gated);
        // Under autocast 16 bits become the weight's float32, for a linear that casts them back.
        let wide = b.run(Op::ToLike, &[&dropped, w.down.weight()]);
        drop(dropped);
        let out = w.down.run(b, &wide);
        drop((names, wide));
        out
    }
}
