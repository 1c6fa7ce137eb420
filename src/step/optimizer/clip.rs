//! `torch.nn.utils.clip_grad_norm_`, foreach.
//!
//! Source: PyTorch `torch/nn/utils/clip_grad.py`, `aten/src/ATen/native/cuda/ForeachReduceOp.cu`.

use crate::step::optimizer::by_dtype;
use crate::step::setup::Version;
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor};

/// Elements that one block of a foreach kernel takes (`kChunkSize`).
const CHUNK: u64 = 65536;

/// From this version on each tensor has as many partial sums as it has chunks, with a table of where
/// they begin; before, all had as many as the largest.
///
/// Evidence: github.com/pytorch/pytorch/pull/190549, of July 2026; run on 2.8 and 2.15.
const PACKED_SINCE: Version = Version::new(2, 15);

impl Tape<'_> {
    /// Scales gradients in place so that their total norm is at most a number, if they are clipped.
    pub fn clip_gradients(&mut self) {
        let grads: Vec<Tensor> = self.parameters.iter().filter_map(|p| p.grad.clone()).collect();
        if self.setup.clip.is_none() || grads.is_empty() {
            return;
        }
        let total = self.total_norm(&grads);
        // `max_norm / (total_norm + 1e-6)` is a reciprocal, and that times the norm.
        let sum = self.scalar(total.dtype);
        let reciprocal = self.scalar(total.dtype);
        let coefficient = self.scalar(total.dtype);
        drop((sum, reciprocal));
        let clamped = self.scalar(total.dtype);
        drop((clamped, coefficient, total));
    }

    /// `_get_total_norm`: the norm of the norms of all.
    fn total_norm(&self, grads: &[Tensor]) -> Tensor {
        let mut norms: Vec<Tensor> = Vec::new();
        for group in by_dtype(grads) {
            let partial = self.partial_norms(&group);
            norms.extend(group.iter().map(|grad| self.scalar(grad.dtype)));
            drop(partial);
        }
        let dtype = norms.iter().fold(norms[0].dtype, |dtype, norm| dtype.promote(norm.dtype));
        let stacked = self.empty(Dims::new(&[norms.len() as u64]), dtype);
        let total = self.scalar(dtype);
        self.reduction(&stacked, 1);
        total
    }

    /// What `_foreach_norm` holds while it runs: a partial sum for each chunk of each tensor.
    fn partial_norms(&self, group: &[&Tensor]) -> Vec<Tensor> {
        let (floats, count) = (DType::F32, group.len() as u64);
        let vector = |n, dtype| self.empty(Dims::new(&[n]), dtype);
        let chunks = group.iter().map(|grad| grad.numel().div_ceil(CHUNK));
        if self.setup.torch < PACKED_SINCE {
            let most = chunks.max().unwrap_or(0);
            return vec![vector(count * most, floats)];
        }
        vec![vector(count + 1, DType::I64), vector(chunks.sum(), floats)]
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::step::recorder::Recorder;
    use crate::step::setup::{Optimizer, Setup};
    use crate::step::tape::Parameter;

    /// The bytes that clipping asks for, in order.
    fn clipping(torch: Version, grads: &[(u64, DType)]) -> Vec<u64> {
        let setup = Setup { optimizer: Optimizer::Sgd, clip: Some(1.0), torch, ..Setup::PLAIN };
        let recorder = Recorder::new();
        let mut tape = Tape::new(&setup, Rc::clone(&recorder));
        for &(count, dtype) in grads {
            let tensor = tape.empty(Dims::new(&[count]), dtype);
            let grad = Some(Rc::clone(&tensor));
            tape.parameters.push(Parameter {
                tensor,
                is_embedding: false,
                grad,
                accumulator: None,
            });
        }
        tape.clip_gradients();
        let trace = recorder.finish();
        trace.blocks[grads.len()..].iter().map(|block| block.bytes.get()).collect()
    }

    /// What PyTorch allocated for gradients of two dtypes on a driver without a GPU.
    #[test]
    fn norms_are_taken_by_dtype_and_their_total_in_the_wider_one() {
        let grads = [(1000, DType::Bf16), (2000, DType::F32), (3000, DType::Bf16)];
        let rest = [12, 4, 4, 4, 4, 4];
        let new = [&[16, 4, 4, 24, 8, 2, 2][..], &rest].concat();
        assert_eq!(clipping(Version::new(2, 15), &grads), new);
        let old = [&[4, 4, 8, 2, 2][..], &rest].concat();
        assert_eq!(clipping(Version::new(2, 8), &grads), old);
    }
}
