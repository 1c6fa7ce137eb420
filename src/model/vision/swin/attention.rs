//! Attention within windows, with a learned bias for each distance, as each version's code runs it.

use crate::model::blocks::attention::{Attend, split_heads};
use crate::model::blocks::linear::Linear;
use crate::model::builder::{Builder, Value};
use crate::model::config::SwinConfig;
use crate::model::graph::{Dtype, Op};
use crate::model::options::GraphOptions;
use crate::model::versions::VISION_AS_DECODERS;
use crate::model::vision::swin::windows::Windows;

/// An attention's weights.
#[derive(Debug)]
pub struct AttentionWeights<'b> {
    query: Linear<'b>,
    key: Linear<'b>,
    value: Linear<'b>,
    output: Linear<'b>,
    /// A bias for each distance and head.
    biases: Value<'b>,
    /// The distance of each pair of patches.
    distances: Value<'b>,
    heads: u64,
}

impl<'b> AttentionWeights<'b> {
    /// Loads an attention's weights; `layer` is the path of its layer.
    pub fn load(
        b: &'b Builder,
        c: &SwinConfig,
        o: &GraphOptions,
        layer: &str,
        stage: usize,
    ) -> AttentionWeights<'b> {
        let as_decoders = o.transformers >= VISION_AS_DECODERS;
        let (width, heads) = (c.width(stage), c.num_heads[stage]);
        let path = format!("{layer}.attention");
        let (own, [q, k, v]) = match as_decoders {
            true => (path.clone(), ["q_proj", "k_proj", "v_proj"]),
            false => (format!("{path}.self"), ["query", "key", "value"]),
        };
        let square = [width, width];
        let linear = |name| Linear::load(b, &own, name, square, c.qkv_bias);
        let (query, key, value) = (linear(q), linear(k), linear(v));
        let rows = (2 * c.window_size - 1) * (2 * c.window_size - 1);
        let patches = c.window_size * c.window_size;
        let name = "relative_position_bias_table";
        let sizes = [rows, heads];
        let (output, biases, distances);
        if as_decoders {
            output = Linear::load(b, &path, "o_proj", square, true);
            let module = format!("{path}.relative_position_bias");
            biases = b.named_parameter(&module, name, &sizes);
            distances = b.buffer(&module, &[patches * patches], Dtype::I64);
        } else {
            biases = b.own_parameter(&own, name, &sizes, query.weight());
            distances = b.buffer(&own, &[patches, patches], Dtype::I64);
            output = Linear::load(b, &format!("{path}.output"), "dense", square, true);
        }
        AttentionWeights { query, key, value, output, biases, distances, heads }
    }
}

/// One attention to run.
#[derive(Debug)]
pub struct WindowAttention<'a, 'b> {
    /// The model's sizes.
    pub c: &'a SwinConfig,
    /// The batch, the implementation, versions.
    pub o: &'a GraphOptions,
    /// Its weights.
    pub w: &'a AttentionWeights<'b>,
    /// How the image was cut.
    pub windows: Windows,
    /// The mask of shifted windows.
    pub mask: Option<&'a Value<'b>>,
}

