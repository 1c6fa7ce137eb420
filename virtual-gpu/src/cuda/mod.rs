//! The CUDA driver's interface: what a process sees and holds, and the exported names.

mod addresses;
mod context;
pub mod device;
pub mod error;
mod exports;
mod function;
pub mod generation;
pub mod limit;
mod memory;
mod names;
mod operations;
pub mod pool;
mod pool_exports;
pub mod proc_address;
mod tables;
mod virtual_memory;
mod visible;
mod work;

use std::collections::BTreeMap;

use crate::call::{Call, Code};
use crate::exports::Export;
pub use context::forget_thread;

/// Every name of the driver that is exported.
pub fn exports() -> Vec<Export> {
    [exports::EXPORTS, operations::EXPORTS, pool_exports::EXPORTS, names::EXPORTS].concat()
}

/// What one process knows of CUDA. Nothing of it survives a fork, as with the real driver.
#[derive(Default)]
pub struct Cuda {
    /// Places by device ordinal, once `cuInit` has succeeded.
    visible: Option<Vec<usize>>,
    contexts: context::Contexts,
    pub addresses: addresses::Addresses,
    memory: memory::Allocations,
    pub virtual_memory: virtual_memory::VirtualMemory,
    pub pools: pool::Pools,
    /// Managed memory: bytes by address.
    pub managed: BTreeMap<u64, u64>,
    /// Handles of modules and functions so far.
    handles: u64,
}

impl Call<'_> {
    /// Fails with 3 before `cuInit`.
    pub fn initialized(&self) -> Result<&[usize], Code> {
        self.cuda.visible.as_deref().ok_or(error::NOT_INITIALIZED)
    }

    /// Returns the place of a device ordinal.
    pub fn device(&mut self, ordinal: i32) -> Result<usize, Code> {
        self.note("device", ordinal);
        let visible = self.initialized()?;
        let place = usize::try_from(ordinal).ok().and_then(|index| visible.get(index));
        place.copied().ok_or(error::INVALID_DEVICE)
    }
}
