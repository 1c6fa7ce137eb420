//! The CUDA driver's interface: what a process sees and holds, and the exported names.

mod addresses;
mod context;
mod device;
pub mod error;
mod exports;
mod memory;
mod proc_address;
mod virtual_memory;
mod visible;

use crate::call::{Call, Code};
pub use context::forget_thread;
pub use exports::EXPORTS;

/// What one process knows of CUDA. Nothing of it survives a fork, as with the real driver.
#[derive(Default)]
pub struct Cuda {
    /// Places by device ordinal, once `cuInit` has succeeded.
    visible: Option<Vec<usize>>,
    contexts: context::Contexts,
    addresses: addresses::Addresses,
    memory: memory::Allocations,
    virtual_memory: virtual_memory::VirtualMemory,
}

impl Call<'_> {
    /// Fails with 3 before `cuInit`.
    fn initialized(&self) -> Result<&[usize], Code> {
        self.cuda.visible.as_deref().ok_or(error::NOT_INITIALIZED)
    }

    /// Returns the place of a device ordinal.
    fn device(&mut self, ordinal: i32) -> Result<usize, Code> {
        self.note("device", ordinal);
        let visible = self.initialized()?;
        let place = usize::try_from(ordinal).ok().and_then(|index| visible.get(index));
        place.copied().ok_or(error::INVALID_DEVICE)
    }
}
