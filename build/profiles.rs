//! Lists `profiles/gpus/*.toml` and `profiles/models/*.toml` for the binary to carry.
//!
//! Called by `build.rs`; std only. A new profile is one new file and no code.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Writes `profiles.rs` into `out_dir`: `GPUS` and `MODELS`, pairs of name and text, by name.
///
/// Run from the package's root. Panics, and so fails the build, when a folder cannot be read or a
/// file's name is not one that the command line takes.
pub fn generate(out_dir: &Path) {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts");
    let mut source = String::new();
    for (list, folder) in [("GPUS", "profiles/gpus"), ("MODELS", "profiles/models")] {
        println!("cargo::rerun-if-changed={folder}");
        let folder = Path::new(&root).join(folder);
        let entries = fs::read_dir(&folder)
            .unwrap_or_else(|e| panic!("cannot read {}: {e}", folder.display()));
        let mut files: Vec<(String, String)> = Vec::new();
        for entry in entries {
            let path = entry.expect("a folder that opened can be listed").path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let Some(name) = name.strip_suffix(".toml") else { continue };
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            assert!(
                !name.is_empty() && name.chars().all(plain),
                "{}: a profile's name has lower-case letters, digits, `-` and `.` only",
                path.display()
            );
            println!("cargo::rerun-if-changed={}", path.display());
            files.push((name.to_owned(), path.display().to_string()));
        }
        files.sort();
        writeln!(source, "pub(super) static {list}: &[(&str, &str)] = &[")
            .expect("a string takes text");
        for (name, path) in files {
            writeln!(source, "    ({name:?}, include_str!({path:?})),")
                .expect("a string takes text");
        }
        source.push_str("];\n");
    }
    // A target folder may be a copy by hard links, whose files are another tree's too.
    let list = out_dir.join("profiles.rs");
    let _ = fs::remove_file(&list);
    fs::write(list, source).expect("cargo's output folder can be written");
}
