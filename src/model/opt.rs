//! OPT: LayerNorm, positions counted from the attention mask, a plain MLP on folded rows.
//!
//! Source: transformers `models/opt/modeling_opt.py` of 4.56 and 5.23.

use crate::model::blocks::activation::activation;
use crate::model::blocks::attention::{self, Attend};
use crate::model::blocks::linear::Linear;
use crate::model::blocks::norm::Norm;
use crate::model::builder::{Builder, Value};
use crate::model::classify::{self, Classifier};
use crate::model::config::{OptConfig, Task};
use crate::model::decoder::architecture::NormKind;
use crate::model::graph::{Dtype, Graph, Op, ValueId};
use crate::model::masks::{self, LossCode};
use crate::model::options::{Attention, AttentionMask, GraphOptions};
use crate::model::versions::{ATTENTION_INTERFACE, OPT_LEAVES_MASK_OUT, TRANSFORMERS_5};

/// Positions in front of the first, which are never used.
const OFFSET: u64 = 2;

struct LayerWeights<'b> {
    k: Linear<'b>,
    v: Linear<'b>,
    q: Linear<'b>,
    out: Linear<'b>,
    attention_norm: Norm<'b>,
    fc1: Linear<'b>,
    fc2: Linear<'b>,
    final_norm: Norm<'b>,
}

struct Weights<'b> {
    tokens: Value<'b>,
    positions: Value<'b>,
    project_out: Option<Linear<'b>>,
    project_in: Option<Linear<'b>>,
    final_norm: Option<Norm<'b>>,
    layers: Vec<LayerWeights<'b>>,
    head: Option<Value<'b>>,
    score: Option<Linear<'b>>,
}

const DECODER: &str = "model.decoder";

/// Builds the forward pass with its loss.
pub fn build(c: &OptConfig, o: &GraphOptions) -> Graph {
    let b = Builder::new();
    let loss = forward(&b, c, o);
    b.finish(loss)
}

fn layer_weights<'b>(b: &'b Builder, c: &OptConfig, index: u64) -> LayerWeights<'b> {
    let layer = format!("{DECODER}.layers.{index}");
    let attention = format!("{layer}.self_attn");
    let width = c.hidden_size;
    let square = |name| Linear::load(b, &attention, name, [width, width], c.enable_bias);
    let norm = |name| Norm::load(b, NormKind::Layer, &layer, name, width);
    LayerWeights {
        k: square("k_proj"),
        v: square("v_proj"),
        q: square("q_proj"),
        out: square("out_proj"),
        attention_norm: norm("self_attn_layer_norm"),
        fc1: Linear::load(b, &layer, "fc1", [c.ffn_dim, width], c.enable_bias),
        fc2: Linear::load(b, &layer, "fc2", [width, c.ffn_dim], c.enable_bias),
        final_norm: norm("final_layer_norm"),
    }
}

