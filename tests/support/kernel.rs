//! Kernels as a program's libraries register them, with code that is none.

use std::ffi::{CStr, c_char};

/// Machine code.
pub const ELF: u16 = 2;
/// PTX.
pub const PTX: u16 = 1;

/// `__fatBinC_Wrapper_t`
#[repr(C)]
struct Wrapper {
    magic: u32,
    version: u32,
    data: *const u8,
    more: *const u8,
}

/// Kind and architecture of code.
pub type Image = (u16, u32);

/// Returns a fat binary of those kinds and architectures, as nvcc lays one out, for good.
fn fat_binary(images: &[Image]) -> *const Wrapper {
    let mut entries = Vec::new();
    for (kind, architecture) in images {
        let mut entry = [0u8; 64];
        entry[0..2].copy_from_slice(&kind.to_le_bytes());
        entry[2..4].copy_from_slice(&0x101u16.to_le_bytes());
        entry[4..8].copy_from_slice(&64u32.to_le_bytes());
        entry[8..16].copy_from_slice(&24u64.to_le_bytes());
        entry[28..32].copy_from_slice(&architecture.to_le_bytes());
        entries.extend(entry);
        entries.extend([0x7f; 24]);
    }
    let mut container = Vec::new();
    container.extend(0xba55_ed50u32.to_le_bytes());
    container.extend([1, 0, 16, 0]);
    container.extend((entries.len() as u64).to_le_bytes());
    container.extend(entries);
    let data = container.leak().as_ptr();
    let none = std::ptr::null();
    Box::leak(Box::new(Wrapper { magic: 0x4662_43b1, version: 1, data, more: none }))
}

/// Registers a kernel of that mangled name and those images; returns the address that launches name.
pub fn register(name: &'static CStr, images: &[Image]) -> u64 {
    let load: extern "C" fn(*const Wrapper) -> *mut usize =
        super::driver::exported("__cudaRegisterFatBinary\0");
    let function: extern "C" fn(*mut usize, usize, usize, *const c_char, i32) =
        super::driver::exported("__cudaRegisterFunction\0");
    let host = Box::leak(Box::new(0u8)) as *mut u8;
    let host = host.expose_provenance();
    function(load(fat_binary(images)), host, 0, name.as_ptr(), -1);
    host as u64
}

/// `dim3`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Dim3(pub u32, pub u32, pub u32);
