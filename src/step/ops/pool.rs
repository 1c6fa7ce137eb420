//! Pooling over images, (batch, channels, height, width).

use crate::step::layout::{channels_last_strides, is_channels_last};
use crate::step::ops::Backward;
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor};

/// Bit mask of height and width.
const SPATIAL: u64 = 0b1100;

impl Tape<'_> {
    /// `max_pool2d`: the result, then the place of each maximum in int64, which backward needs.
    pub fn max_pool2d(&mut self, x: &Tensor, kernel: u64, stride: u64, padding: u64) -> Tensor {
        let size = |n: u64| (n + 2 * padding - kernel) / stride + 1;
        let from = x.sizes.as_slice();
        let sizes = Dims::new(&[from[0], from[1], size(from[2]), size(from[3])]);
        let strides = match is_channels_last(x) {
            true => channels_last_strides(&sizes),
            false => sizes.contiguous_strides(),
        };
        let meta = [(sizes, x.dtype)];
        let edge = self.record(Backward::MaxPool2d(x.sizes), &[x], &[x], &meta);
        let out = self.result(sizes, strides, x.dtype, edge);
        let indices = self.empty_strided(sizes, strides, DType::I64);
        self.save_result(edge, &indices);
        out
    }

    /// Zeros of the whole, in the input's layout, with the gradient where the maxima were.
    pub fn max_pool2d_backward(&mut self, _: &Tensor, saved: &[Tensor], sizes: Dims) -> Tensor {
        let x = &saved[0];
        let strides = match is_channels_last(x) {
            true => channels_last_strides(&sizes),
            false => sizes.contiguous_strides(),
        };
        self.empty_strided(sizes, strides, x.dtype)
    }

    /// Mean over height and width: `mean([-2, -1])`, and `adaptive_avg_pool2d` to one value.
    pub fn mean_spatial(&mut self, x: &Tensor, keep: bool) -> Tensor {
        let mut kept = x.sizes;
        kept.as_mut_slice()[2..].fill(1);
        let sizes = if keep { kept } else { kept.without(3).without(2) };
        let op = Backward::MeanSpatial { sizes: x.sizes };
        let edge = self.record(op, &[x], &[], &[(sizes, x.dtype)]);
        let out = self.result(sizes, sizes.contiguous_strides(), x.dtype, edge);
        self.reduction(x, SPATIAL);
        if keep && is_channels_last(x) {
            // The same memory, said to have channels last.
            let edge = self.record(Backward::AsStrided, &[&out], &[], &[(sizes, x.dtype)]);
            return self.alias(&out, sizes, channels_last_strides(&sizes), edge);
        }
        out
    }

    /// `grad.expand(sizes) / count`: one new tensor.
    pub fn mean_spatial_backward(&mut self, grad: &Tensor, sizes: Dims) -> Tensor {
        self.empty(sizes, grad.dtype)
    }
}
