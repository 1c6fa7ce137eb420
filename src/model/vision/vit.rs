//! ViT: patches of an image as tokens, with one more in front that is classified.
//!
//! Source: transformers `models/vit/modeling_vit.py` of 4.46.3 to 4.56.2 and 5.23.0.

use crate::model::blocks::activation::activation;
use crate::model::blocks::attention::{Attend, PlainAttended, plain_eager, split_heads};
use crate::model::blocks::linear::Linear;
use crate::model::blocks::norm::Norm;
use crate::model::builder::{Builder, Value};
use crate::model::classify;
use crate::model::config::VitConfig;
use crate::model::decoder::architecture::NormKind;
use crate::model::graph::{Conv2d, Graph, Op, ValueId};
use crate::model::masks;
use crate::model::options::{Attention, GraphOptions};
use crate::model::versions::{
    TRANSFORMERS_5, VISION_AS_DECODERS, VIT_ATTENTION_INTERFACE, VIT_NAMES_ALL,
};
use crate::model::vision::conv::{Convolution, Filters};
use crate::model::vision::head::{Batch, Labels};

/// Builds the forward pass with its loss.
pub fn build(c: &VitConfig, o: &GraphOptions) -> Graph {
    let b = Builder::new();
    let loss = forward(&b, c, o);
    b.finish(loss)
}

/// A layer's weights, named as the version names them.
struct LayerWeights<'b> {
    query: Linear<'b>,
    key: Linear<'b>,
    value: Linear<'b>,
    output: Linear<'b>,
    before: Norm<'b>,
    after: Norm<'b>,
    up: Linear<'b>,
    down: Linear<'b>,
}

fn load_layer<'b>(b: &'b Builder, c: &VitConfig, o: &GraphOptions, path: &str) -> LayerWeights<'b> {
    let (width, inner) = (c.hidden_size, c.intermediate_size);
    let square = [width, width];
    let at = |name: &str| format!("{path}.{name}");
    let norm = |name| Norm::load(b, NormKind::Layer, path, name, width);
    let linear = |parent: &str, name, sizes, bias| Linear::load(b, &at(parent), name, sizes, bias);
    if o.transformers >= VISION_AS_DECODERS {
        return LayerWeights {
            query: linear("attention", "q_proj", square, c.qkv_bias),
            key: linear("attention", "k_proj", square, c.qkv_bias),
            value: linear("attention", "v_proj", square, c.qkv_bias),
            output: linear("attention", "o_proj", square, true),
            before: norm("layernorm_before"),
            after: norm("layernorm_after"),
            up: linear("mlp", "fc1", [inner, width], true),
            down: linear("mlp", "fc2", [width, inner], true),
        };
    }
    LayerWeights {
        query: linear("attention.attention", "query", square, c.qkv_bias),
        key: linear("attention.attention", "key", square, c.qkv_bias),
        value: linear("attention.attention", "value", square, c.qkv_bias),
        output: linear("attention.output", "dense", square, true),
        up: linear("intermediate", "dense", [inner, width], true),
        down: linear("output", "dense", [width, inner], true),
        before: norm("layernorm_before"),
        after: norm("layernorm_after"),
    }
}

/// What comes before the layers.
struct Embeddings<'b> {
    projection: Convolution<'b>,
    cls_token: Value<'b>,
    positions: Value<'b>,
}

fn load_embeddings<'b>(b: &'b Builder, c: &VitConfig) -> Embeddings<'b> {
    let filters =
        Filters { outputs: c.hidden_size, inputs: c.num_channels, kernel: [c.patch_size; 2] };
    let how = Conv2d { stride: c.patch_size, padding: 0, groups: 1, one_row: false };
    let parent = "vit.embeddings.patch_embeddings";
    let projection = Convolution::load(b, parent, "projection", filters, how, true);
    let own =
        |name, sizes: &[u64]| b.own_parameter("vit.embeddings", name, sizes, projection.weight());
    let cls_token = own("cls_token", &[1, 1, c.hidden_size]);
    let positions = own("position_embeddings", &[1, c.tokens(), c.hidden_size]);
    Embeddings { projection, cls_token, positions }
}

