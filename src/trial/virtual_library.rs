//! The virtual GPU's library (`virtual-gpu/`), which this binary carries, as files on disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[cfg(virtual_gpu)]
const LIBRARY: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/libvirtual_gpu.so")));
#[cfg(not(virtual_gpu))]
const LIBRARY: Option<&[u8]> = None;

/// The file's own name in the folder it is unpacked to.
pub const FILE_NAME: &str = "libvirtual_gpu.so";

/// Names under which programs load NVML and the CUDA driver.
///
/// They are links to one file: copies would not share state, and with the `.so.1` names alone a
/// real `libcuda.so` later on the loader's path would win.
pub const DRIVER_NAMES: [&str; 4] =
    ["libcuda.so", "libcuda.so.1", "libnvidia-ml.so", "libnvidia-ml.so.1"];

/// Returns the shared library, or `None` where it is not built: anywhere but Linux with glibc.
pub fn bytes() -> Option<&'static [u8]> {
    LIBRARY
}

/// Writes the library into `folder`, which exists, with its links; returns the library's path.
///
/// # Errors
///
/// `Unsupported` where the library is not built; otherwise what the file system says, for instance
/// that something of that name is there already.
pub fn unpack(folder: &Path) -> io::Result<PathBuf> {
    let library = bytes().ok_or(io::ErrorKind::Unsupported)?;
    let path = folder.join(FILE_NAME);
    fs::write(&path, library)?;
    for name in DRIVER_NAMES {
        std::os::unix::fs::symlink(FILE_NAME, folder.join(name))?;
    }
    Ok(path)
}