impl<'b> Weights<'b> {
    fn load(b: &'b Builder, c: &OptConfig) -> Weights<'b> {
        let (width, narrow) = (c.hidden_size, c.word_embed_proj_dim);
        let at = |name: &str| format!("{DECODER}.{name}");
        let project =
            |name, sizes| c.is_projected().then(|| Linear::load(b, DECODER, name, sizes, false));
        let classifies = c.task == Task::SequenceClassification;
        Weights {
            tokens: b.parameter(&at("embed_tokens"), &[c.vocab_size, narrow]),
            positions: b
                .parameter(&at("embed_positions"), &[c.max_position_embeddings + OFFSET, width]),
            project_out: project("project_out", [narrow, width]),
            project_in: project("project_in", [width, narrow]),
            final_norm: c
                .has_final_norm()
                .then(|| Norm::load(b, NormKind::Layer, DECODER, "final_layer_norm", width)),
            layers: (0..c.num_hidden_layers).map(|i| layer_weights(b, c, i)).collect(),
            head: (!classifies && !c.tie_word_embeddings)
                .then(|| b.parameter("lm_head", &[c.vocab_size, narrow])),
            score: classifies.then(|| Linear::load(b, "", "score", [c.num_labels, narrow], false)),
        }
    }
}

fn forward(b: &Builder, c: &OptConfig, o: &GraphOptions) -> ValueId {
    let w = Weights::load(b, c);
    let ids = b.batch(&[o.batch, o.seq_len], Dtype::I64);
    let labels = match c.task {
        Task::SequenceClassification => classify::labels(b, o, c.problem, c.num_labels),
        _ => b.batch(&[o.batch, o.seq_len], Dtype::I64),
    };
    let mask = (o.attention_mask != AttentionMask::None)
        .then(|| b.batch(&[o.batch, o.seq_len], Dtype::I64));
    let hidden = {
        let _model = b.enter("model");
        let _decoder = b.enter("decoder");
        decoder(b, c, o, &w, &ids, mask.as_ref())
    };
    if let Some(head) = &w.score {
        let (classes, token_dropout) = (c.num_labels, 0.0);
        let classifier = Classifier { head, classes, labels: &labels, token_dropout };
        return classifier.of_samples(b, o, c.problem, &hidden).keep();
    }
    let hidden = if o.transformers >= TRANSFORMERS_5 {
        masks::sliced_for_head(b, o, hidden)
    } else {
        hidden
    };
    let logits = {
        let _head = b.enter("lm_head");
        b.run(Op::Linear, &[&hidden, w.head.as_ref().unwrap_or(&w.tokens)])
    };
    let code = match o.transformers >= ATTENTION_INTERFACE {
        true => LossCode::Function,
        false => LossCode::InlineUncast,
    };
    masks::causal_lm_loss(b, o, (logits, &labels), c.vocab_size, code).keep()
}

fn decoder<'b>(
    b: &'b Builder,
    c: &OptConfig,
    o: &GraphOptions,
    w: &Weights<'b>,
    ids: &Value<'b>,
    mask: Option<&Value<'b>>,
) -> Value<'b> {
    let mut embedded = {
        let _m = b.enter("embed_tokens");
        b.run(Op::Embedding, &[&w.tokens, ids])
    };
    // Where no mask is passed, one of ones is made, in float32, to count positions by.
    let make_ones = || mask.is_none().then(|| b.fresh(&[o.batch, o.seq_len], Dtype::F32));
    // The causal mask is made after the positions from transformers 5 on, before them until then.
    let (ones, positions, causal, cache_positions) = if o.transformers >= TRANSFORMERS_5 {
        let ones = make_ones();
        let positions = counted_positions(b, o, mask, ones.as_ref());
        let causal = match mask {
            None if o.transformers >= OPT_LEAVES_MASK_OUT => masks::causal_mask_alone(b, o),
            _ => masks::causal_mask(b, o, mask.or(ones.as_ref()), None),
        };
        (ones, positions, causal, None)
    } else {
        let cache_positions = b.fresh(&[o.seq_len], Dtype::I64);
        let ones = make_ones();
        let causal = mask_of_4(b, o);
        let positions = counted_positions(b, o, mask, ones.as_ref());
        (ones, positions, causal, Some(cache_positions))
    };
    let position_embedded = {
        let _m = b.enter("embed_positions");
        let shifted = b.fresh(&[o.batch, o.seq_len], Dtype::I64);
        b.run(Op::Embedding, &[&w.positions, &shifted])
    };
    if let Some(project) = &w.project_in {
        embedded = project.run(b, &embedded);
    }
    let mut hidden = b.add(&embedded, &position_embedded);
    for (index, weights) in w.layers.iter().enumerate() {
        let _m = b.enter(&format!("layers.{index}"));
        let arguments: Vec<&Value<'_>> = [&positions].into_iter().chain(&cache_positions).collect();
        let mask = causal.as_ref();
        let layer = Layer { c, o, w: weights, mask, arguments: &arguments };
        hidden = b.layer(&arguments, || layer.forward(b, &hidden));
    }
    if let Some(norm) = &w.final_norm {
        hidden = norm.run(b, &hidden);
    }
    let out = match &w.project_out {
        Some(project) => project.run(b, &hidden),
        None => hidden,
    };
    drop(ones);
    out
}

/// `(torch.cumsum(mask, dim=1) * mask - 1).long()`, of the mask that is passed or of `ones`, which is no
/// integer.
fn counted_positions<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    mask: Option<&Value<'b>>,
    ones: Option<&Value<'b>>,
) -> Value<'b> {
    let dtype = if ones.is_some() { Dtype::F32 } else { Dtype::I64 };
    let fresh = |dtype| b.fresh(&[o.batch, o.seq_len], dtype);
    let counted: Vec<&Value<'b>> = mask.into_iter().chain(ones).collect();
    let sums = b.run(Op::CumulativeSum { dtype }, &counted);
    let masked = fresh(dtype);
    let mut positions = fresh(dtype);
    drop(masked);
    if ones.is_some() {
        positions = fresh(Dtype::I64);
    }
    drop(sums);
    positions
}

