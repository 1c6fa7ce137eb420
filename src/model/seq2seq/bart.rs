//! BART: an encoder and a decoder with learned positions.
//!
//! Source: transformers `models/bart/modeling_bart.py` of 4.44.2 to 4.56.2 and 5.23.0.

use crate::model::bidirectional::{Reach, bidirectional};
use crate::model::blocks::norm::Norm;
use crate::model::builder::{Builder, Value};
use crate::model::config::BartConfig;
use crate::model::decoder::architecture::NormKind;
use crate::model::graph::{Dtype, Graph, Op, ValueId};
use crate::model::masks;
use crate::model::options::{Attention, AttentionMask, GraphOptions};
use crate::model::seq2seq;
use crate::model::seq2seq::layer::{Layer, LayerSizes, LayerWeights, Source, Style};
use crate::model::update_causal_mask::causal_alone;
use crate::model::versions::{BART_ATTENTION_INTERFACE, BART_HAS_CACHE_POSITIONS, TRANSFORMERS_5};

/// Builds the forward pass with its loss.
pub fn build(c: &BartConfig, o: &GraphOptions) -> Graph {
    let b = Builder::new();
    let loss = forward(&b, c, o);
    b.finish(loss)
}

/// The weights of an encoder or a decoder.
#[derive(Debug)]
struct StackWeights<'b> {
    name: &'static str,
    sizes: LayerSizes,
    positions: Value<'b>,
    layers: Vec<LayerWeights<'b>>,
    norm: Norm<'b>,
}

