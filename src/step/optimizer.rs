//! What an optimizer's step allocates: its state in the first, its temporaries in each.
//!
//! Source: PyTorch `torch/optim/adam.py` (`_init_group`, `_multi_tensor_adam`).

use std::rc::Rc;

use crate::step::setup::Optimizer;
use crate::step::tape::Tape;
use crate::step::tensor::Tensor;

impl Tape<'_> {
    /// Runs one step; `state` is empty before the first.
    pub fn optimizer_step(&mut self, state: &mut Vec<Tensor>) {
        match self.setup.optimizer {
            Optimizer::AdamW => self.adamw_foreach(state),
        }
    }

    /// Both moments of every parameter with a gradient, then a square root of each second moment;
    /// all else is done in place.
    fn adamw_foreach(&mut self, state: &mut Vec<Tensor>) {
        let trained: Vec<Tensor> = self
            .parameters
            .iter()
            .filter(|p| p.grad.is_some())
            .map(|p| Rc::clone(&p.tensor))
            .collect();
        let like = |x: &Tensor| self.empty_strided(x.sizes, x.strides, x.dtype);
        if state.is_empty() {
            for parameter in &trained {
                state.push(like(parameter));
                state.push(like(parameter));
            }
        }
        let roots: Vec<Tensor> = trained.iter().map(like).collect();
        drop(roots);
    }
}
