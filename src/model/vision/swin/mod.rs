//! Swin: stages of layers whose attention sees one window of patches, shifted in every second one.
//!
//! Source: transformers `models/swin/modeling_swin.py` of 4.56.2 and 5.23.0.

mod attention;
mod layer;
mod windows;

use layer::{Layer, LayerWeights};

use crate::model::blocks::linear::Linear;
use crate::model::blocks::norm::Norm;
use crate::model::builder::{Builder, Value};
use crate::model::classify;
use crate::model::config::SwinConfig;
use crate::model::decoder::architecture::NormKind;
use crate::model::graph::{Conv2d, Graph, Op, ValueId};
use crate::model::masks;
use crate::model::options::GraphOptions;
use crate::model::versions::{SWIN_DROPS_BY_DEPTH, VISION_AS_DECODERS};
use crate::model::vision::conv::{Convolution, Filters};
use crate::model::vision::head::{Batch, Labels};

/// Builds the forward pass with its loss.
pub fn build(c: &SwinConfig, o: &GraphOptions) -> Graph {
    let b = Builder::new();
    let loss = forward(&b, c, o);
    b.finish(loss)
}

/// `SwinPatchMerging`: four neighbours become one patch of twice the width.
struct Merging<'b> {
    reduction: Linear<'b>,
    norm: Norm<'b>,
}

/// `SwinStage`.
struct Stage<'b> {
    name: String,
    layers: Vec<LayerWeights<'b>>,
    merging: Option<Merging<'b>>,
    /// Patches along a side.
    grid: u64,
    width: u64,
}

fn load_stages<'b>(b: &'b Builder, c: &SwinConfig, o: &GraphOptions) -> Vec<Stage<'b>> {
    let last = c.depths.len() - 1;
    let sizes = c.depths.iter().zip(c.grids()).enumerate();
    sizes
        .map(|(stage, (&depth, grid))| {
            let name = format!("layers.{stage}");
            let path = format!("swin.encoder.{name}");
            let layers = (0..depth).map(|at| LayerWeights::load(b, c, o, &path, (stage, at)));
            let layers = layers.collect();
            let width = c.width(stage);
            let merging = (stage < last).then(|| {
                let parent = format!("{path}.downsample");
                let sizes = [2 * width, 4 * width];
                let reduction = Linear::load(b, &parent, "reduction", sizes, false);
                let norm = Norm::load(b, NormKind::Layer, &parent, "norm", 4 * width);
                Merging { reduction, norm }
            });
            Stage { name, layers, merging, grid, width }
        })
        .collect()
}

fn forward(b: &Builder, c: &SwinConfig, o: &GraphOptions) -> ValueId {
    let filters = Filters::square(c.num_channels, c.embed_dim, c.patch_size);
    let how = Conv2d { stride: c.patch_size, padding: 0, groups: 1, one_row: false };
    let root = "swin.embeddings";
    let patches = format!("{root}.patch_embeddings");
    let projection = Convolution::load(b, &patches, "projection", filters, how, true);
    let first_norm = Norm::load(b, NormKind::Layer, root, "norm", c.embed_dim);
    let stages = load_stages(b, c, o);
    let width = c.width(c.depths.len() - 1);
    let last_norm = Norm::load(b, NormKind::Layer, "swin", "layernorm", width);
    let classifier = Linear::load(b, "", "classifier", [c.num_labels, width], true);
    let labels = Labels { problem: c.problem, classes: c.num_labels };
    let batch = Batch::new(b, o, [c.num_channels, c.image_size, c.image_size], labels);

    // The model's output object keeps the last hidden state until the end.
    let (_last, pooled) = {
        let _m = b.enter("swin");
        let embedded = {
            let _m = b.enter("embeddings");
            let flat = {
                let _m = b.enter("patch_embeddings");
                let padded = padded_images(b, c, &batch.images);
                let projected = projection.run(b, padded.as_ref().unwrap_or(&batch.images));
                let patches = c.grids()[0] * c.grids()[0];
                let sizes = [o.batch, c.embed_dim, patches].map(|n| n as i64);
                let flat = b.reshape(&projected, &sizes);
                b.transpose(&flat, 1, 2)
            };
            let normed = first_norm.run(b, &flat);
            drop(flat);
            b.dropout(&normed, c.hidden_dropout_prob)
        };
        let encoded = {
            let _m = b.enter("encoder");
            encoder(b, c, o, &stages, &embedded)
        };
        let normed = last_norm.run(b, &encoded);
        let pooled = pool(b, o, &normed);
        (normed, pooled)
    };
    let logits = classifier.run(b, &pooled);
    classify::loss(b, o, c.problem, [&logits, &batch.labels], c.num_labels).keep()
}

/// `maybe_pad` of images that whole patches do not fill.
fn padded_images<'b>(b: &'b Builder, c: &SwinConfig, images: &Value<'b>) -> Option<Value<'b>> {
    let missing = (c.image_size.next_multiple_of(c.patch_size) - c.image_size) as i64;
    let padded = |x: &Value<'b>, behind: [i64; 4]| {
        b.run(Op::Pad { behind: behind.into_iter().collect() }, &[x])
    };
    (missing > 0).then(|| {
        let wide = padded(images, [0, 0, 0, missing]);
        padded(&wide, [0, 0, missing, 0])
    })
}