fn forward(b: &Builder, c: &VitConfig, o: &GraphOptions) -> ValueId {
    let embeddings = load_embeddings(b, c);
    let names: Vec<String> = (0..c.num_hidden_layers)
        .map(|index| match o.transformers >= VISION_AS_DECODERS {
            true => format!("layers.{index}"),
            false => format!("encoder.layer.{index}"),
        })
        .collect();
    let layers: Vec<_> =
        names.iter().map(|name| load_layer(b, c, o, &format!("vit.{name}"))).collect();
    let norm = Norm::load(b, NormKind::Layer, "vit", "layernorm", c.hidden_size);
    let classifier = Linear::load(b, "", "classifier", [c.num_labels, c.hidden_size], true);
    let labels = Labels { problem: c.problem, classes: c.num_labels };
    let batch = Batch::new(b, o, [c.num_channels, c.image_size, c.image_size], labels);

    let sequence = {
        let _m = b.enter("vit");
        let embedded = embed(b, c, o, &embeddings, &batch.images);
        let mut hidden: Option<Value<'_>> = None;
        for (name, weights) in names.iter().zip(&layers) {
            let _m = b.enter(name);
            let layer = Layer { c, o, w: weights };
            let input = hidden.as_ref().unwrap_or(&embedded);
            hidden = Some(b.layer(&[], || layer.forward(b, input)));
        }
        norm.run(b, hidden.as_ref().unwrap_or(&embedded))
    };
    let first = {
        let samples = masks::whole(b, &sequence, 0);
        let token = b.run(Op::Select { dim: 1 }, &[&samples]);
        masks::whole(b, &token, 1)
    };
    let logits = classifier.run(b, &first);
    classify::loss(b, o, c.problem, [&logits, &batch.labels], c.num_labels).keep()
}

fn embed<'b>(
    b: &'b Builder,
    c: &VitConfig,
    o: &GraphOptions,
    w: &Embeddings<'b>,
    images: &Value<'b>,
) -> Value<'b> {
    let _m = b.enter("embeddings");
    let patches = {
        let _m = b.enter("patch_embeddings");
        let projected = w.projection.run(b, images);
        let sizes = [o.batch, c.hidden_size, c.patches()].map(|n| n as i64);
        let flat = b.reshape(&projected, &sizes);
        drop(projected);
        b.transpose(&flat, 1, 2)
    };
    let sizes = [o.batch, 1, c.hidden_size].map(|n| n as i64);
    let cls = b.run(Op::Expand { sizes: sizes.into_iter().collect() }, &[&w.cls_token]);
    let joined = b.run(Op::Cat { dim: 1 }, &[&cls, &patches]);
    drop(patches);
    let placed = b.add(&joined, &w.positions);
    drop(joined);
    let _m = b.enter("dropout");
    b.dropout(&placed, c.hidden_dropout_prob)
}

struct Layer<'a, 'b> {
    c: &'a VitConfig,
    o: &'a GraphOptions,
    w: &'a LayerWeights<'b>,
}

