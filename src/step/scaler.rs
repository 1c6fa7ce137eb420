//! `torch.amp.GradScaler`: what scaling a loss and unscaling gradients allocate.
//!
//! Source: PyTorch `torch/amp/grad_scaler.py`.

use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor};

/// The scale and the growth tracker: made when the first loss is scaled, and kept.
#[derive(Debug, Default)]
pub struct Scaler {
    scale: Option<Tensor>,
    growth_tracker: Option<Tensor>,
}

impl Tape<'_> {
    /// `scaler.scale(loss)`
    pub fn scaled_loss(&mut self, loss: &Tensor) -> Tensor {
        if self.scaler.scale.is_none() {
            self.scaler.scale = Some(self.scalar(DType::F32));
            // An int32; a scalar takes one block of the allocator in any type.
            self.scaler.growth_tracker = Some(self.scalar(DType::F32));
        }
        match self.scaler.scale.clone() {
            Some(scale) => self.mul(loss, &scale),
            None => loss.clone(),
        }
    }

    /// `scaler.unscale_(optimizer)`: gradients are divided in place; returns the device's
    /// `found_inf`, which lives until `scaler.update()`.
    pub fn unscale(&self) -> Tensor {
        let scalar = Dims::new(&[]);
        // `scale.double().reciprocal().float()`; a double has the size of an int64.
        let double = self.empty(scalar, DType::I64);
        let reciprocal = self.empty(scalar, DType::I64);
        drop(double);
        let inverse = self.empty(scalar, DType::F32);
        drop(reciprocal);
        let found_inf = self.empty(scalar, DType::F32);
        // Each device works on copies, that of the first device included.
        let copy = self.empty(scalar, DType::F32);
        let inverse_copy = self.empty(scalar, DType::F32);
        drop((inverse_copy, found_inf, inverse));
        copy
    }
}
