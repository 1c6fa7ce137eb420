//! Encoder-decoders: what they share.

mod attention;
pub mod bart;
mod layer;
pub(super) mod masks;
pub mod t5;
pub mod whisper;

use crate::model::builder::{Builder, Value};
use crate::model::graph::{Dtype, Op};
use crate::model::options::GraphOptions;

/// Returns the options as the decoder's own attention sees them: the labels are its tokens.
fn of_labels(o: &GraphOptions) -> GraphOptions {
    GraphOptions { seq_len: o.label_len, ..*o }
}

/// `shift_tokens_right`: the decoder's input, out of the labels.
fn shifted_right<'b>(b: &'b Builder, o: &GraphOptions) -> Value<'b> {
    let shifted = b.fresh(&[o.batch, o.label_len], Dtype::I64);
    b.scratch(&[o.batch, o.label_len.saturating_sub(1)], Dtype::I64);
    // Labels of -100 become padding.
    b.scratch(&[o.batch, o.label_len], Dtype::Bool);
    shifted
}

/// Mean cross-entropy of all labels.
fn loss<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    logits: &Value<'b>,
    labels: &Value<'b>,
    classes: u64,
) -> Value<'b> {
    let flat = b.view(logits, &[-1, classes as i64]);
    let flat_labels = b.view(labels, &[-1]);
    b.mark_logits(o.batch * o.label_len, classes);
    b.run(Op::CrossEntropy, &[&flat, &flat_labels])
}
