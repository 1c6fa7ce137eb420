//! Whisper: an encoder of audio behind two convolutions, and a decoder of text.
//!
//! Source: transformers `models/whisper/modeling_whisper.py` of 4.46.3 to 4.56.2 and 5.23.0.

use crate::model::blocks::norm::Norm;
use crate::model::builder::{Builder, Value};
use crate::model::config::{Side, WhisperConfig};
use crate::model::decoder::architecture::NormKind;
use crate::model::graph::{Conv2d, Dtype, Graph, Op, ValueId};
use crate::model::masks;
use crate::model::options::{AttentionMask, GraphOptions};
use crate::model::seq2seq;
use crate::model::seq2seq::layer::{Layer, LayerSizes, LayerWeights, Source, Style};
use crate::model::update_causal_mask::{Drawn, Windows, update_causal_mask};
use crate::model::versions::{
    MASKS_BY_FUNCTION, TRANSFORMERS_5, WHISPER_EMBEDS_PLACES, WHISPER_REPEATS_POSITIONS,
};

/// Builds the forward pass with its loss.
pub fn build(c: &WhisperConfig, o: &GraphOptions) -> Graph {
    let b = Builder::new();
    let loss = forward(&b, c, o);
    b.finish(loss)
}

/// A convolution along time, three frames wide: of an image of one row, as PyTorch runs it.
#[derive(Debug)]
struct Convolution<'b> {
    name: &'static str,
    how: Conv2d,
    weight: Value<'b>,
    bias: Value<'b>,
}

impl<'b> Convolution<'b> {
    fn load(b: &'b Builder, name: &'static str, sizes: [u64; 2], stride: u64) -> Self {
        let module = format!("model.encoder.{name}");
        let weight = b.parameter(&module, &[sizes[0], sizes[1], 3]);
        let bias = b.parameter(&module, &[sizes[0]]);
        let how = Conv2d { stride, padding: 1, groups: 1, one_row: true };
        Convolution { name, how, weight, bias }
    }

    /// Runs it on (batch, channels, frames), which stays so.
    fn run(&self, b: &'b Builder, x: &Value<'b>, sizes: [u64; 3]) -> Value<'b> {
        let _m = b.enter(self.name);
        let row = b.run(Op::Unsqueeze { dim: 2 }, &[x]);
        let out = b.run(Op::Conv2d(self.how), &[&row, &self.weight, &self.bias]);
        b.view(&out, &sizes.map(|n| n as i64))
    }
}

/// The layers of one side.
#[derive(Debug)]
struct Layers<'b> {
    sizes: LayerSizes,
    weights: Vec<LayerWeights<'b>>,
    norm: Norm<'b>,
}

impl<'b> Layers<'b> {
    fn load(b: &'b Builder, c: &WhisperConfig, module: &str, side: Side, decodes: bool) -> Self {
        let sizes = LayerSizes {
            style: Style::Whisper,
            width: c.d_model,
            heads: side.heads,
            inner: side.ffn_dim,
            activation: c.activation,
            dropout: c.dropout,
            attention_dropout: c.attention_dropout,
            activation_dropout: c.activation_dropout,
        };
        let load = |i| LayerWeights::load(b, &sizes, &format!("{module}.layers.{i}"), decodes);
        let weights = (0..side.layers).map(load).collect();
        let norm = Norm::load(b, NormKind::Layer, module, "layer_norm", c.d_model);
        Layers { sizes, weights, norm }
    }

    /// Runs them and the norm behind.
    fn run(
        &self,
        b: &'b Builder,
        o: &GraphOptions,
        mut hidden: Value<'b>,
        mask: Option<&Value<'b>>,
        source: Option<Source<'_, 'b>>,
        passed: &[&Value<'b>],
    ) -> Value<'b> {
        // What a layer returns besides goes when the next one returns.
        let mut returned: Option<Value<'b>> = None;
        for (index, w) in self.weights.iter().enumerate() {
            let _m = b.enter(&format!("layers.{index}"));
            let layer = Layer { sizes: &self.sizes, o, w, mask, source };
            let mut probabilities = None;
            hidden = b.layer(passed, || {
                let (out, besides) = layer.forward(b, &hidden);
                probabilities = besides;
                out
            });
            drop(std::mem::replace(&mut returned, probabilities));
        }
        let normed = self.norm.run(b, &hidden);
        drop(returned);
        normed
    }
}

struct Encoder<'b> {
    convolutions: [Convolution<'b>; 2],
    /// Sines and cosines, which are not trained.
    positions: Value<'b>,
    layers: Layers<'b>,
}

struct Decoder<'b> {
    table: Value<'b>,
    positions: Value<'b>,
    layers: Layers<'b>,
}

