//! Masks as transformers 4's encoder-decoders make them, in the model's dtype, to be added to scores.
//!
//! Source: transformers 4.56 `modeling_utils.py` (`invert_attention_mask`), `modeling_t5.py`
//! (`_update_causal_mask`), `modeling_attn_mask_utils.py` (`AttentionMaskConverter`).

use crate::model::builder::{Builder, Value};
use crate::model::graph::{Dtype, Op};
use crate::model::options::{Attention, AttentionMask, GraphOptions};

/// `(1.0 - mask[:, None, None, :]) * minimum`
pub fn inverted<'b>(b: &'b Builder, o: &GraphOptions, mask: &Value<'b>) -> Value<'b> {
    let wide = b.view(mask, &[o.batch as i64, 1, 1, o.seq_len as i64]);
    let cast = b.run(Op::To { dtype: Dtype::Model }, &[&wide]);
    let inverted = b.add_number(&cast);
    b.mul_number(&inverted)
}

/// The mask of keys for so many queries: `_prepare_4d_attention_mask`, and for sdpa none where
/// `torch.all(mask == 1)`.
pub fn of_keys<'b>(b: &'b Builder, o: &GraphOptions, queries: u64) -> Option<Value<'b>> {
    let (batch, keys) = (o.batch, o.seq_len);
    if o.attention == Attention::Sdpa {
        let is_one = b.fresh(&[batch, keys], Dtype::Bool);
        drop(b.run(Op::AllTrue, &[&is_one]));
        drop(is_one);
        if o.attention_mask != AttentionMask::Padded {
            return None;
        }
    }
    let whole = |dtype| b.fresh(&[batch, 1, queries, keys], dtype);
    let _expanded = whole(Dtype::Model);
    let _inverted = whole(Dtype::Model);
    let _is_padding = whole(Dtype::Bool);
    Some(whole(Dtype::Model))
}

/// `_prepare_4d_causal_attention_mask_with_cache_position`, with a mask of ones.
pub fn causal_with_positions<'b>(b: &'b Builder, o: &GraphOptions) -> Value<'b> {
    let (batch, seq) = (o.batch, o.seq_len);
    let square = || b.fresh(&[seq, seq], Dtype::Model);
    let triangle = {
        let full = square();
        if seq == 1 { full } else { square() }
    };
    {
        let arange = b.fresh(&[seq], Dtype::I64);
        let is_later = b.fresh(&[seq, seq], Dtype::Bool);
        drop((arange, is_later));
    }
    let whole = |dtype| b.fresh(&[batch, 1, seq, seq], dtype);
    let mask = whole(Dtype::Model);
    drop(triangle);
    let is_padding = {
        // The mask of ones is in float32, and so is the sum.
        let _sum = whole(Dtype::F32);
        whole(Dtype::Bool)
    };
    drop(whole(Dtype::Model));
    drop(is_padding);
    mask
}
