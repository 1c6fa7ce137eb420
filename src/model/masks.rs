//! What decoders share around their layers: the causal mask as transformers makes it, key and value
//! heads repeated, and the loss.
//!
//! Source: transformers `masking_utils.py`, `loss/loss_utils.py` of 4.56 and 5.23.

use crate::model::builder::{Builder, Value};
use crate::model::graph::{Dtype, Op};
use crate::model::options::{Attention, AttentionMask, GraphOptions, Version};
use crate::model::versions::{
    HEAD_IS_SLICED, HEAD_TAKES_ALL, LOSS_PADS_LABELS, MASKS_FROM_LENGTHS, PADDING_IS_COUNTED,
    TRANSFORMERS_5,
};

/// The first PyTorch on which transformers 4 keeps packed sequences apart; before it finds them and makes
/// no mask of it. What else it does otherwise on older ones is small: masks are made with fewer steps.
///
/// Source: transformers 4.56.2 `masking_utils.py` (`_is_torch_greater_or_equal_than_2_6`); seen on 2.4.1.
const SEPARATES_SEQUENCES: Version = Version::new(2, 6);

/// `torch.arange(seq_len)`, which newer versions shift by the tokens seen before.
pub fn positions<'b>(b: &'b Builder, o: &GraphOptions) -> Value<'b> {
    let positions = b.fresh(&[o.seq_len], Dtype::I64);
    if o.transformers < MASKS_FROM_LENGTHS {
        return positions;
    }
    b.fresh(&[o.seq_len], Dtype::I64)
}

/// Makes the causal mask that attention gets: none at all for sdpa where no token is padding and
/// the window, if there is one, is longer than the sequence.
///
/// Shapes: (batch, 1, seq_len, seq_len), in the model's dtype for eager attention.
pub fn causal_mask<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    attention_mask: Option<&Value<'b>>,
    window: Option<u64>,
) -> Option<Value<'b>> {
    let (batch, seq) = (o.batch, o.seq_len);
    let as_bool = attention_mask.map(|_| b.fresh(&[batch, seq], Dtype::Bool));
    if o.attention == Attention::Flash {
        if let Some(mask) = &as_bool {
            drop(b.run(Op::AllTrue, &[mask]));
        }
        return None;
    }
    let slides = window.is_some_and(|window| seq >= window);
    let packed = if as_bool.is_none() { packed_sequences(b, o) } else { None };
    let packed = packed.filter(|_| o.torch >= SEPARATES_SEQUENCES);
    let sdpa = o.attention == Attention::Sdpa;
    if sdpa && !slides && packed.is_none() {
        if let Some(mask) = &as_bool {
            ask_for_padding(b, o, mask);
        }
        if o.attention_mask != AttentionMask::Padded {
            return None;
        }
    }
    let tokens = match (&as_bool, &packed) {
        (Some(_), _) => Tokens::Padding,
        (None, Some(_)) => Tokens::Packed,
        (None, None) => Tokens::All,
    };
    let mask = boolean_mask(b, o, window.is_some(), tokens);
    if sdpa {
        return Some(mask);
    }
    Some(added(b, &[batch, 1, seq, seq]))
}

/// `torch.where(mask, zeros(()), min_dtype)`: the number becomes a tensor of the mask's dtype.
pub fn added<'b>(b: &'b Builder, sizes: &[u64]) -> Value<'b> {
    let _zero = b.fresh(&[], Dtype::Model);
    let _minimum = b.fresh(&[], Dtype::Model);
    b.fresh(sizes, Dtype::Model)
}

/// The causal mask of tokens that nothing else is known of: a model that passes neither a mask nor
/// positions. Only eager attention gets one.
pub fn causal_mask_alone<'b>(b: &'b Builder, o: &GraphOptions) -> Option<Value<'b>> {
    if o.attention != Attention::Eager {
        return None;
    }
    let _mask = boolean_mask(b, o, false, Tokens::All);
    Some(added(b, &[o.batch, 1, o.seq_len, o.seq_len]))
}

/// Asks the device whether any token is padding; where one is, the newest versions ask again for
/// the tokens that are no longer to come.
fn ask_for_padding<'b>(b: &'b Builder, o: &GraphOptions, mask: &Value<'b>) {
    if o.transformers < PADDING_IS_COUNTED {
        drop(b.run(Op::AllTrue, &[mask]));
        return;
    }
    let times = if o.attention_mask == AttentionMask::Padded { 2 } else { 1 };
    for _ in 0..times {
        let _sum = b.run(Op::CountTrue, &[mask]);
        b.scratch(&[], Dtype::Bool);
    }
}

