//! Asks NVIDIA's own libraries, which the process has mapped, for what needs no driver: versions.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

unsafe extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

// dlfcn.h of glibc
const RTLD_LAZY: c_int = 1;
const RTLD_NOLOAD: c_int = 4;

/// Returns a function of a mapped library, of which `file` is the start of the file's name; `None`
/// where there is no such library, or no function but our own of that name.
pub fn function(file: &str, name: &CStr, own: *const ()) -> Option<*mut c_void> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mapped = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let wanted = format!("/{file}");
    let mut paths: Vec<&str> = mapped.filter(|path| path.contains(&wanted)).collect();
    paths.dedup();
    paths.into_iter().find_map(|path| {
        let path = CString::new(path).ok()?;
        // SAFETY: the library is loaded already, and its function is looked up in it first.
        let found = unsafe {
            let library = dlopen(path.as_ptr(), RTLD_LAZY | RTLD_NOLOAD);
            if library.is_null() {
                return None;
            }
            dlsym(library, name.as_ptr())
        };
        (!found.is_null() && found.addr() != own.addr()).then_some(found)
    })
}

/// Asks a function of the form `size_t f(void)`.
pub fn number(file: &str, name: &CStr, own: *const ()) -> Option<usize> {
    let function = function(file, name, own)?;
    // SAFETY: the caller knows its type.
    let function: extern "C" fn() -> usize = unsafe { std::mem::transmute(function) };
    Some(function())
}

/// Asks a function of the form `status f(int *)`.
pub fn written(file: &str, name: &CStr, own: *const ()) -> Option<i32> {
    let function = function(file, name, own)?;
    // SAFETY: the caller knows its type.
    let function: extern "C" fn(*mut c_int) -> u32 = unsafe { std::mem::transmute(function) };
    let mut answer = 0;
    (function(&mut answer) == 0 && answer > 0).then_some(answer)
}
