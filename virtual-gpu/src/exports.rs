//! Exported names: a macro that makes one C function a line, and the lists of them.

/// An exported name and the address of its code.
pub type Export = (&'static str, *const ());

/// Adds the module's list of exported names to the functions that a macro makes.
macro_rules! listed {
    ($($name:ident),*) => {
        /// Every name that this module exports.
        pub const EXPORTS: &[$crate::exports::Export] = &[$((stringify!($name), $name as *const ())),*];
    };
}
pub(crate) use listed;

/// Makes one exported C function a line, each going through [`dispatch`] to a function of the
/// form `fn(&mut Call, arguments...) -> Outcome`, and the list of them.
macro_rules! exports {
    ($($name:ident($($argument:ident: $type:ty),*) => $implementation:path;)*) => {
        $(
            /// Answers as the driver's header says.
            ///
            /// # Safety
            ///
            /// Pointers are null or good for what the header says.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
                $crate::call::dispatch(stringify!($name), |call| {
                    $implementation(call $(, $argument)*)
                })
            }
        )*

        $crate::exports::listed!($($name),*);
    };
}
pub(crate) use exports;
