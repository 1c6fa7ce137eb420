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
    BART_ATTENTION_INTERFACE, BART_HAS_CACHE_POSITIONS, WHISPER_ATTENTION_INTERFACE,
    WHISPER_COPIES_BOTH_LAST, WHISPER_COPIES_IN_TURN,
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

/// What an attention gives its layer, which has names for it until it ends.
#[derive(Debug)]
pub struct Attended<'b> {
    /// The result, (batch, seq_len, width).
    pub out: Value<'b>,
    /// Probabilities, of eager code that returns them.
    pub probabilities: Option<Value<'b>>,
    /// Keys and values for a cache.
    pub kept: Option<[Value<'b>; 2]>,
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
    /// Whether it is of a decoder.
    pub decodes: bool,
    /// Whether each token sees those before it alone.
    pub causal: bool,
    /// What attention may not see.
    pub mask: Option<&'a Value<'b>>,
}

impl<'b> CrossAttention<'_, 'b> {
    /// Runs it on (batch, seq_len, width), with keys and values out of `source`.
    pub fn run(&self, b: &'b Builder, x: &Value<'b>, source: &Value<'b>) -> Attended<'b> {
        let mut q = self.query(b, x);
        let [mut k, mut v] = self.of_source(b, source);
        if self.is_barts_own() && (self.pairs_keys() || self.copies_for_mask()) {
            [q, k, v] = [q, k, v].map(|x| b.contiguous(&x));
        }
        // Names until the output is projected.
        let (mut dropped, mut _soft) = (None, None);
        let (attended, probabilities) = match self.o.attention {
            Attention::Sdpa => (self.sdpa(b, [&q, &k, &v]), None),
            Attention::Eager if self.is_barts_own() => {
                [q, k, v] = [q, k, v].map(|x| self.in_one_row(b, &x));
                let (out, probabilities) = self.eager_own(b, [&q, &k, &v], &mut dropped);
                _soft = Some(probabilities);
                (out, None)
            }
            Attention::Eager if self.is_whispers_own() => {
                let (out, probabilities) = self.eager_own(b, [&q, &k, &v], &mut dropped);
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
        let kept = (self.decodes && self.pairs_keys()).then_some([k, v]);
        Attended { out, probabilities, kept }
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

    /// Whether attention is in BART's own classes.
    fn is_barts_own(&self) -> bool {
        self.sizes.style == Style::Bart && self.o.transformers < BART_ATTENTION_INTERFACE
    }

    /// Whether BART makes pairs of keys and values for a cache, and copies all that it turned.
    fn pairs_keys(&self) -> bool {
        self.sizes.style == Style::Bart && self.o.transformers < BART_HAS_CACHE_POSITIONS
    }

    /// Whether BART's own class copies what it turned because of a mask.
    fn copies_for_mask(&self) -> bool {
        self.o.attention == Attention::Sdpa && self.mask.is_some()
    }

    /// Whisper scales queries itself, but in its own class for sdpa, and copies what it has turned; BART
    /// scales them in its own eager class.
    fn query(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let mut projected = self.w.q.run(b, x);
        if self.sizes.style == Style::Bart {
            let scales = self.is_barts_own() && self.o.attention == Attention::Eager;
            if scales && self.pairs_keys() {
                projected = b.mul_number(&projected);
            }
            let turned = self.split(b, &projected, self.o.seq_len);
            let turned_first = scales && !self.pairs_keys();
            return if turned_first { b.mul_number(&turned) } else { turned };
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
            Style::Bart if !self.pairs_keys() => [turned(&self.w.k), turned(&self.w.v)],
            Style::Whisper if copies_both_last => [turned(&self.w.k), turned(&self.w.v)].map(dense),
            _ => [dense(turned(&self.w.k)), dense(turned(&self.w.v))],
        }
    }

    fn sdpa(&self, b: &'b Builder, [q, k, v]: [&Value<'b>; 3]) -> Value<'b> {
        let causal = self.causal && self.mask.is_none() && self.o.seq_len > 1;
        let op = Op::Sdpa { dropout: self.sizes.attention_dropout, causal, grouped: false };
        // Their own classes have made them contiguous, where they do.
        let is_own = self.is_whispers_own() || self.is_barts_own();
        let made = [q, k, v].map(|x| match is_own {
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
        let copied_later = self.is_whispers_own() || self.pairs_keys();
        if copied_later { turned } else { b.contiguous(&turned) }
    }

    /// All heads of all samples in one row: (batch * heads, tokens, head_dim).
    fn in_one_row(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let (rows, width) = (self.o.batch * self.sizes.heads, self.sizes.width / self.sizes.heads);
        b.reshape(x, &[rows as i64, -1, width as i64])
    }

    /// Scores of queries that are scaled already; returns the result and the probabilities before
    /// dropout, and leaves those behind it in `dropped`.
    fn eager_own(
        &self,
        b: &'b Builder,
        [q, k, v]: [&Value<'b>; 3],
        dropped: &mut Option<Value<'b>>,
    ) -> (Value<'b>, Value<'b>) {
        let in_rows = self.is_barts_own();
        let product = if in_rows { Op::Bmm } else { Op::Matmul };
        let split = |x: Value<'b>, last: u64| match in_rows {
            true => {
                let sizes = [self.o.batch, self.sizes.heads, self.o.seq_len, last];
                b.view(&x, &sizes.map(|n| n as i64))
            }
            false => x,
        };
        let mut weights = {
            let turned = b.transpose(k, -2, -1);
            b.run(product.clone(), &[q, &turned])
        };
        if let Some(mask) = self.mask {
            let scores = split(weights, self.keys);
            weights = b.add(&scores, mask);
            drop(scores);
            if in_rows {
                let rows = [self.o.batch * self.sizes.heads, self.o.seq_len, self.keys];
                weights = b.view(&weights, &rows.map(|n| n as i64));
            }
        }
        weights = b.run(Op::Softmax { in_f32: false }, &[&weights]);
        let probabilities = dropped.insert(b.dropout(&weights, self.sizes.attention_dropout));
        let attended = b.run(product, &[probabilities, v]);
        let attended = split(attended, self.sizes.width / self.sizes.heads);
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
