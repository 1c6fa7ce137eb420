//! Names that need no answer, or have none.

/// Makes exported functions of names whose work is done on the device alone, so that doing
/// nothing is what they do here: success.
macro_rules! device_work {
    ($($name:ident)*) => {
        $(
            /// Works on device memory alone, which is not there: nothing is to be done.
            #[unsafe(no_mangle)]
            pub extern "C" fn $name() -> u32 {
                0
            }
        )*
    };
}
pub(crate) use device_work;

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
