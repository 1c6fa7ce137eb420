//! GPT-2: LayerNorm, learned positions, one projection for query, key and value, dropout.
//!
//! Source: transformers `models/gpt2/modeling_gpt2.py` of 4.56 and 5.23.

use crate::model::blocks::activation::activation;
use crate::model::blocks::attention::contiguous_for_sdpa;
use crate::model::blocks::linear::Linear;
use crate::model::builder::{Builder, Value};
use crate::model::classify::{self, Classifier};
use crate::model::config::{Gpt2Config, Task};
use crate::model::graph::{Dtype, Graph, Op, ValueId};
use crate::model::masks::{self, LossCode};
use crate::model::options::{Attention, AttentionMask, GraphOptions};
use crate::model::update_causal_mask::{Drawn, Windows, converted_causal_mask, update_causal_mask};
use crate::model::versions::{
    ATTENTION_INTERFACE, GPT2_HAS_CACHE_POSITIONS, GPT2_MASKS_BY_FUNCTION, GPT2_SCALES_AT_ONCE,
    GPT2_SLICES_FOR_HEAD, GPT2_WITHOUT_BUFFERS, TRANSFORMERS_5,
};

struct Affine<'b> {
    weight: Value<'b>,
    bias: Value<'b>,
}

struct BlockWeights<'b> {
    ln_1: Affine<'b>,
    c_attn: Affine<'b>,
    c_proj: Affine<'b>,
    ln_2: Affine<'b>,
    c_fc: Affine<'b>,
    mlp_proj: Affine<'b>,
    causal: Option<Value<'b>>,
}

/// Builds the forward pass with its loss.
pub fn build(c: &Gpt2Config, o: &GraphOptions) -> Graph {
    let b = Builder::new();
    let loss = forward(&b, c, o);
    b.finish(loss)
}

fn norm_weights<'b>(b: &'b Builder, module: &str, width: u64) -> Affine<'b> {
    Affine { weight: b.parameter(module, &[width]), bias: b.parameter(module, &[width]) }
}

/// `Conv1D`: a linear layer whose weight is (inputs, outputs).
fn conv1d_weights<'b>(b: &'b Builder, module: &str, inputs: u64, outputs: u64) -> Affine<'b> {
    Affine {
        weight: b.parameter(module, &[inputs, outputs]),
        bias: b.parameter(module, &[outputs]),
    }
}

fn block_weights<'b>(
    b: &'b Builder,
    c: &Gpt2Config,
    o: &GraphOptions,
    index: u64,
) -> BlockWeights<'b> {
    let at = |name: &str| format!("transformer.h.{index}.{name}");
    let width = c.n_embd;
    let ln_1 = norm_weights(b, &at("ln_1"), width);
    let c_attn = conv1d_weights(b, &at("attn.c_attn"), width, 3 * width);
    let c_proj = conv1d_weights(b, &at("attn.c_proj"), width, width);
    // Each attention kept its causal mask, and until transformers 5 the number behind it, as buffers.
    let causal = (o.transformers < GPT2_WITHOUT_BUFFERS).then(|| {
        let mask = b.buffer(&at("attn"), &[1, 1, c.n_positions, c.n_positions], Dtype::Bool);
        if o.transformers < TRANSFORMERS_5 {
            b.buffer(&at("attn"), &[], Dtype::Model);
        }
        mask
    });
    let ln_2 = norm_weights(b, &at("ln_2"), width);
    let c_fc = conv1d_weights(b, &at("mlp.c_fc"), width, c.n_inner);
    let mlp_proj = conv1d_weights(b, &at("mlp.c_proj"), c.n_inner, width);
    BlockWeights { ln_1, c_attn, c_proj, ln_2, c_fc, mlp_proj, causal }
}

