//! The mask of an encoder's attention: every token sees all that are no padding.
//!
//! Source: transformers 4.56 `modeling_attn_mask_utils.py` (`_prepare_4d_attention_mask_for_sdpa`) and
//! `modeling_utils.py` (`get_extended_attention_mask`); transformers 5's is [`bidirectional`].

use crate::model::bidirectional::{Reach, bidirectional};
use crate::model::builder::{Builder, Value};
use crate::model::graph::{Dtype, Op};
use crate::model::options::{Attention, GraphOptions};
use crate::model::seq2seq::masks::of_keys;
use crate::model::versions::TRANSFORMERS_5;

/// What the model's code holds of its mask while the layers run.
#[derive(Debug)]
pub struct Masks<'a, 'b> {
    /// The mask that was passed, where layers get it as it is.
    raw: Option<&'a Value<'b>>,
    /// The mask of ones that transformers 4 makes where none was passed.
    ones: Option<Value<'b>>,
    /// The mask made for attention; `None` where it needs none.
    made: Option<Value<'b>>,
    layers_get_ones: bool,
}

impl<'b> Masks<'_, 'b> {
    /// Returns what each layer is given.
    pub fn of_layers(&self) -> Option<&Value<'b>> {
        let ones = self.ones.as_ref().filter(|_| self.layers_get_ones);
        self.made.as_ref().or(self.raw).or(ones)
    }
}

/// Makes the mask that the layers of BERT and RoBERTa get.
pub fn of_bert<'a, 'b>(
    b: &'b Builder,
    o: &GraphOptions,
    passed: Option<&'a Value<'b>>,
) -> Masks<'a, 'b> {
    if o.transformers >= TRANSFORMERS_5 {
        let made = bidirectional(b, o, o.seq_len, passed, Reach::All);
        return Masks { raw: None, ones: None, made, layers_get_ones: false };
    }
    let ones = ones(b, o, passed);
    let mask = passed.or(ones.as_ref());
    let made = match o.attention {
        Attention::Sdpa => of_keys(b, o, o.seq_len),
        Attention::Eager | Attention::Flash => mask.map(|mask| extended(b, o, mask)),
    };
    Masks { raw: None, ones, made, layers_get_ones: false }
}

/// Makes the mask that DistilBERT's layers get: in transformers 4's eager code the one that was
/// passed, as it is.
pub fn of_distilbert<'a, 'b>(
    b: &'b Builder,
    o: &GraphOptions,
    passed: Option<&'a Value<'b>>,
) -> Masks<'a, 'b> {
    if o.transformers >= TRANSFORMERS_5 {
        let made = bidirectional(b, o, o.seq_len, passed, Reach::All);
        return Masks { raw: None, ones: None, made, layers_get_ones: false };
    }
    let ones = ones(b, o, passed);
    match o.attention {
        Attention::Sdpa => {
            let made = of_keys(b, o, o.seq_len);
            Masks { raw: None, ones: None, made, layers_get_ones: false }
        }
        Attention::Eager | Attention::Flash => {
            Masks { raw: passed, ones, made: None, layers_get_ones: true }
        }
    }
}

/// `warn_if_padding_and_no_attention_mask`, until transformers 5: looks for padding at both ends.
pub(super) fn look_for_padding(b: &Builder, o: &GraphOptions, passed: Option<&Value<'_>>) {
    if passed.is_none() && o.transformers < TRANSFORMERS_5 {
        look_at_both_ends(b, o);
    }
}

/// `pad_token_id in input_ids[:, [-1, 0]]`, where no mask is passed.
pub fn look_at_both_ends(b: &Builder, o: &GraphOptions) {
    let index = b.fresh(&[2], Dtype::I64);
    let _ends = b.fresh(&[o.batch, 2], Dtype::I64);
    drop(index);
    let is_padding = b.fresh(&[o.batch, 2], Dtype::Bool);
    drop(b.run(Op::AllTrue, &[&is_padding]));
}

/// `torch.ones(batch, seq_len)`, in float32, where no mask was passed.
fn ones<'b>(b: &'b Builder, o: &GraphOptions, passed: Option<&Value<'b>>) -> Option<Value<'b>> {
    passed.is_none().then(|| b.fresh(&[o.batch, o.seq_len], Dtype::F32))
}

/// `get_extended_attention_mask`: `(1.0 - mask[:, None, None, :]) * minimum`.
fn extended<'b>(b: &'b Builder, o: &GraphOptions, mask: &Value<'b>) -> Value<'b> {
    let wide = b.view(mask, &[o.batch as i64, 1, 1, o.seq_len as i64]);
    let cast = b.run(Op::To { dtype: Dtype::Model }, &[&wide]);
    let inverted = b.add_number(&cast);
    b.mul_number(&inverted)
}
