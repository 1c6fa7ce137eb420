//! The causal mask as decoders made it themselves (`_update_causal_mask`), before transformers 4.53: a
//! square of the model's dtype in which what is not seen is the smallest number.
//!
//! Source: `models/{llama,mistral,gemma2}/modeling_*.py` of transformers 4.48.3 to 4.52.4, and
//! `modeling_attn_mask_utils.py` (`_ignore_causal_mask_sdpa`, `_unmask_unattended`).

use crate::model::builder::{Builder, Value};
use crate::model::config::{DecoderConfig, Family};
use crate::model::decoder::architecture::Architecture;
use crate::model::graph::{Dtype, Op};
use crate::model::options::{Attention, AttentionMask, GraphOptions, Version};
use crate::model::versions::{
    ATTENTION_INTERFACE, QWEN2_DRAWS_WINDOWS, WINDOWS_DRAWN, WINDOWS_WHERE_USED,
};

/// How a model's code draws the mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawn {
    /// By `torch.triu`, then by comparing positions.
    Triangle,
    /// By comparing positions alone, those before a window too.
    Compared,
    /// As a triangle, of the inputs' length, with sdpa too; layers cut windows out of it.
    Always,
}

impl Drawn {
    /// Returns how a decoder's mask is drawn.
    pub fn of(family: Family, transformers: Version) -> Drawn {
        match Drawn::as_llama(family, transformers) {
            true => Drawn::Triangle,
            false => Architecture::of(family).drawn,
        }
    }

    /// Whether a family that has windows draws its mask as Llama does, without them.
    fn as_llama(family: Family, transformers: Version) -> bool {
        let copies = transformers < WINDOWS_DRAWN;
        match family {
            Family::Qwen2 => {
                copies || (ATTENTION_INTERFACE..QWEN2_DRAWS_WINDOWS).contains(&transformers)
            }
            Family::Mixtral | Family::Phi3 | Family::Starcoder2 => copies,
            _ => false,
        }
    }
}

/// How far tokens look back, in a model whose layers share one mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// What decides whether sdpa gets a mask.
    pub asked: Option<u64>,
    /// What is drawn.
    pub drawn: Option<u64>,
}

impl Windows {
    /// None at all.
    pub const NONE: Windows = Windows { asked: None, drawn: None };

    /// Returns those of a decoder.
    pub fn of(c: &DecoderConfig, o: &GraphOptions) -> Windows {
        let used = c.window.as_ref().map(|window| window.size);
        match c.family {
            family if Drawn::as_llama(family, o.transformers) => Windows::NONE,
            Family::Qwen2 if o.transformers < ATTENTION_INTERFACE => {
                Windows { asked: c.switched_window, drawn: c.switched_window }
            }
            Family::Qwen2 | Family::Qwen3 if o.transformers < WINDOWS_WHERE_USED => {
                Windows { asked: c.named_window, drawn: c.named_window }
            }
            Family::Qwen2 | Family::Qwen3 => Windows { asked: c.named_window, drawn: used },
            _ => Windows { asked: used, drawn: used },
        }
    }
}

/// Returns the mask, (batch, 1, seq_len, seq_len): none for sdpa where no token is padding and the
/// window, if there is one, is longer than the sequence.
pub fn update_causal_mask<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    attention_mask: Option<&Value<'b>>,
    drawn: Drawn,
    windows: Windows,
) -> Option<Value<'b>> {
    let seq = o.seq_len;
    let sdpa = o.attention == Attention::Sdpa;
    if o.attention == Attention::Flash {
        // Refused before transformers 5.
        return None;
    }
    if sdpa && drawn != Drawn::Always && windows.asked.is_none_or(|window| seq < window) {
        ask_for_padding(b, o, attention_mask);
        if o.attention_mask != AttentionMask::Padded {
            return None;
        }
    }
    // Without a mask one more key is reckoned with; attention cuts it off.
    let keys = if attention_mask.is_none() && drawn != Drawn::Always { seq + 1 } else { seq };
    let mut mask = drawn_mask(b, o, attention_mask.is_some(), drawn, windows.drawn, keys);
    if sdpa && attention_mask.is_some() && drawn != Drawn::Always {
        mask = unmask_unattended(b, o);
    }
    if keys == seq {
        return Some(mask);
    }
    Some(b.run(Op::Slice { dim: 3, start: 0, end: seq as i64 }, &[&mask]))
}

/// `torch.all(attention_mask == 1)`
fn ask_for_padding<'b>(b: &'b Builder, o: &GraphOptions, attention_mask: Option<&Value<'b>>) {
    if attention_mask.is_some() {
        let is_one = b.fresh(&[o.batch, o.seq_len], Dtype::Bool);
        drop(b.run(Op::AllTrue, &[&is_one]));
    }
}

/// `_prepare_4d_causal_attention_mask_for_sdpa`: the mask of models that keep no cache positions.
///
/// Source: `modeling_attn_mask_utils.py` of 4.44.2 to 4.51.3.
pub fn converted_causal_mask<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    attention_mask: Option<&Value<'b>>,
) -> Option<Value<'b>> {
    ask_for_padding(b, o, attention_mask);
    if o.attention_mask != AttentionMask::Padded {
        return None;
    }
    let joined = causal_and_padding(b, o);
    let mask = unmask_unattended(b, o);
    drop(joined);
    Some(mask)
}

