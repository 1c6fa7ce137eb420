//! One layer: attention within windows, then an MLP.

use crate::model::blocks::activation::activation;
use crate::model::blocks::linear::Linear;
use crate::model::blocks::norm::Norm;
use crate::model::builder::{Builder, Value};
use crate::model::config::SwinConfig;
use crate::model::decoder::architecture::NormKind;
use crate::model::graph::{Op, Sizes};
use crate::model::masks;
use crate::model::options::GraphOptions;
use crate::model::versions::VISION_AS_DECODERS;
use crate::model::vision::swin::attention::{AttentionWeights, WindowAttention};
use crate::model::vision::swin::windows::Windows;

/// A layer's weights.
#[derive(Debug)]
pub struct LayerWeights<'b> {
    name: String,
    /// Whether its windows are shifted, where there is more than one.
    shifts: bool,
    before: Norm<'b>,
    attention: AttentionWeights<'b>,
    after: Norm<'b>,
    up: Linear<'b>,
    down: Linear<'b>,
}

impl<'b> LayerWeights<'b> {
    /// Loads the weights of a stage's layer; `path` is the stage's.
    pub fn load(
        b: &'b Builder,
        c: &SwinConfig,
        o: &GraphOptions,
        path: &str,
        (stage, at): (usize, u64),
    ) -> LayerWeights<'b> {
        let name = format!("blocks.{at}");
        let path = format!("{path}.{name}");
        let (width, inner) = (c.width(stage), c.inner(stage));
        let norm = |name| Norm::load(b, NormKind::Layer, &path, name, width);
        let attention = || AttentionWeights::load(b, c, o, &path, stage);
        let linear = |parent: &str, name, sizes| {
            Linear::load(b, &format!("{path}.{parent}"), name, sizes, true)
        };
        let shifts = at % 2 == 1 && c.window_size > 1;
        if o.transformers >= VISION_AS_DECODERS {
            let attention = attention();
            let (before, after) = (norm("layernorm_before"), norm("layernorm_after"));
            let up = linear("mlp", "fc1", [inner, width]);
            let down = linear("mlp", "fc2", [width, inner]);
            return LayerWeights { name, shifts, before, attention, after, up, down };
        }
        let before = norm("layernorm_before");
        let attention = attention();
        let after = norm("layernorm_after");
        let up = linear("intermediate", "dense", [inner, width]);
        let down = linear("output", "dense", [width, inner]);
        LayerWeights { name, shifts, before, attention, after, up, down }
    }

    /// Returns its name in its stage.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// One layer to run.
#[derive(Debug)]
pub struct Layer<'a, 'b> {
    /// The model's sizes.
    pub c: &'a SwinConfig,
    /// The batch, the implementation, versions.
    pub o: &'a GraphOptions,
    /// Its weights.
    pub w: &'a LayerWeights<'b>,
    /// Patches along a side of the image.
    pub grid: u64,
    /// Width of its stage.
    pub width: u64,
    /// Whether samples skip its attention now and then.
    pub drops_path: bool,
}

