//! What decoders share around their layers: the causal mask as transformers makes it, key and value
//! heads repeated, and the loss.
//!
//! Source: transformers `masking_utils.py`, `loss/loss_utils.py` of 4.56 and 5.23.

use crate::model::builder::{Builder, Value};
use crate::model::graph::{Dtype, Op};
use crate::model::options::{Attention, AttentionMask, GraphOptions, Version};

/// The first transformers version that builds masks without vmap and keeps no cache positions.
pub const TRANSFORMERS_5: Version = Version::new(5, 0);

/// The first version known to compute rotary angles by broadcasting, to count a mask's ones by their
/// sum, and not to slice what goes into the head. Read in 5.12.1 and 5.23.0; where between them each
/// changed is not known, so that versions between are taken as the newer ones.
pub const AFTER_5_12: Version = Version::new(5, 13);

/// Makes the causal mask that attention gets: none at all for sdpa where no token is padding.
///
/// Shapes: (batch, 1, seq_len, seq_len), in the model's dtype for eager attention.
pub fn causal_mask<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    attention_mask: Option<&Value<'b>>,
) -> Option<Value<'b>> {
    let (batch, seq) = (o.batch, o.seq_len);
    let as_bool = attention_mask.map(|_| b.fresh(&[batch, seq], Dtype::Bool));
    if o.attention == Attention::Sdpa && o.attention_mask == AttentionMask::Ones {
        if o.transformers >= AFTER_5_12 {
            let _sum = b.run(Op::CountTrue, &as_bool.iter().collect::<Vec<_>>());
            b.scratch(&[], Dtype::Bool);
        } else {
            drop(b.run(Op::AllTrue, &as_bool.iter().collect::<Vec<_>>()));
        }
        return None;
    }
    let mask =
        if o.transformers >= TRANSFORMERS_5 { mask_by_broadcast(b, o) } else { mask_by_vmap(b, o) };
    if o.attention == Attention::Sdpa {
        return Some(mask);
    }
    // torch.where(mask, zeros(()), min_dtype): the number becomes a tensor of the mask's dtype.
    let _zero = b.fresh(&[], Dtype::Model);
    let _minimum = b.fresh(&[], Dtype::Model);
    Some(b.fresh(&[batch, 1, seq, seq], Dtype::Model))
}

/// transformers 5: mask functions applied to broadcast index tensors.
fn mask_by_broadcast<'b>(b: &'b Builder, o: &GraphOptions) -> Value<'b> {
    let (batch, seq) = (o.batch, o.seq_len);
    let _batch_arange = b.fresh(&[batch], Dtype::I64);
    let _head_arange = b.fresh(&[1], Dtype::I64);
    let shifted = || {
        let arange = b.fresh(&[seq], Dtype::I64);
        let shifted = b.fresh(&[seq], Dtype::I64);
        drop(arange);
        shifted
    };
    let _q_arange = shifted();
    let _kv_arange = shifted();
    let causal = {
        let _true = b.fresh(&[1], Dtype::Bool);
        let _below = b.fresh(&[1, 1, seq, seq], Dtype::Bool);
        b.fresh(&[1, 1, seq, seq], Dtype::Bool)
    };
    let padding = {
        // padding_mask[batch_idx, kv_idx]: both index tensors are expanded to a common shape.
        let _rows = b.fresh(&[batch, seq], Dtype::I64);
        let _columns = b.fresh(&[batch, seq], Dtype::I64);
        b.fresh(&[batch, 1, 1, seq], Dtype::Bool)
    };
    let mask = b.fresh(&[batch, 1, seq, seq], Dtype::Bool);
    drop((causal, padding));
    mask
}

/// transformers 4: mask functions under four nested vmaps.
fn mask_by_vmap<'b>(b: &'b Builder, o: &GraphOptions) -> Value<'b> {
    let (batch, seq) = (o.batch, o.seq_len);
    let _kv_arange = b.fresh(&[seq], Dtype::I64);
    let _batch_arange = b.fresh(&[batch], Dtype::I64);
    let _head_arange = b.fresh(&[1], Dtype::I64);
    let causal = b.fresh(&[seq, seq], Dtype::Bool);
    let padding = b.fresh(&[batch, seq], Dtype::Bool);
    let mask = b.fresh(&[batch, 1, seq, seq], Dtype::Bool);
    drop((causal, padding));
    mask
}

/// `x[..., :, ...]`: a slice of a whole dimension.
pub fn whole<'b>(b: &'b Builder, x: &Value<'b>, dim: i32, size: i64) -> Value<'b> {
    b.run(Op::Slice { dim, start: 0, end: size }, &[x])
}

/// `hidden_states[:, slice_indices, :]` before the head, as transformers wrote it until 5.12.
pub fn sliced_for_head<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    hidden: Value<'b>,
    width: u64,
) -> Value<'b> {
    if o.transformers >= AFTER_5_12 {
        return hidden;
    }
    let samples = whole(b, &hidden, 0, o.batch as i64);
    let tokens = whole(b, &samples, 1, o.seq_len as i64);
    whole(b, &tokens, 2, width as i64)
}

/// `repeat_kv`: (batch, kv_heads, seq_len, head_dim) to (batch, kv_heads x repeats, ...).
pub fn repeat_kv<'b>(b: &'b Builder, x: &Value<'b>, sizes: [u64; 4], repeats: u64) -> Value<'b> {
    let [batch, heads, seq, dim] = sizes.map(|n| n as i64);
    let repeats = repeats as i64;
    // x[:, :, None, :, :]
    let wide = {
        let rows = whole(b, x, 0, batch);
        let columns = whole(b, &rows, 1, heads);
        let wide = b.run(Op::Unsqueeze { dim: 2 }, &[&columns]);
        let steps = whole(b, &wide, 3, seq);
        whole(b, &steps, 4, dim)
    };
    let expanded = b.run(
        Op::Expand { sizes: [batch, heads, repeats, seq, dim].into_iter().collect() },
        &[&wide],
    );
    drop(wide);
    b.reshape(&expanded, &[batch, heads * repeats, seq, dim])
}

/// `ForCausalLMLoss`: logits in float32, labels shifted by padding, mean cross-entropy.
pub fn causal_lm_loss<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    logits: &Value<'b>,
    vocab_size: u64,
) -> Value<'b> {
    let rows = o.batch * o.seq_len;
    let upcast = b.run(Op::To { dtype: Dtype::F32 }, &[logits]);
    let padded = b.fresh(&[o.batch, o.seq_len + 1], Dtype::I64);
    let shifted = {
        let end = o.seq_len as i64 + 1;
        let tail = b.run(Op::Slice { dim: 1, start: 1, end }, &[&padded]);
        b.contiguous(&tail)
    };
    let flat = b.view(&upcast, &[rows as i64, vocab_size as i64]);
    drop(upcast);
    let flat_labels = b.view(&shifted, &[rows as i64]);
    drop(shifted);
    b.mark_logits(rows, vocab_size);
    b.run(Op::CrossEntropy, &[&flat, &flat_labels])
}
