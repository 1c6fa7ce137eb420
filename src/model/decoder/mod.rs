//! Decoders with rotary embeddings, out of shared blocks: embedding, layers, norm, head, loss.
//!
//! Source: transformers `models/*/modeling_*.py` of 4.56.2 and 5.23.0.

pub mod architecture;
mod layer;
mod neox_attention;
mod own_attention;

use architecture::{Architecture, EmbeddingScale, Masks, RotaryModules, Tables};
use layer::{Layer, LayerWeights};
use own_attention::rotary_modules;

use crate::model::blocks::attention::softcap;
use crate::model::blocks::linear::Linear;
use crate::model::blocks::norm::Norm;
use crate::model::blocks::rotary::{self, Table};
use crate::model::builder::{Builder, Value};
use crate::model::classify::{self, Classifier};
use crate::model::config::{DecoderConfig, Family, Task};
use crate::model::fused_loss;
use crate::model::graph::{Dtype, Graph, Op, ValueId};
use crate::model::masks::{self, LossCode};
use crate::model::options::{AttentionMask, GraphOptions, Loss};
use crate::model::update_causal_mask::{Drawn, Windows, update_causal_mask};
use crate::model::versions::{
    ATTENTION_INTERFACE, GEMMA2_SCALES_BY_BUFFER, GEMMA3_SCALES_BY_BUFFER, LOSS_FUNCTION,
    MASKS_BY_FUNCTION, NEOX_ATTENTION_INTERFACE, ROTARY_OF_MODEL, STARCODER2_LOSS_FUNCTION,
    TRANSFORMERS_5,
};

/// Builds the forward pass with its loss.
pub fn build(c: &DecoderConfig, o: &GraphOptions) -> Graph {
    let b = Builder::new();
    let loss = forward(&b, c, o);
    b.finish(loss)
}

struct Weights<'b> {
    embedding: Value<'b>,
    embedding_scale: Option<Value<'b>>,
    layers: Vec<LayerWeights<'b>>,
    norm: Norm<'b>,
    /// Inverse frequencies, one for each table.
    inv_freq: Vec<Value<'b>>,
    head: Option<Value<'b>>,
    classifier: Option<Linear<'b>>,
}

impl<'b> Weights<'b> {
    fn load(b: &'b Builder, c: &DecoderConfig, o: &GraphOptions) -> Weights<'b> {
        let arch = c.architecture_in(o.transformers);
        let embedding_name = format!("{}.{}", arch.model, arch.embedding);
        let embedding = b.parameter(&embedding_name, &[c.vocab_size, c.hidden_size]);
        let embedding_scale =
            scaled_by_buffer(arch, o).then(|| b.buffer(&embedding_name, &[], Dtype::Model));
        let layers =
            (0..c.num_hidden_layers as usize).map(|i| LayerWeights::load(b, c, o, i)).collect();
        let norm = Norm::load(b, arch.norm, arch.model, arch.last_norm, c.hidden_size);
        let inv_freq = inverse_frequencies(b, c, o);
        let labels = [c.num_labels, c.hidden_size];
        let (classifier, head) = match c.task {
            Task::SequenceClassification => {
                (Some(Linear::load(b, "", "score", labels, false)), None)
            }
            Task::TokenClassification => {
                (Some(Linear::load(b, "", token_head(c), labels, true)), None)
            }
            _ if c.tie_word_embeddings => (None, None),
            _ => (None, Some(b.parameter(head_name(c, o), &[c.vocab_size, c.hidden_size]))),
        };
        Weights { embedding, embedding_scale, layers, norm, inv_freq, head, classifier }
    }
}

/// The name of a classifier of tokens.
const fn token_head(c: &DecoderConfig) -> &'static str {
    if matches!(c.family, Family::GptNeoX) { "classifier" } else { "score" }
}

fn scaled_by_buffer(arch: &Architecture, o: &GraphOptions) -> bool {
    match arch.embedding_scale {
        EmbeddingScale::None => false,
        EmbeddingScale::LaterBuffer => o.transformers >= GEMMA2_SCALES_BY_BUFFER,
        EmbeddingScale::Buffer => o.transformers >= GEMMA3_SCALES_BY_BUFFER,
    }
}