/// OPT's own `_update_causal_mask` of transformers 4.
fn mask_of_4<'b>(b: &'b Builder, o: &GraphOptions) -> Option<Value<'b>> {
    let (batch, seq) = (o.batch, o.seq_len);
    let sdpa = o.attention == Attention::Sdpa;
    if sdpa {
        let ones = b.fresh(&[batch, seq], Dtype::Bool);
        drop(b.run(Op::AllTrue, &[&ones]));
        drop(ones);
        if o.attention_mask != AttentionMask::Padded {
            return None;
        }
    }
    let square = || b.fresh(&[seq, seq], Dtype::Model);
    let causal = {
        let _full = square();
        square()
    };
    {
        let _range = b.fresh(&[seq], Dtype::I64);
        b.scratch(&[seq, seq], Dtype::Bool);
    }
    let whole = |dtype| b.fresh(&[batch, 1, seq, seq], dtype);
    let mask = whole(Dtype::Model);
    drop(causal);
    let is_padding = {
        // Ones that were made are in float32, and so is what they are added to.
        let passed = o.attention_mask != AttentionMask::None;
        let _sum = whole(if passed { Dtype::Model } else { Dtype::F32 });
        whole(Dtype::Bool)
    };
    let filled = whole(Dtype::Model);
    drop((is_padding, filled));
    if !sdpa {
        return Some(mask);
    }
    // `_unmask_unattended`: rows that see nothing see all.
    let row = || b.fresh(&[batch, 1, seq, 1], Dtype::Bool);
    let sees_nothing = {
        let _is_hidden = whole(Dtype::Bool);
        row()
    };
    let sees_some = row();
    drop(sees_nothing);
    let unmasked = whole(Dtype::Model);
    drop((sees_some, mask));
    Some(unmasked)
}

struct Layer<'a, 'b> {
    c: &'a OptConfig,
    o: &'a GraphOptions,
    w: &'a LayerWeights<'b>,
    mask: Option<&'a Value<'b>>,
    /// What it hands on to attention.
    arguments: &'a [&'a Value<'b>],
}

impl<'b> Layer<'_, 'b> {
    fn forward(&self, b: &'b Builder, input: &Value<'b>) -> Value<'b> {
        let (c, w) = (self.c, self.w);
        let normed = c.do_layer_norm_before.then(|| w.attention_norm.run(b, input));
        let (attended, weights) = b.attention("self_attn", self.arguments, || {
            self.attention(b, normed.as_ref().unwrap_or(input))
        });
        // Until transformers 5 attention itself lets go of its weights.
        let _weights = weights.filter(|_| self.o.transformers >= TRANSFORMERS_5);
        drop(normed);
        let dropped = b.dropout(&attended, c.dropout);
        drop(attended);
        let mut sum = b.add(input, &dropped);
        drop(dropped);
        if !c.do_layer_norm_before {
            sum = w.attention_norm.run(b, &sum);
        }
        let residual = b.reshape(&sum, &[-1, c.hidden_size as i64]);
        drop(sum);
        let out = {
            let normed = c.do_layer_norm_before.then(|| w.final_norm.run(b, &residual));
            let wide = w.fc1.run(b, normed.as_ref().unwrap_or(&residual));
            drop(normed);
            let active = {
                let _m = b.enter("activation_fn");
                activation(b, c.activation_function, &wide)
            };
            drop(wide);
            let narrow = w.fc2.run(b, &active);
            drop(active);
            let dropped = b.dropout(&narrow, c.dropout);
            drop(narrow);
            b.add(&residual, &dropped)
        };
        let sizes = [self.o.batch, self.o.seq_len, c.hidden_size].map(|n| n as i64);
        let out = b.view(&out, &sizes);
        if c.do_layer_norm_before {
            return out;
        }
        w.final_norm.run(b, &out)
    }

    fn attention(&self, b: &'b Builder, x: &Value<'b>) -> (Value<'b>, Option<Value<'b>>) {
        let (c, o, w) = (self.c, self.o, self.w);
        let (heads, width) = (c.num_attention_heads, c.hidden_size);
        let head_dim = width / heads;
        let front = |x: Value<'b>| {
            let split = attention::split_heads(b, o, x, [heads, head_dim]);
            b.transpose(&split, 1, 2)
        };
        let q = {
            let projected = w.q.run(b, x);
            b.mul_number(&projected)
        };
        let q = front(q);
        let (k, v) = (w.k.run(b, x), w.v.run(b, x));
        let (k, v) = (front(k), front(v));
        let attend = Attend {
            o,
            heads,
            key_value_heads: heads,
            head_dim,
            dropout: c.attention_dropout,
            softcap: false,
            grouped: false,
            causal: true,
            mask: self.mask,
            adds_mask_in_place: false,
            calls_pytorch: false,
            softmax_in_f32: true,
        };
        let (attended, weights) = attend.run(b, &q, &k, &v);
        let flat = attention::joined_heads(b, o, attended, width);
        (w.out.run(b, &flat), weights)
    }
}
