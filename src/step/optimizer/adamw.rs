//! `torch.optim.AdamW` in its three implementations.
//!
//! Source: PyTorch `torch/optim/adam.py` (`_init_group`, `_multi_tensor_adam`, `_fused_adam`,
//! `_single_tensor_adam`).

use crate::step::optimizer::{OptimizerState, by_dtype};
use crate::step::setup::Optimizer;
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Tensor};

impl Tape<'_> {
    /// A square root of each second moment, all at once.
    pub(super) fn adamw_foreach(&self, trained: &[Tensor], state: &mut OptimizerState) {
        self.moments(trained, state);
        let mut roots: Vec<Tensor> = Vec::new();
        for group in by_dtype(trained) {
            // One Python name: it lets go of the last group's roots when it has the next.
            let next = group.iter().map(|x| self.like(x)).collect();
            drop(std::mem::replace(&mut roots, next));
        }
    }

    /// One kernel does all; the count of steps lies on the device, a float for each parameter.
    pub(super) fn adamw_fused(&self, trained: &[Tensor], state: &mut OptimizerState) {
        self.moments(trained, state);
    }

    /// Parameter by parameter. The last one's denominator lives until the next one's is there.
    pub(super) fn adamw_loop(&self, trained: &[Tensor], state: &mut OptimizerState) {
        self.moments(trained, state);
        let mut denominator = None;
        for parameter in trained {
            let root = self.like(parameter);
            let next = self.like(parameter);
            drop(root);
            drop(denominator.replace(next));
        }
    }

    /// Both moments of every parameter, in the first step.
    fn moments(&self, trained: &[Tensor], state: &mut OptimizerState) {
        if state.begun {
            return;
        }
        for parameter in trained {
            if self.setup.optimizer == Optimizer::AdamWFused {
                state.kept.push(self.scalar(DType::F32));
            }
            state.kept.push(self.like(parameter));
            state.kept.push(self.like(parameter));
        }
    }

    /// Makes a tensor of the same sizes, strides and dtype.
    pub(super) fn like(&self, x: &Tensor) -> Tensor {
        self.empty_strided(x.sizes, x.strides, x.dtype)
    }
}
