//! ConvNeXt: stages of depthwise convolutions, each with a norm and an MLP over channels.
//!
//! Source: transformers `models/convnext/modeling_convnext.py` of 4.44.2, 4.55.4, 4.56.2 and 5.23.0.

use crate::model::blocks::activation::activation;
use crate::model::blocks::linear::Linear;
use crate::model::blocks::norm::Norm;
use crate::model::builder::{Builder, Value};
use crate::model::classify;
use crate::model::config::{Activation, ConvNextConfig};
use crate::model::decoder::architecture::NormKind;
use crate::model::graph::{Conv2d, Dtype, Graph, Op, ValueId};
use crate::model::options::GraphOptions;
use crate::model::versions::CONVNEXT_TURNS_FOR_NORM;
use crate::model::vision::conv::{Convolution, Filters};
use crate::model::vision::head::{Batch, Labels};

/// Builds the forward pass with its loss.
pub fn build(c: &ConvNextConfig, o: &GraphOptions) -> Graph {
    let b = Builder::new();
    let loss = forward(&b, c, o);
    b.finish(loss)
}

/// A convolution whose window is as wide as its step.
fn patches<'b>(
    b: &'b Builder,
    parent: &str,
    name: &'static str,
    [inputs, outputs]: [u64; 2],
    size: u64,
) -> Convolution<'b> {
    let how = Conv2d { stride: size, padding: 0, groups: 1, one_row: false };
    Convolution::load(b, parent, name, Filters::square(inputs, outputs, size), how, true)
}

/// Turns (batch, channels, height, width) so that channels are last, or back.
fn turned<'b>(b: &'b Builder, x: &Value<'b>, order: [i64; 4]) -> Value<'b> {
    b.run(Op::Permute { order: order.into_iter().collect() }, &[x])
}

/// Channels last.
const LAST: [i64; 4] = [0, 2, 3, 1];
/// Channels first again.
const FIRST: [i64; 4] = [0, 3, 1, 2];

/// `ConvNextLayerNorm` of channels that come first.
fn norm_of_channels<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    norm: &Norm<'b>,
    x: &Value<'b>,
) -> Value<'b> {
    if o.transformers < CONVNEXT_TURNS_FOR_NORM {
        return norm_written_out(b, norm, x);
    }
    let last = turned(b, x, LAST);
    let normed = norm.run(b, &last);
    drop(last);
    turned(b, &normed, FIRST)
}

/// `(x - x.mean(1)) / sqrt(variance + eps)` in float32, by weight and bias; the mean and the variance are
/// names until the end.
fn norm_written_out<'b>(b: &'b Builder, norm: &Norm<'b>, x: &Value<'b>) -> Value<'b> {
    let _m = norm.enter(b);
    let mean = |x: &Value<'b>| b.run(Op::Mean { dim: 1 }, &[x]);
    let of_channels = |weight: &Value<'b>| {
        let all = b.run(Op::All { dim: 0 }, &[weight]);
        let column = b.run(Op::Unsqueeze { dim: 1 }, &[&all]);
        b.run(Op::Unsqueeze { dim: 2 }, &[&column])
    };
    let wide = b.run(Op::To { dtype: Dtype::F32 }, &[x]);
    let center = mean(&wide);
    let variance = {
        let apart = b.run(Op::Sub, &[&wide, &center]);
        let squares = b.run(Op::Pow { exponent: 2 }, &[&apart]);
        drop(apart);
        mean(&squares)
    };
    let mut normed = {
        let apart = b.run(Op::Sub, &[&wide, &center]);
        let shifted = b.add_number(&variance);
        let deviation = b.run(Op::Sqrt, &[&shifted]);
        drop(shifted);
        b.run(Op::Div, &[&apart, &deviation])
    };
    drop(wide);
    normed = b.run(Op::ToLike, &[&normed, x]);
    let product = {
        let weight = of_channels(norm.weight());
        b.mul(&weight, &normed)
    };
    let out = match norm.bias() {
        Some(bias) => b.add(&product, &of_channels(bias)),
        None => product,
    };
    drop(normed);
    out
}

/// `ConvNextLayer`.
struct Layer<'b> {
    name: String,
    convolution: Convolution<'b>,
    norm: Norm<'b>,
    up: Linear<'b>,
    down: Linear<'b>,
    scale: Option<Value<'b>>,
    activation: Activation,
}

