//! T5, Flan-T5 and mT5: an encoder and a decoder with biases for relative positions.
//!
//! Source: transformers `models/{t5,mt5}/modeling_*.py` of 4.56.2 and 5.23.0.

mod attention;
mod bias;
mod layer;
mod norm;

use layer::{Biases, Block, BlockWeights, Source};
use norm::Norm;

use crate::model::bidirectional::{Reach, bidirectional};
use crate::model::builder::{Builder, Value};
use crate::model::config::{T5Config, T5Family};
use crate::model::graph::{Dtype, Graph, Op, ValueId};
use crate::model::masks;
use crate::model::options::{AttentionMask, GraphOptions};
use crate::model::seq2seq;
use crate::model::versions::{MASKS_FROM_LENGTHS, TRANSFORMERS_5};

/// Builds the forward pass with its loss.
pub fn build(c: &T5Config, o: &GraphOptions) -> Graph {
    let b = Builder::new();
    let loss = forward(&b, c, o);
    b.finish(loss)
}

/// The weights of an encoder or a decoder.
#[derive(Debug)]
struct StackWeights<'b> {
    name: &'static str,
    blocks: Vec<BlockWeights<'b>>,
    norm: Norm<'b>,
}

impl<'b> StackWeights<'b> {
    fn load(b: &'b Builder, c: &T5Config, name: &'static str, layers: u64) -> StackWeights<'b> {
        let decodes = name == "decoder";
        let load = |i| BlockWeights::load(b, c, &format!("{name}.block.{i}"), i == 0, decodes);
        let blocks = (0..layers).map(load).collect();
        StackWeights { name, blocks, norm: Norm::load(b, name, "final_layer_norm", c.d_model) }
    }
}

/// One run of an encoder or a decoder.
#[derive(Debug, Clone, Copy)]
struct Stack<'a, 'b> {
    c: &'a T5Config,
    /// The batch, with this stack's tokens.
    o: &'a GraphOptions,
    w: &'a StackWeights<'b>,
    /// The table of tokens.
    table: &'a Value<'b>,
}

fn forward(b: &Builder, c: &T5Config, o: &GraphOptions) -> ValueId {
    let table = b.parameter("shared", &[c.vocab_size, c.d_model]);
    let encoder = StackWeights::load(b, c, "encoder", c.num_layers);
    let decoder = StackWeights::load(b, c, "decoder", c.num_decoder_layers);
    // Transformers 5 ties them whatever config.json says.
    let ties_always = o.transformers >= TRANSFORMERS_5;
    let own_head =
        (!ties_always && !c.ties).then(|| b.parameter("lm_head", &[c.vocab_size, c.d_model]));
    let ids = b.batch(&[o.batch, o.seq_len], Dtype::I64);
    let mask = (o.attention_mask != AttentionMask::None)
        .then(|| b.batch(&[o.batch, o.seq_len], Dtype::I64));
    let labels = b.batch(&[o.batch, o.label_len], Dtype::I64);
    let read = Stack { c, o, w: &encoder, table: &table }.encode(b, &ids, mask.as_ref());
    let shifted = seq2seq::shifted_right(b, o);
    let target = seq2seq::of_labels(o);
    let mut out = {
        let stack = Stack { c, o: &target, w: &decoder, table: &table };
        stack.decode(b, &shifted, &read, o, mask.as_ref())
    };
    let scales = if ties_always { c.ties && c.family == T5Family::T5 } else { c.ties };
    let unscaled = scales.then(|| {
        let scaled = b.mul_number(&out);
        std::mem::replace(&mut out, scaled)
    });
    let logits = {
        let _m = b.enter("lm_head");
        b.run(Op::Linear, &[&out, own_head.as_ref().unwrap_or(&table)])
    };
    let loss = seq2seq::loss(b, o, &logits, &labels, c.vocab_size);
    // The decoder's output object holds what it returned.
    drop((logits, out, unscaled, shifted, read));
    loss.keep()
}

impl<'b> Stack<'_, 'b> {
    fn embedded(&self, b: &'b Builder, ids: &Value<'b>) -> Value<'b> {
        let _m = b.enter("embed_tokens");
        b.run(Op::Embedding, &[self.table, ids])
    }

    /// Runs the encoder.
    fn encode(&self, b: &'b Builder, ids: &Value<'b>, passed: Option<&Value<'b>>) -> Value<'b> {
        let o = self.o;
        let _m = b.enter(self.w.name);
        let embedded = self.embedded(b, ids);
        if o.transformers >= TRANSFORMERS_5 {
            let mask = bidirectional(b, o, o.seq_len, passed, Reach::All);
            return self.blocks(b, &embedded, mask.as_ref(), None, None);
        }
        let positions = masks::positions(b, o);
        let ones = passed.is_none().then(|| b.fresh(&[o.batch, o.seq_len], Dtype::F32));
        let given = passed.or(ones.as_ref()).expect("one of the two is there");
        let mask = seq2seq::masks::inverted(b, o, given);
        self.blocks(b, &embedded, Some(&mask), None, Some(&positions))
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
        let tokens = source.seq_len;
        if o.transformers >= TRANSFORMERS_5 {
            let positions = (o.transformers < MASKS_FROM_LENGTHS).then(|| masks::positions(b, o));
            let mask = masks::causal_mask_alone(b, o);
            let cross = bidirectional(b, source, o.seq_len, passed, Reach::All);
            let source = Source { hidden: read, tokens, mask: cross.as_ref() };
            return self.blocks(b, &embedded, mask.as_ref(), Some(source), positions.as_ref());
        }
        let positions = masks::positions(b, o);
        let _ones = b.fresh(&[o.batch, o.seq_len], Dtype::F32);
        let mask = seq2seq::masks::causal_with_positions(b, o);
        let ones = passed.is_none().then(|| b.fresh(&[o.batch, tokens], Dtype::I64));
        let given = passed.or(ones.as_ref()).expect("one of the two is there");
        let cross = seq2seq::masks::inverted(b, source, given);
        let source = Source { hidden: read, tokens, mask: Some(&cross) };
        self.blocks(b, &embedded, Some(&mask), Some(source), Some(&positions))
    }

    fn blocks(
        &self,
        b: &'b Builder,
        embedded: &Value<'b>,
        mask: Option<&Value<'b>>,
        source: Option<Source<'_, 'b>>,
        positions: Option<&Value<'b>>,
    ) -> Value<'b> {
        let mut hidden = {
            let _m = b.enter("dropout");
            b.dropout(embedded, self.c.dropout)
        };
        let mut biases = Biases::default();
        // What is passed to each block, read or not.
        let passed: Vec<&Value<'b>> = [mask, source.and_then(|source| source.mask), positions]
            .into_iter()
            .flatten()
            .collect();
        for (index, weights) in self.w.blocks.iter().enumerate() {
            let _m = b.enter(&format!("block.{index}"));
            let block = Block { c: self.c, o: self.o, w: weights, mask, source, positions };
            hidden = b.layer(&passed, || block.forward(b, &hidden, &mut biases));
        }
        let normed = self.w.norm.run(b, &hidden);
        drop(hidden);
        let _m = b.enter("dropout");
        b.dropout(&normed, self.c.dropout)
    }
}
