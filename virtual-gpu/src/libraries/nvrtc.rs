//! NVRTC: any source compiles, to code that nothing reads.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::sync::{Mutex, PoisonError};

use super::handle::answers;
use crate::c::{Out, Text};
use crate::runtime;

/// `NVRTC_ERROR_INVALID_INPUT`
const INVALID_INPUT: u32 = 3;
/// `NVRTC_ERROR_INVALID_PROGRAM`
const INVALID_PROGRAM: u32 = 4;
/// What a compiled program is: text and code of one byte, the NUL.
const CODE: &[u8] = b"\0";

/// Names of each program, kept as long as it lives: callers hold pointers to them.
static PROGRAMS: Mutex<Option<HashMap<u64, Vec<CString>>>> = Mutex::new(None);

fn with<T>(body: impl FnOnce(&mut HashMap<u64, Vec<CString>>) -> T) -> T {
    body(PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

fn length(out: &Out<usize>) -> u32 {
    if out.set(CODE.len()).is_ok() { 0 } else { INVALID_INPUT }
}

fn code(out: &Out<u8>) -> u32 {
    if out.set(CODE[0]).is_ok() { 0 } else { INVALID_INPUT }
}

answers! {
    nvrtcCreateProgram(
        program: Out<u64>, _source: u64, _name: u64, _headers: i32, _sources: u64, _names: u64
    ) -> u32 {
        let handle = super::handle::new();
        with(|programs| programs.insert(handle, Vec::new()));
        if program.set(handle).is_ok() { 0 } else { INVALID_INPUT }
    }
    nvrtcDestroyProgram(program: Out<u64>) -> u32 {
        let known = program.get().ok().and_then(|handle| with(|programs| programs.remove(&handle)));
        program.set_if_wanted(0);
        if known.is_some() { 0 } else { INVALID_PROGRAM }
    }
    nvrtcCompileProgram(program: u64, _count: i32, _options: u64) -> u32 {
        if with(|programs| programs.contains_key(&program)) { 0 } else { INVALID_PROGRAM }
    }
    nvrtcAddNameExpression(program: u64, name: Text) -> u32 {
        let Some(name) = name.get().ok().and_then(|name| CString::new(name).ok()) else {
            return INVALID_INPUT;
        };
        with(|programs| match programs.get_mut(&program) {
            Some(names) => {
                names.push(name);
                0
            }
            None => INVALID_PROGRAM,
        })
    }
    nvrtcGetLoweredName(program: u64, name: Text, out: Out<*const c_char>) -> u32 {
        let Ok(name) = name.get() else {
            return INVALID_INPUT;
        };
        // Its own name: a module here has a function of any name.
        with(|programs| {
            let names = programs.get(&program).into_iter().flatten();
            let mut same = names.filter(|known| known.to_bytes() == name.as_bytes());
            match same.next() {
                Some(known) if out.set(known.as_ptr()).is_ok() => 0,
                _ => INVALID_INPUT,
            }
        })
    }
    nvrtcGetPTXSize(_program: u64, out: Out<usize>) -> u32 { length(&out) }
    nvrtcGetPTX(_program: u64, out: Out<u8>) -> u32 { code(&out) }
    nvrtcGetCUBINSize(_program: u64, out: Out<usize>) -> u32 { length(&out) }
    nvrtcGetCUBIN(_program: u64, out: Out<u8>) -> u32 { code(&out) }
    nvrtcGetProgramLogSize(_program: u64, out: Out<usize>) -> u32 { length(&out) }
    nvrtcGetProgramLog(_program: u64, out: Out<u8>) -> u32 { code(&out) }
    nvrtcVersion(major: Out<i32>, minor: Out<i32>) -> u32 {
        let version = runtime::version();
        major.set_if_wanted(version / 1000);
        minor.set_if_wanted(version % 1000 / 10);
        0
    }
    nvrtcGetErrorString(code: u32) -> *const c_char { name(code).as_ptr() }
}

fn name(code: u32) -> &'static CStr {
    match code {
        0 => c"NVRTC_SUCCESS",
        3 => c"NVRTC_ERROR_INVALID_INPUT",
        4 => c"NVRTC_ERROR_INVALID_PROGRAM",
        6 => c"NVRTC_ERROR_COMPILATION",
        _ => c"NVRTC_ERROR_INTERNAL_ERROR",
    }
}