/// `find_packed_sequence_indices`, where no mask is passed: which of several sequences packed into
/// one sample each token belongs to. Transformers 5 finds that there is one and returns nothing.
fn packed_sequences<'b>(b: &'b Builder, o: &GraphOptions) -> Option<Value<'b>> {
    let (batch, seq) = (o.batch, o.seq_len);
    let _before = b.fresh(&[batch, 1], Dtype::I64);
    let _steps = {
        let _prepended = b.fresh(&[batch, seq + 1], Dtype::I64);
        b.fresh(&[batch, seq], Dtype::I64)
    };
    let sequences = {
        let changes = b.fresh(&[batch, seq], Dtype::Bool);
        b.run(Op::CumulativeSum { dtype: Dtype::I64 }, &[&changes])
    };
    if o.transformers < TRANSFORMERS_5 {
        return Some(sequences);
    }
    let ends = b.fresh(&[batch], Dtype::Bool);
    drop(b.run(Op::AllTrue, &[&ends]));
    None
}

/// What a mask says of tokens, besides their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tokens {
    /// Nothing.
    All,
    /// Which are padding.
    Padding,
    /// Which sequence of a packed sample each is of.
    Packed,
}

/// Applies mask functions to index tensors: broadcast in transformers 5, under four nested vmaps in
/// transformers 4, where what is made from the queries' index has their size.
fn boolean_mask<'b>(b: &'b Builder, o: &GraphOptions, slides: bool, tokens: Tokens) -> Value<'b> {
    let (batch, seq) = (o.batch, o.seq_len);
    let _indices = index_tensors(b, o, o.seq_len);
    if tokens == Tokens::All {
        let below = below(b, o, slides);
        let sizes = [batch as i64, 1, seq as i64, seq as i64].into_iter().collect();
        return b.run(Op::Expand { sizes }, &[&below]);
    }
    let causal = {
        let all = ones(b, o);
        let below = below(b, o, slides);
        let result = square(b, o);
        drop((all, below));
        result
    };
    // Both index tensors are expanded to a common shape, which for one sample is that of the keys'.
    let gathered = |dtype| {
        let _rows = b.fresh(&[batch, seq], Dtype::I64);
        let _columns = (batch > 1).then(|| b.fresh(&[batch, seq], Dtype::I64));
        b.fresh(&[batch, seq], dtype)
    };
    let allowed = match tokens {
        // padding_mask[batch_idx, kv_idx]
        Tokens::All | Tokens::Padding => gathered(Dtype::Bool),
        // packed[batch_idx, q_idx] == packed[batch_idx, kv_idx]
        Tokens::Packed => {
            let _queries = gathered(Dtype::I64);
            let _keys = gathered(Dtype::I64);
            b.fresh(&[batch, 1, seq, seq], Dtype::Bool)
        }
    };
    let mask = b.fresh(&[batch, 1, seq, seq], Dtype::Bool);
    drop((causal, allowed));
    mask
}

/// The true that `and_masks` starts from; under vmap it has the queries' size.
fn ones<'b>(b: &'b Builder, o: &GraphOptions) -> Value<'b> {
    let broadcasts = o.transformers >= TRANSFORMERS_5;
    b.fresh(if broadcasts { &[] } else { std::slice::from_ref(&o.seq_len) }, Dtype::Bool)
}

fn square<'b>(b: &'b Builder, o: &GraphOptions) -> Value<'b> {
    b.fresh(&[1, 1, o.seq_len, o.seq_len], Dtype::Bool)
}

/// Keys up to the query's, and within a window behind it: and_masks(kv > q - window, kv <= q).
fn below<'b>(b: &'b Builder, o: &GraphOptions, slides: bool) -> Value<'b> {
    if !slides {
        return square(b, o);
    }
    let all = ones(b, o);
    let within = {
        let _first = b.fresh(&[o.seq_len], Dtype::I64);
        square(b, o)
    };
    let narrowed = square(b, o);
    drop((all, within));
    let below = square(b, o);
    let both = square(b, o);
    drop((narrowed, below));
    both
}

/// The index tensors of batch, heads, queries and keys, until the mask is made.
pub fn index_tensors<'b>(b: &'b Builder, o: &GraphOptions, queries: u64) -> Vec<Value<'b>> {
    let index = |size: u64| b.fresh(&[size], Dtype::I64);
    if o.transformers < TRANSFORMERS_5 {
        // Queries are the cache positions, which are there.
        let keys = index(o.seq_len);
        let batch = index(o.batch);
        return vec![keys, batch, index(1)];
    }
    let shifted = |size| {
        let arange = index(size);
        let shifted = index(size);
        drop(arange);
        shifted
    };
    let batch = index(o.batch);
    let heads = index(1);
    let queries = (o.transformers >= MASKS_FROM_LENGTHS).then(|| shifted(queries));
    [batch, heads].into_iter().chain(queries).chain([shifted(o.seq_len)]).collect()
}

/// `x[..., :, ...]`: a slice of a whole dimension.
pub fn whole<'b>(b: &'b Builder, x: &Value<'b>, dim: i32) -> Value<'b> {
    b.run(Op::All { dim }, &[x])
}