impl<'b> Layer<'_, 'b> {
    /// Runs it on (batch, patches, width); returns the probabilities of eager code as well.
    pub fn forward(&self, b: &'b Builder, input: &Value<'b>) -> (Value<'b>, Option<Value<'b>>) {
        let (o, grid, width) = (self.o, self.grid, self.width);
        let side = grid.next_multiple_of(self.c.window_size);
        let windows = Windows { batch: o.batch, side, size: self.c.window_size, width };
        let shifts = self.w.shifts && grid > self.c.window_size;

        let mut hidden = self.w.before.run(b, input);
        hidden = b.view(&hidden, &[o.batch, grid, grid, width].map(|n| n as i64));
        let missing = (side - grid) as i64;
        let behind = [0, missing, missing, 0].into_iter().collect();
        hidden = b.run(Op::Pad { behind }, &[&hidden]);
        let shifted = shifts.then(|| b.run(Op::RollTwo, &[&hidden]));
        let cut = windows.cut(b, shifted.as_ref().unwrap_or(&hidden));
        // Transformers 4 has a name for what was shifted.
        let _shifted = shifted.filter(|_| o.transformers < VISION_AS_DECODERS);
        let flat = b.view(&cut, &[-1, windows.patches() as i64, width as i64]);
        drop(cut);
        let mask = shifts.then(|| windows.mask(b, o));
        let (attended, probabilities) = b.attention("attention", &[], || {
            let (c, w) = (self.c, &self.w.attention);
            WindowAttention { c, o, w, windows, mask: mask.as_ref() }.run(b, &flat)
        });
        let attended = if o.transformers >= VISION_AS_DECODERS {
            let dense = attended;
            b.dropout(&dense, self.c.hidden_dropout_prob)
        } else {
            attended
        };
        let image = self.image(b, &windows, shifts, &attended);
        let residual = self.residual(b, input, &image.whole);
        // Without a shift, transformers 4 has a second name for what was padded.
        let padded = Some(hidden).filter(|_| o.transformers < VISION_AS_DECODERS && !shifts);
        let out = self.fed(b, &residual);
        drop((attended, image, mask, flat, padded));
        (out, probabilities)
    }

    /// What attention made, as the image's patches again, (batch, patches, width).
    fn image(
        &self,
        b: &'b Builder,
        windows: &Windows,
        shifts: bool,
        attended: &Value<'b>,
    ) -> Image<'b> {
        let (o, grid, width) = (self.o, self.grid, self.width);
        let size = windows.size as i64;
        let mut whole = b.view(attended, &[-1, size, size, width as i64]);
        whole = windows.joined(b, &whole);
        // Transformers 4 has a name for what is shifted back.
        let shifted = (o.transformers < VISION_AS_DECODERS).then(|| {
            let sizes = [o.batch, windows.side, windows.side, width].map(|n| n as i64);
            b.view(&whole, &sizes)
        });
        if shifts {
            whole = b.run(Op::RollTwo, &[&whole]);
        }
        if windows.side > grid {
            let end = grid as i64;
            let cropped = {
                let samples = masks::whole(b, &whole, 0);
                let rows = b.run(Op::Slice { dim: 1, start: 0, end }, &[&samples]);
                let columns = b.run(Op::Slice { dim: 2, start: 0, end }, &[&rows]);
                masks::whole(b, &columns, 3)
            };
            whole = b.contiguous(&cropped);
        }
        let whole = b.view(&whole, &[o.batch, grid * grid, width].map(|n| n as i64));
        Image { whole, _shifted: shifted }
    }

    /// `shortcut + drop_path(x)`: of each sample all is kept, or nothing.
    fn residual(&self, b: &'b Builder, shortcut: &Value<'b>, x: &Value<'b>) -> Value<'b> {
        if !self.drops_path {
            return b.add(shortcut, x);
        }
        let kept = {
            let sizes: Sizes = [self.o.batch as i64, 1, 1].into_iter().collect();
            let like = || b.run(Op::FreshLike { sizes: sizes.clone() }, &[x]);
            let random = like();
            let mut is_kept = like();
            // Until transformers 5 it was rounded in place.
            if self.o.transformers >= VISION_AS_DECODERS {
                let shifted = is_kept;
                is_kept = like();
                drop(shifted);
            }
            drop(random);
            let scaled = b.mul_number(x);
            b.mul(&scaled, &is_kept)
        };
        b.add(shortcut, &kept)
    }

    /// The MLP behind its norm, added to what it read.
    fn fed(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let (c, w) = (self.c, self.w);
        let normed = w.after.run(b, x);
        if self.o.transformers >= VISION_AS_DECODERS {
            let fed = {
                let _m = b.enter("mlp");
                let mut hidden = w.up.run(b, &normed);
                hidden = self.activate(b, "activation_fn", &hidden);
                w.down.run(b, &hidden)
            };
            drop(normed);
            let dropped = b.dropout(&fed, c.hidden_dropout_prob);
            return b.add(&dropped, x);
        }
        let wide = {
            let _m = b.enter("intermediate");
            let hidden = w.up.run(b, &normed);
            self.activate(b, "intermediate_act_fn", &hidden)
        };
        drop(normed);
        let fed = {
            let _m = b.enter("output");
            let dense = w.down.run(b, &wide);
            b.dropout(&dense, c.hidden_dropout_prob)
        };
        b.add(x, &fed)
    }

    fn activate(&self, b: &'b Builder, name: &str, x: &Value<'b>) -> Value<'b> {
        let _m = b.enter(name);
        activation(b, self.c.hidden_act, x)
    }
}

/// The image's patches, and what its layer has a name for besides.
struct Image<'b> {
    whole: Value<'b>,
    _shifted: Option<Value<'b>>,
}
