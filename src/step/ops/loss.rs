//! Losses: cross-entropy (log-softmax, then the negative log-likelihood of the labels), mean square
//! error, and binary cross-entropy.

use std::rc::Rc;

use crate::step::layout::broadcast;
use crate::step::ops::Backward;
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor, TensorData};

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
        let edge = self.record(Backward::Loss, &[&log_probabilities], &saves, &meta);
        let loss = self.result(scalar, scalar, dtype, edge);
        let total_weight = self.empty(scalar, dtype);
        self.save_result(edge, &total_weight);
        loss
    }

    /// `mse_loss(x, target)`, mean: the squares, whose memory is then the loss', once more, and their mean.
    ///
    /// Source: PyTorch `Loss.cpp` (`mse_loss`).
    pub fn mse_loss(&mut self, x: &Tensor, target: &Tensor) -> Tensor {
        let scalar = Dims::new(&[]);
        let dtype = x.dtype.promote(target.dtype);
        let edge = self.record(Backward::Loss, &[x], &[x, target], &[(scalar, dtype)]);
        let sizes = broadcast(&x.sizes, &target.sizes);
        let shrunk = self.empty(sizes, dtype);
        let squares = self.empty(sizes, dtype);
        self.reduction(&squares, (1 << sizes.len()) - 1);
        let storage = shrunk.storage.clone();
        Rc::new(TensorData { sizes: scalar, strides: scalar, dtype, storage, edge, is_view: false })
    }

    /// `binary_cross_entropy_with_logits(x, target)`, mean.
    ///
    /// Source: PyTorch `Loss.cpp` (`binary_cross_entropy_with_logits`).
    pub fn bce_loss(&mut self, x: &Tensor, target: &Tensor) -> Tensor {
        let scalar = Dims::new(&[]);
        let dtype = x.dtype.promote(target.dtype);
        let edge = self.record(Backward::Loss, &[x], &[x, target], &[(scalar, dtype)]);
        let logarithms = self.empty(x.sizes, x.dtype);
        let losses = self.empty(target.sizes, target.dtype);
        let loss = self.result(scalar, scalar, dtype, edge);
        self.reduction(&losses, (1 << target.sizes.len()) - 1);
        drop((logarithms, losses));
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
