//! Where a trial's command runs, and where its peak is read: the one thing in which simulated and
//! real GPUs differ.

use crate::trial::outcome::Outcome;
use crate::trial::search::Peaks;
use crate::trial::template::{Sizes, Template};
use crate::units::Bytes;

/// A place to run a training command at given sizes.
pub trait Machine {
    /// What can go wrong, other than that the command fails.
    type Error;

    /// Returns what the command may take of each GPU.
    fn capacity(&self) -> Bytes;

    /// Returns how well it knows the peak of a run.
    fn peaks(&self) -> Peaks;

    /// Runs the command once, to its end.
    ///
    /// # Errors
    /// When it could not be run at all, or was interrupted.
    fn run(&mut self, template: &Template, sizes: &Sizes) -> Result<Outcome, Self::Error>;
}