/// `AttentionMaskConverter._make_causal_mask`, (seq_len, seq_len), which is expanded to the batch; none
/// for one token.
pub fn causal_alone<'b>(b: &'b Builder, o: &GraphOptions) -> Option<Value<'b>> {
    let seq = o.seq_len;
    if seq == 1 {
        return None;
    }
    let wide = b.fresh(&[seq, seq], Dtype::F32);
    let places = b.fresh(&[seq], Dtype::I64);
    {
        let _next = b.fresh(&[seq], Dtype::I64);
        b.scratch(&[seq, seq], Dtype::Bool);
    }
    let narrow = b.run(Op::To { dtype: Dtype::Model }, &[&wide]);
    drop(places);
    Some(narrow)
}

/// `AttentionMaskConverter.to_4d` of a mask that is passed.
pub fn causal_and_padding<'b>(b: &'b Builder, o: &GraphOptions) -> Value<'b> {
    let (batch, seq) = (o.batch, o.seq_len);
    let causal = causal_alone(b, o);
    let square = |dtype| b.fresh(&[batch, 1, seq, seq], dtype);
    // `_expand_mask`
    let padding = {
        let expanded = square(Dtype::Model);
        let inverted = square(Dtype::Model);
        let _is_padding = square(Dtype::Bool);
        let padding = square(Dtype::Model);
        drop((expanded, inverted));
        padding
    };
    if causal.is_none() {
        return padding;
    }
    let _is_padding = square(Dtype::Bool);
    let joined = square(Dtype::Model);
    drop((causal, padding));
    joined
}

/// `_prepare_4d_causal_attention_mask_with_cache_position`
fn drawn_mask<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    is_passed: bool,
    drawn: Drawn,
    window: Option<u64>,
    keys: u64,
) -> Value<'b> {
    let (batch, seq) = (o.batch, o.seq_len);
    let square = |dtype| b.fresh(&[seq, keys], dtype);
    let later = || {
        let _keys = b.fresh(&[keys], Dtype::I64);
        square(Dtype::Bool)
    };
    let mut mask = square(Dtype::Model);
    let _names = match drawn {
        Drawn::Triangle | Drawn::Always => {
            if seq != 1 {
                mask = square(Dtype::Model);
            }
            drop(later());
            None
        }
        Drawn::Compared => {
            let later = later();
            let before = window.map(|_| {
                let _keys = b.fresh(&[keys], Dtype::I64);
                let _first = b.fresh(&[seq, 1], Dtype::I64);
                square(Dtype::Bool)
            });
            Some((later, before))
        }
    };
    let sizes = [batch, 1, seq, keys];
    let four = b.view(&mask, &[1, 1, seq as i64, keys as i64]);
    let expanded =
        b.run(Op::Expand { sizes: sizes.map(|n| n as i64).into_iter().collect() }, &[&four]);
    drop((mask, four));
    if !is_passed {
        return expanded;
    }
    let mask = b.fresh(&sizes, Dtype::Model);
    drop(expanded);
    let is_padding = {
        let _sum = b.fresh(&sizes, Dtype::Model);
        b.fresh(&sizes, Dtype::Bool)
    };
    b.scratch(&sizes, Dtype::Model);
    drop(is_padding);
    mask
}

/// `mask.mul(~torch.all(mask == minimum, dim=-1, keepdim=True))`
fn unmask_unattended<'b>(b: &'b Builder, o: &GraphOptions) -> Value<'b> {
    let sizes = [o.batch, 1, o.seq_len, o.seq_len];
    let rows = || b.fresh(&[o.batch, 1, o.seq_len, 1], Dtype::Bool);
    let all = {
        let _is_least = b.fresh(&sizes, Dtype::Bool);
        rows()
    };
    let _attended = {
        let _all = all;
        rows()
    };
    b.fresh(&sizes, Dtype::Model)
}

/// The mask of one of Gemma 2's layers that slide, cut out of the shared one as the layer runs; what
/// stays a name until it returns comes with it.
pub fn of_sliding_layer<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    shared: &Value<'b>,
) -> (Value<'b>, Vec<Value<'b>>) {
    let sizes = [o.batch, 1, o.seq_len, o.seq_len];
    let outside = {
        let _ones = b.fresh(&sizes, Dtype::Bool);
        b.fresh(&sizes, Dtype::Bool)
    };
    let cut = {
        let _minimum = b.fresh(&[], Dtype::Model);
        b.run(Op::Where, &[&outside, shared, &_minimum])
    };
    if o.transformers < WINDOWS_WHERE_USED {
        return (cut, vec![outside]);
    }
    let offset = {
        let number = || b.fresh(&[], Dtype::I64);
        let _last = number();
        let _first = number();
        drop(_last);
        number()
    };
    let indices = b.fresh(&[o.seq_len], Dtype::I64);
    let indexed = b.run(Op::IndexRows { dim: 3 }, &[&cut, &indices]);
    drop(cut);
    (indexed, vec![outside, offset, indices])
}
