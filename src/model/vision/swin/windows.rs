//! Windows of patches: cutting an image into them, and the mask of those that a shift joined.

use crate::model::builder::{Builder, Value};
use crate::model::graph::Dtype;
use crate::model::options::GraphOptions;
use crate::model::versions::VISION_AS_DECODERS;

/// How an image is cut.
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    /// Images.
    pub batch: u64,
    /// Patches along a side of the image, whole windows of them.
    pub side: u64,
    /// Patches along a side of a window.
    pub size: u64,
    /// Channels of a patch.
    pub width: u64,
}

impl Windows {
    /// Windows along a side.
    fn along(&self) -> u64 {
        self.side / self.size
    }

    /// Returns the windows of one image.
    pub fn count(&self) -> u64 {
        self.along() * self.along()
    }

    /// Returns the patches of a window.
    pub fn patches(&self) -> u64 {
        self.size * self.size
    }

    /// `window_partition`: (batch, side, side, width) to (windows, size, size, width).
    pub fn cut<'b>(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let (along, size) = (self.along(), self.size);
        let split = b.view(x, &[self.batch, along, size, along, size, self.width].map(signed));
        let turned = b.transpose(&split, 2, 3);
        let dense = b.contiguous(&turned);
        drop((turned, split));
        b.view(&dense, &[-1, signed(size), signed(size), signed(self.width)])
    }

    /// `window_reverse`: (windows, size, size, width) to (batch, side, side, width).
    pub fn joined<'b>(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let (along, size) = (self.along(), self.size);
        let split = b.view(x, &[self.batch, along, along, size, size, self.width].map(signed));
        let turned = b.transpose(&split, 2, 3);
        let dense = b.contiguous(&turned);
        drop((turned, split));
        b.view(&dense, &[self.batch, self.side, self.side, self.width].map(signed))
    }

    /// `get_attn_mask` of shifted windows: which patches of one are neighbours in the image,
    /// (windows of one image, patches, patches).
    pub fn mask<'b>(&self, b: &'b Builder, o: &GraphOptions) -> Value<'b> {
        let side = self.side;
        let image = || b.fresh(&[1, side, side, 1], Dtype::Model);
        let (_regions, image) = if o.transformers >= VISION_AS_DECODERS {
            let index = || b.fresh(&[side], Dtype::I64);
            let (rows, columns) = (index(), index());
            let (row_regions, column_regions) = (regions(b, side), regions(b, side));
            let sum = {
                let _scaled = b.fresh(&[1, side, 1, 1], Dtype::I64);
                b.fresh(&[1, side, side, 1], Dtype::I64)
            };
            let image = image();
            drop(sum);
            (Some((rows, columns, row_regions, column_regions)), image)
        } else {
            (None, image())
        };
        let _windows = Windows { batch: 1, width: 1, ..*self }.cut(b, &image);
        let square = |dtype| b.fresh(&[self.count(), self.patches(), self.patches()], dtype);
        let differences = square(Dtype::Model);
        let first = {
            let _differ = square(Dtype::Bool);
            square(Dtype::Model)
        };
        let _equal = square(Dtype::Bool);
        let second = square(Dtype::Model);
        drop((first, differences));
        second
    }
}

/// `(index >= a).long() + (index >= b).long()` for each row or column.
fn regions<'b>(b: &'b Builder, side: u64) -> Value<'b> {
    let is_behind = || {
        let _is_behind = b.fresh(&[side], Dtype::Bool);
        b.fresh(&[side], Dtype::I64)
    };
    let _pair = (is_behind(), is_behind());
    b.fresh(&[side], Dtype::I64)
}

fn signed(n: u64) -> i64 {
    n as i64
}
