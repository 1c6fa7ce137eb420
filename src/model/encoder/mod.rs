//! Encoders with learned positions: embeddings, layers with norms behind, a head and its loss.
//!
//! Source: transformers `models/{bert,roberta,xlm_roberta,distilbert}/modeling_*.py` of 4.56.2 and
//! 5.23.0.

mod attention;
mod embeddings;
mod head;
mod layer;
mod masks;

pub use masks::look_at_both_ends;

use embeddings::Embeddings;
use head::{Ends, Head};
use layer::{Layer, LayerWeights};

use crate::model::builder::{Builder, Value};
use crate::model::classify;
use crate::model::config::{EncoderConfig, EncoderFamily, Task};
use crate::model::graph::{Dtype, Graph, ValueId};
use crate::model::options::{AttentionMask, GraphOptions};
use crate::model::versions::{MASKS_FROM_LENGTHS, TRANSFORMERS_5};

/// Builds the forward pass with its loss.
pub fn build(c: &EncoderConfig, o: &GraphOptions) -> Graph {
    let b = Builder::new();
    let loss = forward(&b, c, o);
    b.finish(loss)
}

/// The attribute of the class with a head that holds the encoder.
const fn encoder_name(family: EncoderFamily) -> &'static str {
    match family {
        EncoderFamily::Bert => "bert",
        EncoderFamily::Roberta | EncoderFamily::XlmRoberta => "roberta",
        EncoderFamily::DistilBert => "distilbert",
    }
}

/// The path from the encoder to the module that holds the layers.
const fn stack_name(family: EncoderFamily) -> &'static str {
    match family {
        EncoderFamily::DistilBert => "transformer",
        _ => "encoder",
    }
}

struct Weights<'b> {
    embeddings: Embeddings<'b>,
    layers: Vec<LayerWeights<'b>>,
    head: Head<'b>,
}

impl<'b> Weights<'b> {
    /// Loads what is there in the order of its making: from transformers 5 on, XLM-RoBERTa makes
    /// its heads first.
    fn load(b: &'b Builder, c: &EncoderConfig, o: &GraphOptions) -> Weights<'b> {
        let head_first = c.family == EncoderFamily::XlmRoberta && o.transformers >= TRANSFORMERS_5;
        let root = encoder_name(c.family);
        let early = head_first.then(|| Head::load(b, c, true));
        let has_table = early.as_ref().is_some_and(|head| head.table().is_some());
        let embeddings = Embeddings::load(b, c, o, root, has_table);
        let stack = format!("{root}.{}", stack_name(c.family));
        let layers = (0..c.num_hidden_layers)
            .map(|i| LayerWeights::load(b, c, &format!("{stack}.layer.{i}")))
            .collect();
        let head = early.unwrap_or_else(|| Head::load(b, c, false));
        Weights { embeddings, layers, head }
    }

    /// Returns the table of tokens.
    fn tokens(&self) -> &Value<'b> {
        let loaded = self.embeddings.tokens().or(self.head.table());
        loaded.expect("what the head has not loaded the embeddings have")
    }
}

fn forward(b: &Builder, c: &EncoderConfig, o: &GraphOptions) -> ValueId {
    let w = Weights::load(b, c, o);
    let ids = b.batch(&[o.batch, o.seq_len], Dtype::I64);
    let mask = (o.attention_mask != AttentionMask::None)
        .then(|| b.batch(&[o.batch, o.seq_len], Dtype::I64));
    let labels = match c.task {
        Task::SequenceClassification => classify::labels(b, o, c.problem, c.num_labels),
        _ => b.batch(&[o.batch, o.seq_len], Dtype::I64),
    };
    let (hidden, pooled) = {
        let _model = b.enter(encoder_name(c.family));
        let (hidden, _named) = encoder(b, c, o, &w, &ids, mask.as_ref());
        let pooled = w.head.pooled(b, c, &hidden);
        (hidden, pooled)
    };
    let ends =
        Ends { hidden: &hidden, pooled: pooled.as_ref(), tokens: w.tokens(), labels: &labels };
    w.head.loss(b, c, o, &ends).keep()
}

/// Returns the last layer's result, and what else the model's function has names for until it returns.
fn encoder<'b>(
    b: &'b Builder,
    c: &EncoderConfig,
    o: &GraphOptions,
    w: &Weights<'b>,
    ids: &Value<'b>,
    mask: Option<&Value<'b>>,
) -> (Value<'b>, Vec<Value<'b>>) {
    masks::look_for_padding(b, o, mask);
    let makes_positions = c.family != EncoderFamily::DistilBert
        && (TRANSFORMERS_5..MASKS_FROM_LENGTHS).contains(&o.transformers);
    let positions = makes_positions.then(|| b.fresh(&[o.seq_len], Dtype::I64));
    let embedded = {
        let _m = b.enter("embeddings");
        w.embeddings.run(b, c, o, ids, w.tokens())
    };
    let masks = match c.family {
        EncoderFamily::DistilBert => masks::of_distilbert(b, o, mask),
        _ => masks::of_bert(b, o, mask),
    };
    let _stack = b.enter(stack_name(c.family));
    let mut hidden: Option<Value<'b>> = None;
    // Until transformers 5 a layer returned its probabilities too: they go when the next returns.
    let mut returned: Option<Value<'b>> = None;
    for (index, weights) in w.layers.iter().enumerate() {
        let _m = b.enter(&format!("layer.{index}"));
        let layer = Layer { c, o, w: weights, mask: masks.of_layers() };
        let mut probabilities = None;
        let arguments: Vec<&Value<'b>> = positions.iter().collect();
        let out = b.layer(&arguments, || {
            let outputs = layer.forward(b, hidden.as_ref().unwrap_or(&embedded));
            probabilities = outputs.probabilities;
            outputs.hidden
        });
        drop(std::mem::replace(&mut returned, probabilities));
        hidden = Some(out);
    }
    match hidden {
        Some(hidden) => (hidden, positions.into_iter().chain([embedded]).collect()),
        None => (embedded, positions.into_iter().collect()),
    }
}
