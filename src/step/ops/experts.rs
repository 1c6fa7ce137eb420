//! What routing tokens to experts is made of: the best of each row, rows by index, a sort, and one
//! product for each group of rows.
//!
//! Source: PyTorch `TensorTopK.cu`, `Indexing.cu` (`index_put_with_sort_kernel`), `Sort.cpp`,
//! `GroupedBlas.cpp`. Scratch was run on the oracle, on torch 2.15 and 2.8 alike.

use std::rc::Rc;

use crate::step::ops::{Backward, Grads};
use crate::step::sort::{CubPairs, index_bits};
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Edge, Tensor, TensorData};

/// Up to this many values are sorted in place, by one kernel. Source: `should_use_small_sort`.
const SMALL_SORT: u64 = 4096;

impl Tape<'_> {
    /// `torch.topk(x, k, dim=-1)`: values, then their indices, which backward scatters by.
    pub fn top_k(&mut self, x: &Tensor, k: u64) -> [Tensor; 2] {
        let mut sizes = x.sizes;
        let last = sizes.len() - 1;
        sizes.as_mut_slice()[last] = k;
        let op = Backward::Scatter { sizes: x.sizes };
        let edge = self.record(op, &[x], &[], &[(sizes, x.dtype)]);
        let values = self.result(sizes, sizes.contiguous_strides(), x.dtype, edge);
        let indices = self.empty(sizes, DType::I64);
        self.save_result(edge, &indices);
        [values, indices]
    }

    /// `a.div_(b)`: the same memory, one node further on; what was there is kept as a copy.
    pub fn div_in_place(&mut self, a: &Tensor, b: &Tensor) -> Tensor {
        let copy = self.needs_grad(&[a, b]).then(|| self.empty(a.sizes, a.dtype));
        let before = copy.as_ref().unwrap_or(a);
        let edge = self.record(Backward::Quotient, &[a, b], &[before, b], &[(a.sizes, a.dtype)]);
        drop(copy);
        self.in_place(a, edge)
    }

    /// `b`: `-grad * ((a / b) / b)`, four kernels; then `a`: `grad / b`.
    pub fn quotient_backward(&mut self, grad: &Tensor, saved: &[Tensor], needs: &[bool]) -> Grads {
        let like = || self.empty(grad.sizes, grad.dtype);
        let grad_b = needs[1].then(|| {
            let steps = (like(), like(), like());
            let product = like();
            drop(steps);
            product
        });
        let grad_a = needs[0].then(like);
        debug_assert_eq!(saved.len(), 2);
        Grads::from_iter([grad_a, grad_b])
    }

    /// `torch.sort` of integers in one row: values, then where they came from.
    pub fn sort(&mut self, x: &Tensor) -> [Tensor; 2] {
        let count = x.numel();
        let ids = || self.empty(Dims::new(&[count]), DType::I64);
        let (values, order) = (ids(), ids());
        let range = ids();
        let scratch = (count > SMALL_SORT)
            .then(|| self.hold(CubPairs { count, bits: 64 }.many_tiles_bytes()));
        drop((range, scratch));
        [values, order]
    }

    /// `x[:, ..., index]`: what an index names along a dimension; gradients are added up by index.
    pub fn index_rows(&mut self, x: &Tensor, index: &Tensor, dim: usize) -> Tensor {
        let mut sizes = x.sizes;
        sizes.as_mut_slice()[dim] = index.numel();
        if dim == 0 {
            // The index's own dimensions come first.
            let rest = sizes.as_slice()[1..].iter();
            sizes =
                Dims::new(&index.sizes.as_slice().iter().chain(rest).copied().collect::<Vec<_>>());
        }
        let op = Backward::IndexRows { sizes: x.sizes, dim };
        let edge = self.record(op, &[x], &[index], &[(sizes, x.dtype)]);
        self.result(sizes, sizes.contiguous_strides(), x.dtype, edge)
    }

    /// Zeros of the whole, then a sort of the indices that the sums follow.
    pub fn index_rows_backward(
        &mut self,
        grad: &Tensor,
        saved: &[Tensor],
        sizes: Dims,
        dim: usize,
    ) -> Tensor {
        let out = self.empty(sizes, grad.dtype);
        let count = saved[0].numel();
        let ids = || self.empty(Dims::new(&[count]), DType::I64);
        let wrapped = ids();
        let linear = ids();
        drop(wrapped);
        let dense = (!grad.is_contiguous()).then(|| self.empty(grad.sizes, grad.dtype));
        self.sort_by_index(count, sizes.as_slice()[dim]);
        drop((linear, dense));
        out
    }

    /// Copies of the indices and their order, sorted by what they name among so many.
    fn sort_by_index(&self, count: u64, named: u64) {
        let ids = || self.empty(Dims::new(&[count]), DType::I64);
        let sorted = (ids(), ids(), ids());
        let sort = self.hold(CubPairs { count, bits: index_bits(named.max(2) - 1) }.bytes());
        drop((sorted, sort));
    }

    /// `x[rows, columns]` on the first two dimensions.
    pub fn index_pairs(&mut self, x: &Tensor, rows: &Tensor, columns: &Tensor) -> Tensor {
        let mut sizes = x.sizes.without(0);
        sizes.as_mut_slice()[0] = rows.numel();
        let op = Backward::IndexPairs { sizes: x.sizes };
        let edge = self.record(op, &[x], &[rows, columns], &[(sizes, x.dtype)]);
        self.result(sizes, sizes.contiguous_strides(), x.dtype, edge)
    }

    /// As for rows, with an index computed out of two.
    pub fn index_pairs_backward(&mut self, grad: &Tensor, saved: &[Tensor], sizes: Dims) -> Tensor {
        let out = self.empty(sizes, grad.dtype);
        let count = saved[0].numel();
        let ids = || self.empty(Dims::new(&[count]), DType::I64);
        let wrapped = ids();
        let linear = ids();
        drop(wrapped);
        // The other index is added in place.
        drop((ids(), ids()));
        let pairs = sizes.as_slice()[0] * sizes.as_slice()[1];
        self.sort_by_index(count, pairs);
        drop(linear);
        out
    }

    /// `a.index_add_(0, index, b)`: the same memory, one node further on.
    pub fn index_add(&mut self, a: &Tensor, index: &Tensor, b: &Tensor) -> Tensor {
        let meta = [(a.sizes, a.dtype)];
        let edge = self.record(Backward::IndexAdd, &[a, b], &[index, b], &meta);
        self.in_place(a, edge)
    }

    /// The gradient as it is, and its rows at the index.
    pub fn index_add_backward(&mut self, grad: &Tensor, saved: &[Tensor], needs: &[bool]) -> Grads {
        let grad_a = needs[0].then(|| Rc::clone(grad));
        let grad_b = needs[1].then(|| self.empty(saved[1].sizes, saved[1].dtype));
        Grads::from_iter([grad_a, grad_b])
    }

    /// What an operator in place leaves: the same memory, with another history.
    fn in_place(&self, x: &Tensor, edge: Option<Edge>) -> Tensor {
        Rc::new(TensorData {
            sizes: x.sizes,
            strides: x.strides,
            dtype: x.dtype,
            storage: x.storage.clone(),
            edge,
            is_view: false,
        })
    }

    /// `grouped_mm(x, weight, offs)`: rows of x by the matrix of their group.
    pub fn grouped_mm(&mut self, x: &Tensor, weight: &Tensor, offsets: &Tensor) -> Tensor {
        let sizes = Dims::new(&[x.sizes.as_slice()[0], weight.sizes.as_slice()[2]]);
        // Each factor is kept for the other's gradient.
        let kept_x = weight.edge.is_some().then_some(x);
        let kept_weight = x.edge.is_some().then_some(weight);
        let saves: Vec<&Tensor> = kept_x.into_iter().chain(kept_weight).chain([offsets]).collect();
        let layouts = [(x.sizes, x.strides), (weight.sizes, weight.strides)];
        let op = Backward::GroupedMm(Box::new(layouts));
        let edge = self.record(op, &[x, weight], &saves, &[(sizes, x.dtype)]);
        self.result(sizes, sizes.contiguous_strides(), x.dtype, edge)
    }

    /// The weights' gradient, laid out as the weights are, then the rows'.
    pub fn grouped_mm_backward(
        &mut self,
        grad: &Tensor,
        [x, weight]: &[(Dims, Dims); 2],
        needs: &[bool],
    ) -> Grads {
        let like =
            |&(sizes, strides): &(Dims, Dims)| self.empty_strided(sizes, strides, grad.dtype);
        let grad_weight = needs[1].then(|| like(weight));
        let grad_x = needs[0].then(|| like(x));
        Grads::from_iter([grad_x, grad_weight])
    }

    /// `x.sum(dim)`; the dimension goes unless it is kept, as one. Autocast asks for float32.
    pub fn sum_dim(&mut self, x: &Tensor, dim: usize, keep: bool) -> Tensor {
        let mut kept = x.sizes;
        kept.as_mut_slice()[dim] = 1;
        let sizes = if keep { kept } else { x.sizes.without(dim) };
        let op = Backward::ExpandTo(Box::new((kept, x.sizes)));
        let in_f32 = self.autocast.dtype.is_some() && x.dtype.is_half();
        let dtype = if in_f32 { DType::F32 } else { x.dtype };
        let edge: Option<Edge> = self.record(op, &[x], &[], &[(sizes, dtype)]);
        let out = self.result(sizes, sizes.contiguous_strides(), dtype, edge);
        self.reduction(x, 1 << dim);
        out
    }
}
