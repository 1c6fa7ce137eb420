//! Rows of a table, and the sort behind their gradient.

use crate::step::layout::view_strides;
use crate::step::ops::Backward;
use crate::step::setup::Version;
use crate::step::sort::{radix_sort_bytes, scan_bytes, unique_by_key_bytes};
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor};

/// Up to this many indices, the gradient is one kernel without a sort.
///
/// Source: PyTorch `Embedding.cu` (`embedding_dense_backward_cuda`).
const UNSORTED_INDICES: u64 = 3072;

/// Indices that one partial sum covers. Source: `EmbeddingBackwardKernel.cu` (`NROWS_PER_THREAD`).
const ROWS_PER_PARTIAL: u64 = 10;

/// From this version on small tables with many indices take another kernel. Run on 2.8 and 2.15;
/// where between them it changed is not known.
const ADDS_AT_ONCE: Version = Version::new(2, 15);
/// The largest such table. Evidence: traces of 384 rows (it does) and 512 (it does not).
const MOST_ROWS_AT_ONCE: u64 = 511;
/// The fewest indices for each of its rows. Evidence: traces with 32 (it does) and 28 (it does not).
const INDICES_A_ROW: u64 = 32;

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
        let _grad = (!grad.is_contiguous()).then(|| self.empty(grad.sizes, grad.dtype));
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
        let sums = if self.adds_to_rows_at_once(count, rows) {
            // Each part's row, and a table in float32 that all parts are added to.
            let row_of_part = ids(partials);
            let table = grad.dtype.is_half().then(|| self.empty(table, DType::F32));
            (row_of_part, table)
        } else {
            (self.empty(Dims::new(&[partials, columns]), DType::F32), None)
        };
        drop((sorted, original, segment_starts, segment_count, partials_a_segment));
        drop((partial_offsets, partial_count, partial_starts, sums));
        out
    }

    /// Whether parts are added to their rows as they come, instead of being summed in order.
    fn adds_to_rows_at_once(&self, count: u64, rows: u64) -> bool {
        self.setup.torch >= ADDS_AT_ONCE
            && rows <= MOST_ROWS_AT_ONCE
            && count >= INDICES_A_ROW * rows
    }
}
