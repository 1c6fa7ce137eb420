//! cuBLASLt: descriptors are not read, and one algorithm without a workspace is always found.

use std::ffi::{c_char, c_void};

use super::cublas::name;
use super::handle::{answers, creates};
use crate::c::{NullPointer, Out};
use crate::{mapped, unanswered};
use unanswered::{device_work, settings};

/// `CUBLAS_STATUS_INVALID_VALUE`
const INVALID_VALUE: u32 = 7;
/// Bytes of `cublasLtMatmulHeuristicResult_t`: an algorithm (64), its workspace, a state, waves.
const RESULT: usize = 96;

creates! { 7;
    cublasLtCreate cublasLtMatmulDescCreate cublasLtMatmulPreferenceCreate
    cublasLtMatrixLayoutCreate cublasLtMatrixTransformDescCreate
}

settings! {
    cublasLtDestroy cublasLtMatmulDescDestroy cublasLtMatmulDescSetAttribute
    cublasLtMatmulPreferenceDestroy cublasLtMatmulPreferenceSetAttribute
    cublasLtMatrixLayoutDestroy cublasLtMatrixLayoutSetAttribute
    cublasLtMatrixTransformDescDestroy cublasLtMatrixTransformDescSetAttribute
    cublasLtMatmulAlgoConfigSetAttribute
}

device_work! { cublasLtMatrixTransform }

device_work! { 10: cublasLtMatmul }

/// Clears what the caller passes, and fails on null.
fn clear(out: &Out<c_void>, bytes: usize) -> Result<(), NullPointer> {
    out.set_bytes(&vec![0; bytes])
}

answers! {
    cublasLtGetStatusName(code: u32) -> *const c_char { name(code).as_ptr() }
    cublasLtGetStatusString(code: u32) -> *const c_char { name(code).as_ptr() }
    cublasLtGetVersion() -> usize {
        let own = cublasLtGetVersion as *const ();
        mapped::number("libcublasLt.so.", c"cublasLtGetVersion", own).unwrap_or(130_400)
    }
    cublasLtMatmulDescInit_internal(out: Out<c_void>, bytes: usize) -> u32 {
        if clear(&out, bytes).is_ok() { 0 } else { INVALID_VALUE }
    }
    cublasLtMatrixLayoutInit_internal(out: Out<c_void>, bytes: usize) -> u32 {
        if clear(&out, bytes).is_ok() { 0 } else { INVALID_VALUE }
    }
    cublasLtMatmulPreferenceInit_internal(out: Out<c_void>, bytes: usize) -> u32 {
        if clear(&out, bytes).is_ok() { 0 } else { INVALID_VALUE }
    }
    cublasLtMatrixTransformDescInit_internal(out: Out<c_void>, bytes: usize) -> u32 {
        if clear(&out, bytes).is_ok() { 0 } else { INVALID_VALUE }
    }
    cublasLtMatmulAlgoGetHeuristic(
        _library: u64, _operation: u64, _a: u64, _b: u64, _c: u64, _d: u64, _preference: u64,
        room: i32, results: Out<c_void>, found: Out<i32>
    ) -> u32 {
        if room < 1 || clear(&results, RESULT).is_err() || found.set(1).is_err() {
            return INVALID_VALUE;
        }
        0
    }
    cublasLtMatmulAlgoInit(
        _library: u64, _compute: u32, _scale: u32, _a: u32, _b: u32, _c: u32, _d: u32, _id: i32,
        algorithm: Out<c_void>
    ) -> u32 {
        if clear(&algorithm, 64).is_ok() { 0 } else { INVALID_VALUE }
    }
    cublasLtMatmulAlgoGetIds(
        _library: u64, _compute: u32, _scale: u32, _a: u32, _b: u32, _c: u32, _d: u32, room: i32,
        ids: Out<i32>, found: Out<i32>
    ) -> u32 {
        if room < 1 || ids.set(0).is_err() || found.set(1).is_err() { INVALID_VALUE } else { 0 }
    }
    cublasLtMatmulAlgoCheck(
        _library: u64, _operation: u64, _a: u64, _b: u64, _c: u64, _d: u64, _algorithm: u64,
        result: Out<c_void>
    ) -> u32 {
        if clear(&result, RESULT).is_ok() { 0 } else { INVALID_VALUE }
    }
    cublasLtMatmulAlgoConfigGetAttribute(
        _algorithm: u64, _attribute: u32, out: Out<c_void>, bytes: usize, written: Out<usize>
    ) -> u32 {
        written.set_if_wanted(bytes.min(64));
        if clear(&out, bytes.min(64)).is_ok() { 0 } else { INVALID_VALUE }
    }
}
