//! What device addresses stand for: a mapping of which only what is written takes host memory.

pub mod arena;
pub mod copy;
pub mod host;
pub mod question;
mod readback;
mod shadow;
