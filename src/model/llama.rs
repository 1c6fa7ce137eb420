//! Llama, Mistral, Qwen2: RMSNorm, rotary embeddings, grouped-query attention, gated MLP.
//!
//! Source: transformers `models/llama/modeling_llama.py` (and `mistral`, `qwen2`) of 4.56 and 5.23.

use crate::model::builder::{Builder, Value};
use crate::model::config::{Activation, LlamaConfig, LlamaFamily};
use crate::model::graph::{Dtype, Graph, Op};
use crate::model::masks::{self, AFTER_5_12, TRANSFORMERS_5};
use crate::model::options::{Attention, GraphOptions, Version};

struct LinearWeights<'b> {
    weight: Value<'b>,
    bias: Option<Value<'b>>,
}

struct LayerWeights<'b> {
    q: LinearWeights<'b>,
    k: LinearWeights<'b>,
    v: LinearWeights<'b>,
    o: LinearWeights<'b>,
    gate: LinearWeights<'b>,
    up: LinearWeights<'b>,
    down: LinearWeights<'b>,
    input_norm: Value<'b>,
    post_attention_norm: Value<'b>,
}

/// Builds the forward pass with its loss.
pub fn build(c: &LlamaConfig, o: &GraphOptions) -> Graph {
    let b = Builder::new();
    let loss = forward(&b, c, o);
    b.finish(loss)
}

fn linear_weights<'b>(
    b: &'b Builder,
    module: &str,
    outputs: u64,
    inputs: u64,
    bias: bool,
) -> LinearWeights<'b> {
    LinearWeights {
        weight: b.parameter(module, &[outputs, inputs]),
        bias: bias.then(|| b.parameter(module, &[outputs])),
    }
}

fn layer_weights<'b>(b: &'b Builder, c: &LlamaConfig, index: u64) -> LayerWeights<'b> {
    let at = |name: &str| format!("model.layers.{index}.{name}");
    let (hidden, inner) = (c.hidden_size, c.intermediate_size);
    let (queries, keys) = (c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim);
    let (qkv_bias, o_bias) = match c.family {
        LlamaFamily::Llama => (c.attention_bias, c.attention_bias),
        LlamaFamily::Mistral => (false, false),
        LlamaFamily::Qwen2 => (true, false),
    };
    LayerWeights {
        q: linear_weights(b, &at("self_attn.q_proj"), queries, hidden, qkv_bias),
        k: linear_weights(b, &at("self_attn.k_proj"), keys, hidden, qkv_bias),
        v: linear_weights(b, &at("self_attn.v_proj"), keys, hidden, qkv_bias),
        o: linear_weights(b, &at("self_attn.o_proj"), hidden, queries, o_bias),
        gate: linear_weights(b, &at("mlp.gate_proj"), inner, hidden, c.mlp_bias),
        up: linear_weights(b, &at("mlp.up_proj"), inner, hidden, c.mlp_bias),
        down: linear_weights(b, &at("mlp.down_proj"), hidden, inner, c.mlp_bias),
        input_norm: b.parameter(&at("input_layernorm"), &[hidden]),
        post_attention_norm: b.parameter(&at("post_attention_layernorm"), &[hidden]),
    }
}

fn forward(b: &Builder, c: &LlamaConfig, o: &GraphOptions) -> crate::model::graph::ValueId {
    let embedding = b.parameter("model.embed_tokens", &[c.vocab_size, c.hidden_size]);
    let layers: Vec<_> = (0..c.num_hidden_layers).map(|i| layer_weights(b, c, i)).collect();
    let norm = b.parameter("model.norm", &[c.hidden_size]);
    let inv_freq = b.buffer("model.rotary_emb", &[c.head_dim / 2], Dtype::F32);
    if o.transformers >= TRANSFORMERS_5 {
        // original_inv_freq became a buffer of its own.
        b.buffer("model.rotary_emb", &[c.head_dim / 2], Dtype::F32);
    }
    let head =
        (!c.tie_word_embeddings).then(|| b.parameter("lm_head", &[c.vocab_size, c.hidden_size]));

    let ids = b.batch(&[o.batch, o.seq_len], Dtype::I64);
    b.batch(&[o.batch, o.seq_len], Dtype::I64); // labels
    let mask = match o.attention_mask {
        crate::model::options::AttentionMask::None => None,
        _ => Some(b.batch(&[o.batch, o.seq_len], Dtype::I64)),
    };

    let hidden = {
        let _model = b.enter("model");
        decoder(
            b,
            c,
            o,
            &Inputs {
                embedding: &embedding,
                layers: &layers,
                norm: &norm,
                inv_freq: &inv_freq,
                ids: &ids,
                mask: mask.as_ref(),
            },
        )
    };
    let hidden = masks::sliced_for_head(b, o, hidden, c.hidden_size);
    let logits = {
        let _head = b.enter("lm_head");
        let weight = head.as_ref().unwrap_or(&embedding);
        b.run(Op::Linear, &[&hidden, weight])
    };
    let loss = masks::causal_lm_loss(b, o, &logits, c.vocab_size);
    loss.keep()
}

