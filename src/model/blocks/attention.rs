//! Attention between query, key and value: `sdpa_attention_forward`, `eager_attention_forward`.
//!
//! Source: transformers `integrations/sdpa_attention.py` and the models' own eager code.

use crate::model::builder::{Builder, Value};
use crate::model::graph::{Dtype, Op};
use crate::model::masks;
use crate::model::options::{Attention, GraphOptions, Version};
use crate::model::versions::{
    ATTENTION_INTERFACE, SDPA_GROUPS_HEADS, SDPA_KEEPS_STRIDES, TRANSFORMERS_5,
};

/// How query, key and value meet.
#[derive(Debug, Clone, Copy)]
pub struct Attend<'a, 'b> {
    /// The batch, the implementation, versions.
    pub o: &'a GraphOptions,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads.
    pub key_value_heads: u64,
    /// Size of a head.
    pub head_dim: u64,
    /// Dropout on the probabilities.
    pub dropout: f64,
    /// Whether scores pass through a soft cap (eager only).
    pub softcap: bool,
    /// Whether the module knows groups of key and value heads (`num_key_value_groups`).
    pub grouped: bool,
    /// Whether each token sees those before it alone (`is_causal`), where no mask says more.
    pub causal: bool,
    /// What is added to the scores, or chooses among them.
    pub mask: Option<&'a Value<'b>>,
    /// Whether the mask is added to the scores in place (eager only).
    pub adds_mask_in_place: bool,
    /// Whether the model calls PyTorch itself, and not by transformers' `sdpa_attention_forward`.
    pub calls_pytorch: bool,
    /// Whether eager attention takes its softmax in float32 and casts the result back.
    pub softmax_in_f32: bool,
}

impl<'b> Attend<'_, 'b> {
    /// Returns the result, (batch, seq_len, heads, head_dim), and the probabilities in eager code.
    pub fn run(
        &self,
        b: &'b Builder,
        q: &Value<'b>,
        k: &Value<'b>,
        v: &Value<'b>,
    ) -> (Value<'b>, Option<Value<'b>>) {
        match self.o.attention {
            Attention::Sdpa => (self.sdpa(b, q, k, v), None),
            Attention::Flash => (self.flash(b, q, k, v), None),
            Attention::Eager => {
                let (attended, weights) = self.eager(b, q, k, v);
                (attended, Some(weights))
            }
        }
    }

    /// The same as classes of a model's own do it (before transformers 4.48), which take names again: heads
    /// are gone once they are repeated, and those that are not contiguous once they are.
    ///
    /// Returns the result, and what stays until attention returns.
    pub fn run_own(
        &self,
        b: &'b Builder,
        [q, k, v]: [Value<'b>; 3],
    ) -> (Value<'b>, Vec<Value<'b>>) {
        let k = self.repeated(b, &k).unwrap_or(k);
        let v = self.repeated(b, &v).unwrap_or(v);
        let attend = Attend { key_value_heads: self.heads, ..*self };
        if self.o.attention == Attention::Eager {
            let (attended, weights) = attend.eager(b, &q, &k, &v);
            return (attended, vec![weights, v, k, q]);
        }
        let q = self.contiguous(b, &q).unwrap_or(q);
        let k = self.contiguous(b, &k).unwrap_or(k);
        let v = self.contiguous(b, &v).unwrap_or(v);
        (attend.ask_pytorch(b, [&q, &k, &v], false), vec![v, k, q])
    }

    fn repeats(&self) -> u64 {
        self.heads / self.key_value_heads
    }

    /// Key and value for each query head; `None` where they are so already.
    fn repeated(&self, b: &'b Builder, x: &Value<'b>) -> Option<Value<'b>> {
        let sizes = [self.o.batch, self.key_value_heads, self.o.seq_len, self.head_dim];
        (self.repeats() > 1).then(|| masks::repeat_kv(b, x, sizes, self.repeats()))
    }

    /// `use_gqa_in_sdpa`: without a mask, on a PyTorch that has it (2.5), and from transformers 5
    /// on only for heads that a fast kernel takes.
    fn leaves_groups_to_pytorch(&self) -> bool {
        self.repeats() > 1
            && self.grouped
            && self.mask.is_none()
            && self.o.transformers >= SDPA_GROUPS_HEADS
            && self.o.torch >= Version::new(2, 5)
            && (self.o.transformers < TRANSFORMERS_5 || self.head_dim <= 256)
    }

    fn sdpa(&self, b: &'b Builder, q: &Value<'b>, k: &Value<'b>, v: &Value<'b>) -> Value<'b> {
        let grouped = self.leaves_groups_to_pytorch();
        let (wide_k, wide_v) =
            if grouped { (None, None) } else { (self.repeated(b, k), self.repeated(b, v)) };
        let (k, v) = (wide_k.as_ref().unwrap_or(k), wide_v.as_ref().unwrap_or(v));
        let made = [q, k, v].map(|x| self.contiguous(b, x));
        let [q, k, v] = [(q, 0), (k, 1), (v, 2)].map(|(x, i)| made[i].as_ref().unwrap_or(x));
        self.ask_pytorch(b, [q, k, v], grouped)
    }

    /// Query, key or value as sdpa gets it; `None` where it stays as it is. Before transformers 4.48 they are
    /// made contiguous for masks alone.
    fn contiguous(&self, b: &'b Builder, x: &Value<'b>) -> Option<Value<'b>> {
        let asked = self.mask.is_some() || self.o.transformers >= ATTENTION_INTERFACE;
        (asked && !self.calls_pytorch).then(|| contiguous_for_sdpa(b, self.o, x)).flatten()
    }

    /// `scaled_dot_product_attention`, and its result with heads last.
    pub fn ask_pytorch(
        &self,
        b: &'b Builder,
        [q, k, v]: [&Value<'b>; 3],
        grouped: bool,
    ) -> Value<'b> {
        let op =
            Op::Sdpa { dropout: self.dropout, causal: self.causal && self.mask.is_none(), grouped };
        let out = match self.mask {
            Some(mask) => b.run(op, &[q, k, v, mask]),
            None => b.run(op, &[q, k, v]),
        };
        let turned = b.transpose(&out, 1, 2);
        drop(out);
        b.contiguous(&turned)
    }

    /// `flash_attention_forward`, where no token is padding.
    fn flash(&self, b: &'b Builder, q: &Value<'b>, k: &Value<'b>, v: &Value<'b>) -> Value<'b> {
        let turned = [q, k, v].map(|x| b.transpose(x, 1, 2));
        let [q, k, v] = [0, 1, 2].map(|i| b.run(Op::ToAutocast, &[&turned[i]]));
        if self.o.batch == 1 {
            self.ask_for_packing(b);
        }
        b.run(Op::FlashAttn { dropout: self.dropout }, &[&q, &k, &v])
    }

    /// `_is_packed_sequence`: `(arange + positions.min() - positions).abs().sum().bool()`
    fn ask_for_packing(&self, b: &'b Builder) {
        let tokens = || b.fresh(&[1, self.o.seq_len], Dtype::I64);
        let increasing = {
            let _range = tokens();
            let _least = b.fresh(&[], Dtype::I64);
            tokens()
        };
        let difference = tokens();
        let absolute = tokens();
        drop(difference);
        let sum = b.fresh(&[], Dtype::I64);
        drop(absolute);
        b.scratch(&[], Dtype::Bool);
        drop((sum, increasing));
    }

    fn eager(
        &self,
        b: &'b Builder,
        q: &Value<'b>,
        k: &Value<'b>,
        v: &Value<'b>,
    ) -> (Value<'b>, Value<'b>) {
        let (wide_k, wide_v) = (self.repeated(b, k), self.repeated(b, v));
        let (k, v) = (wide_k.as_ref().unwrap_or(k), wide_v.as_ref().unwrap_or(v));
        let mut scores = {
            let turned = b.transpose(k, 2, 3);
            let product = b.run(Op::Matmul, &[q, &turned]);
            drop(turned);
            b.mul_number(&product)
        };
        if self.softcap {
            scores = softcap(b, scores);
        }
        if let Some(mask) = self.mask {
            let op = if self.adds_mask_in_place { Op::AddInPlace } else { Op::Add };
            scores = b.run(op, &[&scores, mask]);
        }
        let mut narrow = b.run(Op::Softmax { in_f32: self.softmax_in_f32 }, &[&scores]);
        if self.softmax_in_f32 {
            narrow = b.run(Op::ToLike, &[&narrow, q]);
        }
        drop(scores);
        let probabilities = b.dropout(&narrow, self.dropout);
        drop(narrow);
        let out = b.run(Op::Matmul, &[&probabilities, v]);
        let turned = b.transpose(&out, 1, 2);
        let flat = b.contiguous(&turned);
        drop((out, turned));
        (flat, probabilities)
    }
}

