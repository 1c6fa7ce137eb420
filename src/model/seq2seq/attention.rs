//! Attention between two sequences, with projections that have biases (BART, Whisper).
//!
//! Source: transformers `modeling_bart.py` (`BartAttention`), `modeling_whisper.py`
//! (`WhisperAttention`), `integrations/sdpa_attention.py`.

use crate::model::blocks::attention::contiguous_for_sdpa;
use crate::model::blocks::linear::Linear;
use crate::model::builder::{Builder, Value};
use crate::model::graph::Op;
use crate::model::options::{Attention, GraphOptions};
use crate::model::seq2seq::layer::{LayerSizes, Style};
use crate::model::versions::{
    WHISPER_ATTENTION_INTERFACE, WHISPER_COPIES_BOTH_LAST, WHISPER_COPIES_IN_TURN,
};

/// An attention's weights.
#[derive(Debug)]
pub struct AttentionWeights<'b> {
    k: Linear<'b>,
    v: Linear<'b>,
    q: Linear<'b>,
    out: Linear<'b>,
}

impl<'b> AttentionWeights<'b> {
    /// Loads them; `module` is their path.
    pub fn load(b: &'b Builder, sizes: &LayerSizes, module: &str) -> Self {
        let linear = |name, bias| Linear::load(b, module, name, [sizes.width, sizes.width], bias);
        AttentionWeights {
            k: linear("k_proj", sizes.style == Style::Bart),
            v: linear("v_proj", true),
            q: linear("q_proj", true),
            out: linear("out_proj", true),
        }
    }
}

/// One attention to run.
#[derive(Debug, Clone, Copy)]
pub struct CrossAttention<'a, 'b> {
    /// The layer's sizes.
    pub sizes: &'a LayerSizes,
    /// The batch as the queries see it.
    pub o: &'a GraphOptions,
    /// Its weights.
    pub w: &'a AttentionWeights<'b>,
    /// Tokens of keys and values.
    pub keys: u64,
    /// Whether each token sees those before it alone.
    pub causal: bool,
    /// What attention may not see.
    pub mask: Option<&'a Value<'b>>,
}

