//! Cross-entropy: log-softmax, then the negative log-likelihood of the labels.

use crate::step::ops::Backward;
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor};

impl Tape<'_> {
    /// `nn.functional.cross_entropy(logits, labels)`, mean.
    pub fn cross_entropy(&mut self, logits: &Tensor, labels: &Tensor) -> Tensor {
        let log_probabilities = self.log_softmax(logits);
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

    /// `log_softmax` over classes. Autocast asks for float32: float16 is converted within the
    /// kernel, bfloat16 before it.
    fn log_softmax(&mut self, x: &Tensor) -> Tensor {
        let in_f32 = self.autocast.dtype.is_some();
        let cast = (in_f32 && x.dtype == DType::Bf16).then(|| self.to(x, DType::F32));
        let input = cast.as_ref().unwrap_or(x);
        let dtype = if in_f32 { DType::F32 } else { x.dtype };
        let op = Backward::LogSoftmax(input.dtype);
        let edge = self.record(op, &[input], &[], &[(x.sizes, dtype)]);
        let out = self.result(x.sizes, x.sizes.contiguous_strides(), dtype, edge);
        self.save_result(edge, &out);
        out
    }
}
