//! Heads and their losses.

use crate::model::blocks::activation::activation;
use crate::model::blocks::linear::Linear;
use crate::model::blocks::norm::Norm;
use crate::model::builder::{Builder, Value};
use crate::model::classify;
use crate::model::config::{Activation, EncoderConfig, EncoderFamily, Task};
use crate::model::decoder::architecture::NormKind;
use crate::model::graph::Op;
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
        /// The table, where the head loads it.
        table: Option<Value<'b>>,
        /// The bias behind.
        bias: Value<'b>,
    },
    /// Scores for each label, of samples (`dense`: what the first token goes through) or tokens.
    Classifier {
        /// The projection before, where samples have labels.
        dense: Option<Linear<'b>>,
        /// The projection to labels.
        out: Linear<'b>,
    },
}

impl<'b> Head<'b> {
    /// Loads a head's weights, with the table of tokens if it comes before the embeddings.
    pub fn load(b: &'b Builder, c: &EncoderConfig, with_table: bool) -> Head<'b> {
        match c.task {
            Task::SequenceClassification => {
                let (width, labels) = (c.hidden_size, c.num_labels);
                let [dense, out] = match c.family {
                    EncoderFamily::Bert => [("bert.pooler", "dense"), ("", "classifier")],
                    EncoderFamily::Roberta | EncoderFamily::XlmRoberta => {
                        [("classifier", "dense"), ("classifier", "out_proj")]
                    }
                    EncoderFamily::DistilBert => [("", "pre_classifier"), ("", "classifier")],
                };
                let dense = Linear::load(b, dense.0, dense.1, [width, width], true);
                let out = Linear::load(b, out.0, out.1, [labels, width], true);
                Head::Classifier { dense: Some(dense), out }
            }
            Task::TokenClassification => {
                let sizes = [c.num_labels, c.hidden_size];
                let out = Linear::load(b, "", "classifier", sizes, true);
                Head::Classifier { dense: None, out }
            }
            _ => masked_lm(b, c, with_table),
        }
    }

    /// Returns the table of tokens, if it was loaded here.
    pub fn table(&self) -> Option<&Value<'b>> {
        match self {
            Head::MaskedLm { table, .. } => table.as_ref(),
            Head::Classifier { .. } => None,
        }
    }

