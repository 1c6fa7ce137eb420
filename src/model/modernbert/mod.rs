//! ModernBERT: an encoder with rotary embeddings, most of whose layers see a window alone.
//!
//! Source: transformers `models/modernbert/modeling_modernbert.py` of 4.56.2, 5.0.0 (without the package
//! flash-attn, and with `reference_compile` off) and 5.23.0.

mod head;
mod layer;
mod masks;

use head::Head;
use layer::{Layer, LayerWeights};
use masks::Masks;

use crate::model::blocks::norm::Norm;
use crate::model::blocks::rotary::{self, Table};
use crate::model::builder::{Builder, Value};
use crate::model::classify;
use crate::model::config::{ModernBertConfig, Task};
use crate::model::encoder::look_at_both_ends;
use crate::model::graph::{Dtype, Graph, Op, ValueId};
use crate::model::options::{AttentionMask, GraphOptions};
use crate::model::versions::{MODERNBERT_AS_OTHERS, TRANSFORMERS_5};

/// Builds the forward pass with its loss.
pub fn build(c: &ModernBertConfig, o: &GraphOptions) -> Graph {
    let b = Builder::new();
    let loss = forward(&b, c, o);
    b.finish(loss)
}

struct Weights<'b> {
    tokens: Value<'b>,
    norm: Norm<'b>,
    layers: Vec<LayerWeights<'b>>,
    last_norm: Norm<'b>,
    /// Frequencies of full and of local layers, where the model has them.
    inv_freq: Vec<Value<'b>>,
    head: Head<'b>,
}

/// Whether there are layers that see all tokens, and such that see a window: each has its tables.
fn layer_kinds(c: &ModernBertConfig) -> Vec<bool> {
    let has = |local| (0..c.num_hidden_layers).any(|layer| c.is_local(layer) == local);
    [false, true].into_iter().filter(|&local| has(local)).collect()
}

impl<'b> Weights<'b> {
    fn load(b: &'b Builder, c: &ModernBertConfig, o: &GraphOptions) -> Weights<'b> {
        let width = c.hidden_size;
        let tokens = b.parameter("model.embeddings.tok_embeddings", &[c.vocab_size, width]);
        let norm = Norm::load_layer_norm(b, "model.embeddings", "norm", width, c.norm_bias);
        let layers = (0..c.num_hidden_layers)
            .map(|index| LayerWeights::load(b, c, o, &format!("model.layers.{index}"), index))
            .collect();
        let last_norm = Norm::load_layer_norm(b, "model", "final_norm", width, c.norm_bias);
        let kinds = if o.transformers >= TRANSFORMERS_5 { layer_kinds(c) } else { Vec::new() };
        let buffer = || b.buffer("model.rotary_emb", &[c.head_dim() / 2], Dtype::F32);
        // The second is `original_inv_freq`.
        let inv_freq = kinds.iter().map(|_| [buffer(), buffer()]).map(|[first, _]| first).collect();
        let head = Head::load(b, c);
        Weights { tokens, norm, layers, last_norm, inv_freq, head }
    }
}

fn forward(b: &Builder, c: &ModernBertConfig, o: &GraphOptions) -> ValueId {
    let w = Weights::load(b, c, o);
    let ids = b.batch(&[o.batch, o.seq_len], Dtype::I64);
    let passed = (o.attention_mask != AttentionMask::None)
        .then(|| b.batch(&[o.batch, o.seq_len], Dtype::I64));
    let labels = match c.task {
        Task::SequenceClassification => classify::labels(b, o, c.problem, c.num_labels),
        _ => b.batch(&[o.batch, o.seq_len], Dtype::I64),
    };
    let makes_mask =
        c.task == Task::SequenceClassification && o.transformers < MODERNBERT_AS_OTHERS;
    // A classifier of samples looked for padding and made a mask itself.
    let ones = (makes_mask && passed.is_none()).then(|| {
        look_at_both_ends(b, o);
        b.fresh(&[o.batch, o.seq_len], Dtype::Bool)
    });
    let passed = passed.or(ones);
    let hidden = {
        let _model = b.enter("model");
        encoder(b, c, o, &w, &ids, passed.as_ref())
    };
    w.head.loss(b, c, o, [&hidden, &w.tokens, &labels], passed.as_ref()).keep()
}

fn encoder<'b>(
    b: &'b Builder,
    c: &ModernBertConfig,
    o: &GraphOptions,
    w: &Weights<'b>,
    ids: &Value<'b>,
    passed: Option<&Value<'b>>,
) -> Value<'b> {
    let as_others = o.transformers >= MODERNBERT_AS_OTHERS;
    let ones = (!as_others && passed.is_none()).then(|| {
        look_at_both_ends(b, o);
        b.fresh(&[o.batch, o.seq_len], Dtype::Bool)
    });
    let positions = b.fresh(&[o.seq_len], Dtype::I64);
    let masks_first = (!as_others).then(|| Masks::new(b, c, o, passed));
    drop(ones);
    let embedded = {
        let _m = b.enter("embeddings");
        let rows = {
            let _m = b.enter("tok_embeddings");
            b.run(Op::Embedding, &[&w.tokens, ids])
        };
        let normed = w.norm.run(b, &rows);
        drop(rows);
        b.dropout(&normed, c.embedding_dropout)
    };
    let masks = masks_first.unwrap_or_else(|| Masks::new(b, c, o, passed));
    let kinds = layer_kinds(c);
    let kind_of = |layer| kinds.iter().position(|&local| local == c.is_local(layer));
    let mut tables: Vec<Option<Table<'b>>> = kinds.iter().map(|_| None).collect();
    // Once for each kind of layer; in 5.0 once for each layer, in place of that of its kind before.
    let each = if as_others { kinds.len() } else { w.layers.len() };
    for at in 0..each {
        let kind = if as_others { Some(at) } else { kind_of(at as u64) };
        if let Some((kind, inv_freq)) = kind.and_then(|at| Some((at, w.inv_freq.get(at)?))) {
            let _m = b.enter("rotary_emb");
            tables[kind] = Some(rotary::table(b, o, c.head_dim(), inv_freq, Dtype::Model));
        }
    }
    let mut first = Some(embedded);
    let mut hidden: Option<Value<'b>> = None;
    for (index, weights) in (0..).zip(&w.layers) {
        let _m = b.enter(&format!("layers.{index}"));
        let is_local = c.is_local(index);
        let table = kind_of(index).and_then(|at| tables[at].as_ref());
        let mask = masks.of_layer(is_local);
        let arguments: Vec<&Value<'b>> = match as_others {
            true => Vec::new(),
            false => masks.both().chain([&positions]).collect(),
        };
        let layer = Layer { c, o, w: weights, table, mask, passed: &arguments };
        let out = {
            let input = hidden.as_ref().or(first.as_ref()).expect("embedded or made by a layer");
            b.layer(&arguments, || layer.forward(b, input))
        };
        hidden = Some(out);
        // The embeddings stay among the arguments of the masks, where those follow them.
        first = first.filter(|_| as_others);
    }
    let last = hidden.as_ref().or(first.as_ref()).expect("embedded or made by a layer");
    w.last_norm.run(b, last)
}
