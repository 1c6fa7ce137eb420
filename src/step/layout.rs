//! Where elements lie: strides of views, and the order of dimensions that an elementwise operator
//! gives its result.
//!
//! Source: PyTorch `aten/src/ATen/TensorIterator.cpp` (`reorder_dimensions`), `TensorUtils.cpp`
//! (`computeStride`).

use crate::step::tensor::{Dims, TensorData};

/// Returns the sizes of two broadcast tensors.
pub fn broadcast(a: &Dims, b: &Dims) -> Dims {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let mut out = *long;
    let offset = long.len() - short.len();
    for (slot, &size) in out.as_mut_slice()[offset..].iter_mut().zip(short.as_slice()) {
        if *slot == 1 {
            *slot = size;
        }
    }
    out
}

/// Returns the strides of `x` seen at the broadcast `sizes`: zero where it repeats. Of a dimension of one
/// that stays so the stride counts, as in `TensorIterator::compute_strides`.
pub fn broadcast_strides(x: &TensorData, sizes: &Dims) -> Dims {
    let mut strides = *sizes;
    let offset = sizes.len() - x.sizes.len();
    for (i, slot) in strides.as_mut_slice().iter_mut().enumerate() {
        *slot = match i.checked_sub(offset) {
            Some(j) if x.sizes.as_slice()[j] == sizes.as_slice()[i] => x.strides.as_slice()[j],
            _ => 0,
        };
    }
    strides
}

/// Returns the strides of an elementwise operator's result: dense, in the order of dimensions that
/// the first inputs agree on.
pub fn elementwise_strides(inputs: &[&TensorData], sizes: &Dims) -> Dims {
    let same = |x: &&TensorData| x.sizes == *sizes && x.is_contiguous();
    if inputs.iter().all(same) || sizes.len() < 2 {
        return sizes.contiguous_strides();
    }
    let operands: smallvec::SmallVec<[Dims; 4]> =
        inputs.iter().map(|x| broadcast_strides(x, sizes)).collect();
    let order = dimension_order(&operands, sizes);
    let mut strides = *sizes;
    let mut stride = 1;
    for &dim in order.as_slice() {
        strides.as_mut_slice()[dim as usize] = stride;
        stride *= sizes.as_slice()[dim as usize];
    }
    strides
}

/// Returns the strides of (batch, channels, height, width) with channels the fastest.
pub fn channels_last_strides(sizes: &Dims) -> Dims {
    let [_, channels, height, width] = *sizes.as_slice() else { return sizes.contiguous_strides() };
    Dims::new(&[channels * height * width, 1, channels * width, channels])
}

/// Whether PyTorch takes an image's strides for channels last; what could be both is not.
///
/// Source: PyTorch `c10/core/MemoryFormat.h` (`is_channels_last_strides_2d_s4`).
pub fn is_channels_last(x: &TensorData) -> bool {
    let (sizes, strides) = (x.sizes.as_slice(), x.strides.as_slice());
    if sizes.len() != 4 || strides[1] == 0 {
        return false;
    }
    let mut least = 0;
    for dim in [1, 3, 2, 0] {
        if strides[dim] < least || dim == 0 && least == strides[1] {
            return false;
        }
        least = strides[dim] * sizes[dim].max(1);
    }
    true
}

/// Returns dimensions from the fastest moving to the slowest, by insertion sort with PyTorch's
/// comparison, which is not always decided.
pub fn dimension_order(operands: &[Dims], sizes: &Dims) -> Dims {
    let n = sizes.len();
    let mut order = *sizes;
    for (slot, dim) in order.as_mut_slice().iter_mut().zip((0..n as u64).rev()) {
        *slot = dim;
    }
    let should_swap = |dim0: usize, dim1: usize| -> i32 {
        for strides in operands {
            let (s0, s1) = (strides.as_slice()[dim0], strides.as_slice()[dim1]);
            if s0 == 0 || s1 == 0 {
                continue;
            }
            if s0 != s1 {
                return if s0 < s1 { -1 } else { 1 };
            }
            if sizes.as_slice()[dim0] > sizes.as_slice()[dim1] {
                return 1;
            }
        }
        0
    };
    let perm = order.as_mut_slice();
    for i in 1..n {
        let mut dim1 = i;
        for dim0 in (0..i).rev() {
            match should_swap(perm[dim0] as usize, perm[dim1] as usize) {
                1 => {
                    perm.swap(dim0, dim1);
                    dim1 = dim0;
                }
                -1 => break,
                _ => {}
            }
        }
    }
    order
}

/// Returns the strides of `x.view(sizes)`, or `None` where only a copy will do.
pub fn view_strides(x: &TensorData, sizes: &Dims) -> Option<Dims> {
    if x.numel() == 0 || x.sizes == *sizes {
        return Some(if x.sizes == *sizes { x.strides } else { sizes.contiguous_strides() });
    }
    if x.is_contiguous() {
        return Some(sizes.contiguous_strides());
    }
    let (old_sizes, old_strides) = (x.sizes.as_slice(), x.strides.as_slice());
    let mut strides = *sizes;
    let mut view_dim = sizes.len() as i64 - 1;
    let mut chunk_stride = *old_strides.last()?;
    let (mut chunk_numel, mut view_numel) = (1, 1);
    for dim in (0..old_sizes.len()).rev() {
        chunk_numel *= old_sizes[dim];
        let ends_chunk = dim == 0
            || (old_sizes[dim - 1] != 1 && old_strides[dim - 1] != chunk_numel * chunk_stride);
        if !ends_chunk {
            continue;
        }
        while view_dim >= 0
            && (view_numel < chunk_numel || sizes.as_slice()[view_dim as usize] == 1)
        {
            strides.as_mut_slice()[view_dim as usize] = view_numel * chunk_stride;
            view_numel *= sizes.as_slice()[view_dim as usize];
            view_dim -= 1;
        }
        if view_numel != chunk_numel {
            return None;
        }
        if dim > 0 {
            chunk_stride = old_strides[dim - 1];
            chunk_numel = 1;
            view_numel = 1;
        }
    }
    (view_dim == -1).then_some(strides)
}