/// Of Gemma 3 until transformers 5 both are there, whichever layers are. From 5 on,
/// `original_inv_freq` is a buffer of its own.
fn inverse_frequencies<'b>(b: &'b Builder, c: &DecoderConfig, o: &GraphOptions) -> Vec<Value<'b>> {
    if matches!(rotary_modules(c, o), RotaryModules::Attention | RotaryModules::Cached) {
        return Vec::new();
    }
    let arch = c.architecture_in(o.transformers);
    let tables = match arch.tables {
        Tables::One | Tables::InF32 => 1,
        Tables::ByLayerType if o.transformers < TRANSFORMERS_5 => 2,
        Tables::ByLayerType => layer_types(c, o),
    };
    let module = format!("{}.rotary_emb", arch.model);
    let buffer = || b.buffer(&module, &[c.rotary_dim_in(o.transformers) / 2], Dtype::F32);
    (0..tables)
        .map(|_| {
            let inv_freq = buffer();
            if o.transformers >= TRANSFORMERS_5 {
                buffer();
            }
            inv_freq
        })
        .collect()
}

/// How many of two kinds of layers there are, full and sliding.
fn layer_types(c: &DecoderConfig, o: &GraphOptions) -> usize {
    let layers = 0..c.num_hidden_layers as usize;
    let used = |slides| layers.clone().any(|layer| c.slides(layer, o.transformers) == slides);
    [false, true].into_iter().filter(|&slides| used(slides)).count()
}

fn forward(b: &Builder, c: &DecoderConfig, o: &GraphOptions) -> ValueId {
    let w = Weights::load(b, c, o);
    let ids = b.batch(&[o.batch, o.seq_len], Dtype::I64);
    let classifies = c.task == Task::SequenceClassification;
    let mask = (o.attention_mask != AttentionMask::None)
        .then(|| b.batch(&[o.batch, o.seq_len], Dtype::I64));
    let labels = match classifies {
        true => classify::labels(b, o, c.problem, c.num_labels),
        false => b.batch(&[o.batch, o.seq_len], Dtype::I64),
    };
    let hidden = {
        let _model = b.enter(c.architecture_in(o.transformers).model);
        decoder(b, c, o, &w, &ids, mask.as_ref())
    };
    if let Some(head) = &w.classifier {
        let (classes, token_dropout) = (c.num_labels, c.classifier_dropout);
        let classifier = Classifier { head, classes, labels: &labels, token_dropout };
        return match classifies {
            true => classifier.of_samples(b, o, c.problem, &hidden),
            false => classifier.of_tokens(b, o, true, &hidden),
        }
        .keep();
    }
    let head = w.head.as_ref().unwrap_or(&w.embedding);
    if o.loss == Loss::Fused {
        let sizes = [c.hidden_size, c.vocab_size];
        return fused_loss::causal_lm_loss(b, o, &hidden, head, sizes).keep();
    }
    let is_sliced = c.family != Family::GptNeoX || o.transformers >= NEOX_ATTENTION_INTERFACE;
    let hidden = if is_sliced { masks::sliced_for_head(b, o, hidden) } else { hidden };
    let mut logits = {
        let _head = b.enter(head_name(c, o));
        b.run(Op::Linear, &[&hidden, head])
    };
    if c.final_softcap {
        logits = softcap(b, logits);
    }
    let code = loss_code(c.family, o);
    masks::causal_lm_loss(b, o, (logits, &labels), c.vocab_size, code).keep()
}

/// The head's name. Source: `modeling_gpt_neox.py` of 4.44.2 to 4.56.2 and 5.23.0.
fn head_name(c: &DecoderConfig, o: &GraphOptions) -> &'static str {
    match c.family {
        Family::GptNeoX if o.transformers < TRANSFORMERS_5 => "embed_out",
        _ => "lm_head",
    }
}

/// Who computed the loss, before transformers 4.49.
fn loss_code(family: Family, o: &GraphOptions) -> LossCode {
    let inline_until = match family {
        Family::GptNeoX => return LossCode::InlineUncastSliced,
        Family::Mistral => ATTENTION_INTERFACE,
        Family::Starcoder2 => STARCODER2_LOSS_FUNCTION,
        _ => LOSS_FUNCTION,
    };
    if o.transformers < inline_until { LossCode::Inline } else { LossCode::Function }
}

