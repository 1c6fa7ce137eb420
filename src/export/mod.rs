//! A plan as a framework's own configuration: only the keys that the plan decides.
//!
//! Frameworks change their keys, so a name with an `@` belongs to versions of one: what changed is
//! said at the format. Each format writes the batch; beside it only what the plan's memory rests
//! on and the framework has exactly that key for (precision, checkpointing, length).

pub mod decided;
pub mod format;
pub mod keys;
pub mod write;

use crate::export::decided::Decided;
use crate::export::format::Format;
use crate::export::keys::keys;
use crate::export::write::write;

/// Renders what a plan decides in a framework's format, with its final newline.
///
/// ```
/// use oomph::export::{decided::Decided, emit, format::Format};
/// let decided = Decided::batch(6, 11, 4);
/// assert_eq!(emit(Format::Megatron, &decided), "--micro-batch-size 6 --global-batch-size 264\n");
/// ```
pub fn emit(format: Format, decided: &Decided) -> String {
    write(format, &keys(format, decided), decided)
}
