//! The program's kernels: which fat binaries it has registered, and for which cards they are.

mod fatbin;
pub mod parameters;
mod registry;

pub use fatbin::Image;
pub use parameters::Parameters;
pub use registry::{
    Kernel, Verdict, kernel, pause, register_function, register_module, register_variable,
    unregister_module, variable,
};