    /// BERT's pooler, which is a part of the encoder.
    pub fn pooled(
        &self,
        b: &'b Builder,
        c: &EncoderConfig,
        hidden: &Value<'b>,
    ) -> Option<Value<'b>> {
        match self {
            Head::Classifier { dense: Some(dense), .. } if c.family == EncoderFamily::Bert => {
                let _m = b.enter("pooler");
                let first = first_token(b, hidden);
                let projected = dense.run(b, &first);
                let _m = b.enter("activation");
                Some(b.run(Op::Tanh, &[&projected]))
            }
            _ => None,
        }
    }

    /// Runs the head and the loss; `tokens` is the table of tokens.
    pub fn loss(
        &self,
        b: &'b Builder,
        c: &EncoderConfig,
        o: &GraphOptions,
        x: &Ends<'_, 'b>,
    ) -> Value<'b> {
        if c.task == Task::SequenceClassification {
            let logits = self.logits(b, c, x);
            return classify::loss(b, o, c.problem, [&logits, x.labels], c.num_labels);
        }
        let (rows, classes) = match c.task {
            Task::TokenClassification => (o.batch * o.seq_len, c.num_labels),
            _ => (o.batch * o.seq_len, c.vocab_size),
        };
        let logits = self.logits(b, c, x);
        let flat = b.view(&logits, &[-1, classes as i64]);
        let labels = b.view(x.labels, &[-1]);
        b.mark_logits(rows, classes);
        b.run(Op::CrossEntropy, &[&flat, &labels])
    }

    fn logits(&self, b: &'b Builder, c: &EncoderConfig, x: &Ends<'_, 'b>) -> Value<'b> {
        match self {
            Head::MaskedLm { dense, norm, bias, .. } => {
                let kind = match c.family {
                    EncoderFamily::Roberta | EncoderFamily::XlmRoberta => Activation::Gelu,
                    EncoderFamily::Bert | EncoderFamily::DistilBert => c.hidden_act,
                };
                let (transform, decoder) = match c.family {
                    EncoderFamily::Bert => {
                        (Some("cls.predictions.transform"), "cls.predictions.decoder")
                    }
                    EncoderFamily::Roberta | EncoderFamily::XlmRoberta => {
                        (Some("lm_head"), "lm_head.decoder")
                    }
                    EncoderFamily::DistilBert => (None, "vocab_projector"),
                };
                let normed = {
                    let _m = transform.map(|name| b.enter(name));
                    let projected = dense.run(b, x.hidden);
                    let active = activation(b, kind, &projected);
                    drop(projected);
                    norm.run(b, &active)
                };
                let _m = b.enter(decoder);
                b.run(Op::Linear, &[&normed, x.tokens, bias])
            }
            Head::Classifier { dense: None, out } => {
                let dropped = b.dropout(x.hidden, c.token_dropout);
                out.run(b, &dropped)
            }
            Head::Classifier { dense: Some(dense), out } => match (c.family, x.pooled) {
                (EncoderFamily::Bert, Some(pooled)) => {
                    let dropped = b.dropout(pooled, c.sequence_dropout);
                    out.run(b, &dropped)
                }
                (EncoderFamily::DistilBert, _) => {
                    let mut pooled = first_token(b, x.hidden);
                    pooled = dense.run(b, &pooled);
                    pooled = b.run(Op::Relu, &[&pooled]);
                    pooled = b.dropout(&pooled, c.sequence_dropout);
                    out.run(b, &pooled)
                }
                _ => {
                    let _m = b.enter("classifier");
                    let first = first_token(b, x.hidden);
                    let mut pooled = b.run(Op::All { dim: 1 }, &[&first]);
                    drop(first);
                    pooled = b.dropout(&pooled, c.sequence_dropout);
                    pooled = dense.run(b, &pooled);
                    pooled = b.run(Op::Tanh, &[&pooled]);
                    pooled = b.dropout(&pooled, c.sequence_dropout);
                    out.run(b, &pooled)
                }
            },
        }
    }
}

/// What a head reads.
#[derive(Debug)]
pub struct Ends<'a, 'b> {
    /// The last hidden states.
    pub hidden: &'a Value<'b>,
    /// BERT's pooled first token.
    pub pooled: Option<&'a Value<'b>>,
    /// The table of tokens.
    pub tokens: &'a Value<'b>,
    /// The labels.
    pub labels: &'a Value<'b>,
}

/// `hidden[:, 0]`
fn first_token<'b>(b: &'b Builder, hidden: &Value<'b>) -> Value<'b> {
    let all = b.run(Op::All { dim: 0 }, &[hidden]);
    b.run(Op::Select { dim: 1 }, &[&all])
}

fn masked_lm<'b>(b: &'b Builder, c: &EncoderConfig, with_table: bool) -> Head<'b> {
    let width = c.hidden_size;
    let names = match c.family {
        EncoderFamily::Bert => {
            let head = "cls.predictions";
            let transform = "cls.predictions.transform";
            [head, transform, "dense", transform, "LayerNorm", "cls.predictions.decoder"]
        }
        EncoderFamily::Roberta | EncoderFamily::XlmRoberta => {
            ["lm_head", "lm_head", "dense", "lm_head", "layer_norm", "lm_head.decoder"]
        }
        EncoderFamily::DistilBert => {
            ["", "", "vocab_transform", "", "vocab_layer_norm", "vocab_projector"]
        }
    };
    let [own, dense_parent, dense, norm_parent, norm, decoder] = names;
    let dense = Linear::load(b, dense_parent, dense, [width, width], true);
    let norm = Norm::load(b, NormKind::Layer, norm_parent, norm, width);
    let table = with_table.then(|| b.parameter(decoder, &[c.vocab_size, width]));
    let bias = match c.family {
        EncoderFamily::DistilBert => b.named_parameter(decoder, "bias", &[c.vocab_size]),
        // The decoder's bias is the head's own: moved with the decoder, listed before all of it.
        _ => b.own_parameter(own, "bias", &[c.vocab_size], dense.weight()),
    };
    Head::MaskedLm { dense, norm, table, bias }
}
