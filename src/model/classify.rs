//! The labels of a classifier of samples and its loss, by what the labels are.
//!
//! Source: transformers `loss/loss_utils.py` (`ForSequenceClassificationLoss`), which the encoders
//! write out in their own files.

use crate::model::builder::{Builder, Value};
use crate::model::config::Problem;
use crate::model::graph::{Dtype, Op};
use crate::model::options::GraphOptions;

/// Adds the labels to the batch: one number a sample, or one for each class.
pub fn labels<'b>(b: &'b Builder, o: &GraphOptions, problem: Problem, classes: u64) -> Value<'b> {
    match problem {
        Problem::OneLabel => b.batch(&[o.batch], Dtype::I64),
        Problem::Numbers if classes == 1 => b.batch(&[o.batch], Dtype::F32),
        Problem::Numbers | Problem::SeveralLabels => b.batch(&[o.batch, classes], Dtype::F32),
    }
}

/// The loss of the logits, (batch, classes).
pub fn loss<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    problem: Problem,
    [logits, labels]: [&Value<'b>; 2],
    classes: u64,
) -> Value<'b> {
    b.mark_logits(o.batch, classes);
    match problem {
        Problem::OneLabel => {
            let flat = b.view(logits, &[-1, classes as i64]);
            let flat_labels = b.view(labels, &[-1]);
            b.run(Op::CrossEntropy, &[&flat, &flat_labels])
        }
        Problem::Numbers if classes == 1 => {
            let numbers = b.run(Op::Squeeze { dim: 1 }, &[logits]);
            b.run(Op::MseLoss, &[&numbers, labels])
        }
        Problem::Numbers => b.run(Op::MseLoss, &[logits, labels]),
        Problem::SeveralLabels => b.run(Op::BceLoss, &[logits, labels]),
    }
}
