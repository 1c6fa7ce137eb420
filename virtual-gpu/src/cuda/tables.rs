//! `cuGetExportTable`: NVIDIA's own tables, of which there are none here.

use crate::c::Out;

/// `CUDA_ERROR_INVALID_VALUE`: there is no table of this name.
const INVALID_VALUE: u32 = 1;

/// Finds none of them.
///
/// NVRTC of CUDA 13.2 calls it without a look at whether it is there. Kept from
/// [`exports`](super::exports): a runtime that is linked statically, which needs the tables, is told
/// that the driver is too old for it, and noted (`proc_address.rs`).
///
/// # Safety
///
/// Pointers are null or good for what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetExportTable(table: Out<*const ()>, _name: u64) -> u32 {
    table.set_if_wanted(std::ptr::null());
    INVALID_VALUE
}
