//! Cross-entropy: log-softmax, then the negative log-likelihood of the labels.

use crate::step::ops::Backward;
use crate::step::tape::Tape;
use crate::step::tensor::{Dims, Tensor};

impl Tape<'_> {
    /// `nn.functional.cross_entropy(logits, labels)`, mean.
    pub fn cross_entropy(&mut self, logits: &Tensor, labels: &Tensor) -> Tensor {
        let meta = [(logits.sizes, logits.dtype)];
        let edge = self.record(Backward::LogSoftmax, &[logits], &[], &meta);
        let strides = logits.sizes.contiguous_strides();
        let log_probabilities = self.result(logits.sizes, strides, logits.dtype, edge);
        self.save_result(edge, &log_probabilities);

        let scalar = Dims::new(&[]);
        let saves = [&log_probabilities, labels];
        let meta = [(scalar, logits.dtype)];
        let edge = self.record(Backward::NllLoss, &[&log_probabilities], &saves, &meta);
        let loss = self.result(scalar, scalar, logits.dtype, edge);
        let total_weight = self.empty(scalar, logits.dtype);
        self.save_result(edge, &total_weight);
        loss
    }
}
