//! Heads and their losses.

use crate::model::blocks::activation::activation;
use crate::model::blocks::linear::Linear;
use crate::model::blocks::norm::Norm;
use crate::model::builder::{Builder, Value};
use crate::model::classify;
use crate::model::config::{DebertaConfig, Problem, Task};
use crate::model::decoder::architecture::NormKind;
use crate::model::graph::{Dtype, Op};
use crate::model::masks;
use crate::model::options::GraphOptions;

/// A head's weights.
#[derive(Debug)]
pub enum Head<'b> {
    /// Scores for each token of the vocabulary, by the table of tokens.
    MaskedLm {
        /// The projection before.
        dense: Linear<'b>,
        /// The norm before.
        norm: Norm<'b>,
        /// The bias behind.
        bias: Value<'b>,
    },
    /// Scores for each label, of samples (with a projection before) or tokens.
    Classifier {
        /// The projection before, where samples have labels.
        dense: Option<Linear<'b>>,
        /// The projection to labels.
        out: Linear<'b>,
    },
}

impl<'b> Head<'b> {
    /// Loads a head's weights.
    pub fn load(b: &'b Builder, c: &DebertaConfig) -> Head<'b> {
        let width = c.hidden_size;
        if c.task == Task::MaskedLm {
            let transform = "cls.predictions.transform";
            let dense = Linear::load(b, transform, "dense", [width, width], true);
            let norm = Norm::load(b, NormKind::Layer, transform, "LayerNorm", width);
            let first = dense.weight();
            let bias = b.own_parameter("cls.predictions", "bias", &[c.vocab_size], first);
            return Head::MaskedLm { dense, norm, bias };
        }
        let samples = c.task == Task::SequenceClassification;
        let dense = samples.then(|| Linear::load(b, "pooler", "dense", [width, width], true));
        let out = Linear::load(b, "", "classifier", [c.num_labels, width], true);
        Head::Classifier { dense, out }
    }

    /// Runs the head and the loss on the last hidden states, the table of tokens and the labels.
    pub fn loss(
        &self,
        b: &'b Builder,
        c: &DebertaConfig,
        o: &GraphOptions,
        [hidden, tokens, labels]: [&Value<'b>; 3],
    ) -> Value<'b> {
        let rows = o.batch * o.seq_len;
        match self {
            Head::MaskedLm { dense, norm, bias } => {
                let logits = {
                    let x = {
                        let _transform = b.enter("cls.predictions.transform");
                        let projected = dense.run(b, hidden);
                        let active = activation(b, c.hidden_act, &projected);
                        drop(projected);
                        norm.run(b, &active)
                    };
                    let _decoder = b.enter("cls.predictions.decoder");
                    b.run(Op::Linear, &[&x, tokens, bias])
                };
                cross_entropy(b, &logits, labels, [rows, c.vocab_size])
            }
            Head::Classifier { dense: None, out } => {
                let dropped = b.dropout(hidden, c.hidden_dropout);
                let logits = out.run(b, &dropped);
                cross_entropy(b, &logits, labels, [rows, c.num_labels])
            }
            Head::Classifier { dense: Some(dense), out } => {
                let mut pooled = {
                    let _m = b.enter("pooler");
                    let mut first = {
                        let samples = masks::whole(b, hidden, 0);
                        b.run(Op::Select { dim: 1 }, &[&samples])
                    };
                    first = b.dropout(&first, c.pooler_dropout);
                    let projected = dense.run(b, &first);
                    activation(b, c.pooler_hidden_act, &projected)
                };
                pooled = b.dropout(&pooled, c.classifier_dropout);
                let logits = out.run(b, &pooled);
                if c.names_problem {
                    return classify::loss(b, o, c.problem, [&logits, labels], c.num_labels);
                }
                match c.problem {
                    Problem::Numbers => {
                        // logits.view(-1).to(labels.dtype)
                        let flat = b.view(&logits, &[-1]);
                        drop(logits);
                        let numbers = b.run(Op::ToLike, &[&flat, labels]);
                        drop(flat);
                        b.mark_logits(o.batch, 1);
                        b.run(Op::MseLoss, &[&numbers, labels])
                    }
                    _ => labelled(b, c, o, &logits, labels),
                }
            }
        }
    }
}

fn cross_entropy<'b>(
    b: &'b Builder,
    logits: &Value<'b>,
    labels: &Value<'b>,
    [rows, classes]: [u64; 2],
) -> Value<'b> {
    let flat = b.view(logits, &[-1, classes as i64]);
    let flat_labels = b.view(labels, &[-1]);
    b.mark_logits(rows, classes);
    b.run(Op::CrossEntropy, &[&flat, &flat_labels])
}

/// The loss of a classifier of samples whose `problem_type` is not said: those with a label are
/// picked first. All are taken to have one.
fn labelled<'b>(
    b: &'b Builder,
    c: &DebertaConfig,
    o: &GraphOptions,
    logits: &Value<'b>,
    labels: &Value<'b>,
) -> Value<'b> {
    let classes = c.num_labels as i64;
    // (labels >= 0).nonzero()
    let places = {
        let _has_label = b.fresh(&[o.batch], Dtype::Bool);
        b.fresh(&[o.batch, 1], Dtype::I64)
    };
    let picked = {
        let sizes = [o.batch as i64, classes].into_iter().collect();
        let index = b.run(Op::Expand { sizes }, &[&places]);
        b.run(Op::Gather, &[logits, &index])
    };
    let picked_labels = {
        let index = b.view(&places, &[-1]);
        b.run(Op::Gather, &[labels, &index])
    };
    let flat = b.view(&picked, &[-1, classes]);
    let upcast = b.run(Op::To { dtype: Dtype::F32 }, &[&flat]);
    drop(flat);
    cross_entropy(b, &upcast, &picked_labels, [o.batch, c.num_labels])
}
