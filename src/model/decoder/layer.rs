//! One decoder layer: its weights, and the order of norms, attention, MLP and sums.

use crate::model::blocks::attention::{self, Attend};
use crate::model::blocks::expert_list::ExpertList;
use crate::model::blocks::experts::Experts;
use crate::model::blocks::linear::Linear;
use crate::model::blocks::mlp::MlpBlock;
use crate::model::blocks::norm::Norm;
use crate::model::blocks::rotary::{Rotary, Table};
use crate::model::builder::{Builder, Value};
use crate::model::config::{DecoderConfig, Family};
use crate::model::decoder::architecture::{
    Architecture, NormKind, OwnAttention, Projections, QkNorm, Residuals, Tables,
};
use crate::model::decoder::neox_attention::NeoxAttend;
use crate::model::decoder::own_attention::{OwnRotary, neox_buffers};
use crate::model::graph::Op;
use crate::model::options::GraphOptions;
use crate::model::update_causal_mask::of_sliding_layer;
use crate::model::versions::{ATTENTION_FUNCTIONS, LAYERS_RETURN_ONE, TRANSFORMERS_5};

/// One MLP, or experts.
#[derive(Debug)]
enum FeedForward<'b> {
    Mlp(MlpBlock<'b>),
    Experts(Experts<'b>),
    ExpertList(ExpertList<'b>),
}

/// A layer's weights, loaded in PyTorch's order.
#[derive(Debug)]
pub struct LayerWeights<'b> {
    /// One fused, or query, key and value.
    projections: Vec<Linear<'b>>,
    output: Linear<'b>,
    /// Of its own, before transformers 4.48.
    rotary: OwnRotary<'b>,
    /// GPT-NeoX's buffer of tokens that are not later, before transformers 4.49.
    causal: Option<Value<'b>>,
    /// Of query and key, or none.
    qk_norms: Option<(Norm<'b>, Norm<'b>)>,
    feed_forward: FeedForward<'b>,
    norms: Vec<Norm<'b>>,
}

impl<'b> LayerWeights<'b> {
    /// Loads layer `index`.
    pub fn load(
        b: &'b Builder,
        c: &DecoderConfig,
        o: &GraphOptions,
        index: usize,
    ) -> LayerWeights<'b> {
        let arch = c.architecture_in(o.transformers);
        let layer = format!("{}.layers.{index}", arch.model);
        let load_norms = || -> Vec<Norm<'b>> {
            let names = arch.residuals.norms().iter();
            names.map(|name| Norm::load(b, arch.norm, &layer, name, c.hidden_size)).collect()
        };
        let first_norms = arch.norms_first.then(load_norms);
        let (projections, output, rotary, qk_norms) = attention_weights(b, c, o, &layer);
        let causal = neox_buffers(b, c, o, &format!("{layer}.{}", arch.attention));
        let feed_forward = feed_forward(b, c, o, index, &layer);
        let norms = first_norms.unwrap_or_else(load_norms);
        LayerWeights { projections, output, rotary, causal, qk_norms, feed_forward, norms }
    }
}

fn feed_forward<'b>(
    b: &'b Builder,
    c: &DecoderConfig,
    o: &GraphOptions,
    index: usize,
    layer: &str,
) -> FeedForward<'b> {
    let module = format!("{layer}.{}", feed_forward_name(c, o));
    match c.experts_of(index) {
        Some(experts) if o.transformers < TRANSFORMERS_5 => FeedForward::ExpertList(
            ExpertList::load(b, c.family, experts, c.mlp.activation, c.hidden_size, &module),
        ),
        Some(experts) => FeedForward::Experts(Experts::load(
            b,
            c.family,
            experts,
            c.mlp.activation,
            c.hidden_size,
            &module,
        )),
        None => FeedForward::Mlp(MlpBlock::load(
            b,
            c.architecture_in(o.transformers).mlp,
            c.mlp.activation,
            &module,
            [c.hidden_size, c.mlp.intermediate_size],
            c.mlp.bias,
        )),
    }
}

