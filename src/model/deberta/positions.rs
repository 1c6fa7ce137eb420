//! How far tokens are apart: the distance of each query and key, and what tokens see.
//!
//! Source: transformers `modeling_deberta_v2.py` (`build_relative_position`,
//! `make_log_bucket_position`, `get_attention_mask`).

use crate::model::builder::{Builder, Value};
use crate::model::graph::{Dtype, Op};
use crate::model::options::GraphOptions;

/// The distance of each query and key, (1, seq_len, seq_len).
pub fn distances<'b>(b: &'b Builder, o: &GraphOptions, buckets: bool) -> Value<'b> {
    let seq = o.seq_len;
    let square = |dtype| b.fresh(&[seq, seq], dtype);
    let index = || b.fresh(&[seq], Dtype::I64);
    let _ids = (index(), index());
    let mut distances = square(Dtype::I64);
    if buckets {
        let bucket = in_buckets(b, seq);
        drop(distances);
        distances = square(Dtype::I64);
        drop(bucket);
    }
    b.run(Op::Unsqueeze { dim: 0 }, &[&distances])
}

/// Near distances as they are, those further away by their logarithm.
fn in_buckets(b: &Builder, seq: u64) -> Value<'_> {
    let square = |dtype| b.fresh(&[seq, seq], dtype);
    let _sign = square(Dtype::I64);
    let absolute = {
        let is_near = {
            let _sides = (square(Dtype::Bool), square(Dtype::Bool));
            square(Dtype::Bool)
        };
        let nearest = b.fresh(&[], Dtype::I64);
        let plain = square(Dtype::I64);
        let absolute = square(Dtype::I64);
        drop((is_near, nearest, plain));
        absolute
    };
    // ceil(log(absolute / mid) / log(...) * (mid - 1)) + mid
    let logarithm = (0..5).fold(square(Dtype::F32), |last, _| {
        let next = square(Dtype::F32);
        drop(last);
        next
    });
    let is_near = square(Dtype::Bool);
    let near = square(Dtype::F32);
    let far = square(Dtype::F32);
    let bucket = square(Dtype::F32);
    drop((is_near, near, far, absolute, logarithm));
    bucket
}

/// Which tokens see each other, (batch, 1, seq_len, seq_len), in the mask's own dtype.
pub fn pairs<'b>(b: &'b Builder, mask: &Value<'b>) -> Value<'b> {
    let rows = b.run(Op::Unsqueeze { dim: 1 }, &[mask]);
    let extended = b.run(Op::Unsqueeze { dim: 2 }, &[&rows]);
    drop(rows);
    let squeezed = b.run(Op::Squeeze { dim: 2 }, &[&extended]);
    let columns = b.run(Op::Unsqueeze { dim: 3 }, &[&squeezed]);
    drop(squeezed);
    b.mul(&extended, &columns)
}
