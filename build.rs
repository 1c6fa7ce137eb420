//! Generates what the library carries: the list of profiles.

use std::path::PathBuf;

#[path = "build/profiles.rs"]
mod profiles;

fn main() {
    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    profiles::generate(&out_dir);
}
