//! Compiles `virtual-gpu/` into the shared library that the binary carries.
//!
//! With `std` alone and the compiler that builds the package, so that nothing more is needed; as
//! sources without a manifest, because `cargo package` leaves nested packages out.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Compiles the library into OUT_DIR and says so to the package (`cfg(virtual_gpu)`).
pub fn compile() -> ExitCode {
    println!("cargo::rerun-if-changed=virtual-gpu/src");
    println!("cargo::rustc-check-cfg=cfg(virtual_gpu)");
    // A library to be loaded by the C library's loader: musl's programs are static by default.
    let target = (variable("CARGO_CFG_TARGET_OS"), variable("CARGO_CFG_TARGET_ENV"));
    if target != ("linux".to_owned(), "gnu".to_owned()) {
        return ExitCode::SUCCESS;
    }
    let library = PathBuf::from(variable("OUT_DIR")).join("libvirtual_gpu.so");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc
        .args(["--edition=2024", "--crate-name=virtual_gpu", "--crate-type=cdylib"])
        .args(["-Copt-level=3", "-Cpanic=abort", "-Cstrip=symbols"])
        // As real drivers: once loaded it stays, and its state with it.
        .arg("-Clink-arg=-Wl,-z,nodelete")
        // It means its own functions where it names them, whatever else is loaded.
        .arg("-Clink-arg=-Wl,-Bsymbolic")
        .args(["--target", &variable("TARGET"), "virtual-gpu/src/lib.rs", "-o"])
        .arg(&library);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg({
            let mut option = std::ffi::OsString::from("linker=");
            option.push(linker);
            option
        });
    }
    match rustc.status() {
        Ok(status) if status.success() => {
            println!("cargo::rustc-cfg=virtual_gpu");
            ExitCode::SUCCESS
        }
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot run {}: {error}", variable("RUSTC"));
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}