fn feed_forward_name(c: &DecoderConfig, o: &GraphOptions) -> &'static str {
    match c.family {
        Family::Mixtral if o.transformers < TRANSFORMERS_5 => "block_sparse_moe",
        _ => "mlp",
    }
}

type AttentionWeights<'b> =
    (Vec<Linear<'b>>, Linear<'b>, OwnRotary<'b>, Option<(Norm<'b>, Norm<'b>)>);

fn attention_weights<'b>(
    b: &'b Builder,
    c: &DecoderConfig,
    o: &GraphOptions,
    layer: &str,
) -> AttentionWeights<'b> {
    let (arch, a) = (c.architecture_in(o.transformers), &c.attention);
    let module = format!("{layer}.{}", arch.attention);
    let (queries, keys) = (a.heads * a.head_dim, a.key_value_heads * a.head_dim);
    let project =
        |name, outputs| Linear::load(b, &module, name, [outputs, c.hidden_size], a.qkv_bias);
    let load_output =
        || Linear::load(b, &module, arch.output, [c.hidden_size, queries], a.output_bias);
    let load_rotary = || OwnRotary::load(b, c, o, &module);
    let first_rotary = (arch.projections == Projections::Interleaved).then(load_rotary);
    let (projections, output) = match arch.projections {
        Projections::Separate => {
            let q = project("q_proj", queries);
            let k = project("k_proj", keys);
            let v = project("v_proj", keys);
            (vec![q, k, v], load_output())
        }
        Projections::Fused => {
            let output = load_output();
            (vec![project("qkv_proj", queries + 2 * keys)], output)
        }
        Projections::Interleaved => {
            (vec![project("query_key_value", queries + 2 * keys)], load_output())
        }
    };
    let rotary = first_rotary.unwrap_or_else(load_rotary);
    let norm = |name, width| {
        let kind = match arch.norm {
            NormKind::Layer => NormKind::Rms,
            kind => kind,
        };
        Norm::load(b, kind, &module, name, width)
    };
    let qk_norms = match arch.qk_norm {
        QkNorm::None => None,
        QkNorm::HeadsFirst | QkNorm::HeadsLast => {
            let q = norm("q_norm", a.head_dim);
            Some((q, norm("k_norm", a.head_dim)))
        }
        QkNorm::Whole => {
            let q = norm("q_norm", queries);
            Some((q, norm("k_norm", keys)))
        }
    };
    (projections, output, rotary, qk_norms)
}

/// A layer about to run.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a, 'b> {
    /// Sizes.
    pub c: &'a DecoderConfig,
    /// The batch, the implementation, versions.
    pub o: &'a GraphOptions,
    /// Weights.
    pub w: &'a LayerWeights<'b>,
    /// Its cosines and sines, where the model makes them.
    pub table: Option<&'a Table<'b>>,
    /// Its mask.
    pub mask: Option<&'a Value<'b>>,
    /// Whether it cuts a window out of its mask as it runs.
    pub cuts_window: bool,
    /// Positions, which it hands on.
    pub positions: &'a Value<'b>,
}

