//! `torch.optim.SGD` as it comes: foreach.
//!
//! Source: PyTorch `torch/optim/sgd.py` (`_multi_tensor_sgd`).

use crate::step::optimizer::{OptimizerState, by_dtype};
use crate::step::tape::Tape;
use crate::step::tensor::Tensor;

impl Tape<'_> {
    /// The first step copies each gradient as its momentum; later ones add to it in place.
    pub(super) fn sgd_momentum(&self, trained: &[Tensor], state: &mut OptimizerState) {
        if state.begun {
            return;
        }
        for group in by_dtype(trained) {
            state.kept.extend(group.into_iter().map(|x| self.like(x)));
        }
    }
}
