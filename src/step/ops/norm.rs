//! LayerNorm, softmax and dropout.

use smallvec::SmallVec;

use crate::step::layout::{channels_last_strides, elementwise_strides, is_channels_last};
use crate::step::ops::{Backward, Grads};
use crate::step::setup::Version;
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor};

/// From this version on the gradients of LayerNorm's weights are summed in two steps where there are
/// many rows.
///
/// Source: PyTorch `layer_norm_kernel.cu` (`GammaBetaBackwardCUDAKernelTemplate`), which the library of
/// 2.8.0 has and that of 2.7.1 has not.
const NORM_SUMS_IN_PARTS: Version = Version::new(2, 8);
/// More rows than so many are.
const FEW_ROWS: u64 = 64 * 1024;
/// Columns of a block, and the rows that each sums.
const BLOCK_COLUMNS: u64 = 32;
const BLOCK_ROWS: u64 = 32;
/// Blocks at most.
const MOST_BLOCKS: u64 = 32 * 1024;

impl Tape<'_> {
    /// Sums of parts of the rows, of a gradient of LayerNorm's weights; none where all rows are summed
    /// at once.
    fn parts_of_norm_sums(&self, x: &Tensor, weight: &Tensor) -> Option<Dims> {
        let columns = weight.numel();
        let rows = x.numel() / columns.max(1);
        let narrow = columns / BLOCK_COLUMNS < u64::from(self.setup.gpu.sm_count / 2);
        let parts = (MOST_BLOCKS / columns.div_ceil(BLOCK_COLUMNS)).min(rows.div_ceil(BLOCK_ROWS));
        let in_parts = self.setup.torch >= NORM_SUMS_IN_PARTS && rows > FEW_ROWS && narrow;
        in_parts.then(|| Dims::new(&[parts, columns]))
    }

    /// `layer_norm` over the last dimension: a copy of what does not lie row by row, the result, then
    /// mean and reciprocal deviation of each row in float32.
    pub fn layer_norm(&mut self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let meta = [(x.sizes, x.dtype)];
        let inputs: SmallVec<[&Tensor; 3]> = [x, weight].into_iter().chain(bias).collect();
        let edge = self.record(Backward::LayerNorm, &inputs, &[x, weight], &meta);
        let _dense = (!x.is_contiguous()).then(|| self.empty(x.sizes, x.dtype));
        let out = self.result(x.sizes, x.sizes.contiguous_strides(), x.dtype, edge);
        let mut rows = x.sizes;
        let last = rows.len() - 1;
        rows.as_mut_slice()[last] = 1;
        let mean = self.empty(rows, DType::F32);
        let deviation = self.empty(rows, DType::F32);
        self.save_result(edge, &mean);
        self.save_result(edge, &deviation);
        out
    }

    /// Gradients of the input, the weight and the bias, if there is one, in that order.
    pub fn layer_norm_backward(
        &mut self,
        grad: &Tensor,
        saved: &[Tensor],
        needs: &[bool],
    ) -> Grads {
        let (x, weight) = (&saved[0], &saved[1]);
        let _dense = (!x.is_contiguous()).then(|| self.empty(x.sizes, x.dtype));
        let grad_x = needs[0].then(|| self.empty(x.sizes, x.dtype));
        let of_weights = |need: &bool| need.then(|| self.empty(weight.sizes, weight.dtype));
        let mut sums: SmallVec<[Option<Tensor>; 2]> = needs[1..].iter().map(of_weights).collect();
        let _dense_grad = (!grad.is_contiguous()).then(|| self.empty(grad.sizes, grad.dtype));
        if let Some(sizes) = self.parts_of_norm_sums(x, weight) {
            let of_parts =
                |sum: &Option<Tensor>| sum.as_ref().map(|sum| self.empty(sizes, sum.dtype));
            let parts: SmallVec<[Option<Tensor>; 2]> = sums.iter().map(of_parts).collect();
            for (sum, parts) in sums.iter_mut().zip(&parts) {
                *sum = parts.as_ref().map(|parts| self.sum_to(parts, weight.sizes));
            }
        }
        std::iter::once(grad_x).chain(sums).collect()
    }

    /// `batch_norm` in training, cuDNN's or PyTorch's: the result, then mean and reciprocal deviation
    /// of each channel in float32.
    pub fn batch_norm(&mut self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
        let meta = [(x.sizes, x.dtype)];
        let edge = self.record(Backward::BatchNorm, &[x, weight, bias], &[x, weight], &meta);
        let out = self.result(x.sizes, x.strides, x.dtype, edge);
        let mean = self.empty(weight.sizes, DType::F32);
        let deviation = self.empty(weight.sizes, DType::F32);
        self.save_result(edge, &mean);
        self.save_result(edge, &deviation);
        out
    }

    /// Gradients of the input, the weight and the bias, in that order.
    pub fn batch_norm_backward(
        &mut self,
        grad: &Tensor,
        saved: &[Tensor],
        needs: &[bool],
    ) -> Grads {
        let (x, weight) = (&saved[0], &saved[1]);
        let dense = (!grad.is_dense() || grad.strides != x.strides)
            .then(|| self.empty_strided(x.sizes, x.strides, grad.dtype));
        let grad_x = needs[0].then(|| self.empty_strided(x.sizes, x.strides, x.dtype));
        let grad_weight = needs[1].then(|| self.empty(weight.sizes, weight.dtype));
        let grad_bias = needs[2].then(|| self.empty(weight.sizes, weight.dtype));
        drop(dense);
        Grads::from_iter([grad_x, grad_weight, grad_bias])
    }

    /// `softmax` over the last dimension, asked for in float32 or not.
    ///
    /// A half asked for in float32 is converted within the kernel, bfloat16 before it.
    pub fn softmax(&mut self, x: &Tensor, in_f32: bool) -> Tensor {
        let cast = (in_f32 && x.dtype == DType::Bf16).then(|| self.to(x, DType::F32));
        let input = cast.as_ref().unwrap_or(x);
        let dtype = if in_f32 { DType::F32 } else { x.dtype };
        let op = Backward::Softmax(input.dtype);
        let edge = self.record(op, &[input], &[], &[(x.sizes, dtype)]);
        let out = self.result(x.sizes, x.sizes.contiguous_strides(), dtype, edge);
        self.save_result(edge, &out);
        out
    }

    /// The gradient, in the input's dtype, and a product of gradient and result that the kernel
    /// reads.
    pub fn softmax_backward(&mut self, grad: &Tensor, saved: &[Tensor], dtype: DType) -> Tensor {
        let out = self.empty(grad.sizes, dtype);
        let strides = elementwise_strides(&[grad, &saved[0]], &grad.sizes);
        let product = self.empty_strided(grad.sizes, strides, grad.dtype);
        drop(product);
        out
    }

    /// `dropout` in training: a boolean mask, then the result.
    pub fn dropout(&mut self, x: &Tensor, probability: f64) -> Tensor {
        if probability == 0.0 {
            return x.clone();
        }
        let edge = self.record(Backward::Dropout, &[x], &[], &[(x.sizes, x.dtype)]);
        let strides = elementwise_strides(&[x], &x.sizes);
        let mask = self.empty_strided(x.sizes, strides, DType::Bool);
        let out = self.result(x.sizes, strides, x.dtype, edge);
        self.save_result(edge, &mask);
        out
    }

    /// The gradient where nothing was dropped: row by row, or with channels last where it has them so.
    ///
    /// Source: PyTorch `Dropout.cu` (`dropout_backward_cuda`: `suggest_memory_format`).
    pub fn dropout_backward(&mut self, grad: &Tensor) -> Tensor {
        let strides = match is_channels_last(grad) {
            true => channels_last_strides(&grad.sizes),
            false => grad.sizes.contiguous_strides(),
        };
        self.empty_strided(grad.sizes, strides, grad.dtype)
    }

    /// A value without dimensions, such as a loss.
    pub fn scalar(&self, dtype: DType) -> Tensor {
        self.empty(Dims::new(&[]), dtype)
    }
}