struct Inputs<'a, 'b> {
    embedding: &'a Value<'b>,
    layers: &'a [LayerWeights<'b>],
    norm: &'a Value<'b>,
    inv_freq: &'a Value<'b>,
    ids: &'a Value<'b>,
    mask: Option<&'a Value<'b>>,
}

fn decoder<'b>(b: &'b Builder, c: &LlamaConfig, o: &GraphOptions, x: &Inputs<'_, 'b>) -> Value<'b> {
    let embedded = {
        let _m = b.enter("embed_tokens");
        b.run(Op::Embedding, &[x.embedding, x.ids])
    };
    let positions = b.fresh(&[o.seq_len], Dtype::I64);
    let positions = if o.transformers >= TRANSFORMERS_5 {
        let shifted = b.fresh(&[o.seq_len], Dtype::I64);
        drop(positions);
        shifted
    } else {
        positions
    };
    let causal = masks::causal_mask(b, o, x.mask);
    let (cos, sin) = {
        let _m = b.enter("rotary_emb");
        rotary(b, c, o, x.inv_freq)
    };
    let mut hidden = None::<Value<'_>>;
    for (index, weights) in x.layers.iter().enumerate() {
        let _m = b.enter(&format!("layers.{index}"));
        let input = hidden.as_ref().unwrap_or(&embedded);
        let ctx = Layer { c, o, w: weights, cos: &cos, sin: &sin, mask: causal.as_ref() };
        let out = b.layer(&[&positions], || ctx.forward(b, input));
        hidden = Some(out);
    }
    let _m = b.enter("norm");
    let last = hidden.as_ref().unwrap_or(&embedded);
    rms_norm(b, last, x.norm)
}

/// Returns cosines and sines, (1, seq_len, head_dim) in the model's dtype.
fn rotary<'b>(
    b: &'b Builder,
    c: &LlamaConfig,
    o: &GraphOptions,
    inv_freq: &Value<'b>,
) -> (Value<'b>, Value<'b>) {
    let (seq, dim) = (o.seq_len, c.head_dim);
    let (freqs, _positions) = if o.transformers >= AFTER_5_12 {
        let _positions = b.fresh(&[1, seq, 1], Dtype::F32);
        (b.fresh(&[1, seq, dim / 2], Dtype::F32), None)
    } else {
        // A matrix product of (1, dim / 2, 1) and (1, 1, seq_len), outside autograd.
        let positions = b.fresh(&[1, 1, seq], Dtype::F32);
        let columns = b.view(inv_freq, &[1, dim as i64 / 2, 1]);
        let product = b.run(Op::Matmul, &[&columns, &positions]);
        (b.transpose(&product, 1, 2), Some(positions))
    };
    let emb = b.run(Op::Cat { dim: -1 }, &[&freqs, &freqs]);
    let scaled = || {
        let raw = b.fresh(&[1, seq, dim], Dtype::F32);
        let scaled = b.fresh(&[1, seq, dim], Dtype::F32);
        drop(raw);
        scaled
    };
    let cos = scaled();
    let sin = scaled();
    let model = |x: &Value<'b>| b.run(Op::To { dtype: Dtype::Model }, &[x]);
    let out = (model(&cos), model(&sin));
    drop((freqs, emb, cos, sin));
    out
}

fn rms_norm<'b>(b: &'b Builder, x: &Value<'b>, weight: &Value<'b>) -> Value<'b> {
    let wide = b.run(Op::To { dtype: Dtype::F32 }, &[x]);
    let variance = {
        let squares = b.run(Op::Pow { exponent: 2 }, &[&wide]);
        b.run(Op::MeanLast, &[&squares])
    };
    let normed = {
        let shifted = b.add_number(&variance);
        let inverse = b.run(Op::Rsqrt, &[&shifted]);
        drop(shifted);
        b.mul(&wide, &inverse)
    };
    drop(wide);
    let narrow = b.run(Op::ToLike, &[&normed, x]);
    b.mul(weight, &narrow)
}

