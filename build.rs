//! Generates what the binary carries: the list of profiles, and the virtual GPU's library.

use std::path::PathBuf;
use std::process::ExitCode;

#[path = "build/profiles.rs"]
mod profiles;
#[path = "build/virtual_gpu.rs"]
mod virtual_gpu;

fn main() -> ExitCode {
    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    profiles::generate(&out_dir);
    virtual_gpu::compile()
}
