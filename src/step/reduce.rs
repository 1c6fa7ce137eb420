//! Scratch of CUDA reductions: a sum over many values for few results is split over thread blocks,
//! which meet in global memory.
//!
//! Source: PyTorch `aten/src/ATen/native/cuda/Reduce.cuh` (`setReduceConfig`).

use crate::step::layout::dimension_order;
use crate::step::setup::GpuArch;
use crate::step::tensor::{Dims, TensorData};

/// What one reduction kernel takes from the allocator while it runs, in order; zero: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReduceScratch {
    /// Partial results.
    pub buffer: u64,
    /// One semaphore a block of results.
    pub semaphores: u64,
}

struct Dim {
    size: u64,
    stride: u64,
    reduced: bool,
}

/// Returns the input's dimensions as TensorIterator sees them: reduced ones first, then by stride,
/// neighbours merged.
fn iterator_dims(x: &TensorData, reduced: u64) -> Vec<Dim> {
    let is_reduced = |dim: usize| reduced >> dim & 1 == 1;
    let sizes = x.sizes;
    // The result's strides: zero on reduced dimensions, contiguous on the others.
    let mut result = sizes;
    for dim in 0..sizes.len() {
        if is_reduced(dim) {
            result.as_mut_slice()[dim] = 1;
        }
    }
    let result_strides = result.contiguous_strides();
    // Reduced dimensions go first, each group in the order of the input's strides.
    let order = dimension_order(&[x.strides], &sizes);
    let mut dims: Vec<(Dim, u64)> = Vec::new();
    for pass in [true, false] {
        for &dim in order.as_slice() {
            let dim = dim as usize;
            if is_reduced(dim) != pass || sizes.as_slice()[dim] == 1 {
                continue;
            }
            let (size, stride) = (sizes.as_slice()[dim], x.strides.as_slice()[dim]);
            let out = if pass { 0 } else { result_strides.as_slice()[dim] };
            if let Some((last, last_out)) = dims.last_mut()
                && last.reduced == pass
                && last.stride * last.size == stride
                && *last_out * last.size == out
            {
                last.size *= size;
                continue;
            }
            dims.push((Dim { size, stride, reduced: pass }, out));
        }
    }
    dims.into_iter().map(|(dim, _)| dim).collect()
}

fn last_pow2(n: u64) -> u64 {
    1 << n.max(1).ilog2()
}

/// Returns the scratch of reducing the dimensions set in the bit mask `reduced`.
///
/// `vector` is how many input elements a thread loads at once (4 in sums and means).
pub fn reduce_scratch(x: &TensorData, reduced: u64, gpu: GpuArch, vector: u64) -> ReduceScratch {
    let none = ReduceScratch { buffer: 0, semaphores: 0 };
    let dims = iterator_dims(x, reduced);
    let inputs: u64 = dims.iter().filter(|d| d.reduced).map(|d| d.size).product();
    let outputs: u64 = dims.iter().filter(|d| !d.reduced).map(|d| d.size).product();
    if inputs <= 1 {
        return none;
    }
    let reduced_dims = dims.iter().filter(|d| d.reduced).count();
    let fastest_reduced = dims[0].stride;
    let fastest_kept = dims.get(reduced_dims).map(|d| d.stride);
    let on_fastest = fastest_kept.is_none_or(|kept| fastest_reduced < kept);
    let (mut dim0, dim1, fastest) = if on_fastest {
        (inputs, outputs, fastest_reduced)
    } else {
        (outputs, inputs, fastest_kept.unwrap_or(1))
    };
    let mut output_vector = 1;
    if fastest == 1 {
        if on_fastest && dim0 >= 128 && reduced_dims == 1 {
            dim0 /= vector;
        } else if !on_fastest {
            output_vector = output_vector_size(&dims, reduced_dims);
            dim0 /= output_vector;
        }
    }
    // set_block_dimension
    let max_threads = 512 / output_vector;
    let pow2 = |n: u64| if n < max_threads { last_pow2(n) } else { max_threads };
    let (dim0_pow2, dim1_pow2) = (pow2(dim0), pow2(dim1));
    let block_width = dim0_pow2.min(32);
    let block_height = dim1_pow2.min(max_threads / block_width);
    let block_width = dim0_pow2.min(max_threads / block_height);
    let threads = block_width * block_height;

    let (mut step_input, mut step_output) = (1, 1);
    if on_fastest {
        step_input *= block_width;
    } else {
        step_output *= block_width;
    }
    let values_per_thread = |step: u64| inputs.div_ceil(step);
    let split_warps = values_per_thread(step_input) >= (block_height * 16).min(256);
    if split_warps {
        step_input *= block_height;
    } else {
        step_output *= block_height;
    }
    let blocks_per_sm = u64::from(gpu.threads_per_sm()) / threads;
    let target = u64::from(gpu.sm_count) * blocks_per_sm;
    let grid = (outputs / output_vector).div_ceil(step_output);
    let values = values_per_thread(step_input);
    if !(split_warps && values >= 256 && grid <= target) {
        return none;
    }
    let wanted = target.div_ceil(grid);
    let (most, least) = (values.div_ceil(16), values.div_ceil(256));
    let ctas = wanted.clamp(least, most);
    if ctas <= 1 {
        return none;
    }
    let mut buffer = x.dtype.accumulator_bytes() * outputs * ctas;
    if !on_fastest {
        buffer *= block_width * output_vector;
    }
    ReduceScratch { buffer, semaphores: 4 * grid }
}

fn output_vector_size(dims: &[Dim], reduced_dims: usize) -> u64 {
    let mut vector = 4;
    let mut narrow = |n: u64| {
        while !n.is_multiple_of(vector) {
            vector /= 2;
        }
    };
    narrow(dims[reduced_dims].size);
    for (i, dim) in dims.iter().enumerate() {
        if i != reduced_dims {
            narrow(dim.stride);
        }
    }
    vector
}

/// Returns the bit mask of dimensions that `sum_to` reduces to get from `sizes` to `target`.
pub fn sum_to_mask(sizes: &Dims, target: &Dims) -> u64 {
    let lead = sizes.len() - target.len();
    let mut mask = (1u64 << lead) - 1;
    for i in lead..sizes.len() {
        if target.as_slice()[i - lead] == 1 && sizes.as_slice()[i] != 1 {
            mask |= 1 << i;
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::tensor::DType;

    fn tensor(sizes: &[u64], dtype: DType) -> TensorData {
        let sizes = Dims::new(sizes);
        TensorData {
            sizes,
            strides: sizes.contiguous_strides(),
            dtype,
            storage: None,
            edge: None,
            is_view: false,
        }
    }

    /// Seen in the oracle's traces: bias gradients of (4096, n) bf16 on an A100.
    #[test]
    fn column_sums_take_the_scratch_that_pytorch_takes() {
        let scratch = |n| reduce_scratch(&tensor(&[4096, n], DType::Bf16), 1, GpuArch::A100, 4);
        assert_eq!(scratch(64), ReduceScratch { buffer: 524_288, semaphores: 4 });
        assert_eq!(scratch(192), ReduceScratch { buffer: 6_291_456, semaphores: 8 });
        assert_eq!(scratch(256), ReduceScratch { buffer: 8_388_608, semaphores: 8 });
    }

    #[test]
    fn a_mean_over_rows_needs_no_scratch() {
        let x = tensor(&[8, 512, 64], DType::F32);
        assert_eq!(reduce_scratch(&x, 4, GpuArch::A100, 4).buffer, 0);
    }
}
