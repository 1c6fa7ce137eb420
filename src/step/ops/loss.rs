//! Cross-entropy: log-softmax, then the negative log-likelihood of the labels.

use crate::step::ops::Backward;
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor};

impl Tape<'_> {
    /// `nn.functional.cross_entropy(logits, labels)`, mean. The logarithms are asked for in the
    /// logits' own format, so that autocast leaves them; the loss it takes in float32.
    ///
    /// Source: PyTorch `LossNLL.cpp` (`cross_entropy_loss` passes `self.scalar_type()`),
    /// `autocast_mode.h` (`nll_loss` is on the float32 list).
    pub fn cross_entropy(&mut self, logits: &Tensor, labels: &Tensor) -> Tensor {
        let mut log_probabilities = self.log_softmax(logits);
        if self.autocast.dtype.is_some() {
            log_probabilities = self.to(&log_probabilities, DType::F32);
        }
        let scalar = Dims::new(&[]);
        let dtype = log_probabilities.dtype;
        let saves = [&log_probabilities, labels];
        let meta = [(scalar, dtype)];
        let edge = self.record(Backward::NllLoss, &[&log_probabilities], &saves, &meta);
        let loss = self.result(scalar, scalar, dtype, edge);
        let total_weight = self.empty(scalar, dtype);
        self.save_result(edge, &total_weight);
        loss
    }

    /// `log_softmax` over classes.
    fn log_softmax(&mut self, x: &Tensor) -> Tensor {
        let op = Backward::LogSoftmax(x.dtype);
        let edge = self.record(op, &[x], &[], &[(x.sizes, x.dtype)]);
        let out = self.result(x.sizes, x.sizes.contiguous_strides(), x.dtype, edge);
        self.save_result(edge, &out);
        out
    }
}