impl<'b> Layer<'_, 'b> {
    /// Runs the layer.
    pub fn forward(&self, b: &'b Builder, input: &Value<'b>) -> Value<'b> {
        let cut = self.mask.filter(|_| self.cuts_window);
        let cut = cut.map(|mask| of_sliding_layer(b, self.o, mask));
        if let Some((mask, _names)) = &cut {
            return Layer { mask: Some(mask), ..*self }.run(b, input);
        }
        self.run(b, input)
    }

    fn run(&self, b: &'b Builder, input: &Value<'b>) -> Value<'b> {
        match self.c.architecture_in(self.o.transformers).residuals {
            Residuals::PreNorm => self.pre_norm(b, input),
            Residuals::PostNorm => self.post_norm(b, input),
            Residuals::Sandwich => self.sandwich(b, input),
            Residuals::Parallel => self.parallel(b, input),
        }
    }

    fn norm(&self, b: &'b Builder, index: usize, x: &Value<'b>) -> Value<'b> {
        self.w.norms[index].run(b, x)
    }

    /// `hidden_states, _ = self.self_attn(...)`: the weights stay until the layer returns.
    fn attend(&self, b: &'b Builder, x: &Value<'b>) -> (Value<'b>, Option<Value<'b>>) {
        let arguments = [self.positions];
        b.attention(self.c.architecture_in(self.o.transformers).attention, &arguments, || {
            self.attention(b, x)
        })
    }

    fn feed(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        self.feed_with_logits(b, x).0
    }

    /// The result, and a router's logits where they are handed to the layer.
    fn feed_with_logits(&self, b: &'b Builder, x: &Value<'b>) -> (Value<'b>, Option<Value<'b>>) {
        let _m = b.enter(feed_forward_name(self.c, self.o));
        let (out, logits) = match &self.w.feed_forward {
            FeedForward::Mlp(mlp) => (mlp.run(b, x), None),
            FeedForward::Experts(experts) => (experts.run(b, self.o, x), None),
            FeedForward::ExpertList(experts) => {
                let (out, logits) = experts.run(b, self.o, x);
                (out, Some(logits))
            }
        };
        (self.own_dropout(b, out), logits)
    }

    fn dropout(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        b.dropout(x, self.c.residual_dropout)
    }

    /// Dropout where attention and MLP do it themselves, on a name that is taken again.
    fn own_dropout(&self, b: &'b Builder, x: Value<'b>) -> Value<'b> {
        if self.c.architecture_in(self.o.transformers).own_dropout {
            self.dropout(b, &x)
        } else {
            x
        }
    }

    /// Dropout where the layer does it.
    fn layer_dropout(&self, b: &'b Builder, x: &Value<'b>) -> Option<Value<'b>> {
        (!self.c.architecture_in(self.o.transformers).own_dropout).then(|| self.dropout(b, x))
    }

    fn pre_norm(&self, b: &'b Builder, input: &Value<'b>) -> Value<'b> {
        let normed = self.norm(b, 0, input);
        let (attended, mut _kept) = self.attend(b, &normed);
        // Phi-3 gave what attention returns a name of its own.
        let is_named = self.c.family == Family::Phi3 && self.own().is_some();
        let normed = is_named.then_some(normed);
        let residual = {
            let dropped = self.layer_dropout(b, &attended);
            b.add(input, dropped.as_ref().unwrap_or(&attended))
        };
        drop(normed);
        let _attended = is_named.then_some(attended);
        let normed = self.norm(b, 1, &residual);
        let (fed, logits) = self.feed_with_logits(b, &normed);
        drop(normed);
        let _router = match logits {
            // `hidden_states, _ = ...`: the name that held attention's weights.
            Some(logits) if self.o.transformers >= LAYERS_RETURN_ONE => {
                _kept = Some(logits);
                None
            }
            logits => logits,
        };
        let dropped = self.layer_dropout(b, &fed);
        b.add(&residual, dropped.as_ref().unwrap_or(&fed))
    }

    fn post_norm(&self, b: &'b Builder, input: &Value<'b>) -> Value<'b> {
        let (attended, _weights) = self.attend(b, input);
        let normed = self.norm(b, 0, &attended);
        drop(attended);
        let residual = b.add(input, &normed);
        drop(normed);
        let fed = self.feed(b, &residual);
        let normed = self.norm(b, 1, &fed);
        drop(fed);
        b.add(&residual, &normed)
    }

    fn sandwich(&self, b: &'b Builder, input: &Value<'b>) -> Value<'b> {
        let normed = self.norm(b, 0, input);
        let (attended, _weights) = self.attend(b, &normed);
        drop(normed);
        let normed = self.norm(b, 1, &attended);
        drop(attended);
        let residual = b.add(input, &normed);
        drop(normed);
        let normed = self.norm(b, 2, &residual);
        let fed = self.feed(b, &normed);
        drop(normed);
        let normed = self.norm(b, 3, &fed);
        drop(fed);
        b.add(&residual, &normed)
    }

    fn parallel(&self, b: &'b Builder, input: &Value<'b>) -> Value<'b> {
        let (returned, _weights) = {
            let normed = self.norm(b, 0, input);
            self.attend(b, &normed)
        };
        let mut attended = self.dropout(b, &returned);
        // `attention_layer_outputs`, before transformers 4.49.
        let _returned = self.own().map(|_| returned);
        if self.c.parallel_residual {
            let mut fed = {
                let normed = self.norm(b, 1, input);
                self.feed(b, &normed)
            };
            fed = self.dropout(b, &fed);
            let sum = b.add(&fed, &attended);
            return b.add(&sum, input);
        }
        attended = b.add(&attended, input);
        let mut fed = {
            let normed = self.norm(b, 1, &attended);
            self.feed(b, &normed)
        };
        fed = self.dropout(b, &fed);
        b.add(&fed, &attended)
    }

    fn attention(&self, b: &'b Builder, x: &Value<'b>) -> (Value<'b>, Option<Value<'b>>) {
        let (c, o) = (self.c, self.o);
        let (arch, a) = (c.architecture_in(o.transformers), &c.attention);
        let own = self.own();
        let (q, k, v, _fused) = self.projected(b, x);
        let own_table = self.w.rotary.table(b, c, o, &v);
        let (q, k) = match own_table.as_ref().or(self.table) {
            Some(table) => self.turned(b, table, (q, k)),
            None => (q, k),
        };
        let attend = Attend {
            o,
            heads: a.heads,
            key_value_heads: a.key_value_heads,
            head_dim: a.head_dim,
            dropout: a.dropout,
            softcap: a.softcap,
            grouped: arch.grouped,
            causal: true,
            mask: self.mask,
            adds_mask_in_place: own.is_some_and(|own| own.adds_mask_in_place),
            calls_pytorch: false,
            softmax_in_f32: true,
        };
        if own.is_some() && c.family == Family::GptNeoX {
            let attend = NeoxAttend { attend, causal: self.w.causal.as_ref() };
            let (attended, _names) = attend.run(b, [q, k, v]);
            return (self.output(b, attended), None);
        }
        if own.is_some() && !self.calls_function() {
            let (attended, _names) = attend.run_own(b, [q, k, v]);
            return (self.output(b, attended), None);
        }
        let (attended, weights) = attend.run(b, &q, &k, &v);
        // Classes of before 4.48 let go of them as they return.
        let weights = weights.filter(|_| own.is_none());
        (self.output(b, attended), weights)
    }

    fn own(&self) -> Option<OwnAttention> {
        Architecture::own_attention(self.c.family, self.o.transformers)
    }

    /// Whether attention calls a function with its names, though it is a class of the model's own.
    fn calls_function(&self) -> bool {
        self.c.family == Family::Gemma2 && self.o.transformers >= ATTENTION_FUNCTIONS
    }

    /// Query and key turned by a table, as they were gone.
    fn turned(
        &self,
        b: &'b Builder,
        table: &Table<'b>,
        (q, k): (Value<'b>, Value<'b>),
    ) -> (Value<'b>, Value<'b>) {
        let (c, o) = (self.c, self.o);
        let (arch, rotary_dim) =
            (c.architecture_in(o.transformers), c.rotary_dim_in(o.transformers));
        let rows = self.w.rotary.rows_of_positions(b, o, table, rotary_dim);
        let rotary = Rotary {
            table: rows.as_ref().unwrap_or(table),
            rotation: arch.rotation,
            head_dim: c.attention.head_dim,
            rotary_dim,
            upcast: false,
            cast_back: arch.tables == Tables::InF32,
        };
        rotary.apply(b, &q, &k)
    }

    fn output(&self, b: &'b Builder, attended: Value<'b>) -> Value<'b> {
        let a = &self.c.attention;
        let flat = attention::joined_heads(b, self.o, attended, a.heads * a.head_dim);
        let projected = self.w.output.run(b, &flat);
        drop(flat);
        self.own_dropout(b, projected)
    }

    /// Query, key and value, (batch, heads, seq_len, head_dim), and a fused projection that stays a
    /// name until attention returns.
    fn projected(
        &self,
        b: &'b Builder,
        x: &Value<'b>,
    ) -> (Value<'b>, Value<'b>, Value<'b>, Option<Value<'b>>) {
        let a = &self.c.attention;
        let arch = self.c.architecture_in(self.o.transformers);
        let split = |x: Value<'b>, heads| attention::split_heads(b, self.o, x, [heads, a.head_dim]);
        let front = |x: Value<'b>| b.transpose(&x, 1, 2);
        let (queries, keys) = (a.heads * a.head_dim, a.key_value_heads * a.head_dim);
        let project = |index: usize| self.w.projections[index].run(b, x);
        match arch.projections {
            Projections::Separate => {
                let (q, k, v) = self.separate(b, x);
                (q, k, v, None)
            }
            Projections::Fused => {
                let fused = project(0);
                let cut = |start: u64, size: u64| {
                    let (start, end) = (start as i64, (start + size) as i64);
                    b.run(Op::Slice { dim: -1, start, end }, &[&fused])
                };
                let (q, k, v) = (cut(0, queries), cut(queries, keys), cut(queries + keys, keys));
                let q = front(split(q, a.heads));
                let k = front(split(k, a.key_value_heads));
                let v = front(split(v, a.key_value_heads));
                (q, k, v, Some(fused))
            }
            Projections::Interleaved if self.own().is_some() => {
                let sizes = [a.heads, 3 * a.head_dim];
                let fused = attention::split_heads(b, self.o, project(0), sizes);
                let dim = a.head_dim as i64;
                let cut = |index: i64| {
                    let (start, end) = (index * dim, (index + 1) * dim);
                    let part = b.run(Op::Slice { dim: -1, start, end }, &[&fused]);
                    b.run(Op::Permute { order: [0, 2, 1, 3].into_iter().collect() }, &[&part])
                };
                let (q, k, v) = (cut(0), cut(1), cut(2));
                (q, k, v, None)
            }
            Projections::Interleaved => {
                let sizes = [a.heads, 3 * a.head_dim];
                let fused = front(attention::split_heads(b, self.o, project(0), sizes));
                let [q, k, v] = b.run_many(Op::Split { dim: -1, parts: 3 }, &[&fused]);
                (q, k, v, Some(fused))
            }
        }
    }

    fn separate(&self, b: &'b Builder, x: &Value<'b>) -> (Value<'b>, Value<'b>, Value<'b>) {
        let a = &self.c.attention;
        let heads = |x: Value<'b>, heads| attention::split_heads(b, self.o, x, [heads, a.head_dim]);
        let front = |x: Value<'b>| b.transpose(&x, 1, 2);
        let project = |index: usize| self.w.projections[index].run(b, x);
        let (key_heads, qk_norm) =
            (a.key_value_heads, self.c.architecture_in(self.o.transformers).qk_norm);
        match (&self.w.qk_norms, qk_norm) {
            (None, _) | (_, QkNorm::None) if self.own().is_some() => {
                let (q, k, v) = (project(0), project(1), project(2));
                let q = front(heads(q, a.heads));
                let k = front(heads(k, key_heads));
                (q, k, front(heads(v, key_heads)))
            }
            (None, _) | (_, QkNorm::None) => {
                let q = front(heads(project(0), a.heads));
                let k = front(heads(project(1), key_heads));
                (q, k, front(heads(project(2), key_heads)))
            }
            (Some((q_norm, k_norm)), QkNorm::HeadsLast) => {
                let q = front(q_norm.run(b, &heads(project(0), a.heads)));
                let k = front(k_norm.run(b, &heads(project(1), key_heads)));
                (q, k, front(heads(project(2), key_heads)))
            }
            (Some((q_norm, k_norm)), QkNorm::HeadsFirst) => {
                let q = front(heads(project(0), a.heads));
                let k = front(heads(project(1), key_heads));
                let v = front(heads(project(2), key_heads));
                let q_normed = q_norm.run(b, &q);
                drop(q);
                let k_normed = k_norm.run(b, &k);
                (q_normed, k_normed, v)
            }
            (Some((q_norm, k_norm)), QkNorm::Whole) => {
                let q = q_norm.run(b, &project(0));
                let k = k_norm.run(b, &project(1));
                let v = project(2);
                let q = front(heads(q, a.heads));
                let k = front(heads(k, key_heads));
                (q, k, front(heads(v, key_heads)))
            }
        }
    }
}
