//! cuDNN: versions, handles, and sizes that are asked for. Work is nothing to do.

use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

use super::handle::answers;
use crate::c::Out;
use crate::mapped;
use crate::runtime::state;

/// `CUDNN_STATUS_NOT_INITIALIZED`
const NOT_INITIALIZED: u32 = 1001;
/// `CUDNN_STATUS_BAD_PARAM`
const BAD_PARAMETER: u32 = 2000;

/// Returns the mapped library's version: 91002 is 9.10.2.
fn version() -> usize {
    static VERSION: OnceLock<usize> = OnceLock::new();
    *VERSION.get_or_init(|| {
        // Of the part that it lies in: the library by the plain name only passes the call on.
        let own = cudnnGetVersion as *const ();
        let asked = mapped::number("libcudnn_graph.so.", c"cudnnGetVersion", own);
        asked.or_else(|| mapped::number("libcudnn.so.", c"cudnnGetVersion", own)).unwrap_or(91_000)
    })
}

/// Writes a size that is nothing, or fails.
fn nothing(out: &Out<usize>) -> u32 {
    if out.set(0).is_ok() { 0 } else { BAD_PARAMETER }
}

answers! {
    cudnnCreate(out: Out<u64>) -> u32 {
        match state::ready() {
            Ok(_) => super::handle::hand_out(&out, BAD_PARAMETER),
            Err(_) => NOT_INITIALIZED,
        }
    }
    cudnnGetVersion() -> usize { version() }
    cudnnGetCudartVersion() -> usize {
        crate::runtime::version() as usize
    }
    cudnnGetMaxDeviceVersion() -> usize { 1200 }
    cudnnGetProperty(kind: u32, out: Out<i32>) -> u32 {
        let version = version() as i32;
        let part = match kind {
            0 => version / 10_000,
            1 => version / 100 % 100,
            2 => version % 100,
            _ => return BAD_PARAMETER,
        };
        if out.set(part).is_ok() { 0 } else { BAD_PARAMETER }
    }
    cudnnGetErrorString(code: u32) -> *const c_char { name(code).as_ptr() }
    cudnnGetLastErrorString(out: Out<c_char>, room: usize) -> () {
        // Cut to the room there is.
        let _ = out.set_text("the simulated GPU does not answer this call", room);
    }
    cudnnGetStream(_handle: u64, out: Out<u64>) -> u32 {
        if out.set(0).is_ok() { 0 } else { BAD_PARAMETER }
    }
    cudnnDropoutGetStatesSize(_handle: u64, out: Out<usize>) -> u32 {
        // A generator's state for each thread of the largest launch, as cuDNN 9 says on an A100.
        if out.set(2_654_208).is_ok() { 0 } else { BAD_PARAMETER }
    }
    cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(
        _handle: u64, _mode: u32, _operations: u32, _x: u64, _z: u64, _y: u64, _scale: u64,
        _activation: u64, out: Out<usize>
    ) -> u32 { nothing(&out) }
    cudnnGetBatchNormalizationBackwardExWorkspaceSize(
        _handle: u64, _mode: u32, _operations: u32, _x: u64, _y: u64, _dy: u64, _dz: u64,
        _dx: u64, _scale: u64, _activation: u64, out: Out<usize>
    ) -> u32 { nothing(&out) }
    cudnnGetBatchNormalizationTrainingExReserveSpaceSize(
        _handle: u64, _mode: u32, _operations: u32, _activation: u64, _x: u64, out: Out<usize>
    ) -> u32 { nothing(&out) }
}

fn name(code: u32) -> &'static CStr {
    match code {
        0 => c"CUDNN_STATUS_SUCCESS",
        1001 => c"CUDNN_STATUS_NOT_INITIALIZED",
        2000 => c"CUDNN_STATUS_BAD_PARAM",
        3000 => c"CUDNN_STATUS_NOT_SUPPORTED",
        4000 => c"CUDNN_STATUS_INTERNAL_ERROR",
        5000 => c"CUDNN_STATUS_EXECUTION_FAILED",
        _ => c"CUDNN_STATUS_UNKNOWN",
    }
}