/// What [`plain_eager`] made.
#[derive(Debug)]
pub struct PlainAttended<'b> {
    /// The result, (batch, heads, seq_len, head_dim).
    pub context: Value<'b>,
    /// The probabilities.
    pub probabilities: Value<'b>,
    /// The scores, a name until the function returns.
    pub scores: Value<'b>,
}

/// Eager attention as models wrote it out before `eager_attention_forward`: scores are divided, and
/// probabilities have their dtype.
pub fn plain_eager<'b>(
    b: &'b Builder,
    [q, k, v]: [&Value<'b>; 3],
    mask: Option<&Value<'b>>,
    dropout: f64,
) -> PlainAttended<'b> {
    let mut scores = {
        let turned = b.transpose(k, 2, 3);
        b.run(Op::Matmul, &[q, &turned])
    };
    scores = b.mul_number(&scores);
    if let Some(mask) = mask {
        scores = b.add(&scores, mask);
    }
    let soft = b.run(Op::Softmax { in_f32: false }, &[&scores]);
    let probabilities = b.dropout(&soft, dropout);
    drop(soft);
    let context = b.run(Op::Matmul, &[&probabilities, v]);
    PlainAttended { context, probabilities, scores }
}

/// Query, key or value as `sdpa_attention_forward` lays it out; `None` where it stays as it is.
pub fn contiguous_for_sdpa<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    x: &Value<'b>,
) -> Option<Value<'b>> {
    (o.transformers < SDPA_KEEPS_STRIDES).then(|| b.contiguous(x))
}

/// `tanh(x / cap) * cap`, each step's input gone after it.
pub fn softcap<'b>(b: &'b Builder, x: Value<'b>) -> Value<'b> {
    let divided = b.mul_number(&x);
    drop(x);
    let tanh = b.run(Op::Tanh, &[&divided]);
    drop(divided);
    b.mul_number(&tanh)
}

/// `out.reshape(batch, seq_len, -1).contiguous()`
pub fn joined_heads<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    attended: Value<'b>,
    width: u64,
) -> Value<'b> {
    let folded = b.reshape(&attended, &[o.batch as i64, o.seq_len as i64, width as i64]);
    drop(attended);
    b.contiguous(&folded)
}

/// `x.view(batch, seq_len, heads, head_dim)`
pub fn split_heads<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    x: Value<'b>,
    [heads, head_dim]: [u64; 2],
) -> Value<'b> {
    b.view(&x, &[o.batch as i64, o.seq_len as i64, heads as i64, head_dim as i64])
}
