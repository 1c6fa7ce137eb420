//! Names that need no answer, or have none.

use crate::libraries::arrays;
use crate::memory::unfollowed;

/// Makes exported functions of names whose work is done on the device alone, so that doing
/// nothing is what they do here: success. Where they would have written is not known, but for the
/// functions with a number: that one of their arguments, from zero, is the address of their result.
macro_rules! device_work {
    ($($name:ident)*) => {
        $crate::unanswered::device_work! { @ None; $($name)* }
    };
    ($number:literal: $($name:ident)*) => {
        $crate::unanswered::device_work! { @ Some($number); $($name)* }
    };
    (@ $result:expr; $($name:ident)*) => {
        $(
            /// Works on device memory alone, which is not there: nothing is to be done. Arguments
            /// are whole words as C passes them, in registers and on the stack; what is read past
            /// the last one is the caller's.
            #[unsafe(no_mangle)]
            pub extern "C" fn $name(
                a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64, i: u64, j: u64,
                k: u64, l: u64, m: u64, n: u64, o: u64, p: u64, q: u64, r: u64, s: u64, t: u64,
            ) -> u32 {
                let words = [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t];
                $crate::unanswered::worked(&words, $result)
            }
        )*
    };
}
pub(crate) use device_work;

/// Says what is known of where a library would have written: the address of its result among these
/// words, or that any of them may be one, or stand for some. Returns success.
pub fn worked(words: &[u64; 20], result: Option<usize>) -> u32 {
    match result {
        Some(at) => unfollowed::wrote(words[at], 1, u64::MAX, None),
        None => {
            unfollowed::given(words);
            unfollowed::given(&arrays::of(words));
        }
    }
    0
}

/// Makes exported functions of names that set or end what a library keeps on the host, of which
/// nothing is kept here: success, whatever they are given.
macro_rules! settings {
    ($($name:ident)*) => {
        $(
            /// Is set, or ended: nothing is to be done.
            #[unsafe(no_mangle)]
            pub extern "C" fn $name() -> u32 {
                0
            }
        )*
    };
}
pub(crate) use settings;

/// Makes exported functions of names that are not answered: each says so and fails with the
/// library's code for what it does not support.
macro_rules! unanswered {
    ($code:literal; $($name:ident)*) => {
        $(
            /// Is not answered, and says so.
            #[unsafe(no_mangle)]
            pub extern "C" fn $name() -> u32 {
                $crate::note::unanswered(stringify!($name));
                $code
            }
        )*

        /// The names.
        #[allow(dead_code, reason = "only the driver's and the runtime's are looked up")]
        pub const EXPORTS: &[$crate::exports::Export] = &[$((stringify!($name), $name as *const ())),*];
    };
}
pub(crate) use unanswered;
