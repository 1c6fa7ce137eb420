//! What device addresses stand for: a mapping of which only what is written takes host memory.

pub mod arena;
pub mod copy;
pub mod host;
mod lists;
pub mod question;
mod readback;
mod shadow;
mod stack;
pub mod unfollowed;
