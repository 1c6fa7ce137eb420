//! Convolution over images, (batch, channels, height, width).
//!
//! cuDNN's own choice of a workspace is not known here: none is counted. bfloat16 takes PyTorch's own
//! kernels, one product a sample on a buffer of columns, as cuDNN's older interface makes it do; so do
//! the traces that this is compared with.
//!
//! Source: PyTorch `aten/src/ATen/native/Convolution.cpp`, `cudnn/ConvShared.cpp`,
//! `cuda/ConvolutionMM2d.cu`, `cuda/DepthwiseConv2d.cu`.

use std::rc::Rc;

use crate::model::graph::Conv2d;
use crate::step::layout::{channels_last_strides, is_channels_last};
use crate::step::ops::{Backward, Grads};
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor, TensorData};

/// The dimension of images, and of filters over them, that a convolution along time does not have.
const ROWS: usize = 2;

/// Products of one convolution that a trace names at most.
const MOST_PRODUCTS: u64 = 16;

/// One convolution: how it is asked, and by which kernels it runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvCall {
    how: Conv2d,
    kernel: Kernel,
    has_bias: bool,
}

/// Who computes a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// cuDNN, on images whose channels are the slowest or the fastest dimension.
    Cudnn {
        /// Whether channels are the fastest.
        channels_last: bool,
    },
    /// PyTorch's kernel for one filter a channel.
    Depthwise,
    /// PyTorch's products on columns, sample by sample.
    Columns,
}

/// Source: `ConvParams::use_cudnn`, `use_cudnn_depthwise`, `is_depthwise` in `Convolution.cpp`.
fn kernel(x: &Tensor, weight: &Tensor, how: Conv2d) -> Kernel {
    let channels = x.sizes.as_slice()[1];
    let depthwise = channels == how.groups && how.groups > 1;
    let channels_last = is_channels_last(x) || is_channels_last(weight);
    match (x.dtype, depthwise) {
        (DType::Bf16, true) => Kernel::Depthwise,
        (DType::Bf16, false) => Kernel::Columns,
        (_, true) if !channels_last => Kernel::Depthwise,
        _ => Kernel::Cudnn { channels_last },
    }
}

fn outputs(x: &Dims, weight: &Dims, how: Conv2d) -> Dims {
    let (x, w) = (x.as_slice(), weight.as_slice());
    let size = |n: u64, kernel: u64| (n + 2 * how.padding - kernel) / how.stride + 1;
    let height = if how.one_row { x[2] } else { size(x[2], w[2]) };
    Dims::new(&[x[0], w[0], height, size(x[3], w[3])])
}

