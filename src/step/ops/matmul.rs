//! Matrix products. Each takes a cuBLAS workspace after its result.

use crate::step::ops::{Backward, Grads};
use crate::step::setup::Version;
use crate::step::tape::Tape;
use crate::step::tensor::{Dims, Tensor};

/// From this version on `torch.bmm` of one column and one row is a kernel of Triton's.
///
/// Source: PyTorch `torch/_native/ops/bmm_outer_product`, in 2.13.0 and not in 2.12.0; run on 2.15.0.
const OUTER_PRODUCTS_BY_TRITON: Version = Version::new(2, 13);

impl Tape<'_> {
    /// `a.mm(b)` outside autograd.
    pub(super) fn product(&mut self, a: &Tensor, b: &Tensor) -> Tensor {
        let n = a.sizes.len();
        let mut sizes = a.sizes;
        sizes.as_mut_slice()[n - 1] = b.sizes.as_slice()[n - 1];
        let out = self.empty(sizes, a.dtype);
        self.workspace_of_product(a);
        out
    }

    /// Takes the workspace of `a` times another, where cuBLAS multiplies.
    fn workspace_of_product(&mut self, a: &Tensor) {
        let by_triton = a.sizes.len() == 3
            && a.sizes.as_slice()[2] == 1
            && self.setup.torch >= OUTER_PRODUCTS_BY_TRITON;
        if !by_triton {
            self.cublas_workspace();
        }
    }

    /// `nn.functional.linear`
    ///
    /// Source: PyTorch `Linear.cpp`: x is folded to two dimensions, where it has more; a bias goes
    /// through `addmm`.
    pub fn linear(&mut self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let outputs = weight.sizes.as_slice()[0];
        let mut out_sizes = x.sizes;
        let last = out_sizes.len() - 1;
        out_sizes.as_mut_slice()[last] = outputs;
        let inputs = x.sizes.as_slice()[last];
        let rows = x.numel() / inputs.max(1);
        if x.sizes.len() == 2 {
            let turned = self.transpose(weight, 0, 1);
            return match bias {
                None => self.mm(x, &turned),
                Some(bias) => self.addmm(bias, x, &turned),
            };
        }
        match bias {
            None => {
                let turned = self.transpose(weight, 0, 1);
                let flat = self.reshape(x, Dims::new(&[rows, inputs]));
                let out = self.mm(&flat, &turned);
                drop((flat, turned));
                self.unsafe_view(out, out_sizes)
            }
            Some(bias) => {
                let flat = self.reshape(x, Dims::new(&[rows, inputs]));
                let turned = self.transpose(weight, 0, 1);
                let out = self.addmm(bias, &flat, &turned);
                drop((flat, turned));
                self.view(&out, out_sizes)
            }
        }
    }

    fn mm(&mut self, a: &Tensor, b: &Tensor) -> Tensor {
        let sizes = Dims::new(&[a.sizes.as_slice()[0], b.sizes.as_slice()[1]]);
        let (need_a, need_b) = (a.edge.is_some(), b.edge.is_some());
        let meta = [(sizes, a.dtype)];
        let edge = match (need_a, need_b) {
            (true, true) => self.record(Backward::Mm, &[a, b], &[b, a], &meta),
            (true, false) => self.record(Backward::Mm, &[a, b], &[b], &meta),
            (false, true) => self.record(Backward::Mm, &[a, b], &[a], &meta),
            (false, false) => None,
        };
        let out = self.result(sizes, sizes.contiguous_strides(), a.dtype, edge);
        self.cublas_workspace();
        out
    }

    /// `mat2` is computed before `self`. A factor that lies transposed in memory has its gradient
    /// computed transposed, and turned.
    pub fn mm_backward(&mut self, grad: &Tensor, saved: &[Tensor], needs: &[bool]) -> Grads {
        let grad_b = needs[1].then(|| {
            // Whether b was the transpose of a contiguous weight shows in its own gradient only.
            let a = &saved[usize::from(needs[0])];
            let turned_grad = self.transposed(grad, 0, 1, None);
            let out = self.product(&turned_grad, a);
            self.transposed(&out, 0, 1, None)
        });
        let grad_a = needs[0].then(|| {
            let turned = self.transposed(&saved[0], 0, 1, None);
            self.product(grad, &turned)
        });
        Grads::from_iter([grad_a, grad_b])
    }

    /// `torch.addmm(bias, x, weight)`: one product with the bias in its epilogue.
    ///
    /// Source: PyTorch `cuda/Blas.cpp` (`addmm_out_cuda_impl`).
    pub fn addmm(&mut self, bias: &Tensor, x: &Tensor, weight: &Tensor) -> Tensor {
        let sizes = Dims::new(&[x.sizes.as_slice()[0], weight.sizes.as_slice()[1]]);
        let (need_x, need_weight) = (x.edge.is_some(), weight.edge.is_some());
        let inputs = [bias, x, weight];
        let meta = [(sizes, x.dtype)];
        let op = Backward::Addmm { turned: !weight.is_contiguous() };
        let edge = match (need_x, need_weight) {
            (true, true) => self.record(op, &inputs, &[weight, x], &meta),
            (true, false) => self.record(op, &inputs, &[weight], &meta),
            (false, true) => self.record(op, &inputs, &[x], &meta),
            (false, false) => self.record(op, &inputs, &[], &meta),
        };
        let out = self.result(sizes, sizes.contiguous_strides(), x.dtype, edge);
        if sizes.as_slice()[1] == 1 {
            // cuBLASLt is not asked for one column: the bias is copied, and added to.
            self.cublas_workspace();
            return out;
        }
        self.cublaslt_workspace();
        out
    }

    /// `mat1`, then `mat2`, whose gradient lies as it did (`turned`: a transpose); the bias' gradient is
    /// the gradient, summed when it is handed on.
    pub fn addmm_backward(
        &mut self,
        grad: &Tensor,
        saved: &[Tensor],
        needs: &[bool],
        turned: bool,
    ) -> Grads {
        let grad_x = needs[1].then(|| {
            let turned = self.transposed(&saved[0], 0, 1, None);
            self.product(grad, &turned)
        });
        let grad_weight = needs[2].then(|| {
            let x = &saved[usize::from(needs[1])];
            if turned {
                let turned_grad = self.transposed(grad, 0, 1, None);
                let out = self.product(&turned_grad, x);
                self.transposed(&out, 0, 1, None)
            } else {
                let turned = self.transposed(x, 0, 1, None);
                self.product(&turned, grad)
            }
        });
        let grad_bias = needs[0].then(|| grad.clone());
        Grads::from_iter([grad_bias, grad_x, grad_weight])
    }

    /// `torch.matmul` of tensors with equal leading sizes: expand, fold, `bmm`, unfold.
    ///
    /// Source: PyTorch `LinearAlgebra.cpp` (`_matmul_impl`).
    pub fn matmul(&mut self, a: &Tensor, b: &Tensor) -> Tensor {
        let n = a.sizes.len();
        let lead: u64 = a.sizes.as_slice()[..n - 2].iter().product();
        let (rows, inner) = (a.sizes.as_slice()[n - 2], a.sizes.as_slice()[n - 1]);
        let columns = b.sizes.as_slice()[n - 1];
        let expanded_a = self.expand(a, a.sizes);
        let folded_a = self.reshape(&expanded_a, Dims::new(&[lead, rows, inner]));
        drop(expanded_a);
        let expanded_b = self.expand(b, b.sizes);
        let folded_b = self.reshape(&expanded_b, Dims::new(&[lead, inner, columns]));
        drop(expanded_b);
        let out = self.bmm(&folded_a, &folded_b);
        drop((folded_a, folded_b));
        let mut sizes = a.sizes;
        sizes.as_mut_slice()[n - 1] = columns;
        self.unsafe_view(out, sizes)
    }

    /// `torch.bmm`
    pub fn bmm(&mut self, a: &Tensor, b: &Tensor) -> Tensor {
        self.batched(Backward::Bmm, a, b)
    }

    /// `torch.baddbmm(bias, a, b, alpha=number)`, where the bias needs no gradient: it is copied into the
    /// result, and added to.
    ///
    /// Source: PyTorch `cuda/Blas.cpp` (`baddbmm_out_cuda`).
    pub fn baddbmm(&mut self, a: &Tensor, b: &Tensor) -> Tensor {
        self.batched(Backward::Baddbmm, a, b)
    }

    fn batched(&mut self, op: Backward, a: &Tensor, b: &Tensor) -> Tensor {
        let mut sizes = a.sizes;
        sizes.as_mut_slice()[2] = b.sizes.as_slice()[2];
        let meta = [(sizes, a.dtype)];
        let edge = match (a.edge.is_some(), b.edge.is_some()) {
            (true, false) => self.record(op, &[a, b], &[b], &meta),
            (false, true) => self.record(op, &[a, b], &[a], &meta),
            _ => self.record(op, &[a, b], &[b, a], &meta),
        };
        let out = self.result(sizes, sizes.contiguous_strides(), a.dtype, edge);
        self.workspace_of_product(a);
        out
    }

    /// `mat2`, then `self`.
    pub fn bmm_backward(&mut self, grad: &Tensor, saved: &[Tensor], needs: &[bool]) -> Grads {
        let grad_b = needs[1].then(|| {
            let turned = self.transposed(&saved[usize::from(needs[0])], 1, 2, None);
            self.product(&turned, grad)
        });
        let grad_a = needs[0].then(|| {
            let turned = self.transposed(&saved[0], 1, 2, None);
            self.product(grad, &turned)
        });
        Grads::from_iter([grad_a, grad_b])
    }

    /// `batch1`, then `batch2`, each multiplied by the factor.
    pub fn baddbmm_backward(&mut self, grad: &Tensor, saved: &[Tensor], needs: &[bool]) -> Grads {
        let grad_a = needs[0].then(|| {
            let turned = self.transposed(&saved[0], 1, 2, None);
            let product = self.product(grad, &turned);
            self.empty(product.sizes, product.dtype)
        });
        let grad_b = needs[1].then(|| {
            let turned = self.transposed(&saved[usize::from(needs[0])], 1, 2, None);
            let product = self.product(&turned, grad);
            self.empty(product.sizes, product.dtype)
        });
        Grads::from_iter([grad_a, grad_b])
    }
}
