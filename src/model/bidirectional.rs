//! The mask of attention that looks both ways, as transformers 5 makes it: every query sees all keys
//! that are no padding.
//!
//! Source: transformers 5.23 `masking_utils.py` (`create_bidirectional_mask`).

use crate::model::builder::{Builder, Value};
use crate::model::graph::{Dtype, Op};
use crate::model::masks;
use crate::model::options::{Attention, AttentionMask, GraphOptions};
use crate::model::versions::MASKS_FROM_LENGTHS;

/// How far a token sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All tokens.
    All,
    /// So many to either side.
    Window(u64),
}

/// Returns the mask of `o.seq_len` keys as so many queries see them: none where no token is padding
/// and the window, if there is one, is longer than the sequence.
///
/// `passed` is what the batch says of the keys, (batch, seq_len).
pub fn bidirectional<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    queries: u64,
    passed: Option<&Value<'b>>,
    reach: Reach,
) -> Option<Value<'b>> {
    let (batch, keys) = (o.batch, o.seq_len);
    let slides = matches!(reach, Reach::Window(window) if keys >= window);
    let _positions = (o.transformers < MASKS_FROM_LENGTHS).then(|| b.fresh(&[queries], Dtype::I64));
    let as_bool = passed.map(|_| b.fresh(&[batch, keys], Dtype::Bool));
    if let Some(as_bool) = &as_bool {
        drop(b.run(Op::AllTrue, &[as_bool]));
    }
    let padded = passed.is_some() && o.attention_mask == AttentionMask::Padded;
    if !padded && !slides {
        return None;
    }
    let mask = {
        let _indices = masks::index_tensors(b, o, queries);
        let all = passed.map(|_| b.fresh(&[], Dtype::Bool));
        let seen = seen(b, [queries, keys], reach);
        match all {
            None => {
                let sizes = [batch, 1, queries, keys].map(|n| n as i64);
                b.run(Op::Expand { sizes: sizes.into_iter().collect() }, &[&seen])
            }
            Some(all) => {
                let columns = if reach == Reach::All { 1 } else { keys };
                let both = b.fresh(&[1, 1, queries, columns], Dtype::Bool);
                drop((all, seen));
                // padding_mask[samples, keys]: indices that repeat are written out.
                let is_token = {
                    let index = || b.fresh(&[batch, 1, 1, keys], Dtype::I64);
                    let _samples = (keys > 1).then(index);
                    let _keys = (batch > 1).then(index);
                    b.fresh(&[batch, 1, 1, keys], Dtype::Bool)
                };
                let mask = b.fresh(&[batch, 1, queries, keys], Dtype::Bool);
                drop((is_token, both));
                mask
            }
        }
    };
    if o.attention == Attention::Sdpa {
        return Some(mask);
    }
    Some(masks::added(b, &[batch, 1, queries, keys]))
}

/// What queries see of keys by their places: `bidirectional_mask_function`, and what a window leaves
/// of it.
fn seen<'b>(b: &'b Builder, [queries, keys]: [u64; 2], reach: Reach) -> Value<'b> {
    let is_there = || b.fresh(&[1, 1, queries, 1], Dtype::Bool);
    if reach == Reach::All {
        return is_there();
    }
    let square = |dtype| b.fresh(&[1, 1, queries, keys], dtype);
    let all = b.fresh(&[], Dtype::Bool);
    let near = {
        let distance = {
            let _difference = square(Dtype::I64);
            square(Dtype::I64)
        };
        let near = square(Dtype::Bool);
        drop(distance);
        near
    };
    let _within = square(Dtype::Bool);
    drop((all, near));
    let _is_there = is_there();
    square(Dtype::Bool)
}
