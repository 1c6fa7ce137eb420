//! ResNet: convolutions with batch norms, shortcuts around two or three of them.
//!
//! Source: transformers `models/resnet/modeling_resnet.py` of 4.56 and 5.23.

use crate::model::blocks::activation::activation;
use crate::model::blocks::linear::Linear;
use crate::model::builder::{Builder, Value};
use crate::model::classify;
use crate::model::config::{Activation, ResNetConfig, ResNetLayer};
use crate::model::graph::{Conv2d, Graph, Op, ValueId};
use crate::model::options::GraphOptions;
use crate::model::vision::conv::{BatchNorm, Convolution, Filters};
use crate::model::vision::head::{Batch, Labels};

/// The width of a bottleneck is the layer's divided by this (`reduction`).
pub const REDUCTION: u64 = 4;

/// Builds the forward pass with its loss.
pub fn build(c: &ResNetConfig, o: &GraphOptions) -> Graph {
    let b = Builder::new();
    let loss = forward(&b, c, o);
    b.finish(loss)
}

/// `ResNetConvLayer`, or `ResNetShortCut` where there is no activation.
struct ConvLayer<'b> {
    name: String,
    convolution: Convolution<'b>,
    normalization: BatchNorm<'b>,
    activation: Option<Activation>,
}

impl<'b> ConvLayer<'b> {
    fn load(
        b: &'b Builder,
        parent: &str,
        name: &str,
        filters: Filters,
        stride: u64,
        activation: Option<Activation>,
    ) -> ConvLayer<'b> {
        let path = format!("{parent}.{name}");
        let how = Conv2d { stride, padding: filters.kernel[0] / 2, groups: 1, one_row: false };
        ConvLayer {
            name: name.to_owned(),
            convolution: Convolution::load(b, &path, "convolution", filters, how, false),
            normalization: BatchNorm::load(b, &path, "normalization", filters.outputs),
            activation,
        }
    }

    fn run(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let _m = b.enter(&self.name);
        let convolved = self.convolution.run(b, x);
        let normed = self.normalization.run(b, &convolved);
        drop(convolved);
        let Some(kind) = self.activation else { return normed };
        let _m = b.enter("activation");
        activation(b, kind, &normed)
    }
}

/// `ResNetBasicLayer` and `ResNetBottleNeckLayer`.
struct Layer<'b> {
    name: String,
    shortcut: Option<ConvLayer<'b>>,
    convolutions: Vec<ConvLayer<'b>>,
    activation: Activation,
}

impl<'b> Layer<'b> {
    fn load(
        b: &'b Builder,
        c: &ResNetConfig,
        stage: &str,
        index: u64,
        [inputs, outputs]: [u64; 2],
        stride: u64,
    ) -> Layer<'b> {
        let path = format!("{stage}.layers.{index}");
        let shortcut = (inputs != outputs || stride != 1).then(|| {
            let filters = Filters::square(inputs, outputs, 1);
            ConvLayer::load(b, &path, "shortcut", filters, stride, None)
        });
        // The inner activation is always relu: a layer does not hand its own on.
        let relu = Some(Activation::Relu);
        let narrow = outputs / REDUCTION;
        let steps = match c.layer_type {
            ResNetLayer::Basic => vec![
                (Filters::square(inputs, outputs, 3), stride, relu),
                (Filters::square(outputs, outputs, 3), 1, None),
            ],
            ResNetLayer::Bottleneck => {
                let (first, second) =
                    if c.downsample_in_bottleneck { (stride, 1) } else { (1, stride) };
                vec![
                    (Filters::square(inputs, narrow, 1), first, relu),
                    (Filters::square(narrow, narrow, 3), second, relu),
                    (Filters::square(narrow, outputs, 1), 1, None),
                ]
            }
        };
        let convolutions = steps.into_iter().enumerate().map(|(at, (filters, stride, kind))| {
            ConvLayer::load(b, &path, &format!("layer.{at}"), filters, stride, kind)
        });
        let convolutions = convolutions.collect();
        Layer { name: format!("layers.{index}"), shortcut, convolutions, activation: c.hidden_act }
    }

    fn run(&self, b: &'b Builder, input: &Value<'b>) -> Value<'b> {
        let _m = b.enter(&self.name);
        let mut hidden: Option<Value<'b>> = None;
        for convolution in &self.convolutions {
            hidden = Some(convolution.run(b, hidden.as_ref().unwrap_or(input)));
        }
        let hidden = hidden.expect("a layer has convolutions");
        let residual = self.shortcut.as_ref().map(|shortcut| shortcut.run(b, input));
        let sum = b.run(Op::AddInPlace, &[&hidden, residual.as_ref().unwrap_or(input)]);
        drop(hidden);
        let _m = b.enter("activation");
        activation(b, self.activation, &sum)
    }
}

