//! The labels of a classifier of samples and its loss, by what the labels are; and the classifiers that
//! decoders have.
//!
//! Source: transformers `loss/loss_utils.py` (`ForSequenceClassificationLoss`), which the encoders
//! write out in their own files; `modeling_layers.py` (`GenericForSequenceClassification`,
//! `GenericForTokenClassification`), which GPT-2 and OPT write out in theirs.

use crate::model::blocks::linear::Linear;
use crate::model::builder::{Builder, Value};
use crate::model::config::Problem;
use crate::model::graph::{Dtype, Op};
use crate::model::options::GraphOptions;
use crate::model::versions::{LAST_TOKEN_BY_INDEX, LAST_TOKEN_IN_I32};

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

/// A decoder's classifier and what it is to say.
#[derive(Debug)]
pub struct Classifier<'a, 'b> {
    /// Scores of a token, from its hidden state.
    pub head: &'a Linear<'b>,
    /// How many.
    pub classes: u64,
    /// Those of the samples, or of the tokens.
    pub labels: &'a Value<'b>,
    /// Dropout before the scores of tokens.
    pub token_dropout: f64,
}

impl<'b> Classifier<'_, 'b> {
    /// Scores each token, of which the last that is no padding speaks for its sample.
    pub fn of_samples(
        &self,
        b: &'b Builder,
        o: &GraphOptions,
        problem: Problem,
        hidden: &Value<'b>,
    ) -> Value<'b> {
        let scores = self.head.run(b, hidden);
        let (last, names) = last_tokens(b, o);
        let pooled = {
            let samples = b.fresh(&[o.batch], Dtype::I64);
            b.run(Op::IndexPairs, &[&scores, &samples, &last])
        };
        let loss = loss(b, o, problem, [&pooled, self.labels], self.classes);
        drop((names, last, pooled, scores));
        loss
    }

    /// Scores each token behind dropout; `in_float` is what the loss reads.
    pub fn of_tokens(
        &self,
        b: &'b Builder,
        o: &GraphOptions,
        in_float: bool,
        hidden: &Value<'b>,
    ) -> Value<'b> {
        let dropped = {
            let _m = b.enter("dropout");
            b.dropout(hidden, self.token_dropout)
        };
        let logits = self.head.run(b, &dropped);
        b.mark_logits(o.batch * o.seq_len, self.classes);
        let mut flat = b.view(&logits, &[-1, self.classes as i64]);
        if in_float {
            flat = b.run(Op::To { dtype: Dtype::F32 }, &[&flat]);
        }
        let flat_labels = b.view(self.labels, &[-1]);
        b.run(Op::CrossEntropy, &[&flat, &flat_labels])
    }
}

/// Where each sample's last token is that is no padding, and what else has a name.
fn last_tokens<'b>(b: &'b Builder, o: &GraphOptions) -> (Value<'b>, Vec<Value<'b>>) {
    let tokens = |dtype| b.fresh(&[o.batch, o.seq_len], dtype);
    let is_token = {
        let _is_token = tokens(Dtype::Bool);
        tokens(Dtype::I32)
    };
    let places = || b.fresh(&[o.batch], Dtype::I64);
    if o.transformers < LAST_TOKEN_BY_INDEX {
        // (is_padding.argmax(-1) - 1) % seq_len
        let first = places();
        drop(is_token);
        let before = places();
        drop(first);
        let last = places();
        drop(before);
        return (last, Vec::new());
    }
    let dtype = if o.transformers < LAST_TOKEN_IN_I32 { Dtype::I64 } else { Dtype::I32 };
    let indices = b.fresh(&[o.seq_len], dtype);
    // (indices * is_token).argmax(-1)
    let last = {
        let _places = tokens(dtype);
        places()
    };
    (last, vec![is_token, indices])
}