/// `hidden_states[:, slice_indices, :]` before the head, as transformers wrote it until 5.20.
pub fn sliced_for_head<'b>(b: &'b Builder, o: &GraphOptions, hidden: Value<'b>) -> Value<'b> {
    if !(HEAD_IS_SLICED..HEAD_TAKES_ALL).contains(&o.transformers) {
        return hidden;
    }
    let samples = whole(b, &hidden, 0);
    let tokens = whole(b, &samples, 1);
    whole(b, &tokens, 2)
}

/// `repeat_kv`: (batch, kv_heads, seq_len, head_dim) to (batch, kv_heads x repeats, ...).
pub fn repeat_kv<'b>(b: &'b Builder, x: &Value<'b>, sizes: [u64; 4], repeats: u64) -> Value<'b> {
    let [batch, heads, seq, dim] = sizes.map(|n| n as i64);
    let repeats = repeats as i64;
    // x[:, :, None, :, :]
    let wide = {
        let rows = whole(b, x, 0);
        let columns = whole(b, &rows, 1);
        let wide = b.run(Op::Unsqueeze { dim: 2 }, &[&columns]);
        let steps = whole(b, &wide, 3);
        whole(b, &steps, 4)
    };
    let expanded = b.run(
        Op::Expand { sizes: [batch, heads, repeats, seq, dim].into_iter().collect() },
        &[&wide],
    );
    drop(wide);
    b.reshape(&expanded, &[batch, heads * repeats, seq, dim])
}

/// Labels with one of no meaning behind them, and from the second on.
pub fn shifted_labels<'b>(b: &'b Builder, o: &GraphOptions) -> (Value<'b>, Value<'b>) {
    let padded = b.fresh(&[o.batch, o.seq_len + 1], Dtype::I64);
    let end = o.seq_len as i64 + 1;
    let tail = b.run(Op::Slice { dim: 1, start: 1, end }, &[&padded]);
    let shifted = b.contiguous(&tail);
    (padded, shifted)
}

/// What computes the loss of a causal language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossCode {
    /// `ForCausalLMLoss`: the logits stay beside those in float32.
    Function,
    /// The model's `forward`, where those in float32 take the logits' name.
    Inline,
    /// The same, of the logits as they are (`[..., :-1, :]`).
    InlineUncast,
    /// The same, sliced dimension by dimension (`[:, :-1, :]`).
    InlineUncastSliced,
}

/// The loss before transformers 4.49: of all but the last token's logits, and all but the first's label,
/// copied where there is more than one sample.
fn loss_of_all_but_last<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    (logits, labels): (Value<'b>, &Value<'b>),
    vocab_size: u64,
    code: LossCode,
) -> Value<'b> {
    let rows = o.batch * (o.seq_len - 1);
    let cast = |logits: &Value<'b>| b.run(Op::To { dtype: Dtype::F32 }, &[logits]);
    let (upcast, _logits) = match code {
        LossCode::Function => (cast(&logits), Some(logits)),
        LossCode::Inline => {
            let upcast = cast(&logits);
            drop(logits);
            (upcast, None)
        }
        LossCode::InlineUncast => (logits, None),
        LossCode::InlineUncastSliced => (whole(b, &logits, 0), None),
    };
    let shifted = {
        let cut = b.run(Op::Slice { dim: 1, start: 0, end: o.seq_len as i64 - 1 }, &[&upcast]);
        let whole = whole(b, &cut, 2);
        b.contiguous(&whole)
    };
    let cut = b.run(Op::Slice { dim: 1, start: 1, end: o.seq_len as i64 }, &[labels]);
    let later = b.contiguous(&cut);
    drop(cut);
    let flat = b.view(&shifted, &[rows as i64, vocab_size as i64]);
    drop(shifted);
    let flat_labels = b.view(&later, &[rows as i64]);
    drop(later);
    b.mark_logits(rows, vocab_size);
    b.run(Op::CrossEntropy, &[&flat, &flat_labels])
}

/// Mean cross-entropy of logits in float32, labels shifted by padding; before transformers 4.49, as `code`
/// says.
pub fn causal_lm_loss<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    (logits, labels): (Value<'b>, &Value<'b>),
    vocab_size: u64,
    code: LossCode,
) -> Value<'b> {
    if o.transformers < LOSS_PADS_LABELS {
        return loss_of_all_but_last(b, o, (logits, labels), vocab_size, code);
    }
    let rows = o.batch * o.seq_len;
    let upcast = b.run(Op::To { dtype: Dtype::F32 }, &[&logits]);
    let (_padded, shifted) = shifted_labels(b, o);
    let flat = b.view(&upcast, &[rows as i64, vocab_size as i64]);
    drop(upcast);
    let flat_labels = b.view(&shifted, &[rows as i64]);
    drop(shifted);
    b.mark_logits(rows, vocab_size);
    b.run(Op::CrossEntropy, &[&flat, &flat_labels])
}