struct Stage<'b> {
    name: String,
    layers: Vec<Layer<'b>>,
}

fn load_stages<'b>(b: &'b Builder, c: &ResNetConfig) -> Vec<Stage<'b>> {
    let mut inputs = c.embedding_size;
    let mut stages = Vec::new();
    for (index, (&outputs, &depth)) in c.hidden_sizes.iter().zip(&c.depths).enumerate() {
        let name = format!("stages.{index}");
        let path = format!("resnet.encoder.{name}");
        let stride = if index > 0 || c.downsample_in_first_stage { 2 } else { 1 };
        // The first layer is there whatever the depth.
        let layers = (0..depth.max(1)).map(|at| {
            let (inputs, stride) = if at == 0 { (inputs, stride) } else { (outputs, 1) };
            Layer::load(b, c, &path, at, [inputs, outputs], stride)
        });
        let layers = layers.collect();
        stages.push(Stage { name, layers });
        inputs = outputs;
    }
    stages
}

fn forward(b: &Builder, c: &ResNetConfig, o: &GraphOptions) -> ValueId {
    let filters = Filters::square(c.num_channels, c.embedding_size, 7);
    let stem = ConvLayer::load(b, "resnet.embedder", "embedder", filters, 2, Some(c.hidden_act));
    let stages = load_stages(b, c);
    let width = c.hidden_sizes.last().copied().unwrap_or(c.embedding_size);
    let classifier = Linear::load(b, "classifier", "1", [c.num_labels, width], true);
    let labels = Labels { problem: c.problem, classes: c.num_labels };
    let batch = Batch::new(b, o, [c.num_channels, c.image_size, c.image_size], labels);

    // `outputs` keeps the last hidden state until the end.
    let (_last, pooled) = {
        let _m = b.enter("resnet");
        let embedded = {
            let _m = b.enter("embedder");
            let embedded = stem.run(b, &batch.images);
            let _m = b.enter("pooler");
            b.run(Op::MaxPool2d { kernel: 3, stride: 2, padding: 1 }, &[&embedded])
        };
        let last = {
            let _m = b.enter("encoder");
            encoder(b, &stages, &embedded)
        };
        let _m = b.enter("pooler");
        let pooled = b.run(Op::MeanSpatial { keep: true }, &[&last]);
        (last, pooled)
    };
    let logits = {
        let _m = b.enter("classifier");
        let flat = b.view(&pooled, &[o.batch as i64, width as i64]);
        classifier.run(b, &flat)
    };
    classify::loss(b, o, c.problem, [&logits, &batch.labels], c.num_labels).keep()
}

fn encoder<'b>(b: &'b Builder, stages: &[Stage<'b>], embedded: &Value<'b>) -> Value<'b> {
    let mut hidden: Option<Value<'b>> = None;
    for stage in stages {
        let _m = b.enter(&stage.name);
        for layer in &stage.layers {
            hidden = Some(layer.run(b, hidden.as_ref().unwrap_or(embedded)));
        }
    }
    hidden.expect("a ResNet has stages")
}