/// `AdaptiveAvgPool1d(1)` over (batch, width, patches), flattened.
fn pool<'b>(b: &'b Builder, o: &GraphOptions, x: &Value<'b>) -> Value<'b> {
    let turned = b.transpose(x, 1, 2);
    let image = b.run(Op::Unsqueeze { dim: 2 }, &[&turned]);
    drop(turned);
    let mean = b.run(Op::MeanSpatial { keep: true }, &[&image]);
    drop(image);
    let row = b.run(Op::Squeeze { dim: 2 }, &[&mean]);
    drop(mean);
    b.view(&row, &[o.batch as i64, -1])
}

/// What a stage returns.
struct StageOutput<'b> {
    hidden: Value<'b>,
    /// What it returns as well: the hidden states before they are merged (transformers 4), or the
    /// hidden states as an image and the last layer's probabilities.
    _beside: Vec<Value<'b>>,
}

fn encoder<'b>(
    b: &'b Builder,
    c: &SwinConfig,
    o: &GraphOptions,
    stages: &[Stage<'b>],
    embedded: &Value<'b>,
) -> Value<'b> {
    let mut last: Option<StageOutput<'b>> = None;
    let mut before = 0;
    for stage in stages {
        let _m = b.enter(&stage.name);
        let input = last.as_ref().map_or(embedded, |output| &output.hidden);
        let output = b.stage(|| run_stage(b, (c, o), stage, before, input));
        last = Some(output);
        before += stage.layers.len() as u64;
    }
    last.expect("a Swin has stages").hidden
}

/// Runs a stage behind so many layers.
fn run_stage<'b>(
    b: &'b Builder,
    (c, o): (&SwinConfig, &GraphOptions),
    stage: &Stage<'b>,
    before: u64,
    input: &Value<'b>,
) -> StageOutput<'b> {
    let as_decoders = o.transformers >= VISION_AS_DECODERS;
    let mut hidden: Option<Value<'b>> = None;
    let mut probabilities: Option<Value<'b>> = None;
    for (at, weights) in (0..).zip(&stage.layers) {
        let _m = b.enter(weights.name());
        let rises = o.transformers >= SWIN_DROPS_BY_DEPTH;
        let drops_path = c.drop_path_rate > 0.0 && (before + at > 0 || !rises);
        let layer = Layer { c, o, w: weights, grid: stage.grid, width: stage.width, drops_path };
        let input = hidden.as_ref().unwrap_or(input);
        if as_decoders {
            let mut weights = None;
            let out = b.layer(&[], || {
                let (out, made) = layer.forward(b, input);
                weights = made;
                out
            });
            hidden = Some(out);
            probabilities = weights;
        } else {
            hidden = Some(layer.forward(b, input).0);
        }
    }
    let before_merging = hidden.expect("a stage has layers");
    let merged = stage.merging.as_ref().map(|merging| {
        let _m = b.enter("downsample");
        merge(b, o, merging, stage, &before_merging)
    });
    if !as_decoders {
        return match merged {
            Some(hidden) => StageOutput { hidden, _beside: vec![before_merging] },
            None => StageOutput { hidden: before_merging, _beside: Vec::new() },
        };
    }
    let grid = if merged.is_some() { stage.grid.div_ceil(2) } else { stage.grid };
    let width = if merged.is_some() { 2 * stage.width } else { stage.width };
    let (hidden, _before_merging) = match merged {
        Some(merged) => (merged, Some(before_merging)),
        None => (before_merging, None),
    };
    let image = {
        let sizes = [o.batch, grid, grid, width].map(|n| n as i64);
        let square = b.view(&hidden, &sizes);
        let turned = b.run(Op::Permute { order: [0, 3, 1, 2].into_iter().collect() }, &[&square]);
        drop(square);
        b.contiguous(&turned)
    };
    StageOutput { hidden, _beside: std::iter::once(image).chain(probabilities).collect() }
}

/// `SwinPatchMerging`: every second row and column, four times, side by side.
fn merge<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    w: &Merging<'b>,
    stage: &Stage<'b>,
    x: &Value<'b>,
) -> Value<'b> {
    let (grid, width) = (stage.grid, stage.width);
    let mut image = b.view(x, &[o.batch, grid, grid, width].map(|n| n as i64));
    if grid % 2 == 1 {
        let behind = [0, 1, 1, 0].into_iter().collect();
        image = b.run(Op::Pad { behind }, &[&image]);
    }
    let quarters = [[0, 0], [1, 0], [0, 1], [1, 1]].map(|[row, column]| {
        let samples = masks::whole(b, &image, 0);
        let rows = b.run(Op::EverySecond { dim: 1, first: row }, &[&samples]);
        let columns = b.run(Op::EverySecond { dim: 2, first: column }, &[&rows]);
        masks::whole(b, &columns, 3)
    });
    let joined = b.run(Op::Cat { dim: -1 }, &quarters.each_ref());
    // Transformers 4 has names for them.
    let _quarters = Some(quarters).filter(|_| o.transformers < VISION_AS_DECODERS);
    drop(image);
    let flat = b.view(&joined, &[o.batch as i64, -1, 4 * width as i64]);
    drop(joined);
    let normed = w.norm.run(b, &flat);
    drop(flat);
    w.reduction.run(b, &normed)
}
