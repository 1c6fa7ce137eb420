//! LayerNorm, softmax and dropout.

use smallvec::SmallVec;

use crate::step::layout::{channels_last_strides, elementwise_strides, is_channels_last};
use crate::step::ops::{Backward, Grads};
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor};

impl Tape<'_> {
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
        let grad_weight = needs[1].then(|| self.empty(weight.sizes, weight.dtype));
        let bias = needs.get(2);
        let grad_bias = bias.map(|need| need.then(|| self.empty(weight.sizes, weight.dtype)));
        let _dense_grad = (!grad.is_contiguous()).then(|| self.empty(grad.sizes, grad.dtype));
        [grad_x, grad_weight].into_iter().chain(grad_bias).collect()
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
