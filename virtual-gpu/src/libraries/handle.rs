//! Handles of libraries: numbers that look like addresses, with the few settings that are asked
//! for again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::c::Out;

static MADE: AtomicU64 = AtomicU64::new(0);

/// Returns a new number.
pub fn new() -> u64 {
    0x6a00_0000 + MADE.fetch_add(1, Relaxed) * 64
}

/// Writes a new number, or fails with the library's code for a bad argument.
pub fn hand_out(out: &Out<u64>, bad: u32) -> u32 {
    if out.set(new()).is_ok() { 0 } else { bad }
}

/// Makes exported functions that hand out a handle a line.
macro_rules! creates {
    ($bad:literal; $($name:ident)*) => {
        $(
            /// Makes an object of which nothing is kept.
            ///
            /// # Safety
            ///
            /// The pointer is null or good for a handle.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name(out: $crate::c::Out<u64>) -> u32 {
                $crate::libraries::handle::hand_out(&out, $bad)
            }
        )*
    };
}
pub(crate) use creates;

/// Makes exported functions a line, of one library: `name(arguments) -> body`, whose failures are
/// the library's own codes.
macro_rules! answers {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) -> $answer:ty $body:block)*) => {
        $(
            $(#[$doc])*
            /// Answers as the library's header says.
            ///
            /// # Safety
            ///
            /// Pointers are null or good for what the header says.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) -> $answer $body
        )*
    };
}
pub(crate) use answers;