fn decoder<'b>(
    b: &'b Builder,
    c: &DecoderConfig,
    o: &GraphOptions,
    w: &Weights<'b>,
    ids: &Value<'b>,
    mask: Option<&Value<'b>>,
) -> Value<'b> {
    let arch = c.architecture_in(o.transformers);
    let places_first = c.family == Family::GptNeoX && o.transformers < ROTARY_OF_MODEL;
    let first = places_first.then(|| masks::positions(b, o));
    let embedded = embed(b, arch, w, ids);
    let positions = first.unwrap_or_else(|| masks::positions(b, o));
    let drawn = Drawn::of(c.family, o.transformers);
    let window = c.window.as_ref().map(|window| window.size);
    let (full, sliding) = match arch.masks {
        _ if o.transformers < MASKS_BY_FUNCTION => {
            (update_causal_mask(b, o, mask, drawn, Windows::of(c, o)), None)
        }
        Masks::One => {
            let one = masks::causal_mask(b, o, mask, window);
            if window.is_some() { (None, one) } else { (one, None) }
        }
        Masks::AsUsed | Masks::Both => {
            let full = masks::causal_mask(b, o, mask, None);
            (full, window.and_then(|size| masks::causal_mask(b, o, mask, Some(size))))
        }
    };
    // `inputs_embeds` stays a name; `hidden_states` is another only where it is another tensor.
    let mut hidden = (c.embedding_dropout > 0.0).then(|| b.dropout(&embedded, c.embedding_dropout));
    let tables = tables(b, c, o, w);
    if arch.embedding_scale == EmbeddingScale::LaterBuffer
        && o.transformers < GEMMA2_SCALES_BY_BUFFER
    {
        hidden = Some(b.mul_number(&embedded));
    }
    for (index, weights) in w.layers.iter().enumerate() {
        let _m = b.enter(&format!("layers.{index}"));
        let slides = c.slides(index, o.transformers);
        let table = if slides { tables.last() } else { tables.first() };
        let of_window = slides && o.transformers >= MASKS_BY_FUNCTION;
        let mask = if of_window { sliding.as_ref() } else { full.as_ref() };
        let cuts = o.transformers < MASKS_BY_FUNCTION && drawn == Drawn::Always;
        let cuts_window = cuts && slides;
        let layer = Layer { c, o, w: weights, table, mask, cuts_window, positions: &positions };
        // Until transformers 5, Gemma 3's layers are called with both tables.
        let mut arguments = vec![&positions];
        if o.transformers < TRANSFORMERS_5 {
            arguments.extend(tables.iter().flat_map(|(cos, sin)| [cos, sin]));
        }
        let input = hidden.as_ref().unwrap_or(&embedded);
        let out = b.layer(&arguments, || layer.forward(b, input));
        hidden = Some(out);
    }
    w.norm.run(b, hidden.as_ref().unwrap_or(&embedded))
}

fn embed<'b>(b: &'b Builder, arch: &Architecture, w: &Weights<'b>, ids: &Value<'b>) -> Value<'b> {
    let _m = b.enter(arch.embedding);
    let rows = b.run(Op::Embedding, &[&w.embedding, ids]);
    match &w.embedding_scale {
        Some(scale) => b.mul(&rows, scale),
        None if arch.embedding_scale == EmbeddingScale::Buffer => b.mul_number(&rows),
        None => rows,
    }
}

/// The tables of full and of sliding layers; one where both use the same.
fn tables<'b>(
    b: &'b Builder,
    c: &DecoderConfig,
    o: &GraphOptions,
    w: &Weights<'b>,
) -> Vec<Table<'b>> {
    let _m = b.enter("rotary_emb");
    let dtype = match c.architecture_in(o.transformers).tables {
        Tables::InF32 => Dtype::F32,
        Tables::One | Tables::ByLayerType => Dtype::Model,
    };
    w.inv_freq
        .iter()
        .map(|inv_freq| rotary::table(b, o, c.rotary_dim_in(o.transformers), inv_freq, dtype))
        .collect()
}