impl<'b> CrossAttention<'_, 'b> {
    /// Runs it on (batch, seq_len, width), with keys and values out of `source`; returns the result
    /// and, in eager code, the probabilities.
    pub fn run(
        &self,
        b: &'b Builder,
        x: &Value<'b>,
        source: &Value<'b>,
    ) -> (Value<'b>, Option<Value<'b>>) {
        let q = self.query(b, x);
        let [k, v] = self.of_source(b, source);
        // A name until the output is projected.
        let mut dropped = None;
        let (attended, probabilities) = match self.o.attention {
            Attention::Sdpa => (self.sdpa(b, [&q, &k, &v]), None),
            Attention::Eager if self.is_whispers_own() => {
                let (out, probabilities) = self.eager_of_whisper(b, [&q, &k, &v], &mut dropped);
                (out, Some(probabilities))
            }
            // Flash is refused before a graph is made.
            Attention::Eager | Attention::Flash => {
                let (out, probabilities) =
                    eager(b, [&q, &k, &v], &[self.mask], self.sizes.attention_dropout);
                (out, Some(probabilities))
            }
        };
        let sizes = [self.o.batch, self.o.seq_len, self.sizes.width].map(|n| n as i64);
        let flat = b.reshape(&attended, &sizes);
        drop(attended);
        let out = self.w.out.run(b, &flat);
        (out, probabilities)
    }

    fn split(&self, b: &'b Builder, x: &Value<'b>, tokens: u64) -> Value<'b> {
        let s = self.sizes;
        let sizes = [self.o.batch, tokens, s.heads, s.width / s.heads].map(|n| n as i64);
        let split = b.view(x, &sizes);
        b.transpose(&split, 1, 2)
    }

    /// Whether attention is in Whisper's own classes.
    fn is_whispers_own(&self) -> bool {
        self.sizes.style == Style::Whisper && self.o.transformers < WHISPER_ATTENTION_INTERFACE
    }

    /// Whisper scales queries itself, but in its own class for sdpa, and copies what it has turned.
    fn query(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let mut projected = self.w.q.run(b, x);
        if self.sizes.style == Style::Bart {
            return self.split(b, &projected, self.o.seq_len);
        }
        if !(self.is_whispers_own() && self.o.attention == Attention::Sdpa) {
            projected = b.mul_number(&projected);
        }
        let turned = self.split(b, &projected, self.o.seq_len);
        drop(projected);
        b.contiguous(&turned)
    }

    /// Keys and values. Whisper copies what it has turned: from 4.52 until 5.4 once both are there.
    fn of_source(&self, b: &'b Builder, source: &Value<'b>) -> [Value<'b>; 2] {
        let turned = |linear: &Linear<'b>| {
            let projected = linear.run(b, source);
            self.split(b, &projected, self.keys)
        };
        let dense = |turned: Value<'b>| b.contiguous(&turned);
        let copies_both_last =
            (WHISPER_COPIES_BOTH_LAST..WHISPER_COPIES_IN_TURN).contains(&self.o.transformers);
        match self.sizes.style {
            Style::Bart => [turned(&self.w.k), turned(&self.w.v)],
            Style::Whisper if copies_both_last => [turned(&self.w.k), turned(&self.w.v)].map(dense),
            Style::Whisper => [dense(turned(&self.w.k)), dense(turned(&self.w.v))],
        }
    }

    fn sdpa(&self, b: &'b Builder, [q, k, v]: [&Value<'b>; 3]) -> Value<'b> {
        let causal = self.causal && self.mask.is_none() && self.o.seq_len > 1;
        let op = Op::Sdpa { dropout: self.sizes.attention_dropout, causal, grouped: false };
        // Whisper has made them contiguous.
        let made = [q, k, v].map(|x| match self.is_whispers_own() {
            true => None,
            false => contiguous_for_sdpa(b, self.o, x),
        });
        let [q, k, v] = [(q, 0), (k, 1), (v, 2)].map(|(x, i)| made[i].as_ref().unwrap_or(x));
        let attended = match self.mask {
            Some(mask) => b.run(op, &[q, k, v, mask]),
            None => b.run(op, &[q, k, v]),
        };
        let turned = b.transpose(&attended, 1, 2);
        drop(attended);
        if self.is_whispers_own() { turned } else { b.contiguous(&turned) }
    }

    /// Scores of queries that are scaled already; returns the result and the probabilities before
    /// dropout, and leaves those behind it in `dropped`.
    fn eager_of_whisper(
        &self,
        b: &'b Builder,
        [q, k, v]: [&Value<'b>; 3],
        dropped: &mut Option<Value<'b>>,
    ) -> (Value<'b>, Value<'b>) {
        let mut weights = {
            let turned = b.transpose(k, 2, 3);
            b.run(Op::Matmul, &[q, &turned])
        };
        if let Some(mask) = self.mask {
            weights = b.add(&weights, mask);
        }
        weights = b.run(Op::Softmax { in_f32: false }, &[&weights]);
        let probabilities = dropped.insert(b.dropout(&weights, self.sizes.attention_dropout));
        let attended = b.run(Op::Matmul, &[probabilities, v]);
        (b.transpose(&attended, 1, 2), weights)
    }
}

/// `eager_attention_forward` with what is added to the scores, in order; returns the result, as
/// (batch, seq_len, heads, head_dim), and the probabilities.
pub fn eager<'b>(
    b: &'b Builder,
    [q, k, v]: [&Value<'b>; 3],
    added: &[Option<&Value<'b>>],
    dropout: f64,
) -> (Value<'b>, Value<'b>) {
    let mut scores = {
        let product = {
            let turned = b.transpose(k, 2, 3);
            b.run(Op::Matmul, &[q, &turned])
        };
        b.mul_number(&product)
    };
    for term in added.iter().flatten() {
        scores = b.add(&scores, term);
    }
    let soft = b.run(Op::Softmax { in_f32: false }, &[&scores]);
    drop(scores);
    let probabilities = b.dropout(&soft, dropout);
    drop(soft);
    let attended = b.run(Op::Matmul, &[&probabilities, v]);
    let turned = b.transpose(&attended, 1, 2);
    let out = b.contiguous(&turned);
    (out, probabilities)
}
