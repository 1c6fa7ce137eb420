//! Two names that the memory oracle's script calls on the library it is given.

use crate::cuda::limit;
use crate::memory::copy;

/// Sets what this process may allocate.
#[unsafe(no_mangle)]
pub extern "C" fn nullcuda_set_total(bytes: u64) {
    limit::set(bytes);
}

/// Chooses whether a single byte that only a kernel could have written may read as yes.
#[unsafe(no_mangle)]
pub extern "C" fn nullcuda_set_bool(truth: i32) {
    copy::set_truth(truth != 0);
}
