//! cuBLAS: a handle's settings are kept, matrices are not multiplied.

use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::handle::answers;
use crate::c::Out;
use crate::mapped;
use crate::memory::copy::copy;
use crate::runtime::state;

/// `CUBLAS_STATUS_NOT_INITIALIZED`
const NOT_INITIALIZED: u32 = 1;
/// `CUBLAS_STATUS_INVALID_VALUE`
const INVALID_VALUE: u32 = 7;

/// What a handle keeps; never freed, so that a handle of old is told apart.
struct Handle {
    live: AtomicU32,
    stream: AtomicU64,
    pointer_mode: AtomicU32,
    math_mode: AtomicU32,
    atomics: AtomicU32,
    sms: AtomicU32,
}

const LIVE: u32 = 0x6362_6c73;

fn handle(address: u64) -> Option<&'static Handle> {
    let at: *const Handle = std::ptr::with_exposed_provenance(address as usize);
    if !at.is_aligned() {
        return None;
    }
    // SAFETY: handles are addresses of settings that are never freed; null is none.
    unsafe { at.as_ref() }.filter(|handle| handle.live.load(Relaxed) == LIVE)
}

fn set(address: u64, pick: impl Fn(&Handle) -> &AtomicU32, value: u32) -> u32 {
    match handle(address) {
        Some(handle) => {
            pick(handle).store(value, Relaxed);
            0
        }
        None => NOT_INITIALIZED,
    }
}

fn get(address: u64, pick: impl Fn(&Handle) -> &AtomicU32, out: &Out<u32>) -> u32 {
    match handle(address) {
        Some(handle) if out.set(pick(handle).load(Relaxed)).is_ok() => 0,
        Some(_) => INVALID_VALUE,
        None => NOT_INITIALIZED,
    }
}

/// Returns the version of the mapped library, or the newest known.
fn version() -> i32 {
    // cublasGetVersion needs a handle; the property calls do not, and cuBLASLt says the same.
    let own = super::cublas_lt::cublasLtGetVersion as *const ();
    mapped::number("libcublasLt.so.", c"cublasLtGetVersion", own).unwrap_or(130_400) as i32
}

