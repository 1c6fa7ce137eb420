//! Modules point down one list only (docs/design.md), and what is pure names no device.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::path::{Path, PathBuf};

/// From the top down; a module may use what stands below it.
const ORDER: [&str; 15] = [
    "cli", "report", "export", "device", "ingest", "trial", "profile", "probe", "plan", "memory",
    "step", "model", "trace", "parallel", "units",
];

/// What only `device` may name.
const DEVICES: [&str; 2] = ["nvml_wrapper", "cudarc"];

/// Modules that do no I/O.
const PURE: [&str; 7] = ["report", "export", "plan", "memory", "step", "model", "trace"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Calls `check` with each source, the module it belongs to, and its text without tests.
fn each(mut check: impl FnMut(&Path, &str, &str)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    assert!(found.len() > 50, "{}", found.len());
    for path in found {
        let inside = path.strip_prefix(&root).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        if matches!(module, "lib" | "main") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        check(&path, module, code);
    }
}

fn place(module: &str) -> Option<usize> {
    ORDER.iter().position(|known| *known == module)
}

/// The first names of paths that start with `crate::`, in code and not in comments.
fn uses(code: &str) -> impl Iterator<Item = &str> {
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| line.split("crate::").skip(1)).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

#[test]
fn modules_use_only_what_stands_below_them() {
    let mut wrong = Vec::new();
    each(|path, module, code| {
        let from = place(module).unwrap_or_else(|| panic!("{module} has no place in the list"));
        for name in uses(code) {
            if place(name).is_some_and(|to| to < from) {
                wrong.push(format!("{}: {module} uses {name}", path.display()));
            }
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_device_names_the_drivers() {
    each(|path, module, code| {
        for name in DEVICES.iter().filter(|_| module != "device") {
            assert!(!code.contains(name), "{} names {name}", path.display());
        }
    });
}

#[test]
fn what_is_pure_does_no_io() {
    each(|path, module, code| {
        for name in ["std::fs", "std::net", "std::process", "std::env", "println!", "eprintln!"] {
            let io = PURE.contains(&module) && code.contains(name);
            assert!(!io, "{} uses {name}", path.display());
        }
    });
}

#[test]
fn only_the_named_places_are_unsafe() {
    each(|path, module, code| {
        let allowed = matches!(module, "device" | "trial");
        let unsafe_code = code.lines().any(|line| {
            !line.trim_start().starts_with("//")
                && (line.contains("unsafe {") || line.contains("unsafe fn"))
        });
        assert!(allowed || !unsafe_code, "{} is unsafe", path.display());
    });
}