impl<'b> StackWeights<'b> {
    fn load(b: &'b Builder, c: &BartConfig, decodes: bool) -> StackWeights<'b> {
        let name = if decodes { "decoder" } else { "encoder" };
        let module = format!("model.{name}");
        let side = if decodes { c.decoder } else { c.encoder };
        let sizes = LayerSizes {
            style: Style::Bart,
            width: c.d_model,
            heads: side.heads,
            inner: side.ffn_dim,
            activation: c.activation,
            dropout: c.dropout,
            attention_dropout: c.attention_dropout,
            activation_dropout: c.activation_dropout,
        };
        let rows = c.max_position_embeddings + BartConfig::UNUSED_POSITIONS;
        let positions = b.parameter(&format!("{module}.embed_positions"), &[rows, c.d_model]);
        let load = |i| LayerWeights::load(b, &sizes, &format!("{module}.layers.{i}"), decodes);
        let layers = (0..side.layers).map(load).collect();
        let norm = Norm::load(b, NormKind::Layer, &module, "layernorm_embedding", c.d_model);
        StackWeights { name, sizes, positions, layers, norm }
    }
}

/// One run of an encoder or a decoder.
#[derive(Debug, Clone, Copy)]
struct Stack<'a, 'b> {
    /// The batch, with this stack's tokens.
    o: &'a GraphOptions,
    w: &'a StackWeights<'b>,
    /// The table of tokens.
    table: &'a Value<'b>,
}

fn forward(b: &Builder, c: &BartConfig, o: &GraphOptions) -> ValueId {
    let table = b.parameter("model.shared", &[c.vocab_size, c.d_model]);
    let encoder = StackWeights::load(b, c, false);
    let decoder = StackWeights::load(b, c, true);
    let bias = b.buffer("", &[1, c.vocab_size], Dtype::Model);
    let ids = b.batch(&[o.batch, o.seq_len], Dtype::I64);
    let mask = (o.attention_mask != AttentionMask::None)
        .then(|| b.batch(&[o.batch, o.seq_len], Dtype::I64));
    let labels = b.batch(&[o.batch, o.label_len], Dtype::I64);
    let shifted = seq2seq::shifted_right(b, o);
    let (read, out) = {
        let _m = b.enter("model");
        let read = Stack { o, w: &encoder, table: &table }.encode(b, &ids, mask.as_ref());
        // The decoder's own mask is of ones, whatever is padding in what was read.
        let target = GraphOptions { attention_mask: AttentionMask::Ones, ..seq2seq::of_labels(o) };
        let stack = Stack { o: &target, w: &decoder, table: &table };
        let out = stack.decode(b, &shifted, &read, o, mask.as_ref());
        (read, out)
    };
    let mut logits = {
        let _m = b.enter("lm_head");
        b.run(Op::Linear, &[&out, &table])
    };
    logits = b.add(&logits, &bias);
    let loss = seq2seq::loss(b, o, &logits, &labels, c.vocab_size);
    drop((logits, out, read, shifted));
    loss.keep()
}

impl<'b> Stack<'_, 'b> {
    /// `embed_tokens(ids) * embed_scale`
    fn embedded(&self, b: &'b Builder, ids: &Value<'b>) -> Value<'b> {
        let _m = b.enter("embed_tokens");
        let rows = b.run(Op::Embedding, &[self.table, ids]);
        b.mul_number(&rows)
    }

    /// Adds positions, norms and drops out.
    fn placed(&self, b: &'b Builder, embedded: &Value<'b>, positions: &Value<'b>) -> Value<'b> {
        let sum = b.add(embedded, positions);
        let normed = self.w.norm.run(b, &sum);
        drop(sum);
        b.dropout(&normed, self.w.sizes.dropout)
    }

    fn encode(&self, b: &'b Builder, ids: &Value<'b>, passed: Option<&Value<'b>>) -> Value<'b> {
        let o = self.o;
        let _m = b.enter(self.w.name);
        let embedded = self.embedded(b, ids);
        let positions = {
            let _m = b.enter("embed_positions");
            // arange(seq_len).expand(batch, -1) + offset
            let _arange = b.fresh(&[o.seq_len], Dtype::I64);
            let shifted = b.fresh(&[o.batch, o.seq_len], Dtype::I64);
            b.run(Op::Embedding, &[&self.w.positions, &shifted])
        };
        let hidden = self.placed(b, &embedded, &positions);
        let mask = match o.transformers >= TRANSFORMERS_5 {
            true => bidirectional(b, o, o.seq_len, passed, Reach::All),
            false => passed.and_then(|_| seq2seq::masks::of_keys(b, o, o.seq_len)),
        };
        let passed: Vec<&Value<'b>> = mask.iter().collect();
        self.layers(b, hidden, mask.as_ref(), None, &passed)
    }

    /// Runs the decoder on what the encoder read; `source` are the encoder's options.
    fn decode(
        &self,
        b: &'b Builder,
        ids: &Value<'b>,
        read: &Value<'b>,
        source: &GraphOptions,
        passed: Option<&Value<'b>>,
    ) -> Value<'b> {
        let o = self.o;
        let _m = b.enter(self.w.name);
        let embedded = self.embedded(b, ids);
        let of_5 = o.transformers >= TRANSFORMERS_5;
        let has_places = o.transformers >= BART_HAS_CACHE_POSITIONS;
        let places = has_places.then(|| masks::positions(b, o));
        let ones = has_places.then(|| b.fresh(&[o.batch, o.seq_len], Dtype::F32));
        let mask = match (&ones, o.attention) {
            (Some(ones), _) if of_5 => masks::causal_mask(b, o, Some(ones), None),
            (Some(_), _) => causal_mask_of_4(b, o),
            (None, Attention::Eager) => causal_alone(b, o),
            (None, _) => None,
        };
        // The mask takes their name, but in the code before.
        let _ones = ones.filter(|_| o.transformers < BART_ATTENTION_INTERFACE);
        let cross = match of_5 {
            true => bidirectional(b, source, o.seq_len, passed, Reach::All),
            false => passed.and_then(|_| seq2seq::masks::of_keys(b, source, o.seq_len)),
        };
        let positions = {
            let _m = b.enter("embed_positions");
            let _arange = (!has_places).then(|| b.fresh(&[o.seq_len], Dtype::I64));
            let samples = if has_places { 1 } else { o.batch };
            let shifted = b.fresh(&[samples, o.seq_len], Dtype::I64);
            b.run(Op::Embedding, &[&self.w.positions, &shifted])
        };
        let hidden = self.placed(b, &embedded, &positions);
        // Transformers 4 passes the positions to each layer.
        let unread = places.as_ref().filter(|_| !of_5);
        let passed: Vec<&Value<'b>> =
            mask.iter().chain([read]).chain(cross.iter()).chain(unread).collect();
        let source = Source { hidden: read, tokens: source.seq_len, mask: cross.as_ref() };
        self.layers(b, hidden, mask.as_ref(), Some(source), &passed)
    }

    fn layers(
        &self,
        b: &'b Builder,
        mut hidden: Value<'b>,
        mask: Option<&Value<'b>>,
        source: Option<Source<'_, 'b>>,
        passed: &[&Value<'b>],
    ) -> Value<'b> {
        for (index, w) in self.w.layers.iter().enumerate() {
            let _m = b.enter(&format!("layers.{index}"));
            let layer = Layer { sizes: &self.w.sizes, o: self.o, w, mask, source };
            hidden = b.layer(passed, || layer.forward(b, &hidden).0);
        }
        hidden
    }
}

/// `_update_causal_mask` of a mask of ones: none for sdpa, which is asked to be causal.
fn causal_mask_of_4<'b>(b: &'b Builder, o: &GraphOptions) -> Option<Value<'b>> {
    if o.attention == Attention::Eager {
        return Some(seq2seq::masks::causal_with_positions(b, o));
    }
    let is_one = b.fresh(&[o.batch, o.seq_len], Dtype::Bool);
    drop(b.run(Op::AllTrue, &[&is_one]));
    None
}