impl Tape<'_> {
    /// `nn.functional.conv2d(x, weight, bias)`; a bias is added in place.
    pub fn conv2d(
        &mut self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        how: Conv2d,
    ) -> Tensor {
        let images = how.one_row.then(|| with_sizes(weight, weight.sizes.inserted(ROWS, 1)));
        let weight = images.as_ref().unwrap_or(weight);
        let call = ConvCall { how, kernel: kernel(x, weight, how), has_bias: bias.is_some() };
        let sizes = outputs(&x.sizes, &weight.sizes, how);
        let op = Backward::Conv2d(call);
        let meta = [(sizes, x.dtype)];
        let edge = match bias {
            Some(bias) => self.record(op, &[x, weight, bias], &[x, weight], &meta),
            None => self.record(op, &[x, weight], &[x, weight], &meta),
        };
        match call.kernel {
            Kernel::Cudnn { channels_last } => {
                let strides = image_strides(&sizes, channels_last);
                let out = self.result(sizes, strides, x.dtype, edge);
                let copies =
                    (self.image_copy(x, channels_last), self.image_copy(weight, channels_last));
                drop(copies);
                out
            }
            Kernel::Depthwise => {
                let copy = self.image_copy(x, false);
                let out = self.result(sizes, sizes.contiguous_strides(), x.dtype, edge);
                drop(copy);
                out
            }
            Kernel::Columns => {
                let copy = self.image_copy(x, false);
                let out = self.result(sizes, sizes.contiguous_strides(), x.dtype, edge);
                let columns = self
                    .needs_columns(&weight.sizes, how)
                    .then(|| self.columns(&x.sizes, &weight.sizes, &sizes, x.dtype));
                self.one_product_a_sample(&sizes);
                drop((columns, copy));
                out
            }
        }
    }

    /// A copy in the layout asked for; `None` where it has that layout.
    fn image_copy(&self, x: &Tensor, channels_last: bool) -> Option<Tensor> {
        let strides = image_strides(&x.sizes, channels_last);
        let same = x.sizes.as_slice().iter().zip(x.strides.as_slice()).zip(strides.as_slice());
        let is_there = same.clone().all(|((&size, &has), &wants)| size == 1 || has == wants);
        (!is_there).then(|| self.empty_strided(x.sizes, strides, x.dtype))
    }

    fn needs_columns(&self, weight: &Dims, how: Conv2d) -> bool {
        let w = weight.as_slice();
        w[2] != 1 || w[3] != 1 || how.stride != 1 || how.padding != 0
    }

    /// What each filter sees, for one sample.
    fn columns(&self, x: &Dims, weight: &Dims, out: &Dims, dtype: DType) -> Tensor {
        let (x, w, out) = (x.as_slice(), weight.as_slice(), out.as_slice());
        self.empty(Dims::new(&[x[1] * w[2] * w[3], out[2] * out[3]]), dtype)
    }

    /// A workspace for each sample, up to so many: those after the second take what the one before
    /// gave back, so that no more of them change nothing.
    fn one_product_a_sample(&mut self, out: &Dims) {
        for _ in 0..out.as_slice()[0].min(MOST_PRODUCTS) {
            self.cublas_workspace();
        }
    }

    /// Gradients of the image, the weight and the bias.
    pub fn conv2d_backward(
        &mut self,
        call: &ConvCall,
        grad: &Tensor,
        saved: &[Tensor],
        needs: &[bool],
    ) -> Grads {
        let (x, weight) = (&saved[0], &saved[1]);
        let needs_bias = call.has_bias && needs[2];
        let mut grads = match call.kernel {
            Kernel::Cudnn { channels_last } => {
                let mut grads = self.cudnn_backward(channels_last, grad, saved, needs);
                grads.push(needs_bias.then(|| self.bias_gradient(grad, weight)));
                grads
            }
            Kernel::Depthwise => {
                let dense = self.image_copy(grad, false);
                let copy = self.image_copy(x, false);
                let grad_weight = needs[1].then(|| self.empty(weight.sizes, weight.dtype));
                drop(copy);
                let grad_x = needs[0].then(|| self.empty(x.sizes, x.dtype));
                drop(dense);
                let grad_bias = needs_bias.then(|| self.bias_gradient(grad, weight));
                Grads::from_iter([grad_x, grad_weight, grad_bias])
            }
            Kernel::Columns => self.columns_backward(call.how, grad, saved, needs, needs_bias),
        };
        if let Some(Some(grad)) = grads.get_mut(1).filter(|_| call.how.one_row) {
            *grad = with_sizes(grad, grad.sizes.without(ROWS));
        }
        grads.truncate(needs.len());
        grads
    }

    fn bias_gradient(&mut self, grad: &Tensor, weight: &Tensor) -> Tensor {
        let out = self.empty(Dims::new(&[weight.sizes.as_slice()[0]]), weight.dtype);
        self.reduction(grad, 0b1101);
        out
    }

    /// The gradient in the layout of the kernel; then that of the image, for which the weight may be
    /// copied, and that of the weight.
    fn cudnn_backward(
        &mut self,
        channels_last: bool,
        grad: &Tensor,
        saved: &[Tensor],
        needs: &[bool],
    ) -> Grads {
        let (x, weight) = (&saved[0], &saved[1]);
        let dense = self.image_copy(grad, channels_last);
        let grad_x = needs[0].then(|| {
            let strides = image_strides(&x.sizes, channels_last);
            let grad_x = self.empty_strided(x.sizes, strides, x.dtype);
            drop(self.image_copy(weight, channels_last));
            grad_x
        });
        let grad_weight = needs[1].then(|| {
            let strides = image_strides(&weight.sizes, channels_last);
            let grad_weight = self.empty_strided(weight.sizes, strides, weight.dtype);
            drop(self.image_copy(x, channels_last));
            grad_weight
        });
        drop(dense);
        Grads::from_iter([grad_x, grad_weight])
    }

    /// Image, bias, weight; each of the first and the last with one product a sample.
    fn columns_backward(
        &mut self,
        how: Conv2d,
        grad: &Tensor,
        saved: &[Tensor],
        needs: &[bool],
        needs_bias: bool,
    ) -> Grads {
        let (x, weight) = (&saved[0], &saved[1]);
        let out = outputs(&x.sizes, &weight.sizes, how);
        let copy = self.image_copy(x, false);
        let dense = self.image_copy(grad, false);
        let mut columns = None;
        let grad_x = needs[0].then(|| {
            let grad_x = self.empty(x.sizes, x.dtype);
            columns = Some(self.columns(&x.sizes, &weight.sizes, &out, x.dtype));
            self.one_product_a_sample(&out);
            grad_x
        });
        let summed = dense.as_ref().unwrap_or(grad);
        let grad_bias = needs_bias.then(|| self.bias_gradient(summed, weight));
        let grad_weight = needs[1].then(|| {
            let grad_weight = self.empty(weight.sizes, weight.dtype);
            if columns.is_none() && self.needs_columns(&weight.sizes, how) {
                columns = Some(self.columns(&x.sizes, &weight.sizes, &out, x.dtype));
            }
            self.one_product_a_sample(&out);
            grad_weight
        });
        drop((columns, copy, dense));
        Grads::from_iter([grad_x, grad_weight, grad_bias])
    }
}

/// A contiguous tensor in other sizes, which autograd does not see.
fn with_sizes(x: &Tensor, sizes: Dims) -> Tensor {
    Rc::new(TensorData { sizes, strides: sizes.contiguous_strides(), ..TensorData::clone(x) })
}

fn image_strides(sizes: &Dims, channels_last: bool) -> Dims {
    if channels_last { channels_last_strides(sizes) } else { sizes.contiguous_strides() }
}
