//! Hugging Face's Adafactor as its Trainer sets it up: no first moment, no relative step.
//!
//! Source: transformers `optimization.py` (`Adafactor.step`), line by line: Python's names keep
//! tensors of one parameter alive into the next.

use std::rc::Rc;

use crate::step::optimizer::OptimizerState;
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor, TensorData};

impl Tape<'_> {
    /// Everything in float32: copies of 16-bit gradients and weights, then the update.
    pub(super) fn adafactor(&self, trained: &[Tensor], state: &mut OptimizerState) {
        let (mut grad, mut weight, mut update) = (None, None, None);
        for (i, parameter) in trained.iter().enumerate() {
            let full = || self.empty_strided(parameter.sizes, parameter.strides, DType::F32);
            let is_half = parameter.dtype.is_half();
            // Each name first becomes the parameter's own tensor, which frees the last copy.
            drop(grad.take());
            grad = is_half.then(full);
            if !state.begun {
                self.second_moments(parameter, state);
            }
            drop(weight.take());
            weight = is_half.then(full);
            let rms = self.root_mean_square(parameter.numel());
            match state.renewed.get_mut(i) {
                Some(old) => *old = rms,
                None => state.renewed.push(rms),
            }

            let square = full();
            let shifted = full();
            drop(square);
            drop(update.replace(shifted));
            let next = if is_factored(parameter) { self.factored(parameter) } else { full() };
            drop(update.replace(next));

            let rms = self.root_mean_square(parameter.numel());
            let over_threshold = self.scalar(DType::F32);
            drop((rms, over_threshold));
            let negated = full();
            drop(negated);
        }
        drop((grad, weight, update));
    }

    /// Makes the running means of squares: of rows and of columns, or of each element.
    fn second_moments(&self, parameter: &Tensor, state: &mut OptimizerState) {
        let sizes = parameter.sizes;
        if is_factored(parameter) {
            let last = sizes.len() - 1;
            state.kept.push(self.empty(without(&sizes, last), DType::F32));
            state.kept.push(self.empty(without(&sizes, last - 1), DType::F32));
        } else {
            state.kept.push(self.empty_strided(sizes, parameter.strides, DType::F32));
        }
    }

    /// Adds the means of the squared gradient to the running ones; returns the update that follows
    /// from them.
    fn factored(&self, parameter: &Tensor) -> Tensor {
        let squares = parameter.sizes;
        let last = squares.len() - 1;
        let of_rows = self.mean(squares, last);
        drop(of_rows);
        let of_columns = self.mean(squares, last - 1);
        drop(of_columns);
        // `_approx_sq_grad`
        let rows = without(&squares, last);
        let columns = without(&squares, last - 1);
        let mean = self.mean(rows, last - 1);
        let row_factor = self.empty(rows, DType::F32);
        drop(mean);
        let column_factor = self.empty(columns, DType::F32);
        let product = self.empty(squares, DType::F32);
        drop((row_factor, column_factor));
        product
    }

    /// `mean` over one dimension of a contiguous tensor.
    fn mean(&self, sizes: Dims, dim: usize) -> Tensor {
        let out = self.empty(without(&sizes, dim), DType::F32);
        self.reduction_in_parts(sizes, 1 << dim);
        out
    }

    /// `x.norm(2) / x.numel() ** 0.5`
    fn root_mean_square(&self, count: u64) -> Tensor {
        let norm = self.scalar(DType::F32);
        self.reduction_in_parts(Dims::new(&[count]), 1);
        let rms = self.scalar(DType::F32);
        drop(norm);
        rms
    }

    /// Takes the scratch of reducing a contiguous float32 tensor, halved along its outermost
    /// dimension until each part can be indexed with 32 bits.
    ///
    /// Source: PyTorch `aten/src/ATen/TensorIterator.cpp` (`can_use_32bit_indexing`,
    /// `SplitUntil32Bit`). Seen in the oracle's traces of an embedding of 3.3 GB.
    fn reduction_in_parts(&self, sizes: Dims, mask: u64) {
        let last_offset = sizes.product().saturating_sub(1) * DType::F32.bytes();
        let outermost = sizes.as_slice().iter().position(|&size| size > 1);
        let Some(dim) = outermost.filter(|_| last_offset >= i32::MAX as u64) else {
            return self.reduction(&shape(sizes), mask);
        };
        let size = sizes.as_slice()[dim];
        for part in [size / 2, size - size / 2] {
            let mut sizes = sizes;
            sizes.as_mut_slice()[dim] = part;
            self.reduction_in_parts(sizes, mask);
        }
    }
}

/// A contiguous float32 tensor as far as kernels' scratch goes.
fn shape(sizes: Dims) -> Tensor {
    let (storage, edge, is_view) = (None, None, false);
    let strides = sizes.contiguous_strides();
    Rc::new(TensorData { sizes, strides, dtype: DType::F32, storage, edge, is_view })
}

/// Whether the second moment is kept as rows and columns.
fn is_factored(parameter: &Tensor) -> bool {
    parameter.sizes.len() >= 2
}

/// Returns the sizes without those of one dimension.
fn without(sizes: &Dims, dim: usize) -> Dims {
    let kept = sizes.as_slice().iter().enumerate().filter(|&(i, _)| i != dim);
    Dims::new(&kept.map(|(_, &size)| size).collect::<Vec<u64>>())
}