struct Layer<'a, 'b> {
    c: &'a LlamaConfig,
    o: &'a GraphOptions,
    w: &'a LayerWeights<'b>,
    cos: &'a Value<'b>,
    sin: &'a Value<'b>,
    mask: Option<&'a Value<'b>>,
}

impl<'b> Layer<'_, 'b> {
    fn forward(&self, b: &'b Builder, input: &Value<'b>) -> Value<'b> {
        let normed = {
            let _m = b.enter("input_layernorm");
            rms_norm(b, input, &self.w.input_norm)
        };
        // `hidden_states, _ = self.self_attn(...)`: the weights stay until the layer returns.
        let (attended, _weights) = {
            let _m = b.enter("self_attn");
            self.attention(b, &normed)
        };
        drop(normed);
        let residual = b.add(input, &attended);
        drop(attended);
        let normed = {
            let _m = b.enter("post_attention_layernorm");
            rms_norm(b, &residual, &self.w.post_attention_norm)
        };
        let fed = {
            let _m = b.enter("mlp");
            self.mlp(b, &normed)
        };
        drop(normed);
        b.add(&residual, &fed)
    }

    fn linear(
        &self,
        b: &'b Builder,
        name: &str,
        x: &Value<'b>,
        w: &LinearWeights<'b>,
    ) -> Value<'b> {
        let _m = b.enter(name);
        match &w.bias {
            Some(bias) => b.run(Op::Linear, &[x, &w.weight, bias]),
            None => b.run(Op::Linear, &[x, &w.weight]),
        }
    }

    fn mlp(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let gate = self.linear(b, "gate_proj", x, &self.w.gate);
        let active = {
            let _m = b.enter("act_fn");
            activation(b, self.c.hidden_act, &gate)
        };
        drop(gate);
        let up = self.linear(b, "up_proj", x, &self.w.up);
        let product = b.mul(&active, &up);
        drop((active, up));
        self.linear(b, "down_proj", &product, &self.w.down)
    }

    fn heads(&self, b: &'b Builder, x: Value<'b>, heads: u64) -> Value<'b> {
        let (batch, seq) = (self.o.batch as i64, self.o.seq_len as i64);
        let split = b.view(&x, &[batch, seq, heads as i64, self.c.head_dim as i64]);
        drop(x);
        b.transpose(&split, 1, 2)
    }

    fn attention(&self, b: &'b Builder, x: &Value<'b>) -> (Value<'b>, Option<Value<'b>>) {
        let c = self.c;
        let (heads, kv_heads) = (c.num_attention_heads, c.num_key_value_heads);
        let q = self.heads(b, self.linear(b, "q_proj", x, &self.w.q), heads);
        let k = self.heads(b, self.linear(b, "k_proj", x, &self.w.k), kv_heads);
        let v = self.heads(b, self.linear(b, "v_proj", x, &self.w.v), kv_heads);
        let (q, k) = {
            let cos = b.run(Op::Unsqueeze { dim: 1 }, &[self.cos]);
            let sin = b.run(Op::Unsqueeze { dim: 1 }, &[self.sin]);
            let turned_q = turn(b, &q, &cos, &sin, c.head_dim);
            let turned_k = turn(b, &k, &cos, &sin, c.head_dim);
            drop((q, k));
            (turned_q, turned_k)
        };
        let (attended, weights) = match self.o.attention {
            Attention::Sdpa => (self.sdpa(b, &q, &k, &v), None),
            Attention::Eager => {
                let (attended, weights) = self.eager(b, &q, &k, &v);
                (attended, Some(weights))
            }
        };
        let (batch, seq) = (self.o.batch as i64, self.o.seq_len as i64);
        let flat = {
            let folded = b.reshape(&attended, &[batch, seq, (heads * c.head_dim) as i64]);
            drop(attended);
            b.contiguous(&folded)
        };
        (self.linear(b, "o_proj", &flat, &self.w.o), weights)
    }

    fn kv_sizes(&self) -> [u64; 4] {
        [self.o.batch, self.c.num_key_value_heads, self.o.seq_len, self.c.head_dim]
    }

    fn sdpa(&self, b: &'b Builder, q: &Value<'b>, k: &Value<'b>, v: &Value<'b>) -> Value<'b> {
        let c = self.c;
        let repeats = c.num_attention_heads / c.num_key_value_heads;
        // use_gqa_in_sdpa: without a mask, on a PyTorch that has it (2.5), and from transformers 5
        // on only for heads that a fast kernel takes.
        let grouped = repeats > 1
            && self.mask.is_none()
            && self.o.torch >= Version::new(2, 5)
            && (self.o.transformers < TRANSFORMERS_5 || c.head_dim <= 256);
        let op = Op::Sdpa { dropout: c.attention_dropout, causal: self.mask.is_none(), grouped };
        let run = |k: &Value<'b>, v: &Value<'b>| match self.mask {
            Some(mask) => b.run(op.clone(), &[q, k, v, mask]),
            None => b.run(op.clone(), &[q, k, v]),
        };
        let out = if repeats > 1 && !grouped {
            let wide_k = masks::repeat_kv(b, k, self.kv_sizes(), repeats);
            let wide_v = masks::repeat_kv(b, v, self.kv_sizes(), repeats);
            run(&wide_k, &wide_v)
        } else {
            run(k, v)
        };
        let turned = b.transpose(&out, 1, 2);
        drop(out);
        b.contiguous(&turned)
    }

    fn eager(
        &self,
        b: &'b Builder,
        q: &Value<'b>,
        k: &Value<'b>,
        v: &Value<'b>,
    ) -> (Value<'b>, Value<'b>) {
        let repeats = self.c.num_attention_heads / self.c.num_key_value_heads;
        let repeated =
            |x: &Value<'b>| (repeats > 1).then(|| masks::repeat_kv(b, x, self.kv_sizes(), repeats));
        let (wide_k, wide_v) = (repeated(k), repeated(v));
        let (k, v) = (wide_k.as_ref().unwrap_or(k), wide_v.as_ref().unwrap_or(v));
        let mut scores = {
            let turned = b.transpose(k, 2, 3);
            let product = b.run(Op::Matmul, &[q, &turned]);
            drop(turned);
            b.mul_number(&product)
        };
        if let Some(mask) = self.mask {
            scores = b.add(&scores, mask);
        }
        let soft = b.run(Op::Softmax { in_f32: true }, &[&scores]);
        let narrow = b.run(Op::ToLike, &[&soft, q]);
        drop((scores, soft));
        let probabilities = b.dropout(&narrow, self.c.attention_dropout);
        drop(narrow);
        let out = b.run(Op::Matmul, &[&probabilities, v]);
        let turned = b.transpose(&out, 1, 2);
        let flat = b.contiguous(&turned);
        drop((out, turned));
        (flat, probabilities)
    }
}