answers! {
    cublasCreate_v2(out: Out<u64>) -> u32 {
        if state::ready().is_err() {
            return NOT_INITIALIZED;
        }
        let made = Box::leak(Box::new(Handle {
            live: AtomicU32::new(LIVE),
            stream: AtomicU64::new(0),
            pointer_mode: AtomicU32::new(0),
            math_mode: AtomicU32::new(0),
            atomics: AtomicU32::new(0),
            sms: AtomicU32::new(0),
        }));
        let address = std::ptr::from_ref(made).expose_provenance() as u64;
        if out.set(address).is_ok() { 0 } else { INVALID_VALUE }
    }
    cublasDestroy_v2(of: u64) -> u32 {
        match handle(of) {
            Some(handle) => {
                handle.live.store(0, Relaxed);
                0
            }
            None => NOT_INITIALIZED,
        }
    }
    cublasGetVersion_v2(of: u64, out: Out<i32>) -> u32 {
        match handle(of) {
            Some(_) if out.set(version()).is_ok() => 0,
            Some(_) => INVALID_VALUE,
            None => NOT_INITIALIZED,
        }
    }
    cublasSetStream_v2(of: u64, stream: u64) -> u32 {
        match handle(of) {
            Some(handle) => {
                handle.stream.store(stream, Relaxed);
                0
            }
            None => NOT_INITIALIZED,
        }
    }
    cublasGetStream_v2(of: u64, out: Out<u64>) -> u32 {
        match handle(of) {
            Some(handle) if out.set(handle.stream.load(Relaxed)).is_ok() => 0,
            Some(_) => INVALID_VALUE,
            None => NOT_INITIALIZED,
        }
    }
    cublasSetWorkspace_v2(of: u64, _at: u64, _bytes: usize) -> u32 {
        if handle(of).is_some() { 0 } else { NOT_INITIALIZED }
    }
    cublasSetPointerMode_v2(of: u64, mode: u32) -> u32 { set(of, |h| &h.pointer_mode, mode) }
    cublasGetPointerMode_v2(of: u64, out: Out<u32>) -> u32 { get(of, |h| &h.pointer_mode, &out) }
    cublasSetMathMode(of: u64, mode: u32) -> u32 { set(of, |h| &h.math_mode, mode) }
    cublasGetMathMode(of: u64, out: Out<u32>) -> u32 { get(of, |h| &h.math_mode, &out) }
    cublasSetAtomicsMode(of: u64, mode: u32) -> u32 { set(of, |h| &h.atomics, mode) }
    cublasGetAtomicsMode(of: u64, out: Out<u32>) -> u32 { get(of, |h| &h.atomics, &out) }
    cublasSetSmCountTarget(of: u64, sms: u32) -> u32 { set(of, |h| &h.sms, sms) }
    cublasGetSmCountTarget(of: u64, out: Out<u32>) -> u32 { get(of, |h| &h.sms, &out) }

    cublasSetVectorAsync(
        count: i32, size: i32, from: u64, from_step: i32, to: u64, to_step: i32, _stream: u64
    ) -> u32 { vectors(count, size, from, from_step, to, to_step) }
    cublasGetVectorAsync(
        count: i32, size: i32, from: u64, from_step: i32, to: u64, to_step: i32, _stream: u64
    ) -> u32 { vectors(count, size, from, from_step, to, to_step) }
    cublasSetMatrixAsync(
        rows: i32, columns: i32, size: i32, from: u64, from_rows: i32, to: u64, to_rows: i32,
        _stream: u64
    ) -> u32 { matrices(rows, columns, size, from, from_rows, to, to_rows) }
    cublasGetMatrixAsync(
        rows: i32, columns: i32, size: i32, from: u64, from_rows: i32, to: u64, to_rows: i32,
        _stream: u64
    ) -> u32 { matrices(rows, columns, size, from, from_rows, to, to_rows) }

    cublasGetStatusString(code: u32) -> *const c_char { name(code).as_ptr() }
    cublasGetStatusName(code: u32) -> *const c_char { name(code).as_ptr() }
}

/// Copies elements that lie `step` elements apart.
fn vectors(count: i32, size: i32, from: u64, from_step: i32, to: u64, to_step: i32) -> u32 {
    matrices(1, count, size, from, from_step, to, to_step)
}

/// Copies columns of `rows` elements.
fn matrices(
    rows: i32,
    columns: i32,
    size: i32,
    from: u64,
    from_rows: i32,
    to: u64,
    to_rows: i32,
) -> u32 {
    let sizes = [rows, columns, size, from_rows, to_rows].map(u64::try_from);
    let [Ok(rows), Ok(columns), Ok(size), Ok(from_rows), Ok(to_rows)] = sizes else {
        return INVALID_VALUE;
    };
    for column in 0..columns {
        let (to, from) = (to + column * to_rows * size, from + column * from_rows * size);
        // SAFETY: the caller vouches for the host's side.
        unsafe { copy(to, from, rows * size) };
    }
    0
}

/// Returns the name of a code of cuBLAS or cuBLASLt.
pub fn name(code: u32) -> &'static CStr {
    match code {
        0 => c"CUBLAS_STATUS_SUCCESS",
        1 => c"CUBLAS_STATUS_NOT_INITIALIZED",
        3 => c"CUBLAS_STATUS_ALLOC_FAILED",
        7 => c"CUBLAS_STATUS_INVALID_VALUE",
        8 => c"CUBLAS_STATUS_ARCH_MISMATCH",
        11 => c"CUBLAS_STATUS_MAPPING_ERROR",
        13 => c"CUBLAS_STATUS_EXECUTION_FAILED",
        14 => c"CUBLAS_STATUS_INTERNAL_ERROR",
        15 => c"CUBLAS_STATUS_NOT_SUPPORTED",
        16 => c"CUBLAS_STATUS_LICENSE_ERROR",
        _ => c"unknown",
    }
}
