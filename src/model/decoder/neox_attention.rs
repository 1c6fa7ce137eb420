//! GPT-NeoX's own attention, before it took `ALL_ATTENTION_FUNCTIONS` (transformers 4.49).
//!
//! Source: `models/gpt_neox/modeling_gpt_neox.py` of transformers 4.44.2 to 4.48.3.

use crate::model::blocks::attention::Attend;
use crate::model::builder::{Builder, Value};
use crate::model::graph::Op;
use crate::model::options::Attention;
use crate::model::versions::ATTENTION_FUNCTIONS;

/// Query, key and value of GPT-NeoX, (batch, heads, seq_len, head_dim) each, about to meet.
#[derive(Debug, Clone, Copy)]
pub struct NeoxAttend<'a, 'b> {
    /// What it shares with other decoders.
    pub attend: Attend<'a, 'b>,
    /// The buffer of tokens that are not later, (1, 1, positions, positions).
    pub causal: Option<&'a Value<'b>>,
}

impl<'b> NeoxAttend<'_, 'b> {
    /// Returns the result, (batch, seq_len, heads, head_dim), and what stays until attention returns.
    pub fn run(&self, b: &'b Builder, [q, k, v]: [Value<'b>; 3]) -> (Value<'b>, Vec<Value<'b>>) {
        if self.attend.o.attention == Attention::Eager {
            let (attended, weights) = self.eager(b, [&q, &k, &v]);
            return (attended, vec![weights, v, k, q]);
        }
        let narrow_q = b.run(Op::ToLike, &[&q, &v]);
        if self.attend.o.transformers < ATTENTION_FUNCTIONS {
            // Each takes the name of what it was made of.
            drop(q);
            let narrow_k = b.run(Op::ToLike, &[&k, &v]);
            drop(k);
            let attended = self.attend.ask_pytorch(b, [&narrow_q, &narrow_k, &v], false);
            return (attended, vec![v, narrow_k, narrow_q]);
        }
        let narrow_k = b.run(Op::ToLike, &[&k, &v]);
        let laid_q = b.contiguous(&narrow_q);
        drop(narrow_q);
        let laid_k = b.contiguous(&narrow_k);
        drop(narrow_k);
        let laid_v = b.contiguous(&v);
        let attended = self.attend.ask_pytorch(b, [&laid_q, &laid_k, &laid_v], false);
        (attended, vec![v, k, q])
    }

    /// `torch.baddbmm` into zeros; before transformers 4.47 later tokens are hidden by the buffer, too.
    fn eager(&self, b: &'b Builder, [q, k, v]: [&Value<'b>; 3]) -> (Value<'b>, Value<'b>) {
        let (a, o) = (&self.attend, self.attend.o);
        let (folded, seq) = ((o.batch * a.heads) as i64, o.seq_len as i64);
        let flat = |x: &Value<'b>| b.view(x, &[folded, seq, a.head_dim as i64]);
        let (flat_q, flat_k) = (flat(q), flat(k));
        let mut scores = {
            let sizes = [folded, seq, seq].into_iter().collect();
            let zeros = b.run(Op::FreshLike { sizes }, &[&flat_q]);
            let turned = b.transpose(&flat_k, 1, 2);
            let product = b.run(Op::Baddbmm, &[&zeros, &flat_q, &turned]);
            b.view(&product, &[o.batch as i64, a.heads as i64, seq, seq])
        };
        let hidden_by_buffer = self.causal.filter(|_| o.transformers < ATTENTION_FUNCTIONS);
        let minimum = hidden_by_buffer.map(|causal| {
            let rows = b.run(Op::Slice { dim: 2, start: 0, end: seq }, &[causal]);
            let square = b.run(Op::Slice { dim: 3, start: 0, end: seq }, &[&rows]);
            let minimum = b.run(Op::NumberLike, &[&scores]);
            scores = b.run(Op::Where, &[&square, &scores, &minimum]);
            minimum
        });
        if let Some(mask) = a.mask {
            scores = b.add(&scores, mask);
        }
        let soft = b.run(Op::Softmax { in_f32: false }, &[&scores]);
        let narrow = b.run(Op::ToLike, &[&soft, v]);
        drop(soft);
        let weights = b.dropout(&narrow, a.dropout);
        drop(narrow);
        let out = b.run(Op::Matmul, &[&weights, v]);
        let turned = b.transpose(&out, 1, 2);
        drop(out);
        if o.transformers < ATTENTION_FUNCTIONS {
            // Heads are merged once the names of `_attn` are gone.
            drop((scores, minimum));
            return (b.contiguous(&turned), weights);
        }
        (b.contiguous(&turned), weights)
    }
}
