//! NVML's error codes, and what they are called.

use std::ffi::{CStr, c_char};

use crate::call::Code;

/// `NVML_ERROR_UNINITIALIZED`
pub const UNINITIALIZED: Code = Code(1);
/// `NVML_ERROR_INVALID_ARGUMENT`
pub const INVALID_ARGUMENT: Code = Code(2);
/// `NVML_ERROR_NOT_SUPPORTED`
pub const NOT_SUPPORTED: Code = Code(3);
/// `NVML_ERROR_NOT_FOUND`
pub const NOT_FOUND: Code = Code(6);
/// `NVML_ERROR_INSUFFICIENT_SIZE`
pub const INSUFFICIENT_SIZE: Code = Code(7);
/// `NVML_ERROR_DRIVER_NOT_LOADED`
pub const DRIVER_NOT_LOADED: Code = Code(9);
/// `NVML_ERROR_ARGUMENT_VERSION_MISMATCH`
pub const ARGUMENT_VERSION_MISMATCH: Code = Code(25);

/// `nvmlErrorString`: text for any code. Not a call that is counted, logged or failed.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(code: u32) -> *const c_char {
    let row = CODES.iter().find(|(known, _)| *known == code);
    row.map_or(c"Unknown Error", |(_, text)| *text).as_ptr()
}

/// nvml.h of CUDA 13.
const CODES: &[(u32, &CStr)] = &[
    (0, c"Success"),
    (1, c"Uninitialized"),
    (2, c"Invalid Argument"),
    (3, c"Not Supported"),
    (4, c"Insufficient Permissions"),
    (5, c"Already Initialized"),
    (6, c"Not Found"),
    (7, c"Insufficient Size"),
    (8, c"Insufficient External Power"),
    (9, c"Driver Not Loaded"),
    (10, c"Timeout"),
    (11, c"Interrupt Request Issue"),
    (12, c"NVML Shared Library Not Found"),
    (13, c"Function Not Found"),
    (14, c"Corrupted infoROM"),
    (15, c"GPU is lost"),
    (16, c"GPU requires restart"),
    (17, c"The operating system has blocked the request"),
    (18, c"Driver/library version mismatch"),
    (19, c"In use by another client"),
    (20, c"Insufficient Memory"),
    (21, c"No data"),
    (22, c"Vgpu ecc not supported"),
    (23, c"Insufficient resources"),
    (24, c"Freq not supported"),
    (25, c"Argument version mismatch"),
    (26, c"Deprecated"),
    (27, c"Not ready"),
    (28, c"Gpu not found"),
    (29, c"Invalid state"),
    (30, c"Reset type not supported"),
    (999, c"Unknown Error"),
];