impl<'b> WindowAttention<'_, 'b> {
    /// Runs it on (windows of all images, patches, width); returns what it made, and probabilities
    /// that its caller gets as well.
    pub fn run(&self, b: &'b Builder, x: &Value<'b>) -> (Value<'b>, Option<Value<'b>>) {
        if self.o.transformers >= VISION_AS_DECODERS {
            self.run_as_decoders(b, x)
        } else {
            (self.run_as_before(b, x), None)
        }
    }

    /// Windows of all images.
    fn all_windows(&self) -> u64 {
        self.windows.batch * self.windows.count()
    }

    fn head_dim(&self) -> u64 {
        self.windows.width / self.w.heads
    }

    fn projected(&self, b: &'b Builder, x: &Value<'b>, linear: &Linear<'b>) -> Value<'b> {
        let o =
            GraphOptions { batch: self.all_windows(), seq_len: self.windows.patches(), ..*self.o };
        let split = split_heads(b, &o, linear.run(b, x), [self.w.heads, self.head_dim()]);
        b.transpose(&split, 1, 2)
    }

    /// The bias of each pair of patches, (heads, patches, patches).
    fn bias(&self, b: &'b Builder) -> Value<'b> {
        let patches = self.windows.patches() as i64;
        let flat = b.view(&self.w.distances, &[-1]);
        let rows = b.run(Op::IndexRows { dim: 0 }, &[&self.w.biases, &flat]);
        drop(flat);
        let square = b.view(&rows, &[patches, patches, -1]);
        drop(rows);
        let turned = b.run(Op::Permute { order: [2, 0, 1].into_iter().collect() }, &[&square]);
        b.contiguous(&turned)
    }

    fn run_as_decoders(&self, b: &'b Builder, x: &Value<'b>) -> (Value<'b>, Option<Value<'b>>) {
        let [q, k, v] =
            [&self.w.query, &self.w.key, &self.w.value].map(|w| self.projected(b, x, w));
        let bias = {
            let _m = b.enter("relative_position_bias");
            let bias = self.bias(b);
            b.run(Op::Unsqueeze { dim: 0 }, &[&bias])
        };
        let masks = self.mask.map(|mask| {
            let repeated = self.repeated(b, mask);
            let combined = b.add(&bias, &repeated);
            (repeated, combined)
        });
        let attend = Attend {
            o: self.o,
            heads: self.w.heads,
            key_value_heads: self.w.heads,
            head_dim: self.head_dim(),
            dropout: self.c.attention_probs_dropout_prob,
            softcap: false,
            grouped: false,
            causal: false,
            mask: Some(masks.as_ref().map_or(&bias, |(_, combined)| combined)),
            adds_mask_in_place: false,
            calls_pytorch: false,
            softmax_in_f32: true,
        };
        let (attended, probabilities) = attend.run(b, &q, &k, &v);
        let sizes = [self.all_windows(), self.windows.patches(), self.windows.width];
        let joined = b.reshape(&attended, &sizes.map(|n| n as i64));
        drop(attended);
        (self.w.output.run(b, &joined), probabilities)
    }

    /// The mask of each window of all images, (windows, 1, patches, patches).
    fn repeated(&self, b: &'b Builder, mask: &Value<'b>) -> Value<'b> {
        let (windows, patches) = (self.windows.count() as i64, self.windows.patches() as i64);
        let heads = b.run(Op::Unsqueeze { dim: 1 }, &[mask]);
        let images = b.run(Op::Unsqueeze { dim: 0 }, &[&heads]);
        let sizes = [self.windows.batch as i64, windows, 1, patches, patches];
        let all = b.run(Op::Expand { sizes: sizes.into_iter().collect() }, &[&images]);
        b.reshape(&all, &[-1, 1, patches, patches])
    }

    fn run_as_before(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let context = {
            let _m = b.enter("self");
            self.context_as_before(b, x)
        };
        let _m = b.enter("output");
        let dense = self.w.output.run(b, &context);
        b.dropout(&dense, self.c.attention_probs_dropout_prob)
    }

    fn context_as_before(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let [q, k, v] =
            [&self.w.query, &self.w.key, &self.w.value].map(|w| self.projected(b, x, w));
        let mut scores = {
            let turned = b.transpose(&k, 2, 3);
            b.run(Op::Matmul, &[&q, &turned])
        };
        scores = b.mul_number(&scores);
        let _bias = {
            let bias = self.bias(b);
            let wide = b.run(Op::Unsqueeze { dim: 0 }, &[&bias]);
            scores = b.add(&scores, &wide);
            bias
        };
        if let Some(mask) = self.mask {
            let (windows, patches) = (self.windows.count() as i64, self.windows.patches() as i64);
            let (batch, heads) = (self.windows.batch as i64, self.w.heads as i64);
            scores = b.view(&scores, &[batch, windows, heads, patches, patches]);
            let heads_of = b.run(Op::Unsqueeze { dim: 1 }, &[mask]);
            let images = b.run(Op::Unsqueeze { dim: 0 }, &[&heads_of]);
            drop(heads_of);
            scores = b.add(&scores, &images);
            scores = b.view(&scores, &[-1, heads, patches, patches]);
        }
        let mut probabilities = b.run(Op::Softmax { in_f32: false }, &[&scores]);
        probabilities = b.dropout(&probabilities, self.c.attention_probs_dropout_prob);
        let product = b.run(Op::Matmul, &[&probabilities, &v]);
        let turned = b.transpose(&product, 1, 2);
        let dense = b.contiguous(&turned);
        drop((product, turned));
        let sizes = [self.all_windows(), self.windows.patches(), self.windows.width];
        b.view(&dense, &sizes.map(|n| n as i64))
    }
}