fn forward(b: &Builder, c: &Gpt2Config, o: &GraphOptions) -> ValueId {
    let wte = b.parameter("transformer.wte", &[c.vocab_size, c.n_embd]);
    let wpe = b.parameter("transformer.wpe", &[c.n_positions, c.n_embd]);
    let blocks: Vec<_> = (0..c.n_layer).map(|i| block_weights(b, c, o, i)).collect();
    let ln_f = norm_weights(b, "transformer.ln_f", c.n_embd);
    let labels = [c.num_labels, c.n_embd];
    let classifier = match c.task {
        Task::SequenceClassification => Some(Linear::load(b, "", "score", labels, false)),
        Task::TokenClassification => Some(Linear::load(b, "", "classifier", labels, true)),
        _ => None,
    };
    let head = (classifier.is_none() && !c.tie_word_embeddings)
        .then(|| b.parameter("lm_head", &[c.vocab_size, c.n_embd]));

    let ids = b.batch(&[o.batch, o.seq_len], Dtype::I64);
    let labels = match c.task {
        Task::SequenceClassification => classify::labels(b, o, c.problem, c.num_labels),
        _ => b.batch(&[o.batch, o.seq_len], Dtype::I64),
    };
    let mask = (o.attention_mask != AttentionMask::None)
        .then(|| b.batch(&[o.batch, o.seq_len], Dtype::I64));

    let hidden = {
        let _m = b.enter("transformer");
        let x = Inputs {
            wte: &wte,
            wpe: &wpe,
            blocks: &blocks,
            ln_f: &ln_f,
            ids: &ids,
            mask: mask.as_ref(),
        };
        transformer(b, c, o, &x)
    };
    if let Some(head) = &classifier {
        let (classes, token_dropout) = (c.num_labels, c.classifier_dropout);
        let classifier = Classifier { head, classes, labels: &labels, token_dropout };
        return match c.task {
            Task::TokenClassification => classifier.of_tokens(b, o, false, &hidden),
            _ => classifier.of_samples(b, o, c.problem, &hidden),
        }
        .keep();
    }
    let hidden = match o.transformers >= GPT2_SLICES_FOR_HEAD {
        true => masks::sliced_for_head(b, o, hidden),
        false => hidden,
    };
    let logits = {
        let _m = b.enter("lm_head");
        b.run(Op::Linear, &[&hidden, head.as_ref().unwrap_or(&wte)])
    };
    let code = match o.transformers >= ATTENTION_INTERFACE {
        true => LossCode::Function,
        false => LossCode::InlineUncast,
    };
    masks::causal_lm_loss(b, o, (logits, &labels), c.vocab_size, code).keep()
}

struct Inputs<'a, 'b> {
    wte: &'a Value<'b>,
    wpe: &'a Value<'b>,
    blocks: &'a [BlockWeights<'b>],
    ln_f: &'a Affine<'b>,
    ids: &'a Value<'b>,
    mask: Option<&'a Value<'b>>,
}

fn transformer<'b>(
    b: &'b Builder,
    c: &Gpt2Config,
    o: &GraphOptions,
    x: &Inputs<'_, 'b>,
) -> Value<'b> {
    let has_cache = o.transformers >= GPT2_HAS_CACHE_POSITIONS;
    let before = (!has_cache).then(|| masks::positions(b, o));
    let embedded = {
        let _m = b.enter("wte");
        b.run(Op::Embedding, &[x.wte, x.ids])
    };
    let positions = before.unwrap_or_else(|| masks::positions(b, o));
    let row = b.run(Op::Unsqueeze { dim: 0 }, &[&positions]);
    let position_embedded = {
        let _m = b.enter("wpe");
        b.run(Op::Embedding, &[x.wpe, &row])
    };
    let sum = b.add(&embedded, &position_embedded);
    let causal = causal_mask(b, o, x.mask);
    let mut hidden = {
        let _m = b.enter("drop");
        b.dropout(&sum, c.embd_pdrop)
    };
    drop(sum);
    for (index, weights) in x.blocks.iter().enumerate() {
        let _m = b.enter(&format!("h.{index}"));
        let mask = causal.as_ref();
        let block = Block { c, o, w: weights, mask, positions: &row };
        let arguments = [&row];
        let arguments = if has_cache { &arguments[..] } else { &[] };
        hidden = b.layer(arguments, || block.forward(b, &hidden));
    }
    let normed = {
        let _m = b.enter("ln_f");
        norm(b, &hidden, x.ln_f)
    };
    drop(hidden);
    b.view(&normed, &[-1, o.seq_len as i64, c.n_embd as i64])
}

