//! Rows of a table, and the sort behind their gradient.

use crate::step::layout::view_strides;
use crate::step::ops::Backward;
use crate::step::sort::{radix_sort_bytes, scan_bytes, unique_by_key_bytes};
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor};

/// Up to this many indices, the gradient is one kernel without a sort.
///
/// Source: PyTorch `Embedding.cu` (`embedding_dense_backward_cuda`).
const UNSORTED_INDICES: u64 = 3072;

/// Indices that one partial sum covers. Source: `EmbeddingBackwardKernel.cu` (`NROWS_PER_THREAD`).
const ROWS_PER_PARTIAL: u64 = 10;

impl Tape<'_> {
    /// `nn.functional.embedding(ids, weight)`
    pub fn embedding(&mut self, weight: &Tensor, ids: &Tensor) -> Tensor {
        let columns = weight.sizes.as_slice()[1];
        let sizes = ids.sizes.inserted(ids.sizes.len(), columns);
        // `weight.index_select(0, ids.reshape(-1))`: ids that repeat one row are written out.
        let flat = Dims::new(&[ids.numel()]);
        let _copy = view_strides(ids, &flat).is_none().then(|| self.empty(flat, ids.dtype));
        let op = Backward::Embedding { rows: weight.sizes.as_slice()[0], columns };
        let edge = self.record(op, &[weight], &[ids], &[(sizes, weight.dtype)]);
        self.result(sizes, sizes.contiguous_strides(), weight.dtype, edge)
    }

    /// Sorts the indices, finds equal ones, sums their gradients by parts, then the parts.
    pub fn embedding_backward(
        &mut self,
        grad: &Tensor,
        saved: &[Tensor],
        rows: u64,
        columns: u64,
    ) -> Tensor {
        let count = saved[0].numel();
        // Indices that repeat one row are written out first.
        let _dense = (!saved[0].is_contiguous()).then(|| self.empty(saved[0].sizes, DType::I64));
        let table = Dims::new(&[rows, columns]);
        if count <= UNSORTED_INDICES {
            return self.empty(table, grad.dtype);
        }
        let torch = self.setup.torch;
        let ids = |n: u64| self.empty(Dims::new(&[n]), DType::I64);
        let sorted = ids(count);
        let original = ids(count);
        let range = ids(count);
        let sort = self.hold(radix_sort_bytes(count, rows, torch));
        drop((range, sort));
        let out = self.empty(table, grad.dtype);
        let segment_starts = ids(count);
        let segment_count = ids(1);
        let identity = ids(count);
        self.transient(unique_by_key_bytes(count, torch));
        drop(identity);
        let segments = count.min(rows);
        let partials_a_segment = ids(segments);
        let partial_offsets = ids(segments);
        self.transient(scan_bytes(segments, 8, torch));
        let partial_count = ids(1);
        let partials = count / ROWS_PER_PARTIAL + segments;
        let partial_starts = ids(partials);
        let partial_sums = self.empty(Dims::new(&[partials, columns]), DType::F32);
        drop((sorted, original, segment_starts, segment_count, partials_a_segment));
        drop((partial_offsets, partial_count, partial_starts, partial_sums));
        out
    }
}