impl<'b> Layer<'b> {
    fn load(b: &'b Builder, c: &ConvNextConfig, stage: &str, index: u64, width: u64) -> Self {
        let path = format!("{stage}.layers.{index}");
        let how = Conv2d { stride: 1, padding: 3, groups: width, one_row: false };
        let filters = Filters::square(width, width, 7);
        let convolution = Convolution::load(b, &path, "dwconv", filters, how, true);
        let norm = Norm::load(b, NormKind::Layer, &path, "layernorm", width);
        let up = Linear::load(b, &path, "pwconv1", [4 * width, width], true);
        let down = Linear::load(b, &path, "pwconv2", [width, 4 * width], true);
        let scale = c.scales_layers.then(|| {
            b.own_parameter(&path, "layer_scale_parameter", &[width], convolution.weight())
        });
        let name = format!("layers.{index}");
        Layer { name, convolution, norm, up, down, scale, activation: c.hidden_act }
    }

    fn run(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let _m = b.enter(&self.name);
        let mut features = self.convolution.run(b, x);
        features = turned(b, &features, LAST);
        features = self.norm.run(b, &features);
        features = self.up.run(b, &features);
        features = activation(b, self.activation, &features);
        features = self.down.run(b, &features);
        if let Some(scale) = &self.scale {
            features = b.mul(scale, &features);
        }
        features = turned(b, &features, FIRST);
        b.add(x, &features)
    }
}

/// `ConvNextStage`; all but the first halve height and width.
struct Stage<'b> {
    name: String,
    halving: Option<(Norm<'b>, Convolution<'b>)>,
    layers: Vec<Layer<'b>>,
}

impl<'b> Stage<'b> {
    fn run(&self, b: &'b Builder, o: &GraphOptions, x: &Value<'b>) -> Value<'b> {
        let _m = b.enter(&self.name);
        let halved = self.halving.as_ref().map(|(norm, convolution)| {
            let normed = norm_of_channels(b, o, norm, x);
            convolution.run(b, &normed)
        });
        // `nn.Sequential` runs the layers where norms are written out: what goes into them is a name on.
        let (mut hidden, first) = match o.transformers < CONVNEXT_TURNS_FOR_NORM {
            true => (None, halved),
            false => (halved, None),
        };
        for layer in &self.layers {
            hidden = Some(layer.run(b, hidden.as_ref().or(first.as_ref()).unwrap_or(x)));
        }
        hidden.expect("a stage has layers")
    }
}

fn load_stages<'b>(b: &'b Builder, c: &ConvNextConfig) -> Vec<Stage<'b>> {
    let mut inputs = c.hidden_sizes[0];
    let sizes = c.hidden_sizes.iter().zip(&c.depths);
    sizes
        .enumerate()
        .map(|(index, (&outputs, &depth))| {
            let name = format!("stages.{index}");
            let path = format!("convnext.encoder.{name}");
            let halving = (index > 0).then(|| {
                let parent = format!("{path}.downsampling_layer");
                let norm = Norm::load(b, NormKind::Layer, &parent, "0", inputs);
                (norm, patches(b, &parent, "1", [inputs, outputs], 2))
            });
            let layers = (0..depth).map(|at| Layer::load(b, c, &path, at, outputs)).collect();
            inputs = outputs;
            Stage { name, halving, layers }
        })
        .collect()
}

fn forward(b: &Builder, c: &ConvNextConfig, o: &GraphOptions) -> ValueId {
    let first = c.hidden_sizes[0];
    let root = "convnext.embeddings";
    let stem = patches(b, root, "patch_embeddings", [c.num_channels, first], c.patch_size);
    let stem_norm = Norm::load(b, NormKind::Layer, root, "layernorm", first);
    let stages = load_stages(b, c);
    let width = c.width();
    let last_norm = Norm::load(b, NormKind::Layer, "convnext", "layernorm", width);
    let classifier = Linear::load(b, "", "classifier", [c.num_labels, width], true);
    let labels = Labels { problem: c.problem, classes: c.num_labels };
    let batch = Batch::new(b, o, [c.num_channels, c.image_size, c.image_size], labels);
    // The model's output object keeps the last hidden state until the end.
    let (_last, pooled) = {
        let _m = b.enter("convnext");
        let embedded = {
            let _m = b.enter("embeddings");
            let embedded = stem.run(b, &batch.images);
            norm_of_channels(b, o, &stem_norm, &embedded)
        };
        let last = {
            let _m = b.enter("encoder");
            encoder(b, o, &stages, &embedded)
        };
        let pooled = {
            let mean = b.run(Op::MeanSpatial { keep: false }, &[&last]);
            last_norm.run(b, &mean)
        };
        (last, pooled)
    };
    let logits = classifier.run(b, &pooled);
    classify::loss(b, o, c.problem, [&logits, &batch.labels], c.num_labels).keep()
}

fn encoder<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    stages: &[Stage<'b>],
    embedded: &Value<'b>,
) -> Value<'b> {
    let mut hidden: Option<Value<'b>> = None;
    for stage in stages {
        // The encoder's own name for what a stage reads stays until the stage returns.
        hidden = Some(stage.run(b, o, hidden.as_ref().unwrap_or(embedded)));
    }
    hidden.expect("a ConvNeXt has stages")
}
