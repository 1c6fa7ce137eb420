//! The mask of attention that looks both ways, as transformers 5 makes it: every query sees all keys
//! that are no padding.
//!
//! Source: transformers 5.23 `masking_utils.py` (`create_bidirectional_mask`).

use crate::model::builder::{Builder, Value};
use crate::model::graph::{Dtype, Op};
use crate::model::masks;
use crate::model::options::{Attention, AttentionMask, GraphOptions};

/// Returns the mask of `o.seq_len` keys as so many queries see them: none where no token is padding.
///
/// `passed` is what the batch says of the keys, (batch, seq_len).
pub fn bidirectional<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    queries: u64,
    passed: Option<&Value<'b>>,
) -> Option<Value<'b>> {
    let (batch, keys) = (o.batch, o.seq_len);
    passed?;
    let as_bool = b.fresh(&[batch, keys], Dtype::Bool);
    drop(b.run(Op::AllTrue, &[&as_bool]));
    if o.attention_mask != AttentionMask::Padded {
        return None;
    }
    let mask = {
        let _indices = masks::index_tensors(b, o, queries);
        let all = b.fresh(&[], Dtype::Bool);
        let rows = {
            let _row_is_there = b.fresh(&[1, 1, queries, 1], Dtype::Bool);
            b.fresh(&[1, 1, queries, 1], Dtype::Bool)
        };
        drop(all);
        // padding_mask[samples, keys]: indices that repeat are written out.
        let is_token = {
            let index = || b.fresh(&[batch, 1, 1, keys], Dtype::I64);
            let _samples = (keys > 1).then(index);
            let _keys = (batch > 1).then(index);
            b.fresh(&[batch, 1, 1, keys], Dtype::Bool)
        };
        let mask = b.fresh(&[batch, 1, queries, keys], Dtype::Bool);
        drop((is_token, rows));
        mask
    };
    if o.attention == Attention::Sdpa {
        return Some(mask);
    }
    Some(masks::added(b, &[batch, 1, queries, keys]))
}
