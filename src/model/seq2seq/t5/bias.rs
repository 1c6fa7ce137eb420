//! Biases of attention by the distance between tokens.

use crate::model::builder::{Builder, Value};
use crate::model::graph::{Dtype, Op};
use crate::model::options::GraphOptions;
use crate::model::versions::MASKS_FROM_LENGTHS;

/// `compute_bias`: a bias for each head and pair of tokens, (1, heads, seq_len, seq_len), out of a
/// table by bucket of distance.
///
/// `positions` are transformers 4's `cache_position`.
pub fn computed<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    table: &Value<'b>,
    positions: Option<&Value<'b>>,
    both_ways: bool,
) -> Value<'b> {
    let values = {
        let arange = || b.fresh(&[o.seq_len], Dtype::I64);
        let _queries = (o.transformers >= MASKS_FROM_LENGTHS).then(|| {
            let start = arange();
            let shifted = arange();
            drop(start);
            shifted
        });
        let _keys = arange();
        let _distances = b.fresh(&[o.seq_len, o.seq_len], Dtype::I64);
        let buckets = buckets(b, o.seq_len, both_ways);
        let _m = b.enter("relative_attention_bias");
        b.run(Op::Embedding, &[table, &buckets])
    };
    let turned = b.run(Op::Permute { order: [2, 0, 1].into_iter().collect() }, &[&values]);
    let bias = b.run(Op::Unsqueeze { dim: 0 }, &[&turned]);
    drop((values, turned));
    if positions.is_none() {
        return bias;
    }
    // position_bias[:, :, -seq_length:, :]
    (0..4).fold(bias, |bias, dim| b.run(Op::All { dim }, &[&bias]))
}

/// `_relative_position_bucket`: small distances have a bucket each, larger ones share.
fn buckets<'b>(b: &'b Builder, seq_len: u64, both_ways: bool) -> Value<'b> {
    let square = |dtype| b.fresh(&[seq_len, seq_len], dtype);
    let chain = |dtype, steps: u32| {
        let mut last = square(dtype);
        for _ in 1..steps {
            last = square(dtype);
        }
        last
    };
    // Both ways: (distance > 0).to(long) * buckets, added to 0.
    let half = both_ways.then(|| {
        let wide = {
            let _is_ahead = square(Dtype::Bool);
            square(Dtype::I64)
        };
        let scaled = square(Dtype::I64);
        drop(wide);
        let half = square(Dtype::I64);
        drop(scaled);
        half
    });
    // abs(distance), or -min(distance, zeros).
    let distances = if both_ways {
        square(Dtype::I64)
    } else {
        let least = {
            let _zeros = square(Dtype::I64);
            square(Dtype::I64)
        };
        let distances = square(Dtype::I64);
        drop(least);
        distances
    };
    let is_small = square(Dtype::Bool);
    let large = {
        let logarithms = chain(Dtype::F32, 5);
        let whole = square(Dtype::I64);
        drop(logarithms);
        let sum = square(Dtype::I64);
        drop(whole);
        let most = square(Dtype::I64);
        let large = square(Dtype::I64);
        drop((sum, most));
        large
    };
    let chosen = square(Dtype::I64);
    let result = half.unwrap_or_else(|| square(Dtype::I64));
    drop((distances, is_small, large, chosen));
    result
}
