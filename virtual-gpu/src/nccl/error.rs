//! NCCL's codes (nccl.h, `ncclResult_t`), and what they are called.

use std::ffi::CStr;

use crate::call::Code;

/// `ncclUnhandledCudaError`
pub const UNHANDLED_CUDA_ERROR: Code = Code(1);
/// `ncclSystemError`
pub const SYSTEM_ERROR: Code = Code(2);
/// `ncclInvalidArgument`
pub const INVALID_ARGUMENT: Code = Code(4);
/// `ncclInvalidUsage`
pub const INVALID_USAGE: Code = Code(5);
/// `ncclRemoteError`: another rank is gone.
pub const REMOTE_ERROR: Code = Code(6);

/// Returns what a code is in words.
pub fn words(code: u32) -> &'static CStr {
    match code {
        0 => c"no error",
        1 => c"unhandled cuda error",
        2 => c"unhandled system error",
        3 => c"internal error",
        4 => c"invalid argument",
        5 => c"invalid usage",
        6 => c"remote process exited or there was a network error",
        7 => c"NCCL operation in progress",
        _ => c"unknown result code",
    }
}
