//! The masks of full and of local layers.

use crate::model::bidirectional::{Reach, bidirectional};
use crate::model::builder::{Builder, Value};
use crate::model::config::ModernBertConfig;
use crate::model::graph::{Dtype, Op};
use crate::model::options::GraphOptions;
use crate::model::versions::MODERNBERT_AS_OTHERS;

/// What each kind of layer gets; `None` where it needs no mask.
#[derive(Debug)]
pub struct Masks<'b> {
    full: Option<Value<'b>>,
    local: Option<Value<'b>>,
}

impl<'b> Masks<'b> {
    /// Makes both; `passed` is the batch's, (batch, seq_len).
    pub fn new(
        b: &'b Builder,
        c: &ModernBertConfig,
        o: &GraphOptions,
        passed: Option<&Value<'b>>,
    ) -> Masks<'b> {
        if o.transformers < MODERNBERT_AS_OTHERS {
            return added(b, o);
        }
        let full = bidirectional(b, o, o.seq_len, passed, Reach::All);
        let local = bidirectional(b, o, o.seq_len, passed, Reach::Window(c.window()));
        Masks { full, local }
    }

    /// Returns those that there are.
    pub fn both(&self) -> impl Iterator<Item = &Value<'b>> {
        self.full.iter().chain(&self.local)
    }

    /// Returns what a layer gets.
    pub fn of_layer(&self, is_local: bool) -> Option<&Value<'b>> {
        if is_local { self.local.as_ref() } else { self.full.as_ref() }
    }
}

/// `_update_attention_mask`: masks that are added, of all queries and keys.
///
/// Source: transformers 4.56 `modeling_modernbert.py`, `modeling_attn_mask_utils.py` (`_expand_mask`).
fn added<'b>(b: &'b Builder, o: &GraphOptions) -> Masks<'b> {
    let square = |batch, dtype| b.fresh(&[batch, 1, o.seq_len, o.seq_len], dtype);
    let full = {
        let expanded = square(o.batch, Dtype::Model);
        let inverted = square(o.batch, Dtype::Model);
        let is_hidden = square(o.batch, Dtype::Bool);
        let full = b.run(Op::MaskedFill, &[&inverted, &is_hidden]);
        drop((expanded, inverted, is_hidden));
        full
    };
    // Which tokens are near is worked out on the CPU.
    let near = square(1, Dtype::Bool);
    let local = {
        let is_far = square(1, Dtype::Bool);
        b.run(Op::MaskedFill, &[&full, &is_far])
    };
    drop(near);
    Masks { full: Some(full), local: Some(local) }
}
