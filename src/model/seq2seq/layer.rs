//! Layers of BART and Whisper: attention, for the decoder attention to the encoder, and an MLP.
//! BART has a norm behind each, Whisper before.

use crate::model::blocks::activation::activation;
use crate::model::blocks::linear::Linear;
use crate::model::blocks::norm::Norm;
use crate::model::builder::{Builder, Value};
use crate::model::config::Activation;
use crate::model::decoder::architecture::NormKind;
use crate::model::graph::Op;
use crate::model::options::GraphOptions;
use crate::model::seq2seq::attention::{AttentionWeights, CrossAttention};
use crate::model::versions::{
    TRANSFORMERS_5, WHISPER_CLAMPS_AT_ONCE, WHISPER_RETURNS_PROBABILITIES,
};

/// Whose layer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Norms behind; keys have a bias.
    Bart,
    /// Norms before; queries are scaled by the model itself.
    Whisper,
}

/// A layer's sizes.
#[derive(Debug, Clone, Copy)]
pub struct LayerSizes {
    /// Whose layer it is.
    pub style: Style,
    /// Width of the residual stream.
    pub width: u64,
    /// Heads.
    pub heads: u64,
    /// Width of the MLP.
    pub inner: u64,
    /// The MLP's activation.
    pub activation: Activation,
    /// Dropout after attention and MLP.
    pub dropout: f64,
    /// Dropout on attention probabilities.
    pub attention_dropout: f64,
    /// Dropout after the activation.
    pub activation_dropout: f64,
}

/// A layer's weights.
#[derive(Debug)]
pub struct LayerWeights<'b> {
    attention: AttentionWeights<'b>,
    attention_norm: Norm<'b>,
    cross: Option<(AttentionWeights<'b>, Norm<'b>)>,
    up: Linear<'b>,
    down: Linear<'b>,
    norm: Norm<'b>,
}

impl<'b> LayerWeights<'b> {
    /// Loads them; `layer` is their path.
    pub fn load(b: &'b Builder, s: &LayerSizes, layer: &str, decodes: bool) -> Self {
        let norm = |name| Norm::load(b, NormKind::Layer, layer, name, s.width);
        let attention = |name: &str| AttentionWeights::load(b, s, &format!("{layer}.{name}"));
        LayerWeights {
            attention: attention("self_attn"),
            attention_norm: norm("self_attn_layer_norm"),
            cross: decodes.then(|| (attention("encoder_attn"), norm("encoder_attn_layer_norm"))),
            up: Linear::load(b, layer, "fc1", [s.inner, s.width], true),
            down: Linear::load(b, layer, "fc2", [s.width, s.inner], true),
            norm: norm("final_layer_norm"),
        }
    }
}

/// What the encoder gives the decoder.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a, 'b> {
    /// The encoder's last hidden states.
    pub hidden: &'a Value<'b>,
    /// Their tokens.
    pub tokens: u64,
    /// Which of them attention may not see.
    pub mask: Option<&'a Value<'b>>,
}

/// What a part of a layer reads.
#[derive(Debug)]
enum Input<'a, 'b> {
    /// What its norm made, a name of its own.
    Normed(Value<'b>),
    /// The residual stream.
    Residual(&'a Value<'b>),
}

impl<'b> Input<'_, 'b> {
    fn value(&self) -> &Value<'b> {
        match self {
            Input::Normed(value) => value,
            Input::Residual(value) => value,
        }
    }
}

/// One layer to run.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a, 'b> {
    /// Its sizes.
    pub sizes: &'a LayerSizes,
    /// The batch as this stack sees it.
    pub o: &'a GraphOptions,
    /// Its weights.
    pub w: &'a LayerWeights<'b>,
    /// The mask of its own attention.
    pub mask: Option<&'a Value<'b>>,
    /// The encoder's side, in a decoder.
    pub source: Option<Source<'a, 'b>>,
}

impl<'b> Layer<'_, 'b> {
    /// Runs it; returns the hidden states, and probabilities that are returned as well: of Whisper's
    /// encoder, from 4.54 until transformers 5.
    pub fn forward(&self, b: &'b Builder, x: &Value<'b>) -> (Value<'b>, Option<Value<'b>>) {
        let w = self.w;
        let own = CrossAttention {
            sizes: self.sizes,
            o: self.o,
            w: &w.attention,
            keys: self.o.seq_len,
            decodes: self.source.is_some(),
            causal: self.source.is_some(),
            mask: self.mask,
        };
        let mut probabilities = None;
        let mut earlier = None;
        let mut kept = Vec::new();
        let mut hidden = self.around(b, &w.attention_norm, x, |x| {
            let _m = b.enter("self_attn");
            let attended = own.run(b, x.value(), x.value());
            probabilities = attended.probabilities;
            kept.extend(attended.kept);
            attended.out
        });
        if let (Some(source), Some((weights, norm))) = (self.source, &w.cross) {
            let (keys, mask) = (source.tokens, source.mask);
            let cross = CrossAttention { w: weights, keys, causal: false, mask, ..own };
            hidden = self.around(b, norm, &hidden, |x| {
                let _m = b.enter("encoder_attn");
                let attended = cross.run(b, x.value(), source.hidden);
                // Until transformers 5 both probabilities have names of their own.
                let before = std::mem::replace(&mut probabilities, attended.probabilities);
                earlier = before.filter(|_| self.o.transformers < TRANSFORMERS_5);
                kept.extend(attended.kept);
                attended.out
            });
        }
        let mut out = self.around(b, &w.norm, &hidden, |x| self.mlp(b, x));
        // What float16 cannot hold is clamped in an encoder: BART looks for it first.
        match (self.source, self.sizes.style) {
            (Some(_), _) => {}
            (None, Style::Whisper) if self.o.transformers >= WHISPER_CLAMPS_AT_ONCE => {
                out = b.run(Op::ClampHalf, &[&out]);
            }
            (None, Style::Whisper) => drop(b.run(Op::AskFinite { at_once: false }, &[&out])),
            (None, Style::Bart) => {
                let at_once = self.o.transformers >= TRANSFORMERS_5;
                drop(b.run(Op::AskFinite { at_once }, &[&out]));
            }
        }
        drop((hidden, earlier, kept));
        let versions = WHISPER_RETURNS_PROBABILITIES..TRANSFORMERS_5;
        let returns = versions.contains(&self.o.transformers)
            && self.sizes.style == Style::Whisper
            && self.source.is_none();
        (out, probabilities.filter(|_| returns))
    }

    /// `residual + dropout(part(x))`, with the norm before or behind.
    fn around(
        &self,
        b: &'b Builder,
        norm: &Norm<'b>,
        x: &Value<'b>,
        part: impl FnOnce(Input<'_, 'b>) -> Value<'b>,
    ) -> Value<'b> {
        let first = self.sizes.style == Style::Whisper;
        let result = part(match first {
            true => Input::Normed(norm.run(b, x)),
            false => Input::Residual(x),
        });
        let dropped = b.dropout(&result, self.sizes.dropout);
        drop(result);
        let sum = b.add(x, &dropped);
        drop(dropped);
        if first { sum } else { norm.run(b, &sum) }
    }

    fn mlp(&self, b: &'b Builder, x: Input<'_, 'b>) -> Value<'b> {
        let active = {
            let wide = self.w.up.run(b, x.value());
            let _m = b.enter("activation_fn");
            activation(b, self.sizes.activation, &wide)
        };
        drop(x);
        let dropped = b.dropout(&active, self.sizes.activation_dropout);
        drop(active);
        self.w.down.run(b, &dropped)
    }
}
