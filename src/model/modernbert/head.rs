//! Heads and their losses.

use crate::model::blocks::activation::activation;
use crate::model::blocks::linear::Linear;
use crate::model::blocks::norm::Norm;
use crate::model::builder::{Builder, Value};
use crate::model::classify;
use crate::model::config::{ModernBertConfig, Pooling, Task};
use crate::model::graph::{Dtype, Op};
use crate::model::masks;
use crate::model::options::{AttentionMask, GraphOptions};

/// A head's weights.
#[derive(Debug)]
pub struct Head<'b> {
    dense: Linear<'b>,
    norm: Norm<'b>,
    scores: Scores<'b>,
}

/// What comes behind.
#[derive(Debug)]
enum Scores<'b> {
    /// Scores of the vocabulary, by the table of tokens; their bias.
    Tokens(Option<Value<'b>>),
    /// Scores of labels.
    Labels(Linear<'b>),
}

impl<'b> Head<'b> {
    /// Loads a head's weights.
    pub fn load(b: &'b Builder, c: &ModernBertConfig) -> Head<'b> {
        let width = c.hidden_size;
        let dense = Linear::load(b, "head", "dense", [width, width], c.classifier_bias);
        let norm = Norm::load_layer_norm(b, "head", "norm", width, c.norm_bias);
        let scores = match c.task {
            Task::MaskedLm => Scores::Tokens(
                c.decoder_bias.then(|| b.named_parameter("decoder", "bias", &[c.vocab_size])),
            ),
            _ => Scores::Labels(Linear::load(b, "", "classifier", [c.num_labels, width], true)),
        };
        Head { dense, norm, scores }
    }

    /// Runs the head and the loss on the last hidden states, the table of tokens and the labels.
    pub fn loss(
        &self,
        b: &'b Builder,
        c: &ModernBertConfig,
        o: &GraphOptions,
        [hidden, tokens, labels]: [&Value<'b>; 3],
        passed: Option<&Value<'b>>,
    ) -> Value<'b> {
        let rows = o.batch * o.seq_len;
        match &self.scores {
            Scores::Tokens(bias) => {
                let transformed = self.transformed(b, c, hidden);
                let logits = {
                    let _m = b.enter("decoder");
                    match bias {
                        Some(bias) => b.run(Op::Linear, &[&transformed, tokens, bias]),
                        None => b.run(Op::Linear, &[&transformed, tokens]),
                    }
                };
                drop(transformed);
                b.mark_logits(rows, c.vocab_size);
                // `ForMaskedLMLoss`
                let upcast = b.run(Op::To { dtype: Dtype::F32 }, &[&logits]);
                let flat = b.view(&upcast, &[-1, c.vocab_size as i64]);
                drop(upcast);
                let labels = b.view(labels, &[-1]);
                b.run(Op::CrossEntropy, &[&flat, &labels])
            }
            Scores::Labels(classifier) => {
                let pools = c.task == Task::SequenceClassification;
                let pooled = pools.then(|| self.pooled(b, c, o, hidden, passed));
                let transformed = self.transformed(b, c, pooled.as_ref().unwrap_or(hidden));
                let dropped = b.dropout(&transformed, c.classifier_dropout);
                drop(transformed);
                let logits = classifier.run(b, &dropped);
                if pools {
                    return classify::loss(b, o, c.problem, [&logits, labels], c.num_labels);
                }
                let flat = b.view(&logits, &[-1, c.num_labels as i64]);
                let flat_labels = b.view(labels, &[-1]);
                b.mark_logits(rows, c.num_labels);
                b.run(Op::CrossEntropy, &[&flat, &flat_labels])
            }
        }
    }

    fn transformed(&self, b: &'b Builder, c: &ModernBertConfig, x: &Value<'b>) -> Value<'b> {
        let _m = b.enter("head");
        let projected = self.dense.run(b, x);
        let active = activation(b, c.classifier_activation, &projected);
        drop(projected);
        self.norm.run(b, &active)
    }

    /// What of each sample is classified, (batch, hidden).
    fn pooled(
        &self,
        b: &'b Builder,
        c: &ModernBertConfig,
        o: &GraphOptions,
        hidden: &Value<'b>,
        passed: Option<&Value<'b>>,
    ) -> Value<'b> {
        if c.pooling == Pooling::First {
            let samples = masks::whole(b, hidden, 0);
            return b.run(Op::Select { dim: 1 }, &[&samples]);
        }
        // Until transformers 5 its caller made them.
        let ones = passed.is_none().then(|| b.fresh(&[o.batch, o.seq_len], Dtype::Bool));
        let is_bool = o.attention_mask == AttentionMask::None;
        let mask = passed.or(ones.as_ref()).expect("passed or made");
        let sum = {
            let column = b.run(Op::Unsqueeze { dim: 2 }, &[mask]);
            let product = b.mul(hidden, &column);
            drop(column);
            b.run(Op::SumDim { dim: 1, keep: false }, &[&product])
        };
        let count = if is_bool {
            let count = b.fresh(&[o.batch, 1], Dtype::I64);
            b.scratch(&[o.batch, o.seq_len], Dtype::I64);
            count
        } else {
            b.run(Op::SumDim { dim: 1, keep: true }, &[mask])
        };
        b.run(Op::Div, &[&sum, &count])
    }
}
