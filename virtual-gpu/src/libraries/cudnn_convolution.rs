//! Convolutions by cuDNN's older interface: one algorithm, and a workspace that is assumed.
//!
//! What a real cuDNN takes depends on kernels that nobody has written down; nothing is assumed
//! unless the scenario says so (`convolution=SIZE` of a card), and that is then said in the notes.

use std::ffi::c_void;

use super::handle::answers;
use crate::c::Out;
use crate::call::enter;
use crate::machine::notes::Kind;
use crate::note;
use crate::runtime::state;

/// `CUDNN_STATUS_BAD_PARAM`
const BAD_PARAMETER: u32 = 2000;
/// The algorithm that is always taken: implicit GEMM, or the first of a backward's.
const ALGORITHM: i32 = 1;

/// Returns the workspace that the scenario assumes of each convolution.
pub fn workspace() -> u64 {
    let mut bytes = 0;
    enter("cudaFree", |call| {
        let place = call.device(state::device())?;
        bytes = call.scenario.gpu_at(place).convolution;
        Ok(())
    });
    if bytes > 0 {
        note::write(Kind::Allowance, &format!("convolution {bytes}"));
    }
    bytes
}

/// Writes one `cudnnConvolutionFwdAlgoPerf_t`, which the backward ones are laid out as.
fn one(count: &Out<i32>, performance: &Out<c_void>) -> u32 {
    // algo, status, time, memory, determinism, mathType, three reserved
    let mut bytes = [0u8; 48];
    bytes[..4].copy_from_slice(&ALGORITHM.to_ne_bytes());
    bytes[16..24].copy_from_slice(&workspace().to_ne_bytes());
    match (performance.set_bytes(&bytes), count.set(1)) {
        (Ok(()), Ok(())) => 0,
        _ => BAD_PARAMETER,
    }
}

fn size(out: &Out<usize>) -> u32 {
    if out.set(workspace() as usize).is_ok() { 0 } else { BAD_PARAMETER }
}

/// Makes functions that name the algorithm there is, and the size of its workspace.
macro_rules! convolution {
    ($($choose:ident $find:ident $size:ident)*) => {
        answers! {
            $(
                $choose(
                    _handle: u64, _a: u64, _b: u64, _c: u64, _d: u64, _room: i32,
                    count: Out<i32>, performance: Out<c_void>
                ) -> u32 { one(&count, &performance) }
                $find(
                    _handle: u64, _a: u64, _at: u64, _b: u64, _bt: u64, _c: u64, _d: u64, _dt: u64,
                    _room: i32, count: Out<i32>, performance: Out<c_void>
                ) -> u32 { one(&count, &performance) }
                $size(
                    _handle: u64, _a: u64, _b: u64, _c: u64, _d: u64, _algorithm: i32,
                    bytes: Out<usize>
                ) -> u32 { size(&bytes) }
            )*
        }
    };
}

convolution! {
    cudnnGetConvolutionForwardAlgorithm_v7
    cudnnFindConvolutionForwardAlgorithmEx
    cudnnGetConvolutionForwardWorkspaceSize

    cudnnGetConvolutionBackwardDataAlgorithm_v7
    cudnnFindConvolutionBackwardDataAlgorithmEx
    cudnnGetConvolutionBackwardDataWorkspaceSize

    cudnnGetConvolutionBackwardFilterAlgorithm_v7
    cudnnFindConvolutionBackwardFilterAlgorithmEx
    cudnnGetConvolutionBackwardFilterWorkspaceSize
}