fn forward(b: &Builder, c: &WhisperConfig, o: &GraphOptions) -> ValueId {
    let (width, tokens) = (c.d_model, c.max_source_positions);
    let encoder = Encoder {
        convolutions: [
            Convolution::load(b, "conv1", [width, c.num_mel_bins], 1),
            Convolution::load(b, "conv2", [width, width], WhisperConfig::FRAMES_A_POSITION),
        ],
        positions: b.buffer("model.encoder.embed_positions", &[tokens, width], Dtype::Model),
        layers: Layers::load(b, c, "model.encoder", c.encoder, false),
    };
    let decoder = Decoder {
        table: b.parameter("model.decoder.embed_tokens", &[c.vocab_size, width]),
        positions: b.parameter("model.decoder.embed_positions", &[c.max_target_positions, width]),
        layers: Layers::load(b, c, "model.decoder", c.decoder, true),
    };
    let frames = WhisperConfig::FRAMES_A_POSITION * tokens;
    let features = b.images(&[o.batch, c.num_mel_bins, frames]);
    let labels = b.batch(&[o.batch, o.label_len], Dtype::I64);
    let shifted = seq2seq::shifted_right(b, o);
    let source = GraphOptions { seq_len: tokens, attention_mask: AttentionMask::None, ..*o };
    let target = GraphOptions { attention_mask: AttentionMask::None, ..seq2seq::of_labels(o) };
    let (read, out) = {
        let _m = b.enter("model");
        let read = encoder.run(b, c, &source, &features);
        let out = decoder.run(b, &target, &shifted, Source { hidden: &read, tokens, mask: None });
        (read, out)
    };
    let logits = {
        let _m = b.enter("proj_out");
        b.run(Op::Linear, &[&out, &decoder.table])
    };
    let loss = seq2seq::loss(b, o, &logits, &labels, c.vocab_size);
    drop((logits, out, read, shifted));
    loss.keep()
}

impl<'b> Encoder<'b> {
    fn run(
        &self,
        b: &'b Builder,
        c: &WhisperConfig,
        o: &GraphOptions,
        features: &Value<'b>,
    ) -> Value<'b> {
        let _m = b.enter("encoder");
        let frames = WhisperConfig::FRAMES_A_POSITION * o.seq_len;
        let convolved = |i: usize, x: &Value<'b>, length| {
            let out = self.convolutions[i].run(b, x, [o.batch, c.d_model, length]);
            b.run(Op::Gelu, &[&out])
        };
        let embedded = {
            let wide = convolved(0, features, frames);
            convolved(1, &wide, o.seq_len)
        };
        let turned = b.run(Op::Permute { order: [0, 2, 1].into_iter().collect() }, &[&embedded]);
        drop(embedded);
        if o.transformers < WHISPER_EMBEDS_PLACES {
            let sum = b.add(&turned, &self.positions);
            let hidden = b.dropout(&sum, c.dropout);
            drop(sum);
            return self.layers.run(b, o, hidden, None, None, &[]);
        }
        let indices = b.fresh(&[o.seq_len], Dtype::I64);
        let hidden = {
            let places = {
                let _m = b.enter("embed_positions");
                b.run(Op::Embedding, &[&self.positions, &indices])
            };
            let sum = b.add(&turned, &places);
            drop(places);
            b.dropout(&sum, c.dropout)
        };
        self.layers.run(b, o, hidden, None, None, &[])
    }
}

impl<'b> Decoder<'b> {
    fn run(
        &self,
        b: &'b Builder,
        o: &GraphOptions,
        ids: &Value<'b>,
        source: Source<'_, 'b>,
    ) -> Value<'b> {
        let _m = b.enter("decoder");
        let embedded = {
            let _m = b.enter("embed_tokens");
            b.run(Op::Embedding, &[&self.table, ids])
        };
        let of_4 = o.transformers < TRANSFORMERS_5;
        let row = masks::positions(b, o);
        // .unsqueeze(0), and .repeat(batch, 1)
        let indices = match o.transformers >= WHISPER_REPEATS_POSITIONS {
            true => b.fresh(&[o.batch, o.seq_len], Dtype::I64),
            false => b.run(Op::Unsqueeze { dim: 0 }, &[&row]),
        };
        // Until transformers 5 the positions are `cache_position` too, which each layer is passed.
        let row = of_4.then_some(row);
        let positions = {
            let _m = b.enter("embed_positions");
            b.run(Op::IndexRows { dim: 0 }, &[&self.positions, &indices])
        };
        let hidden = {
            let sum = b.add(&embedded, &positions);
            b.dropout(&sum, self.layers.sizes.dropout)
        };
        let mask = match o.transformers >= MASKS_BY_FUNCTION {
            true => masks::causal_mask(b, o, None, None),
            false => update_causal_mask(b, o, None, Drawn::Triangle, Windows::NONE),
        };
        let passed: Vec<&Value<'b>> =
            mask.iter().chain([source.hidden]).chain(row.iter()).collect();
        self.layers.run(b, o, hidden, mask.as_ref(), Some(source), &passed)
    }
}
