//! `cudaLibrary*`: code that a program loads at run time. Kernels of it are handles that launch.

use std::ffi::c_void;

use super::state::Ready;
use super::stream::{INVALID_VALUE, with};
use crate::c::{Out, Text};

/// A new handle for a library, whatever its code.
pub fn load(_: Ready, library: Out<u64>, code: u64) -> u32 {
    if code == 0 { INVALID_VALUE } else { hand_out(&library) }
}

/// `cudaLibraryGetKernel`: any name is there, as nothing of the code is read.
pub fn kernel(_: Ready, kernel: Out<u64>, library: u64, name: Text) -> u32 {
    if library == 0 || name.get().is_err() { INVALID_VALUE } else { hand_out(&kernel) }
}

/// `cudaLibraryUnload`
pub fn unload(_: Ready, library: u64) -> u32 {
    if library == 0 { INVALID_VALUE } else { 0 }
}

/// `cudaGetFuncBySymbol`, `cudaGetKernel`: a kernel's handle is the address of its host function.
pub fn by_symbol(_: Ready, function: Out<u64>, symbol: u64) -> u32 {
    if symbol != 0 && function.set(symbol).is_ok() { 0 } else { INVALID_VALUE }
}

/// `cudaOccupancyMaxActiveClusters`: one cluster can always run.
pub fn clusters(_: Ready, clusters: Out<i32>, _function: u64, _config: Out<c_void>) -> u32 {
    if clusters.set(1).is_ok() { 0 } else { INVALID_VALUE }
}

fn hand_out(out: &Out<u64>) -> u32 {
    let handle = with(|streams| streams.new_handle());
    if out.set(handle).is_ok() { 0 } else { INVALID_VALUE }
}