impl<'b> Layer<'_, 'b> {
    fn forward(&self, b: &'b Builder, input: &Value<'b>) -> Value<'b> {
        if self.o.transformers >= VISION_AS_DECODERS {
            self.forward_as_decoders(b, input)
        } else {
            self.forward_as_before(b, input)
        }
    }

    fn forward_as_decoders(&self, b: &'b Builder, input: &Value<'b>) -> Value<'b> {
        let (c, w) = (self.c, self.w);
        let normed = w.before.run(b, input);
        // `hidden_states, _ = self.attention(...)`: the weights stay until the layer returns.
        let (attended, _weights) = b.attention("attention", &[], || {
            self.attention(b, &normed, ["q", "k", "v"], Some(&w.output))
        });
        drop(normed);
        let residual = {
            let dropped = b.dropout(&attended, c.hidden_dropout_prob);
            drop(attended);
            b.add(&dropped, input)
        };
        let normed = w.after.run(b, &residual);
        let fed = {
            let _m = b.enter("mlp");
            let mut hidden = w.up.run(b, &normed);
            hidden = self.activate(b, "activation_fn", &hidden);
            w.down.run(b, &hidden)
        };
        drop(normed);
        let dropped = b.dropout(&fed, c.hidden_dropout_prob);
        drop(fed);
        b.add(&dropped, &residual)
    }

    fn forward_as_before(&self, b: &'b Builder, input: &Value<'b>) -> Value<'b> {
        let (c, w) = (self.c, self.w);
        let normed = w.before.run(b, input);
        let names_all = self.o.transformers >= VIT_NAMES_ALL;
        let attended = b.attention("attention", &[], || {
            let (context, weights) = {
                let _m = b.enter("attention");
                let query_first = self.o.transformers < VIT_ATTENTION_INTERFACE;
                let order = if query_first { ["q", "k", "v"] } else { ["k", "v", "q"] };
                self.attention(b, &normed, order, None)
            };
            let _weights = weights.filter(|_| names_all);
            let _m = b.enter("output");
            let dense = w.output.run(b, &context);
            b.dropout(&dense, c.hidden_dropout_prob)
        });
        let normed = Some(normed).filter(|_| names_all);
        let residual = b.add(&attended, input);
        let mut fed = w.after.run(b, &residual);
        fed = {
            let _m = b.enter("intermediate");
            let hidden = w.up.run(b, &fed);
            self.activate(b, "intermediate_act_fn", &hidden)
        };
        let out = {
            let _m = b.enter("output");
            let dense = w.down.run(b, &fed);
            let dropped = b.dropout(&dense, c.hidden_dropout_prob);
            drop(dense);
            b.add(&dropped, &residual)
        };
        drop((normed, attended, fed));
        out
    }

    fn activate(&self, b: &'b Builder, name: &str, x: &Value<'b>) -> Value<'b> {
        let _m = b.enter(name);
        activation(b, self.c.hidden_act, x)
    }

    /// Projects in the order given, attends, joins the heads, and projects the result where that is
    /// the same module's.
    fn attention(
        &self,
        b: &'b Builder,
        x: &Value<'b>,
        order: [&str; 3],
        output: Option<&Linear<'b>>,
    ) -> (Value<'b>, Option<Value<'b>>) {
        let (c, o, w) = (self.c, self.o, self.w);
        let before_interface = o.transformers < VIT_ATTENTION_INTERFACE;
        let heads = [c.num_attention_heads, c.head_dim()];
        let split = |projected: Value<'b>| {
            let o = &GraphOptions { seq_len: c.tokens(), ..*o };
            let split = split_heads(b, o, projected, heads);
            b.transpose(&split, 1, 2)
        };
        let [mut q, mut k, mut v] = [None, None, None];
        for name in order {
            let (linear, slot) = match name {
                "q" => (&w.query, &mut q),
                "k" => (&w.key, &mut k),
                _ => (&w.value, &mut v),
            };
            let projected = linear.run(b, x);
            let splits_later = name == "q" && before_interface;
            *slot = Some(if splits_later { projected } else { split(projected) });
        }
        let given = |x: Option<Value<'b>>| x.expect("all three are in the order");
        let (mut q, k, v) = (given(q), given(k), given(v));
        if before_interface {
            q = split(q);
        }
        let attend = Attend {
            o,
            heads: c.num_attention_heads,
            key_value_heads: c.num_attention_heads,
            head_dim: c.head_dim(),
            dropout: c.attention_probs_dropout_prob,
            softcap: false,
            grouped: false,
            causal: false,
            mask: None,
            adds_mask_in_place: false,
            calls_pytorch: before_interface,
            // Up to 4.57 and from 5.9 on it does; what is between them does not.
            softmax_in_f32: o.transformers < TRANSFORMERS_5 || o.transformers >= VISION_AS_DECODERS,
        };
        let (attended, weights) = match o.attention {
            Attention::Eager if before_interface => {
                let PlainAttended { context, probabilities, scores: _scores } =
                    plain_eager(b, [&q, &k, &v], None, attend.dropout);
                let turned = b.transpose(&context, 1, 2);
                drop(context);
                (b.contiguous(&turned), Some(probabilities))
            }
            _ => attend.run(b, &q, &k, &v),
        };
        let sizes = [o.batch, c.tokens(), c.hidden_size].map(|n| n as i64);
        let joined = b.reshape(&attended, &sizes);
        drop(attended);
        match output {
            Some(output) => (output.run(b, &joined), weights),
            None => (joined, weights),
        }
    }
}
