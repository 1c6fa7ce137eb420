//! `cuGetProcAddress`: exported names by their plain names and a CUDA version.

use super::{error, exports};
use crate::c::{Out, Text};
use crate::call::{Call, Outcome};
use crate::note;

// cuda.h: CUdriverProcAddressQueryResult
const FOUND: u32 = 0;
const NOT_FOUND: u32 = 1;

/// Versions from which on a plain name means a later signature (the defines of cuda.h and the
/// typedefs of cudaTypedefs.h).
const SINCE: &[(&str, i32, &str)] = &[
    ("cuCtxCreate", 13000, "cuCtxCreate_v4"),
    ("cuDevicePrimaryCtxRelease", 11000, "cuDevicePrimaryCtxRelease_v2"),
    ("cuDevicePrimaryCtxReset", 11000, "cuDevicePrimaryCtxReset_v2"),
    ("cuDevicePrimaryCtxSetFlags", 11000, "cuDevicePrimaryCtxSetFlags_v2"),
    ("cuDeviceGetUuid", 13000, "cuDeviceGetUuid_v2"),
    ("cuGetProcAddress", 12000, "cuGetProcAddress_v2"),
];

/// `cuGetProcAddress_v2`.
pub fn find(
    call: &mut Call,
    symbol: Text,
    function: Out<*const ()>,
    version: i32,
    _flags: u64,
    status: Out<u32>,
) -> Outcome {
    let symbol = symbol.get()?;
    call.note("symbol", &symbol);
    let found = address(&symbol, version);
    function.set(found.unwrap_or(std::ptr::null()))?;
    if !status.is_null() {
        status.set(if found.is_some() { FOUND } else { NOT_FOUND })?;
    }
    if found.is_some() { Ok(()) } else { Err(error::NOT_FOUND) }
}

/// `cuGetProcAddress`, as before CUDA 12.
pub fn find_v1(
    call: &mut Call,
    symbol: Text,
    function: Out<*const ()>,
    version: i32,
    _flags: u64,
) -> Outcome {
    let symbol = symbol.get()?;
    call.note("symbol", &symbol);
    match address(&symbol, version) {
        Some(found) => Ok(function.set(found)?),
        None => Err(error::NOT_FOUND),
    }
}

/// Returns an exported function by its plain name, as a version of CUDA means it.
pub fn address(symbol: &str, version: i32) -> Option<*const ()> {
    if symbol == "cuGetExportTable" {
        note::unanswered(
            "cuGetExportTable, of a CUDA runtime that an extension carries (error 36)",
        );
    }
    let later = SINCE.iter().find(|(name, since, _)| *name == symbol && version >= *since);
    let names = exports();
    let exported = |wanted: &str| names.iter().find(|(name, _)| *name == wanted).map(|(_, at)| *at);
    match later {
        Some((.., name)) => exported(name),
        None => exported(symbol).or_else(|| exported(&format!("{symbol}_v2"))),
    }
}
