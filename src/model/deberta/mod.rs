//! DeBERTa-v2 and v3: an encoder whose attention has scores of content and of distance.
//!
//! Source: transformers `models/deberta_v2/modeling_deberta_v2.py` of 4.56.2 and 5.23.0.

mod attention;
mod convolution;
mod head;
mod layer;
mod positions;

use attention::Disentangled;
use convolution::ConvLayer;
use head::Head;
use layer::LayerWeights;

use crate::model::blocks::norm::Norm;
use crate::model::builder::{Builder, Value};
use crate::model::classify;
use crate::model::config::{DebertaConfig, Task};
use crate::model::decoder::architecture::NormKind;
use crate::model::encoder::look_at_both_ends;
use crate::model::graph::{Dtype, Graph, Op, ValueId};
use crate::model::options::{AttentionMask, GraphOptions};

/// Builds the forward pass with its loss.
pub fn build(c: &DebertaConfig, o: &GraphOptions) -> Graph {
    let b = Builder::new();
    let loss = forward(&b, c, o);
    b.finish(loss)
}

/// What comes before the layers.
struct Embeddings<'b> {
    tokens: Value<'b>,
    positions: Option<Value<'b>>,
    segments: Option<Value<'b>>,
    norm: Norm<'b>,
    position_ids: Value<'b>,
}

struct Weights<'b> {
    embeddings: Embeddings<'b>,
    layers: Vec<LayerWeights<'b>>,
    distances: Option<Value<'b>>,
    distance_norm: Option<Norm<'b>>,
    convolution: Option<ConvLayer<'b>>,
    head: Head<'b>,
}

impl<'b> Weights<'b> {
    fn load(b: &'b Builder, c: &DebertaConfig) -> Weights<'b> {
        let width = c.hidden_size;
        let root = "deberta.embeddings";
        let table = |name: &str, rows| b.parameter(&format!("{root}.{name}"), &[rows, width]);
        let norm = |parent: &str| Norm::load(b, NormKind::Layer, parent, "LayerNorm", width);
        let longest = c.max_position_embeddings;
        let embeddings = Embeddings {
            tokens: table("word_embeddings", c.vocab_size),
            positions: c.position_biased_input.then(|| table("position_embeddings", longest)),
            segments: (c.type_vocab_size > 0)
                .then(|| table("token_type_embeddings", c.type_vocab_size)),
            norm: norm(root),
            position_ids: b.buffer(root, &[1, longest], Dtype::I64),
        };
        let encoder = "deberta.encoder";
        let layers = (0..c.num_hidden_layers)
            .map(|index| LayerWeights::load(b, c, &format!("{encoder}.layer.{index}")))
            .collect();
        let distances = c.relative.map(|relative| {
            b.parameter(&format!("{encoder}.rel_embeddings"), &[2 * relative.distances, width])
        });
        let distance_norm = c.norms_distances.then(|| norm(encoder));
        let convolution = ConvLayer::load(b, c);
        let head = Head::load(b, c);
        Weights { embeddings, layers, distances, distance_norm, convolution, head }
    }
}

fn forward(b: &Builder, c: &DebertaConfig, o: &GraphOptions) -> ValueId {
    let w = Weights::load(b, c);
    let ids = b.batch(&[o.batch, o.seq_len], Dtype::I64);
    let passed = (o.attention_mask != AttentionMask::None)
        .then(|| b.batch(&[o.batch, o.seq_len], Dtype::I64));
    let labels = match c.task {
        Task::SequenceClassification => classify::labels(b, o, c.problem, c.num_labels),
        _ => b.batch(&[o.batch, o.seq_len], Dtype::I64),
    };
    let hidden = {
        let _model = b.enter("deberta");
        let ones = passed.is_none().then(|| {
            look_at_both_ends(b, o);
            b.fresh(&[o.batch, o.seq_len], Dtype::F32)
        });
        let mask = passed.as_ref().or(ones.as_ref()).expect("passed or made");
        let segment_ids = b.fresh(&[o.batch, o.seq_len], Dtype::I64);
        let embedded = embed(b, c, o, &w.embeddings, [&ids, mask, &segment_ids]);
        let _m = b.enter("encoder");
        encoder(b, c, o, &w, mask, embedded)
    };
    w.head.loss(b, c, o, [&hidden, &w.embeddings.tokens, &labels]).keep()
}

fn embed<'b>(
    b: &'b Builder,
    c: &DebertaConfig,
    o: &GraphOptions,
    w: &Embeddings<'b>,
    [ids, mask, segment_ids]: [&Value<'b>; 3],
) -> Value<'b> {
    let _m = b.enter("embeddings");
    let rows = {
        let _m = b.enter("word_embeddings");
        b.run(Op::Embedding, &[&w.tokens, ids])
    };
    let positions = match &w.positions {
        Some(table) => {
            let end = o.seq_len as i64;
            let ids = b.run(Op::Slice { dim: 1, start: 0, end }, &[&w.position_ids]);
            b.run(Op::Embedding, &[table, &ids])
        }
        // Zeros that nobody adds.
        None => b.fresh(&[o.batch, o.seq_len, c.hidden_size], Dtype::Model),
    };
    let mut sum = w.positions.as_ref().map(|_| b.add(&rows, &positions));
    let segments = w.segments.as_ref().map(|table| b.run(Op::Embedding, &[table, segment_ids]));
    if let Some(segments) = &segments {
        sum = Some(b.add(sum.as_ref().unwrap_or(&rows), segments));
    }
    let normed = w.norm.run(b, sum.as_ref().unwrap_or(&rows));
    drop(sum);
    let column = b.run(Op::Unsqueeze { dim: 2 }, &[mask]);
    let column = b.run(Op::ToLike, &[&column, &normed]);
    let masked = b.mul(&normed, &column);
    drop(normed);
    let dropped = b.dropout(&masked, c.hidden_dropout);
    drop((rows, positions, segments, column));
    dropped
}

fn encoder<'b>(
    b: &'b Builder,
    c: &DebertaConfig,
    o: &GraphOptions,
    w: &Weights<'b>,
    mask: &Value<'b>,
    embedded: Value<'b>,
) -> Value<'b> {
    let pairs = positions::pairs(b, mask);
    let distances = c.relative.map(|it| positions::distances(b, o, it.buckets_distances));
    let normed = match (&w.distance_norm, &w.distances) {
        (Some(norm), Some(distances)) => Some(norm.run(b, distances)),
        _ => None,
    };
    let relative = c.relative.zip(normed.as_ref().or(w.distances.as_ref()));
    let passed: Vec<&Value<'b>> = [&pairs].into_iter().chain(&distances).collect();
    // All are returned, and held until the model returns.
    let mut hidden = vec![embedded];
    for (index, weights) in w.layers.iter().enumerate() {
        let _m = b.enter(&format!("layer.{index}"));
        let projections = weights.projections();
        let attention = Disentangled { c, o, w: projections, relative, passed: &passed };
        let input = hidden.last().expect("the embeddings are the first");
        let out = b.layer(&passed, || weights.forward(b, &attention, input));
        let convolved = match (index, &w.convolution) {
            (0, Some(convolution)) => Some(convolution.run(b, c, o, [input, &out, mask])),
            _ => None,
        };
        hidden.push(convolved.unwrap_or(out));
    }
    hidden.pop().expect("the embeddings are the first")
}
