//! Operators that work element by element, and sums.

use std::rc::Rc;

use crate::step::layout::{broadcast, elementwise_strides};
use crate::step::ops::{Backward, Grads};
use crate::step::reduce::{reduce_scratch, sum_to_mask};
use crate::step::setup::Version;
use crate::step::sort::scan_bytes;
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor, TensorData};

/// The first PyTorch whose `clamp` with bounds on the device shares the gradient of a tie.
///
/// Evidence: github.com/pytorch/pytorch/pull/191142, of July 2026; run on 2.8 and 2.15.
const TIES_SHARE: Version = Version::new(2, 15);

impl Tape<'_> {
    fn binary_shape(&self, a: &Tensor, b: &Tensor) -> (Dims, Dims, DType) {
        let sizes = broadcast(&a.sizes, &b.sizes);
        // A tensor without dimensions does not decide the dtype among floats.
        let dtype = match (a.sizes.len(), b.sizes.len()) {
            (0, 1..) => b.dtype,
            (1.., 0) => a.dtype,
            _ => a.dtype.promote(b.dtype),
        };
        (sizes, elementwise_strides(&[a, b], &sizes), dtype)
    }

    /// `a + b`
    pub fn add(&mut self, a: &Tensor, b: &Tensor) -> Tensor {
        let (sizes, strides, dtype) = self.binary_shape(a, b);
        let edge = self.record(Backward::Same, &[a, b], &[], &[(sizes, dtype)]);
        self.result(sizes, strides, dtype, edge)
    }

    /// `a - b`
    pub fn sub(&mut self, a: &Tensor, b: &Tensor) -> Tensor {
        let (sizes, strides, dtype) = self.binary_shape(a, b);
        let edge = self.record(Backward::Difference, &[a, b], &[], &[(sizes, dtype)]);
        self.result(sizes, strides, dtype, edge)
    }

    /// The gradient as it is, and turned around.
    pub fn difference_backward(&mut self, grad: &Tensor, needs: &[bool]) -> Grads {
        let grad_b = needs[1].then(|| self.pointwise_backward(grad, &[]));
        Grads::from_iter([needs[0].then(|| Rc::clone(grad)), grad_b])
    }

    /// `a += b`: the same memory, one node further on.
    pub fn add_in_place_of(&mut self, a: &Tensor, b: &Tensor) -> Tensor {
        let edge = self.record(Backward::Same, &[a, b], &[], &[(a.sizes, a.dtype)]);
        let storage = a.storage.clone();
        let (sizes, strides, dtype) = (a.sizes, a.strides, a.dtype);
        Rc::new(TensorData { sizes, strides, dtype, storage, edge, is_view: a.is_view })
    }

    /// `x.masked_fill(mask, number)`: a copy that is filled in place.
    pub fn masked_fill(&mut self, x: &Tensor, mask: &Tensor) -> Tensor {
        let sizes = broadcast(&x.sizes, &mask.sizes);
        let edge = self.record(Backward::MaskedFill, &[x], &[mask], &[(sizes, x.dtype)]);
        self.result(sizes, sizes.contiguous_strides(), x.dtype, edge)
    }

    /// `x.masked_fill_(mask, number)`: the same memory, one node further on.
    pub fn masked_fill_in_place(&mut self, x: &Tensor, mask: &Tensor) -> Tensor {
        let edge = self.record(Backward::MaskedFill, &[x], &[mask], &[(x.sizes, x.dtype)]);
        Rc::new(TensorData { edge, ..x.detached() })
    }

    /// `a * b`
    pub fn mul(&mut self, a: &Tensor, b: &Tensor) -> Tensor {
        let (sizes, strides, dtype) = self.binary_shape(a, b);
        let (need_a, need_b) = (a.edge.is_some(), b.edge.is_some());
        let op = Backward::Mul(need_a, need_b);
        let meta = [(sizes, dtype)];
        let edge = match (need_a, need_b) {
            (true, true) => self.record(op, &[a, b], &[b, a], &meta),
            (true, false) => self.record(op, &[a, b], &[b], &meta),
            (false, true) => self.record(op, &[a, b], &[a], &meta),
            (false, false) => None,
        };
        self.result(sizes, strides, dtype, edge)
    }

    /// `other` is computed before `self`.
    pub fn mul_backward(&mut self, op: &Backward, grad: &Tensor, saved: &[Tensor]) -> Grads {
        let Backward::Mul(need_a, need_b) = *op else { return Grads::new() };
        let product = |factor: &Tensor| {
            let sizes = broadcast(&grad.sizes, &factor.sizes);
            let strides = elementwise_strides(&[grad, factor], &sizes);
            self.empty_strided(sizes, strides, grad.dtype.promote(factor.dtype))
        };
        let grad_b = need_b.then(|| product(&saved[usize::from(need_a)]));
        let grad_a = need_a.then(|| product(&saved[0]));
        Grads::from_iter([grad_a, grad_b])
    }

    /// `a / b`
    pub fn div(&mut self, a: &Tensor, b: &Tensor) -> Tensor {
        let (sizes, strides, dtype) = self.binary_shape(a, b);
        let meta = [(sizes, dtype)];
        let edge = match b.edge {
            Some(_) => self.record(Backward::Quotient, &[a, b], &[a, b], &meta),
            None => self.record(Backward::Pointwise, &[a], &[b], &meta),
        };
        self.result(sizes, strides, dtype, edge)
    }

    /// `torch.where(condition, a, b)` where b needs no gradient.
    pub fn where_(&mut self, condition: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
        let (pair, _, dtype) = self.binary_shape(a, b);
        let sizes = broadcast(&condition.sizes, &pair);
        let strides = elementwise_strides(&[condition, a, b], &sizes);
        let edge = self.record(Backward::Where, &[a], &[condition], &[(sizes, dtype)]);
        self.result(sizes, strides, dtype, edge)
    }

    /// `torch.where(condition, grad, 0)`: the zero is a tensor of its own.
    pub fn where_backward(&mut self, grad: &Tensor, saved: &[Tensor]) -> Tensor {
        let zero = self.empty(Dims::new(&[]), grad.dtype);
        let strides = elementwise_strides(&[&saved[0], grad], &grad.sizes);
        let out = self.empty_strided(grad.sizes, strides, grad.dtype);
        drop(zero);
        out
    }

    /// An operator with a number, whose gradient is the gradient (`a + number`).
    pub fn add_number(&mut self, a: &Tensor) -> Tensor {
        self.unary(Backward::Same, a, &[])
    }

    /// An operator with a number or a sign, whose gradient is one kernel away.
    pub fn scale(&mut self, a: &Tensor) -> Tensor {
        self.unary(Backward::Pointwise, a, &[])
    }

    /// An activation that keeps its input.
    pub fn activation(&mut self, a: &Tensor) -> Tensor {
        self.unary(Backward::Pointwise, a, &[a])
    }

    /// `x ** exponent`
    pub fn pow(&mut self, a: &Tensor) -> Tensor {
        self.unary(Backward::Pow, a, &[a])
    }

    /// An activation that keeps its result (`tanh`, `relu`).
    pub fn activation_by_result(&mut self, a: &Tensor) -> Tensor {
        self.by_result(Backward::Pointwise, a)
    }

    /// `rsqrt`
    pub fn rsqrt(&mut self, a: &Tensor) -> Tensor {
        self.by_result(Backward::Rsqrt, a)
    }

    /// `torch.sqrt`
    pub fn sqrt(&mut self, a: &Tensor) -> Tensor {
        self.by_result(Backward::Sqrt, a)
    }

    /// `grad / (2 * result)`
    pub fn sqrt_backward(&mut self, grad: &Tensor, saved: &[Tensor]) -> Tensor {
        let twice = self.empty_strided(saved[0].sizes, saved[0].strides, saved[0].dtype);
        let out = self.pointwise_backward(grad, saved);
        drop(twice);
        out
    }

    fn by_result(&mut self, op: Backward, a: &Tensor) -> Tensor {
        let out = self.unary(op, a, &[]);
        self.save_result(out.edge, &out);
        out
    }

    fn unary(&mut self, op: Backward, a: &Tensor, saves: &[&Tensor]) -> Tensor {
        let strides = elementwise_strides(&[a], &a.sizes);
        let edge = self.record(op, &[a], saves, &[(a.sizes, a.dtype)]);
        self.result(a.sizes, strides, a.dtype, edge)
    }

    /// One kernel from the gradient and, where there is one, a saved tensor.
    pub fn pointwise_backward(&mut self, grad: &Tensor, saved: &[Tensor]) -> Tensor {
        let strides = match saved.first() {
            Some(x) => elementwise_strides(&[grad, x], &grad.sizes),
            None => elementwise_strides(&[grad], &grad.sizes),
        };
        self.empty_strided(grad.sizes, strides, grad.dtype)
    }

    /// `grad * (exponent * x ** (exponent - 1))`: three kernels, three tensors.
    pub fn pow_backward(&mut self, grad: &Tensor, saved: &[Tensor]) -> Tensor {
        let x = &saved[0];
        let strides = elementwise_strides(&[x], &x.sizes);
        let power = self.empty_strided(x.sizes, strides, x.dtype);
        let scaled = self.empty_strided(x.sizes, strides, x.dtype);
        let out = self.pointwise_backward(grad, std::slice::from_ref(&scaled));
        drop((power, scaled));
        out
    }

    /// `-0.5 * grad * result ** 3`: three kernels, three tensors.
    pub fn rsqrt_backward(&mut self, grad: &Tensor, saved: &[Tensor]) -> Tensor {
        let halved = self.pointwise_backward(grad, &[]);
        let cube = self.empty_strided(saved[0].sizes, saved[0].strides, saved[0].dtype);
        let out = self.pointwise_backward(grad, saved);
        drop((halved, cube));
        out
    }

    /// Mean over a dimension, which is kept.
    pub fn mean_of(&mut self, a: &Tensor, dim: usize) -> Tensor {
        let mut sizes = a.sizes;
        sizes.as_mut_slice()[dim] = 1;
        let edge = self.record(Backward::Mean(a.sizes), &[a], &[], &[(sizes, a.dtype)]);
        let out = self.result(sizes, sizes.contiguous_strides(), a.dtype, edge);
        self.reduction(a, 1 << dim);
        out
    }

    /// Takes the scratch of reducing the dimensions in the bit mask, and gives it back.
    pub fn reduction(&self, x: &Tensor, mask: u64) {
        let scratch = reduce_scratch(x, mask, self.setup.gpu, 4);
        let buffer = self.hold(scratch.buffer);
        let semaphores = self.hold(scratch.semaphores);
        drop((buffer, semaphores));
    }

    /// `at::sum_to`: itself where nothing was repeated.
    pub fn sum_to(&mut self, x: &Tensor, sizes: Dims) -> Tensor {
        if x.sizes == sizes {
            return Rc::clone(x);
        }
        let mask = sum_to_mask(&x.sizes, &sizes);
        let lead = x.sizes.len() - sizes.len();
        if mask == 0 {
            return self.reshape_data(x, sizes);
        }
        let mut kept = x.sizes;
        for (i, size) in kept.as_mut_slice().iter_mut().enumerate() {
            if mask >> i & 1 == 1 {
                *size = 1;
            }
        }
        let sum = self.empty(kept, x.dtype);
        self.reduction(x, mask);
        if lead == 0 { sum } else { self.alias(&sum, sizes, sizes.contiguous_strides(), None) }
    }

    /// `mask.sum()` of booleans: they are counted as 64-bit integers.
    pub fn count_true(&mut self, mask: &Tensor) -> Tensor {
        let out = self.empty(Dims::new(&[]), DType::I64);
        let wide = self.empty(mask.sizes, DType::I64);
        self.reduction(&wide, (1 << mask.sizes.len()) - 1);
        out
    }

    /// `torch.clamp(x, min=-number, max=number)` where x is in float16.
    pub fn clamp_half(&mut self, x: &Tensor) -> Tensor {
        if x.dtype == DType::F16 { self.unary(Backward::Clamp, x, &[x]) } else { Rc::clone(x) }
    }

    /// `where(isinf(x).any(), max - 1000, max)` of a float16 tensor: a float32 on the device.
    pub fn finite_bound(&mut self, x: &Tensor) -> Tensor {
        if x.dtype != DType::F16 {
            return self.empty(Dims::new(&[0]), x.dtype);
        }
        let has_infinity = self.has_infinity(x);
        let numbers = (self.scalar(DType::F32), self.scalar(DType::F32));
        let bound = self.scalar(DType::F32);
        drop((numbers, has_infinity));
        bound
    }

    /// `torch.clamp(x, min=-bound, max=bound)` where x is in float16.
    pub fn clamp_to(&mut self, x: &Tensor, bound: &Tensor) -> Tensor {
        if x.dtype != DType::F16 {
            return Rc::clone(x);
        }
        let least = self.scalar(DType::F32);
        self.unary(Backward::ClampTo, x, &[x, &least, bound])
    }

    /// From this version on a tie with a bound on the device shares its gradient with it.
    pub fn clamp_to_backward(&mut self, grad: &Tensor, saved: &[Tensor]) -> Tensor {
        if self.setup.torch < TIES_SHARE {
            return self.clamp_backward(grad, saved);
        }
        let x = &saved[0];
        let strides = elementwise_strides(&[x], &x.sizes);
        let bools = || self.empty_strided(x.sizes, strides, DType::Bool);
        let are_apart = self.scalar(DType::Bool);
        let is_within = {
            let _both = (bools(), bools());
            let _is_between = bools();
            bools()
        };
        let is_tied = {
            let _either = (bools(), bools());
            bools()
        };
        let halved = self.pointwise_backward(grad, &[]);
        let out = self.pointwise_backward(grad, &[]);
        drop((are_apart, is_within, is_tied, halved));
        out
    }

    /// `where((x >= min) & (x <= max), grad, 0)`: the zero is a tensor of its own.
    pub fn clamp_backward(&mut self, grad: &Tensor, saved: &[Tensor]) -> Tensor {
        let zero = self.empty(Dims::new(&[]), grad.dtype);
        let x = &saved[0];
        let strides = elementwise_strides(&[x], &x.sizes);
        let within = || self.empty_strided(x.sizes, strides, DType::Bool);
        let (least, most) = (within(), within());
        let strides = elementwise_strides(&[&least, grad], &grad.sizes);
        let out = self.empty_strided(grad.sizes, strides, grad.dtype);
        drop((zero, least, most));
        out
    }

    /// `isfinite(x).all()`, or `isinf(x).any() or isnan(x).any()`, of a float16 tensor.
    ///
    /// Source: PyTorch `TensorCompare.cpp` (`isfinite`, `isinf`), which take `x.abs()`: to autograd an
    /// operator like others, whose node goes with its result.
    pub fn ask_finite(&mut self, x: &Tensor, at_once: bool) -> Tensor {
        if x.dtype != DType::F16 {
            return Rc::clone(x);
        }
        if !at_once {
            drop(self.has_infinity(x));
            let is_no_number = self.empty(x.sizes, DType::Bool);
            return self.all_true(&is_no_number);
        }
        let nodes = self.nodes.len();
        let absolute = self.activation(x);
        let bools = || self.empty(x.sizes, DType::Bool);
        let (is_bounded, is_number) = (bools(), bools());
        let is_finite = bools();
        drop((absolute, is_bounded, is_number));
        let answer = self.all_true(&is_finite);
        self.forget_nodes(nodes);
        answer
    }

    /// `isinf(x).any()`
    fn has_infinity(&mut self, x: &Tensor) -> Tensor {
        let nodes = self.nodes.len();
        let absolute = self.activation(x);
        let is_infinite = self.empty(x.sizes, DType::Bool);
        drop(absolute);
        let answer = self.all_true(&is_infinite);
        self.forget_nodes(nodes);
        answer
    }

    /// `torch.cumsum` over the last dimension: one row alone is a CUB scan.
    ///
    /// Source: PyTorch `ScanUtils.cuh` (`scan_dim`).
    pub fn cumulative_sum(&mut self, x: &Tensor, dtype: DType) -> Tensor {
        let out = self.empty(x.sizes, dtype);
        let wide = (x.dtype != dtype).then(|| self.empty(x.sizes, dtype));
        if x.sizes.as_slice().last() == Some(&x.numel()) {
            self.transient(scan_bytes(x.numel(), dtype.bytes(), self.setup.torch));
        }
        drop(wide);
        out
    }

    /// `mask.all()`
    pub fn all_true(&mut self, mask: &Tensor) -> Tensor {
        let out = self.empty(Dims::new(&[]), DType::Bool);
        self.reduction(mask, (1 << mask.sizes.len()) - 1);
        out
    }
}
