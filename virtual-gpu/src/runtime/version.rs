//! Which CUDA runtime the process believes it has: that of the libcudart it has mapped.

use std::sync::OnceLock;

use super::exports::cudaRuntimeGetVersion;
use crate::machine::notes::Kind;
use crate::{mapped, note};

/// What is answered where no libcudart is mapped: the newest whose layouts are known here.
const DEFAULT: i32 = 13000;

/// Returns the version as one number: 12080 is 12.8.
///
/// The mapped libcudart itself is asked, which needs no driver for this.
pub fn version() -> i32 {
    static VERSION: OnceLock<i32> = OnceLock::new();
    *VERSION.get_or_init(|| {
        let own = cudaRuntimeGetVersion as *const ();
        let asked = mapped::written("libcudart.so.", c"cudaRuntimeGetVersion", own);
        let version = asked.unwrap_or(DEFAULT);
        note::write(Kind::Version, &format!("cudart {version}"));
        version
    })
}