/// The mask that attention adds; eager attention has its causal one as a buffer besides.
fn causal_mask<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    passed: Option<&Value<'b>>,
) -> Option<Value<'b>> {
    if o.transformers >= GPT2_MASKS_BY_FUNCTION {
        return masks::causal_mask(b, o, passed, None);
    }
    if o.transformers >= GPT2_HAS_CACHE_POSITIONS {
        return update_causal_mask(b, o, passed, Drawn::Triangle, Windows::NONE);
    }
    match o.attention {
        Attention::Sdpa => converted_causal_mask(b, o, passed),
        Attention::Eager | Attention::Flash => passed.map(|_| of_keys_added(b, o)),
    }
}

/// `(1.0 - attention_mask.to(dtype)) * minimum`
fn of_keys_added<'b>(b: &'b Builder, o: &GraphOptions) -> Value<'b> {
    let row = || b.fresh(&[o.batch, 1, 1, o.seq_len], Dtype::Model);
    let narrow = row();
    let inverted = row();
    let mask = row();
    drop((narrow, inverted));
    mask
}

fn norm<'b>(b: &'b Builder, x: &Value<'b>, w: &Affine<'b>) -> Value<'b> {
    b.run(Op::LayerNorm, &[x, &w.weight, &w.bias])
}

struct Block<'a, 'b> {
    c: &'a Gpt2Config,
    o: &'a GraphOptions,
    w: &'a BlockWeights<'b>,
    mask: Option<&'a Value<'b>>,
    positions: &'a Value<'b>,
}

