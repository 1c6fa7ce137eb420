//! What the code that nvcc generates calls when a library is loaded, and around a launch.
//!
//! None of it needs a driver, nor fails: it runs before the program's own first line.

use std::cell::Cell;
use std::ffi::c_void;

use super::launch::Dim3;
use crate::c::{Out, Text};
use crate::image;

/// A configuration that `<<<...>>>` has pushed.
#[derive(Clone, Copy)]
struct Configuration {
    grid: Dim3,
    block: Dim3,
    shared_memory: usize,
    stream: u64,
}

thread_local! {
    /// Launches do not nest: one place is enough.
    static PUSHED: Cell<Option<Configuration>> = const { Cell::new(None) };
}

/// `cudaErrorInvalidConfiguration`
const NOT_CONFIGURED: u32 = 9;

/// Makes an exported function a line: as it is, without a lock or a driver.
macro_rules! plain {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty $body:block)*) => {
        $(
            /// Answers as crt/host_runtime.h says.
            ///
            /// # Safety
            ///
            /// Pointers are null or what nvcc's code passes.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) -> $answer $body
        )*

        crate::exports::listed!($($name),*);
    };
}

plain! {
    __cudaRegisterFatBinary(wrapper: *const c_void) -> *mut usize {
        // Where the number is stays valid: the program keeps it as its handle.
        Box::leak(Box::new(image::register_module(wrapper.cast())))
    }
    __cudaRegisterFatBinaryEnd(_module: *mut usize) -> () {}
    __cudaUnregisterFatBinary(module: *mut usize) -> () {
        // SAFETY: null or what the first function here returned.
        if let Some(module) = unsafe { module.as_ref() } {
            image::unregister_module(*module);
        }
    }
    __cudaInitModule(_module: *mut usize) -> u8 { 1 }
    __cudaRegisterFunction(
        module: *mut usize, host: usize, _device: usize, name: Text, _limit: i32
    ) -> () {
        // SAFETY: as above.
        if let Some(module) = unsafe { module.as_ref() } {
            image::register_function(*module, host, name);
        }
    }
    __cudaRegisterVar(
        _module: *mut usize, host: usize, _device: usize, _name: usize, _extern: i32,
        bytes: usize, _constant: i32, _global: i32
    ) -> () {
        image::register_variable(host, bytes as u64);
    }
    __cudaRegisterManagedVar(
        _module: *mut usize, host: usize, _device: usize, _name: usize, _extern: i32,
        bytes: usize, _constant: i32, _global: i32
    ) -> () {
        image::register_variable(host, bytes as u64);
    }
    __cudaRegisterTexture() -> () {}
    __cudaRegisterSurface() -> () {}
    __cudaPushCallConfiguration(
        grid: Dim3, block: Dim3, shared_memory: usize, stream: u64
    ) -> u32 {
        PUSHED.set(Some(Configuration { grid, block, shared_memory, stream }));
        0
    }
    __cudaPopCallConfiguration(
        grid: Out<Dim3>, block: Out<Dim3>, shared_memory: Out<usize>, stream: Out<u64>
    ) -> u32 {
        let Some(pushed) = PUSHED.take() else {
            return NOT_CONFIGURED;
        };
        grid.set_if_wanted(pushed.grid);
        block.set_if_wanted(pushed.block);
        shared_memory.set_if_wanted(pushed.shared_memory);
        stream.set_if_wanted(pushed.stream);
        0
    }
    // A kernel's handle is the address of its host function.
    __cudaGetKernel(kernel: Out<usize>, function: usize) -> u32 {
        kernel.set_if_wanted(function);
        0
    }
}
