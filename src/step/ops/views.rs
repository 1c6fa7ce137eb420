//! Operators that move no data, or copy it as it is: views, slices, concatenation, casts.

use std::rc::Rc;

use crate::step::layout::{elementwise_strides, view_strides};
use crate::step::ops::{Backward, Grads};
use crate::step::setup::Version;
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Edge, Tensor};

/// From this version on `:` alone takes the whole dimension, as it is; before, it was a slice up to
/// the largest index, whose backward copied the gradient into zeros. Run on 2.8.0 and 2.9.1.
const WHOLE_SLICE_IS_ITSELF: Version = Version::new(2, 9);

impl Tape<'_> {
    /// `x.view(sizes)`
    pub fn view(&mut self, x: &Tensor, sizes: Dims) -> Tensor {
        let edge = self.record(Backward::Reshape(x.sizes), &[x], &[], &[(sizes, x.dtype)]);
        let strides = view_strides(x, &sizes).unwrap_or_else(|| sizes.contiguous_strides());
        self.alias(x, sizes, strides, edge)
    }

    /// `x.reshape(sizes)`: a view, or a clone seen through `_unsafe_view`.
    pub fn reshape(&mut self, x: &Tensor, sizes: Dims) -> Tensor {
        if view_strides(x, &sizes).is_some() {
            return self.view(x, sizes);
        }
        let copy = self.clone_contiguous(x);
        self.unsafe_view(copy, sizes)
    }

    /// `_unsafe_view`: new sizes for a tensor that nobody else sees; no view to autograd.
    pub fn unsafe_view(&mut self, x: Tensor, sizes: Dims) -> Tensor {
        let edge = self.record(Backward::Reshape(x.sizes), &[&x], &[], &[(sizes, x.dtype)]);
        Rc::new(crate::step::tensor::TensorData {
            sizes,
            strides: sizes.contiguous_strides(),
            dtype: x.dtype,
            storage: x.storage.clone(),
            edge,
            is_view: false,
        })
    }

    /// `reshape` outside autograd, as backward formulas call it.
    pub fn reshape_data(&mut self, x: &Tensor, sizes: Dims) -> Tensor {
        match view_strides(x, &sizes) {
            Some(strides) => self.alias(x, sizes, strides, None),
            None => self.empty(sizes, x.dtype),
        }
    }

    /// `x.contiguous()`
    pub fn contiguous(&mut self, x: &Tensor) -> Tensor {
        if x.is_contiguous() { Rc::clone(x) } else { self.clone_contiguous(x) }
    }

    /// `x.clone(memory_format=contiguous)`
    pub fn clone_contiguous(&mut self, x: &Tensor) -> Tensor {
        let edge = self.record(Backward::Same, &[x], &[], &[(x.sizes, x.dtype)]);
        self.result(x.sizes, x.sizes.contiguous_strides(), x.dtype, edge)
    }

    /// `x.transpose(dim0, dim1)`
    pub fn transpose(&mut self, x: &Tensor, dim0: usize, dim1: usize) -> Tensor {
        let mut sizes = x.sizes;
        sizes.as_mut_slice().swap(dim0, dim1);
        let edge = self.record(Backward::Transpose(dim0, dim1), &[x], &[], &[(sizes, x.dtype)]);
        self.transposed(x, dim0, dim1, edge)
    }

    /// A transposed view, outside autograd where `edge` is `None`.
    pub fn transposed(&self, x: &Tensor, dim0: usize, dim1: usize, edge: Option<Edge>) -> Tensor {
        let (mut sizes, mut strides) = (x.sizes, x.strides);
        sizes.as_mut_slice().swap(dim0, dim1);
        strides.as_mut_slice().swap(dim0, dim1);
        self.alias(x, sizes, strides, edge)
    }

    /// `x.unsqueeze(dim)`
    pub fn unsqueeze(&mut self, x: &Tensor, dim: usize) -> Tensor {
        let sizes = x.sizes.inserted(dim, 1);
        let stride = match x.sizes.as_slice().get(dim) {
            Some(size) => size * x.strides.as_slice()[dim],
            None => 1,
        };
        let strides = x.strides.inserted(dim, stride);
        let edge = self.record(Backward::Squeeze(dim), &[x], &[], &[(sizes, x.dtype)]);
        self.alias(x, sizes, strides, edge)
    }

    /// `x.squeeze(dim)` of a dimension of one.
    pub fn squeeze(&mut self, x: &Tensor, dim: usize) -> Tensor {
        let sizes = x.sizes.without(dim);
        let edge = self.record(Backward::Reshape(x.sizes), &[x], &[], &[(sizes, x.dtype)]);
        self.alias(x, sizes, x.strides.without(dim), edge)
    }

    /// A view without a dimension of one, outside autograd.
    pub fn squeezed(&self, x: &Tensor, dim: usize) -> Tensor {
        let without = |dims: &Dims| {
            let mut values: Vec<u64> = dims.as_slice().to_vec();
            values.remove(dim);
            Dims::new(&values)
        };
        self.alias(x, without(&x.sizes), without(&x.strides), None)
    }

    /// `x.expand(sizes)`
    pub fn expand(&mut self, x: &Tensor, sizes: Dims) -> Tensor {
        let strides = crate::step::layout::broadcast_strides(x, &sizes);
        let mut strides = strides;
        // A dimension that is not repeated keeps its stride, also where its size is one.
        let offset = sizes.len() - x.sizes.len();
        for i in offset..sizes.len() {
            if sizes.as_slice()[i] == x.sizes.as_slice()[i - offset] {
                strides.as_mut_slice()[i] = x.strides.as_slice()[i - offset];
            }
        }
        let edge = self.record(Backward::SumTo(x.sizes), &[x], &[], &[(sizes, x.dtype)]);
        self.alias(x, sizes, strides, edge)
    }

    /// `x[..., start:end]` along one dimension.
    pub fn slice(&mut self, x: &Tensor, dim: usize, start: u64, end: u64) -> Tensor {
        let mut sizes = x.sizes;
        if start == 0 && end == sizes.as_slice()[dim] {
            // Indexing returns no tensor twice: what it would return as it is becomes an alias.
            let edge = self.record(Backward::Same, &[x], &[], &[(x.sizes, x.dtype)]);
            return self.alias(x, x.sizes, x.strides, edge);
        }
        sizes.as_mut_slice()[dim] = end - start;
        self.narrowed(x, sizes)
    }

    /// `x[..., first::2, ...]`: a view of every second index of a dimension.
    pub fn every_second(&mut self, x: &Tensor, dim: usize, first: u64) -> Tensor {
        let (mut sizes, mut strides) = (x.sizes, x.strides);
        sizes.as_mut_slice()[dim] = (x.sizes.as_slice()[dim] - first).div_ceil(2);
        strides.as_mut_slice()[dim] *= 2;
        let op = Backward::Slice { sizes: x.sizes };
        let edge = self.record(op, &[x], &[], &[(sizes, x.dtype)]);
        self.alias(x, sizes, strides, edge)
    }

    /// `nn.functional.pad(x, ...)` with zeros behind: a copy also where none are added.
    ///
    /// Source: PyTorch `PadNd.cpp` (`constant_pad_nd`).
    pub fn pad(&mut self, x: &Tensor, behind: &[u64]) -> Tensor {
        let mut sizes = x.sizes;
        for (size, more) in sizes.as_mut_slice().iter_mut().zip(behind) {
            *size += more;
        }
        let strides = match sizes == x.sizes {
            true => elementwise_strides(&[x], &sizes),
            false => sizes.contiguous_strides(),
        };
        let edge = self.record(Backward::Narrow(x.sizes), &[x], &[], &[(sizes, x.dtype)]);
        self.result(sizes, strides, x.dtype, edge)
    }

    /// A copy of what lies at the front of each dimension.
    pub fn narrow_copy(&mut self, x: &Tensor, sizes: Dims) -> Tensor {
        let narrowed = self.alias(x, sizes, x.strides, None);
        let strides = elementwise_strides(&[&narrowed], &sizes);
        self.empty_strided(sizes, strides, x.dtype)
    }

    /// `torch.roll(x, shifts, dims)` along two dimensions: one after the other.
    ///
    /// Source: PyTorch `TensorTransformations.{h,cu}` (`roll_common`, `roll_cuda`).
    pub fn roll_two(&mut self, x: &Tensor) -> Tensor {
        let edge = self.record(Backward::RollTwo, &[x], &[], &[(x.sizes, x.dtype)]);
        self.roll_two_data(x, edge)
    }

    /// Rolls along two dimensions, outside autograd where `edge` is `None`.
    pub fn roll_two_data(&mut self, x: &Tensor, edge: Option<Edge>) -> Tensor {
        let strides = x.sizes.contiguous_strides();
        let dense = (!x.is_contiguous()).then(|| self.empty(x.sizes, x.dtype));
        let first = self.empty(x.sizes, x.dtype);
        drop(dense);
        let out = self.result(x.sizes, strides, x.dtype, edge);
        drop(first);
        out
    }

    /// `x[..., index, ...]`: a view of one index of a dimension.
    pub fn select(&mut self, x: &Tensor, dim: usize) -> Tensor {
        let (sizes, strides) = (x.sizes.without(dim), x.strides.without(dim));
        let op = Backward::Select { sizes: x.sizes };
        let edge = self.record(op, &[x], &[], &[(sizes, x.dtype)]);
        self.alias(x, sizes, strides, edge)
    }

    /// `x.permute(order)`
    pub fn permute(&mut self, x: &Tensor, order: &[usize]) -> Tensor {
        let order = Dims::new(&order.iter().map(|&dim| dim as u64).collect::<Vec<_>>());
        let mut back = order;
        for (at, &dim) in order.as_slice().iter().enumerate() {
            back.as_mut_slice()[dim as usize] = at as u64;
        }
        let sizes = permutation(&x.sizes, &order);
        let edge = self.record(Backward::Permute(back), &[x], &[], &[(sizes, x.dtype)]);
        self.permuted(x, &order, edge)
    }

    /// A permuted view, outside autograd where `edge` is `None`.
    pub fn permuted(&self, x: &Tensor, order: &Dims, edge: Option<Edge>) -> Tensor {
        let (sizes, strides) = (permutation(&x.sizes, order), permutation(&x.strides, order));
        self.alias(x, sizes, strides, edge)
    }

    /// `x[..., :, ...]`: all of one dimension, without bounds.
    pub fn all(&mut self, x: &Tensor, dim: usize) -> Tensor {
        debug_assert!(dim < x.sizes.len());
        if self.setup.torch >= WHOLE_SLICE_IS_ITSELF {
            Rc::clone(x)
        } else {
            self.narrowed(x, x.sizes)
        }
    }

    fn narrowed(&mut self, x: &Tensor, sizes: Dims) -> Tensor {
        let op = Backward::Slice { sizes: x.sizes };
        let edge = self.record(op, &[x], &[], &[(sizes, x.dtype)]);
        self.alias(x, sizes, x.strides, edge)
    }

    /// `x.split(...)` into equal parts.
    pub fn split(&mut self, x: &Tensor, dim: usize, parts: u64) -> Vec<Tensor> {
        let mut sizes = x.sizes;
        sizes.as_mut_slice()[dim] /= parts;
        let meta = vec![(sizes, x.dtype); parts as usize];
        let edge = self.record(Backward::Split { sizes: x.sizes }, &[x], &[], &meta);
        (0..parts as u32)
            .map(|slot| {
                let edge = edge.map(|e| Edge { node: e.node, slot });
                self.alias(x, sizes, x.strides, edge)
            })
            .collect()
    }

    /// `x.unbind(dim)`: views of each index of a dimension, whose gradients are stacked.
    pub fn unbind(&mut self, x: &Tensor, dim: usize, parts: u64) -> Vec<Tensor> {
        let (sizes, strides) = (x.sizes.without(dim), x.strides.without(dim));
        let meta = vec![(sizes, x.dtype); parts as usize];
        let edge = self.record(Backward::Split { sizes: x.sizes }, &[x], &[], &meta);
        (0..parts as u32)
            .map(|slot| {
                let edge = edge.map(|e| Edge { node: e.node, slot });
                self.alias(x, sizes, strides, edge)
            })
            .collect()
    }

    /// `torch.gather(x, dim, index)`, which keeps x, though only its sizes are asked for.
    ///
    /// Source: PyTorch `derivatives.yaml` (`gather`), `FunctionsManual.cpp` (`gather_backward`).
    pub fn gather(&mut self, x: &Tensor, index: &Tensor) -> Tensor {
        let meta = [(index.sizes, x.dtype)];
        let edge = self.record(Backward::Gather, &[x], &[x, index], &meta);
        self.result(index.sizes, index.sizes.contiguous_strides(), x.dtype, edge)
    }

    /// `x.repeat(times, 1, ...)`: a copy, also of one repetition.
    pub fn repeat(&mut self, x: &Tensor, times: u64) -> Tensor {
        let mut sizes = x.sizes;
        sizes.as_mut_slice()[0] *= times;
        let edge = self.record(Backward::Repeat(times), &[x], &[], &[(sizes, x.dtype)]);
        self.result(sizes, sizes.contiguous_strides(), x.dtype, edge)
    }

    /// The gradient itself, or its sum over the repetitions.
    ///
    /// Source: PyTorch `FunctionsManual.cpp` (`repeat_backward`).
    pub fn repeat_backward(&mut self, grad: &Tensor, times: u64) -> Tensor {
        if times == 1 {
            return Rc::clone(grad);
        }
        let mut sizes = grad.sizes;
        sizes.as_mut_slice()[0] /= times;
        let apart = self.reshape_data(grad, sizes.inserted(0, times));
        let sum = self.empty(sizes, grad.dtype);
        self.reduction(&apart, 1);
        sum
    }

    /// `torch.cat(inputs, dim)`
    pub fn cat(&mut self, inputs: &[&Tensor], dim: usize) -> Tensor {
        let mut sizes = inputs[0].sizes;
        let parts = inputs.iter().map(|x| x.sizes.as_slice()[dim]).collect();
        sizes.as_mut_slice()[dim] = inputs.iter().map(|x| x.sizes.as_slice()[dim]).sum();
        let dtype = inputs.iter().map(|x| x.dtype).reduce(DType::promote).unwrap_or(DType::F32);
        let edge = self.record(Backward::Cat { dim, parts }, inputs, &[], &[(sizes, dtype)]);
        self.result(sizes, sizes.contiguous_strides(), dtype, edge)
    }

    /// Narrowed views of the gradient.
    pub fn cat_backward(
        &mut self,
        grad: &Tensor,
        dim: usize,
        parts: &[u64],
        needs: &[bool],
    ) -> Grads {
        parts
            .iter()
            .zip(needs)
            .map(|(&part, &need)| {
                let mut sizes = grad.sizes;
                sizes.as_mut_slice()[dim] = part;
                need.then(|| self.alias(grad, sizes, grad.strides, None))
            })
            .collect()
    }

    /// `torch.cat` of a split's gradients; missing ones are zeros first.
    pub fn cat_data(&mut self, grads: &[Option<Tensor>], sizes: Dims) -> Tensor {
        let first = grads.iter().flatten().next().map(|g| (g.sizes, g.dtype));
        let (part, dtype) = first.unwrap_or((sizes, DType::F32));
        let zeros: Vec<Tensor> =
            grads.iter().filter(|g| g.is_none()).map(|_| self.empty(part, dtype)).collect();
        let out = self.empty(sizes, dtype);
        drop(zeros);
        out
    }

    /// `x.to(dtype)`: itself where it has that dtype.
    pub fn to(&mut self, x: &Tensor, dtype: DType) -> Tensor {
        if x.dtype == dtype {
            return Rc::clone(x);
        }
        let edge = self.record(Backward::Cast(x.dtype), &[x], &[], &[(x.sizes, dtype)]);
        self.cast(x, dtype, edge)
    }

    /// A copy in another dtype that keeps the order of dimensions.
    pub fn cast(&self, x: &Tensor, dtype: DType, edge: Option<Edge>) -> Tensor {
        let strides = elementwise_strides(&[x], &x.sizes);
        self.result(x.sizes, strides, dtype, edge)
    }
}

fn permutation(values: &Dims, order: &Dims) -> Dims {
    let mut out = *values;
    for (slot, &dim) in out.as_mut_slice().iter_mut().zip(order.as_slice()) {
        *slot = values.as_slice()[dim as usize];
    }
    out
}
