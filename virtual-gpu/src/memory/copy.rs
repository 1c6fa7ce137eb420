//! Copies and fills: small ones are real, large ones on the device are skipped.
//!
//! What a kernel would have computed reads as zero, but for a number that `question.rs` knows to be
//! at least one. A single byte of it is the answer to a question: the one that is kept there, or
//! else one, as most questions (`mask.max() == 1`) are answered with yes in usual runs.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{arena, readback, shadow};
use crate::note;

/// Up to which copies of device memory are real: shapes, sizes and rendezvous data travel so.
pub const SMALL: u64 = 64 << 10;
/// Up to which blocks PyTorch's allocator gives out from the same segments as small ones: above
/// that nothing small was at the same place before (`kSmallSize`, CUDACachingAllocator.cpp).
const SHARED: u64 = 1 << 20;
/// What a scalar has at most.
const SCALAR: u64 = 8;
/// Above this a block that was written by the host held an array.
const ARRAY: u64 = 256;

static TRUTH: AtomicBool = AtomicBool::new(true);

/// Chooses whether a single byte that only a kernel could have written may read as yes.
pub fn set_truth(truth: bool) {
    TRUTH.store(truth, Relaxed);
}

/// Copies as `cudaMemcpy` does, by where the two addresses are.
///
/// # Safety
///
/// Addresses of the host are good for `bytes`.
pub unsafe fn copy(to: u64, from: u64, bytes: u64) {
    if bytes == 0 {
        return;
    }
    match (arena::holds(to), arena::holds(from)) {
        // SAFETY: as the caller says.
        (false, false) if !unmapped(to, from) => unsafe { move_bytes(to, from, bytes) },
        (false, false) => note::unanswered("copies (device memory has no address space here)"),
        (true, false) if bytes <= SMALL => {
            // SAFETY: the source as the caller says; the target is in the arena.
            unsafe { move_bytes(to, from, bytes) };
            shadow::mark(to, bytes);
        }
        (true, true) if bytes <= SMALL => {
            // SAFETY: both are in the arena.
            unsafe { move_bytes(to, from, bytes) };
            match is_hosts(from, bytes) {
                true => {
                    let doubted = shadow::is_doubted(from, bytes);
                    shadow::mark(to, bytes);
                    if doubted {
                        shadow::doubt(to, bytes);
                    }
                }
                false => {
                    shadow::forget(to, bytes);
                    shadow::answer(to, answer(from, bytes));
                }
            }
        }
        (true, _) => shadow::forget(to, bytes.min(SHARED)),
        // SAFETY: as the caller says.
        (false, true) => unsafe { read(to, from, bytes) },
    }
}

/// Fills as `cudaMemset` does.
///
/// # Safety
///
/// An address of the host is good for `bytes`.
pub unsafe fn fill(to: u64, value: u8, bytes: u64) {
    let device = arena::holds(to);
    if bytes == 0 || !device && unmapped(to, to) {
        return;
    }
    if device && bytes > SMALL {
        shadow::forget(to, bytes.min(SHARED));
        return;
    }
    // SAFETY: in the arena, or as the caller says.
    unsafe { pointer(to).write_bytes(value, bytes as usize) };
    if device {
        shadow::mark(to, bytes);
    }
}

/// Reads device memory into the host's.
///
/// # Safety
///
/// `to` is good for `bytes`.
unsafe fn read(to: u64, from: u64, bytes: u64) {
    let known = bytes <= SMALL && is_hosts(from, bytes);
    if known {
        // SAFETY: the source is in the arena, the target as the caller says.
        unsafe { move_bytes(to, from, bytes) };
        if shadow::is_doubted(from, bytes) {
            readback::count_older();
        }
        return;
    }
    readback::count(bytes);
    let value = match bytes {
        1 => TRUTH.load(Relaxed) && answer(from, bytes).unwrap_or(true),
        4 | 8 => shadow::is_one(from),
        _ => false,
    };
    // SAFETY: as the caller says; a number's first byte is its lowest.
    unsafe {
        pointer(to).write_bytes(0, bytes as usize);
        pointer(to).write(u8::from(value));
    }
}

/// What a kernel has answered by the byte at a device address.
fn answer(address: u64, bytes: u64) -> Option<bool> {
    if bytes == 1 { shadow::answered(address) } else { None }
}

/// What is known of bytes that travel to another process of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Only a kernel could have written them.
    Kernel,
    /// The host wrote them.
    Host,
    /// The host wrote them before work that may have written there too.
    Older,
}

/// Reads what is known at an address, for another process of the run. What only a kernel could have
/// written is zeros, or its answer.
///
/// # Safety
///
/// An address of the host is good for as many bytes as `into` has.
pub unsafe fn peek(address: u64, into: &mut [u8]) -> Origin {
    let bytes = into.len() as u64;
    let device = arena::holds(address);
    if !device || is_hosts(address, bytes) {
        // SAFETY: in the arena, or as the caller says.
        unsafe { into.as_mut_ptr().copy_from(pointer(address), into.len()) };
        let older = device && shadow::is_doubted(address, bytes);
        return if older { Origin::Older } else { Origin::Host };
    }
    if let Some(answer) = answer(address, bytes) {
        into[0] = u8::from(answer);
    }
    Origin::Kernel
}

/// Writes what another process of the run has sent.
///
/// # Safety
///
/// An address of the host is good for as many bytes as `from` has.
pub unsafe fn poke(address: u64, from: &[u8], origin: Origin) {
    let device = arena::holds(address);
    if from.is_empty() || !device && unmapped(address, address) {
        return;
    }
    // SAFETY: in the arena, or as the caller says.
    unsafe { pointer(address).copy_from(from.as_ptr(), from.len()) };
    let bytes = from.len() as u64;
    match origin {
        _ if !device => {}
        Origin::Kernel => shadow::forget(address, bytes),
        Origin::Host => shadow::mark(address, bytes),
        Origin::Older => {
            shadow::mark(address, bytes);
            shadow::doubt(address, bytes);
        }
    }
}

/// Keeps what ranks have answered together, after it was written as not known ([`poke`]).
pub fn keep_answer(address: u64, answer: bool) {
    if arena::holds(address) {
        shadow::answer(address, Some(answer));
    }
}

/// Whether what is at a device address is what the host has written there.
fn is_hosts(address: u64, bytes: u64) -> bool {
    let last = shadow::last_written(address);
    // A scalar at the start of a block that last held more: the block was given out again, and a
    // kernel has written it since (GradScaler's flag where labels lay). Of a word's length it may
    // as well be the first of a few sizes; a byte alone answers a question.
    let most = if bytes == SCALAR { ARRAY } else { bytes };
    let reused = bytes <= SCALAR && last > most && shadow::starts_block(address);
    (bytes > 1 || last == 1) && !reused && shadow::is_known(address, bytes)
}

/// Whether one of two addresses can only be of a device without address space.
fn unmapped(to: u64, from: u64) -> bool {
    let (start, bytes) = arena::span();
    !arena::holds(start) && [to, from].iter().any(|address| address.wrapping_sub(start) < bytes)
}

/// # Safety
///
/// Both are good for `bytes`.
unsafe fn move_bytes(to: u64, from: u64, bytes: u64) {
    // SAFETY: as the caller says; the two may overlap.
    unsafe { pointer(to).copy_from(pointer(from), bytes as usize) };
}

fn pointer(address: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(address as usize)
}