/// `apply_rotary_pos_emb` on one of query and key.
fn turn<'b>(
    b: &'b Builder,
    x: &Value<'b>,
    cos: &Value<'b>,
    sin: &Value<'b>,
    head_dim: u64,
) -> Value<'b> {
    let plain = b.mul(x, cos);
    let half = (head_dim / 2) as i64;
    let rotated = {
        let first = b.run(Op::Slice { dim: -1, start: 0, end: half }, &[x]);
        let second = b.run(Op::Slice { dim: -1, start: half, end: head_dim as i64 }, &[x]);
        let negated = b.run(Op::Neg, &[&second]);
        b.run(Op::Cat { dim: -1 }, &[&negated, &first])
    };
    let turned = b.mul(&rotated, sin);
    drop(rotated);
    b.add(&plain, &turned)
}

/// The activation between two projections, as transformers' `ACT2FN` has it.
pub fn activation<'b>(b: &'b Builder, kind: Activation, x: &Value<'b>) -> Value<'b> {
    match kind {
        Activation::Silu => b.run(Op::Silu, &[x]),
        Activation::Gelu | Activation::GeluPytorchTanh => b.run(Op::Gelu, &[x]),
        Activation::Relu => b.run(Op::Relu, &[x]),
        Activation::GeluNew => gelu_new(b, x),
    }
}

/// `0.5 * x * (1.0 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))`, operator by operator.
fn gelu_new<'b>(b: &'b Builder, x: &Value<'b>) -> Value<'b> {
    let half = b.mul_number(x);
    let cube = b.run(Op::Pow { exponent: 3 }, &[x]);
    let scaled = b.mul_number(&cube);
    drop(cube);
    let sum = b.add(x, &scaled);
    drop(scaled);
    let argument = b.mul_number(&sum);
    drop(sum);
    let tanh = b.run(Op::Tanh, &[&argument]);
    drop(argument);
    let shifted = b.add_number(&tanh);
    drop(tanh);
    b.mul(&half, &shifted)
}
