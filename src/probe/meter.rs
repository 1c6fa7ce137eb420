//! What a GPU has in use, asked for over and over while a program runs: the source of peaks that
//! nobody wrote down.

use crate::units::Bytes;

/// What one GPU has in use at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// Held by all processes together; on old drivers with what the driver keeps.
    pub used: Bytes,
    /// Left.
    pub free: Bytes,
    /// Processes in the driver's numbering, with their bytes where the driver says.
    pub processes: Vec<(u32, Option<Bytes>)>,
}

/// Reads GPUs in the order in which they were chosen.
pub trait Meter: Send + Sync {
    /// Reads one; quick, as it is asked many times a second.
    ///
    /// # Errors
    /// In words, when the driver does not say.
    fn read(&self, gpu: usize) -> Result<Reading, String>;
}