impl<'b> Block<'_, 'b> {
    fn forward(&self, b: &'b Builder, input: &Value<'b>) -> Value<'b> {
        let normed = {
            let _m = b.enter("ln_1");
            norm(b, input, &self.w.ln_1)
        };
        // `attn_output, _ = self.attn(...)`: the weights stay until the block returns.
        let (attended, _weights) =
            b.attention("attn", &[self.positions], || self.attention(b, &normed));
        let residual = b.add(&attended, input);
        drop(normed);
        let normed = {
            let _m = b.enter("ln_2");
            norm(b, &residual, &self.w.ln_2)
        };
        let fed = {
            let _m = b.enter("mlp");
            self.mlp(b, &normed)
        };
        let out = b.add(&residual, &fed);
        drop((normed, attended, residual, fed));
        out
    }

    fn conv1d(
        &self,
        b: &'b Builder,
        name: &str,
        x: &Value<'b>,
        w: &Affine<'b>,
        sizes: [u64; 2],
    ) -> Value<'b> {
        let _m = b.enter(name);
        let [inputs, outputs] = sizes.map(|n| n as i64);
        let flat = b.view(x, &[-1, inputs]);
        let out = b.run(Op::Addmm, &[&w.bias, &flat, &w.weight]);
        drop(flat);
        b.view(&out, &[self.o.batch as i64, self.o.seq_len as i64, outputs])
    }

    fn mlp(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let c = self.c;
        let wide = self.conv1d(b, "c_fc", x, &self.w.c_fc, [c.n_embd, c.n_inner]);
        let active = {
            let _m = b.enter("act");
            activation(b, c.activation_function, &wide)
        };
        drop(wide);
        let narrow = self.conv1d(b, "c_proj", &active, &self.w.mlp_proj, [c.n_inner, c.n_embd]);
        drop(active);
        let _m = b.enter("dropout");
        b.dropout(&narrow, c.resid_pdrop)
    }

    fn heads(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let (c, o) = (self.c, self.o);
        let sizes = [o.batch, o.seq_len, c.n_head, c.n_embd / c.n_head].map(|n| n as i64);
        let split = b.view(x, &sizes);
        b.transpose(&split, 1, 2)
    }

    fn attention(&self, b: &'b Builder, x: &Value<'b>) -> (Value<'b>, Option<Value<'b>>) {
        let (c, o) = (self.c, self.o);
        let fused = self.conv1d(b, "c_attn", x, &self.w.c_attn, [c.n_embd, 3 * c.n_embd]);
        let [q, k, v] = b.run_many(Op::Split { dim: 2, parts: 3 }, &[&fused]);
        drop(fused);
        let (k, v, q) = if o.transformers >= GPT2_MASKS_BY_FUNCTION {
            let split = (self.heads(b, &k), self.heads(b, &v), self.heads(b, &q));
            drop((q, k, v));
            split
        } else {
            let first = self.heads(b, &q);
            let split = (self.heads(b, &k), self.heads(b, &v), first);
            drop((q, k, v));
            split
        };
        let (attended, weights) = match o.attention {
            Attention::Sdpa => {
                let op =
                    Op::Sdpa { dropout: c.attn_pdrop, causal: self.mask.is_none(), grouped: false };
                let asked = o.transformers >= ATTENTION_INTERFACE;
                let made =
                    [&q, &k, &v].map(|x| asked.then(|| contiguous_for_sdpa(b, o, x)).flatten());
                let [q, k, v] =
                    [(&q, 0), (&k, 1), (&v, 2)].map(|(x, i)| made[i].as_ref().unwrap_or(x));
                let out = match self.mask {
                    Some(mask) => b.run(op, &[q, k, v, mask]),
                    None => b.run(op, &[q, k, v]),
                };
                let turned = b.transpose(&out, 1, 2);
                drop(out);
                (b.contiguous(&turned), None)
            }
            // Flash is refused before a graph is made.
            Attention::Eager | Attention::Flash => {
                let (attended, weights) = self.eager(b, &q, &k, &v);
                (attended, Some(weights))
            }
        };
        let width = c.n_embd as i64;
        let flat = {
            let folded = b.reshape(&attended, &[o.batch as i64, o.seq_len as i64, width]);
            drop(attended);
            b.contiguous(&folded)
        };
        let projected = self.conv1d(b, "c_proj", &flat, &self.w.c_proj, [c.n_embd, c.n_embd]);
        drop(flat);
        let _m = b.enter("resid_dropout");
        let out = b.dropout(&projected, c.resid_pdrop);
        (out, weights.filter(|_| o.transformers >= GPT2_HAS_CACHE_POSITIONS))
    }

    fn eager(
        &self,
        b: &'b Builder,
        q: &Value<'b>,
        k: &Value<'b>,
        v: &Value<'b>,
    ) -> (Value<'b>, Value<'b>) {
        let (mut scores, _minimum) = {
            let turned = b.transpose(k, -1, -2);
            let product = b.run(Op::Matmul, &[q, &turned]);
            drop(turned);
            let scores = self.scaled(b, product);
            match &self.w.causal {
                None => (scores, None),
                Some(causal) => {
                    let (scores, minimum) = self.masked_by_buffer(b, scores, causal);
                    (scores, Some(minimum))
                }
            }
        };
        if let Some(mask) = self.mask {
            scores = b.add(&scores, mask);
        }
        let soft = b.run(Op::Softmax { in_f32: false }, &[&scores]);
        drop(scores);
        let narrow = b.run(Op::ToLike, &[&soft, v]);
        drop(soft);
        let probabilities = b.dropout(&narrow, self.c.attn_pdrop);
        drop(narrow);
        let out = b.run(Op::Matmul, &[&probabilities, v]);
        (b.transpose(&out, 1, 2), probabilities)
    }

    fn scaled(&self, b: &'b Builder, product: Value<'b>) -> Value<'b> {
        if self.o.transformers >= GPT2_SCALES_AT_ONCE {
            return b.mul_number(&product);
        }
        let mut scores = product;
        if self.c.scale_attn_weights {
            let divisor = b.run(Op::NumberLike, &[&scores]);
            scores = b.run(Op::Div, &[&scores, &divisor]);
        }
        if self.c.scale_attn_by_inverse_layer_idx {
            scores = b.mul_number(&scores);
        }
        scores
    }

    /// The scores are masked with `torch.where` by a tensor, which stays a name.
    fn masked_by_buffer(
        &self,
        b: &'b Builder,
        scores: Value<'b>,
        causal: &Value<'b>,
    ) -> (Value<'b>, Value<'b>) {
        let seq = self.o.seq_len as i64;
        let rows = b.run(Op::Slice { dim: 2, start: 0, end: seq }, &[causal]);
        let square = b.run(Op::Slice { dim: 3, start: 0, end: seq }, &[&rows]);
        let minimum = b.run(Op::NumberLike, &[&scores]);
        (b.run(Op::Where, &[&square, &scores, &minimum]), minimum)
    }
}
