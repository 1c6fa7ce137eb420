//! Memory that kernels take beside their results: cuBLAS workspaces, radix sorts.

use std::rc::Rc;

use crate::step::setup::{GpuArch, Version};
use crate::step::tape::Tape;
use crate::step::tensor::Storage;

/// cuBLAS workspaces that PyTorch keeps for good: one a thread that multiplies.
#[derive(Debug, Default)]
pub struct Scratch {
    forward: Option<Rc<Storage>>,
    backward: Option<Rc<Storage>>,
}

/// From this version on, cuBLAS workspaces are taken and given back around each product.
///
/// Evidence: shared/oracle/README.md, Versions, switch 2.
const TRANSIENT_WORKSPACE: Version = Version::new(2, 15);

/// From this version on until workspaces are transient, cuBLASLt works in the workspace of the cuBLAS
/// handle, which stays.
///
/// Source: github.com/pytorch/pytorch/pull/168175, merged in January 2026; run on 2.12.0. Of 2.9 and
/// 2.10, which keep a workspace of cuBLASLt's own (pull/156495), nothing was run.
const UNIFIED_WORKSPACE: Version = Version::new(2, 11);

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

/// Returns the bytes of the workspace that a product with a fused bias takes from cuBLASLt.
///
/// Source: PyTorch `CUDABlas.cpp` (`_parseChosenWorkspaceSize`): 1 MiB, 32 MiB on Hopper.
pub fn cublaslt_workspace_bytes(gpu: GpuArch, torch: Version) -> u64 {
    match gpu.compute_capability.0 {
        9 => 32 << 20,
        10.. if torch >= TRANSIENT_WORKSPACE => 32 << 20,
        _ => 1 << 20,
    }
}

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

    /// Takes the workspace that comes with a cuBLAS handle and stays, where that is how it is done:
    /// once for each thread that multiplies.
    pub fn cublas_handle(&mut self) {
        if self.setup.torch >= TRANSIENT_WORKSPACE {
            return;
        }
        let bytes = cublas_workspace_bytes(self.setup.gpu, self.setup.torch);
        let kept = if self.in_backward { &self.scratch.backward } else { &self.scratch.forward };
        if kept.is_none() {
            let workspace = self.hold(bytes);
            if self.in_backward {
                self.scratch.backward = workspace;
            } else {
                self.scratch.forward = workspace;
            }
        }
    }

    /// Takes the workspace of a product with a fused bias, until the result is dropped.
    pub fn cublaslt_workspace(&self) -> Option<Rc<Storage>> {
        if (UNIFIED_WORKSPACE..TRANSIENT_WORKSPACE).contains(&self.setup.torch) {
            return None;
        }
        self.hold(cublaslt_workspace_bytes(self.setup.gpu, self.setup.torch))
    }
}
