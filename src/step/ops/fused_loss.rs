//! Liger's fused linear cross-entropy: chunk by chunk the logits, the loss in their place, and what
//! the head's input and weight get of it, all in forward.
//!
//! Source: liger-kernel 0.8.5, which wants transformers 5, and 0.6.2 for older ones,
//! `ops/fused_linear_cross_entropy.py`. Their Triton kernels take no memory.

use crate::model::fused_loss::chunk_rows;
use crate::model::versions::TRANSFORMERS_5;
use crate::step::ops::{Backward, Grads};
use crate::step::setup::Version;
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor};

/// From this version on products of 16 bits are added to float32 as they are
/// (`_ADDMM_SUPPORTS_OUT_DTYPE`).
const ADDS_HALVES_TO_FLOATS: Version = Version::new(2, 8);

impl Tape<'_> {
    /// `liger_fused_linear_cross_entropy(x, weight, labels)`, mean over labels.
    pub fn fused_cross_entropy(&mut self, x: &Tensor, weight: &Tensor, labels: &Tensor) -> Tensor {
        let (scalar, asks) = (Dims::new(&[]), [x, weight].map(|tensor| tensor.edge.is_some()));
        let rows = x.sizes.as_slice()[0];
        let grad_x = self.empty_strided(x.sizes, x.strides, x.dtype);
        let grad_weight = (asks == [true, true]).then(|| self.empty(weight.sizes, weight.dtype));
        let losses = self.empty(Dims::new(&[rows]), DType::F32);
        let is_label = self.empty(labels.sizes, DType::Bool);
        drop(self.count_true(&is_label));
        // An autograd function runs without recording.
        let records = std::mem::replace(&mut self.grad_enabled, false);
        let last = self.chunks(x, weight, grad_weight.as_ref(), asks[0]);
        self.grad_enabled = records;
        let mut saves = vec![&grad_x];
        saves.extend(&grad_weight);
        let meta = [(scalar, DType::F32)];
        let edge = self.record(Backward::FusedCrossEntropy, &[x, weight], &saves, &meta);
        let loss = self.result(scalar, scalar, DType::F32, edge);
        self.reduction(&losses, 1);
        drop((losses, is_label, last));
        loss
    }

    /// Returns the last chunk's logits, where their name stays.
    fn chunks(
        &mut self,
        x: &Tensor,
        weight: &Tensor,
        grad_weight: Option<&Tensor>,
        has_gradients: bool,
    ) -> Option<Tensor> {
        let (rows, inputs) = (x.sizes.as_slice()[0], x.sizes.as_slice()[1]);
        let classes = weight.sizes.as_slice()[0];
        let chunk = chunk_rows(rows, inputs, classes);
        let keeps_names = !self.has_new_liger();
        let in_place = !keeps_names
            && x.dtype == weight.dtype
            && self.autocast.dtype.is_none_or(|dtype| dtype == x.dtype);
        let buffer = in_place.then(|| self.empty(Dims::new(&[chunk, classes]), x.dtype));
        let (mut start, mut last) = (0, None);
        while start < rows {
            let part = Dims::new(&[chunk.min(rows - start), inputs]);
            let read = self.alias(x, part, x.strides, None);
            let logits = match &buffer {
                Some(buffer) => {
                    self.cublas_workspace();
                    buffer.clone()
                }
                None => {
                    let turned = self.transposed(weight, 0, 1, None);
                    self.autocast_product(&read, &turned)
                }
            };
            drop(last.take());
            if has_gradients {
                match &buffer {
                    Some(_) => self.cublas_workspace(),
                    None => drop(self.autocast_product(&logits, weight)),
                }
            }
            if let Some(grad_weight) = grad_weight {
                self.add_product(grad_weight, &logits, &read);
            }
            last = keeps_names.then_some(logits);
            start += chunk;
        }
        last
    }

    /// Whether it is the liger-kernel that multiplies in place and lets go of each chunk's names: the
    /// older one is for transformers before 5.0.
    fn has_new_liger(&self) -> bool {
        self.setup.transformers >= TRANSFORMERS_5
    }

    /// `a @ b` under autocast: both are cast, the last first.
    fn autocast_product(&mut self, a: &Tensor, b: &Tensor) -> Tensor {
        let cast = |tape: &mut Self, x: &Tensor| match tape.autocast.dtype {
            Some(dtype) => tape.cached_cast(x, dtype),
            None => x.clone(),
        };
        let b = cast(self, b);
        let a = cast(self, a);
        self.product(&a, &b)
    }

    /// Adds `logits.t() @ x` to the weight's gradient: as it is multiplied where cuBLAS can, or as a
    /// tensor of the weight's size.
    fn add_product(&mut self, grad_weight: &Tensor, logits: &Tensor, x: &Tensor) {
        let adds_float =
            grad_weight.dtype == DType::F32 && self.setup.torch >= ADDS_HALVES_TO_FLOATS;
        let adds = self.has_new_liger()
            && self.setup.gpu.compute_capability.0 >= 8
            && logits.dtype.is_half()
            && (adds_float || grad_weight.dtype == logits.dtype);
        if adds {
            let _cast = (x.dtype != logits.dtype).then(|| self.to(x, logits.dtype));
            self.cublas_workspace();
            return;
        }
        let turned = self.transposed(logits, 0, 1, None);
        let product = self.autocast_product(&turned, x);
        let _float = self.to(&product, DType::F32);
    }

    /// Multiplies what forward made by the gradient of the loss, unless that is one: it asks.
    pub fn fused_cross_entropy_backward(&mut self, saved: &[Tensor], needs: &[bool]) -> Grads {
        let one = self.scalar(DType::F32);
        let is_one = self.scalar(DType::Bool);
        let all = self.scalar(DType::Bool);
        drop((one, is_one, all));
        Grads::from_iter([needs[0].then(|| saved[0].clone()), saved.get(1).cloned()])
    }
}
