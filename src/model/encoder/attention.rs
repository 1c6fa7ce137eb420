//! Attention of an encoder, between projections, as each version's code runs it.

use crate::model::blocks::attention::{PlainAttended, joined_heads, plain_eager, split_heads};
use crate::model::blocks::linear::Linear;
use crate::model::builder::{Builder, Value};
use crate::model::config::{EncoderConfig, EncoderFamily};
use crate::model::graph::{Dtype, Op};
use crate::model::options::{Attention, GraphOptions};
use crate::model::versions::{BERT_ATTENTION_ANEW, TRANSFORMERS_5};

/// The projections of query, key and value.
#[derive(Debug)]
pub struct Projections<'b> {
    /// Query.
    pub q: Linear<'b>,
    /// Key.
    pub k: Linear<'b>,
    /// Value.
    pub v: Linear<'b>,
}

/// One attention to run.
#[derive(Debug, Clone, Copy)]
pub struct SelfAttention<'a, 'b> {
    /// The model's sizes.
    pub c: &'a EncoderConfig,
    /// The batch, the implementation, versions.
    pub o: &'a GraphOptions,
    /// Its weights.
    pub w: &'a Projections<'b>,
    /// What the layer was given as mask.
    pub mask: Option<&'a Value<'b>>,
}

/// What attention made, with the names that its function holds until it returns.
#[derive(Debug)]
pub struct Attended<'b> {
    /// The result, (batch, seq_len, hidden).
    pub out: Value<'b>,
    /// The probabilities of eager code.
    pub probabilities: Option<Value<'b>>,
    /// All other names.
    pub names: Vec<Value<'b>>,
}

impl<'b> SelfAttention<'_, 'b> {
    /// Runs it on (batch, seq_len, hidden).
    pub fn run(&self, b: &'b Builder, x: &Value<'b>) -> Attended<'b> {
        let split = |projected: Value<'b>| {
            let sizes = [self.c.num_attention_heads, self.head_dim()];
            let split = split_heads(b, self.o, projected, sizes);
            b.transpose(&split, 1, 2)
        };
        let queries_last = self.o.attention != Attention::Sdpa
            && self.c.family != EncoderFamily::DistilBert
            && self.o.transformers < BERT_ATTENTION_ANEW;
        let mut q = self.w.q.run(b, x);
        if !queries_last {
            q = split(q);
        }
        let (k, v) = (split(self.w.k.run(b, x)), split(self.w.v.run(b, x)));
        if queries_last {
            q = split(q);
        }
        let of_5 = self.o.transformers >= TRANSFORMERS_5;
        match (self.o.attention, self.c.family) {
            (Attention::Sdpa, _) => self.sdpa(b, [q, k, v]),
            (Attention::Eager | Attention::Flash, _) if of_5 => self.eager(b, [q, k, v]),
            (Attention::Eager | Attention::Flash, EncoderFamily::DistilBert) => {
                self.eager_distilbert_4(b, [q, k, v])
            }
            (Attention::Eager | Attention::Flash, _) => self.eager_bert_4(b, [q, k, v]),
        }
    }

    fn head_dim(&self) -> u64 {
        self.c.hidden_size / self.c.num_attention_heads
    }

    /// (batch, heads, seq_len, head_dim) to (batch, seq_len, hidden), through `.contiguous()`.
    fn joined(&self, b: &'b Builder, x: Value<'b>) -> Value<'b> {
        let turned = b.transpose(&x, 1, 2);
        let flat = b.contiguous(&turned);
        drop((x, turned));
        joined_heads(b, self.o, flat, self.c.hidden_size)
    }

    fn sdpa(&self, b: &'b Builder, [q, k, v]: [Value<'b>; 3]) -> Attended<'b> {
        let op = Op::Sdpa { dropout: self.c.attention_dropout, causal: false, grouped: false };
        let out = match self.mask {
            Some(mask) => b.run(op, &[&q, &k, &v, mask]),
            None => b.run(op, &[&q, &k, &v]),
        };
        let bert_4 =
            self.o.transformers < TRANSFORMERS_5 && self.c.family != EncoderFamily::DistilBert;
        let out = if bert_4 {
            // Without `.contiguous()`: `reshape` copies where it must.
            let turned = b.transpose(&out, 1, 2);
            drop(out);
            let sizes = [self.o.batch, self.o.seq_len, self.c.hidden_size].map(|n| n as i64);
            b.reshape(&turned, &sizes)
        } else {
            self.joined(b, out)
        };
        Attended { out, probabilities: None, names: vec![q, k, v] }
    }

    fn product(&self, b: &'b Builder, q: &Value<'b>, k: &Value<'b>) -> Value<'b> {
        let turned = b.transpose(k, 2, 3);
        b.run(Op::Matmul, &[q, &turned])
    }

    fn eager(&self, b: &'b Builder, [q, k, v]: [Value<'b>; 3]) -> Attended<'b> {
        let mut scores = {
            let product = self.product(b, &q, &k);
            b.mul_number(&product)
        };
        if let Some(mask) = self.mask {
            scores = b.add(&scores, mask);
        }
        let soft = b.run(Op::Softmax { in_f32: false }, &[&scores]);
        drop(scores);
        let probabilities = b.dropout(&soft, self.c.attention_dropout);
        drop(soft);
        let context = b.run(Op::Matmul, &[&probabilities, &v]);
        let out = self.joined(b, context);
        Attended { out, probabilities: Some(probabilities), names: vec![q, k, v] }
    }

    /// The scores stay a name until the end.
    fn eager_bert_4(&self, b: &'b Builder, [q, k, v]: [Value<'b>; 3]) -> Attended<'b> {
        let PlainAttended { context, probabilities, scores } =
            plain_eager(b, [&q, &k, &v], self.mask, self.c.attention_dropout);
        let out = self.joined(b, context);
        Attended { out, probabilities: Some(probabilities), names: vec![q, k, v, scores] }
    }

    /// Queries are scaled, and scores are filled where the mask, as it was passed, is zero.
    fn eager_distilbert_4(&self, b: &'b Builder, [q, k, v]: [Value<'b>; 3]) -> Attended<'b> {
        let (batch, heads, seq) = (self.o.batch, self.c.num_attention_heads, self.o.seq_len);
        let scaled = b.mul_number(&q);
        drop(q);
        let mut scores = self.product(b, &scaled, &k);
        let is_zero = {
            let is_zero = b.fresh(&[batch, seq], Dtype::Bool);
            let wide = b.view(&is_zero, &[batch as i64, 1, 1, seq as i64]);
            let sizes = [batch, heads, seq, seq].map(|n| n as i64).into_iter().collect();
            b.run(Op::Expand { sizes }, &[&wide])
        };
        scores = b.run(Op::MaskedFill, &[&scores, &is_zero]);
        let soft = b.run(Op::Softmax { in_f32: false }, &[&scores]);
        let weights = b.dropout(&soft, self.c.attention_dropout);
        drop(soft);
        let context = b.run(Op::Matmul, &[&weights, &v]);
        let out = self.joined(b, context);
        let names = vec![scaled, k, v, scores, is_zero, weights];
        Attended { out, probabilities: None, names }
    }
}
