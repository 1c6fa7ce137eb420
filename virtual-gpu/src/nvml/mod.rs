//! NVML's interface: handles, and the exported names.

mod device;
pub mod error;
mod exports;
mod link;
mod memory;
mod mig;
mod system;

use crate::call::{Call, Code};
pub use exports::EXPORTS;

/// What one process knows of NVML.
#[derive(Default)]
pub struct Nvml {
    /// `nvmlInit` calls that no `nvmlShutdown` has answered yet.
    initialized: u64,
}

/// A device handle: the index of a place, above a number that no one has by chance.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Handle(u64);

const FIRST_HANDLE: u64 = 0x4e56_0000;

impl Handle {
    fn new(place: usize) -> Handle {
        Handle(FIRST_HANDLE + place as u64)
    }
}

impl Call<'_> {
    /// Fails with 1 before `nvmlInit`.
    fn nvml_initialized(&self) -> Result<(), Code> {
        if self.nvml.initialized == 0 { Err(error::UNINITIALIZED) } else { Ok(()) }
    }

    /// Returns the place behind a handle, unless this call fails on its card.
    fn handle(&mut self, handle: Handle) -> Result<usize, Code> {
        self.nvml_initialized()?;
        let place = handle.0.checked_sub(FIRST_HANDLE).map(|place| place as usize);
        let place = place.filter(|place| *place < self.scenario.places.len());
        let place = place.ok_or(error::INVALID_ARGUMENT)?;
        self.note("gpu", self.scenario.places[place].gpu);
        self.works_at(place)?;
        Ok(place)
    }
}
