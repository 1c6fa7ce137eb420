//! What happens when the library is loaded, before the program starts.

use std::ffi::{CStr, c_char, c_int};
use std::path::Path;

use crate::call::SCENARIO;
use crate::lifeline;

unsafe extern "C" {
    fn setenv(name: *const c_char, value: *const c_char, overwrite: c_int) -> c_int;
}

/// Makes PyTorch take cuDNN's older interface, which is answered here; the current one is not.
const OLDER_CUDNN: &CStr = c"TORCH_CUDNN_V8_API_DISABLED";

extern "C" fn start() {
    if let Some(path) = std::env::var_os(SCENARIO).filter(|path| !path.is_empty()) {
        lifeline::take(Path::new(&path));
        // SAFETY: the loader runs this before there is a second thread; the program's own choice
        // stays.
        unsafe { setenv(OLDER_CUDNN.as_ptr(), c"1".as_ptr(), 0) };
    }
}

#[used]
// SAFETY: a function pointer, as the loader expects there.
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;
