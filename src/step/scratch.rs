//! Memory that kernels take beside their results: cuBLAS workspaces, radix sorts.

use std::rc::Rc;

use crate::step::recorder::Storage;
use crate::step::setup::{GpuArch, Version};
use crate::step::tape::Tape;

/// Workspaces that PyTorch keeps for good.
#[derive(Debug, Default)]
pub struct Scratch {
    cublas: PerThread,
    cublaslt: PerThread,
}

/// One a thread that multiplies: that of the forward pass, and autograd's.
#[derive(Debug, Default)]
struct PerThread {
    forward: Option<Rc<Storage>>,
    backward: Option<Rc<Storage>>,
}

impl PerThread {
    fn of(&mut self, in_backward: bool) -> &mut Option<Rc<Storage>> {
        if in_backward { &mut self.backward } else { &mut self.forward }
    }
}

/// From this version on, cuBLAS workspaces are taken and given back around each product.
///
/// Evidence: shared/oracle/README.md, Versions, switch 2.
const TRANSIENT_WORKSPACE: Version = Version::new(2, 15);

/// From this version on a thread keeps the workspace that it takes for cuBLASLt, until
/// [`UNIFIED_WORKSPACE`].
///
/// Source: github.com/pytorch/pytorch/pull/156495, of June 2025; run on 2.9.1, 2.10.0 and 2.11.0.
const KEPT_LT_WORKSPACE: Version = Version::new(2, 9);

/// From this version on until workspaces are transient, cuBLASLt works in the workspace of the cuBLAS
/// handle, which stays.
///
/// Source: github.com/pytorch/pytorch/pull/168175; run on 2.11.0, which is without it, and 2.12.0.
const UNIFIED_WORKSPACE: Version = Version::new(2, 12);

/// Returns the bytes of a cuBLAS workspace.
///
/// Source: PyTorch `CublasHandlePool.cpp` (`parseChosenWorkspaceSize`): 4096 KiB x 2 + 16 KiB x 8,
/// and 32 MiB on compute capability 9.0; on 10 and 12 too from 2.15 on (run on the oracle).
pub fn cublas_workspace_bytes(gpu: GpuArch, torch: Version) -> u64 {
    match gpu.compute_capability.0 {
        9 => 32 << 20,
        10.. if torch >= TRANSIENT_WORKSPACE => 32 << 20,
        _ => (4096 * 2 + 16 * 8) << 10,
    }
}

/// Bytes of the workspace that a product with a fused bias takes from cuBLASLt, on every GPU.
///
/// Source: PyTorch `CUDABlas.cpp` (`_parseChosenWorkspaceSize`, 1024 KiB); run on 2.4, 2.8 and 2.15, on simulated GPUs of
/// compute capability 7.5, 8.0, 8.9, 9.0 and 10.0.
const CUBLASLT_WORKSPACE_BYTES: u64 = 1 << 20;

impl Tape<'_> {
    /// Takes the workspace that a cuBLAS product needs, after its result was allocated.
    pub fn cublas_workspace(&mut self) {
        let bytes = cublas_workspace_bytes(self.setup.gpu, self.setup.torch);
        if self.setup.torch >= TRANSIENT_WORKSPACE {
            self.transient(bytes);
        } else {
            self.cublas_handle();
        }
    }

    /// Takes the workspace that comes with a cuBLAS handle and stays.
    fn cublas_handle(&mut self) {
        let bytes = cublas_workspace_bytes(self.setup.gpu, self.setup.torch);
        if self.scratch.cublas.of(self.in_backward).is_none() {
            *self.scratch.cublas.of(self.in_backward) = self.hold(bytes);
        }
    }

    /// Takes what a product with a fused bias needs beside its result, and gives back what is not kept.
    pub fn cublaslt_workspace(&mut self) {
        let torch = self.setup.torch;
        let bytes = CUBLASLT_WORKSPACE_BYTES;
        if torch >= TRANSIENT_WORKSPACE {
            self.transient(bytes);
        } else if torch >= UNIFIED_WORKSPACE {
            self.cublas_handle();
        } else if torch >= KEPT_LT_WORKSPACE {
            self.cublas_handle();
            if self.scratch.cublaslt.of(self.in_backward).is_none() {
                *self.scratch.cublaslt.of(self.in_backward) = self.hold(bytes);
            }
        } else {
            let workspace = self.hold(bytes);
            self.cublas_handle();
            drop(workspace);
        }
    }
}
