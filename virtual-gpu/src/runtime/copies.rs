//! Copies and fills as the runtime names them; `memory/copy.rs` has what they do.

use super::capture::{Work, captures};
use super::state::Ready;
use super::stream::INVALID_VALUE;
use crate::call::enter;
use crate::image;
use crate::memory::copy as bytes;

/// `cudaErrorInvalidSymbol`
const INVALID_SYMBOL: u32 = 13;

/// Copies now: addresses say which way, so that every kind is `cudaMemcpyDefault`.
pub fn copy(to: u64, from: u64, count: u64) -> u32 {
    if count > 0 && (to == 0 || from == 0) {
        return INVALID_VALUE;
    }
    // SAFETY: callers of the exported function vouch for addresses of the host.
    unsafe { bytes::copy(to, from, count) };
    0
}

/// `cudaMemcpy`
pub fn copy_now(_: Ready, to: u64, from: u64, count: usize, _kind: u32) -> u32 {
    copy(to, from, count as u64)
}

/// `cudaMemcpyAsync`
pub fn copy_on(_: Ready, to: u64, from: u64, count: usize, _kind: u32, stream: u64) -> u32 {
    if captures(stream, Work::Device) { 0 } else { copy(to, from, count as u64) }
}

/// `cudaMemcpyPeerAsync`
pub fn copy_peer(
    _: Ready,
    to: u64,
    _to_device: i32,
    from: u64,
    _from_device: i32,
    count: usize,
    stream: u64,
) -> u32 {
    if captures(stream, Work::Device) { 0 } else { copy(to, from, count as u64) }
}

/// `cudaMemcpyPeer`
pub fn copy_peer_now(
    _: Ready,
    to: u64,
    _to_device: i32,
    from: u64,
    _from_device: i32,
    count: usize,
) -> u32 {
    copy(to, from, count as u64)
}

/// `cudaMemcpy2DAsync`: row by row, if all rows together are small.
#[expect(clippy::too_many_arguments, reason = "the header's")]
pub fn copy_rows_on(
    ready: Ready,
    to: u64,
    to_pitch: usize,
    from: u64,
    from_pitch: usize,
    width: usize,
    height: usize,
    kind: u32,
    stream: u64,
) -> u32 {
    match captures(stream, Work::Device) {
        true => 0,
        false => copy_rows(ready, to, to_pitch, from, from_pitch, width, height, kind),
    }
}

/// `cudaMemcpy2D`
#[expect(clippy::too_many_arguments, reason = "the header's")]
pub fn copy_rows(
    _: Ready,
    to: u64,
    to_pitch: usize,
    from: u64,
    from_pitch: usize,
    width: usize,
    height: usize,
    _kind: u32,
) -> u32 {
    if width > to_pitch || width > from_pitch {
        return INVALID_VALUE;
    }
    let small = (width as u64).saturating_mul(height as u64) <= bytes::SMALL;
    for row in 0..height as u64 {
        let (to, from) = (to + row * to_pitch as u64, from + row * from_pitch as u64);
        // Rows of a large copy that lie on the device alone are skipped, as one large row is.
        let device = crate::memory::arena::holds(to);
        if (small || !device) && copy(to, from, width as u64) != 0 {
            return INVALID_VALUE;
        }
    }
    0
}

/// `cudaMemset`
pub fn fill(_: Ready, to: u64, value: i32, count: usize) -> u32 {
    // SAFETY: callers of the exported function vouch for addresses of the host.
    unsafe { bytes::fill(to, value as u8, count as u64) };
    0
}

/// `cudaMemsetAsync`
pub fn fill_on(ready: Ready, to: u64, value: i32, count: usize, stream: u64) -> u32 {
    if captures(stream, Work::Device) { 0 } else { fill(ready, to, value, count) }
}

/// Fills words of 32 bits; those on the device if they are few.
pub fn fill_words(_: Ready, to: u64, value: u32, count: usize) -> u32 {
    let word = value.to_ne_bytes();
    if word.iter().all(|byte| *byte == word[0]) {
        // SAFETY: callers of the exported function vouch for addresses of the host.
        unsafe { bytes::fill(to, word[0], count as u64 * 4) };
    } else if count as u64 * 4 <= bytes::SMALL {
        let words = vec![value; count];
        return copy(to, words.as_ptr().expose_provenance() as u64, count as u64 * 4);
    }
    0
}

/// Returns where a variable of the program's is on the device.
fn symbol(symbol: u64) -> Option<(u64, u64)> {
    image::variable(symbol as usize, |bytes| {
        let mut address = None;
        enter("cudaGetSymbolAddress", |call| {
            // Part of the module's image, which the context's bytes cover.
            address = call.address_space(bytes.max(1));
            Ok(())
        });
        address
    })
}

/// `cudaGetSymbolAddress`
pub fn symbol_address(_: Ready, address: crate::c::Out<u64>, of: u64) -> u32 {
    match symbol(of) {
        Some((at, _)) if address.set(at).is_ok() => 0,
        Some(_) => INVALID_VALUE,
        None => INVALID_SYMBOL,
    }
}

/// `cudaGetSymbolSize`
pub fn symbol_size(_: Ready, bytes: crate::c::Out<usize>, of: u64) -> u32 {
    match symbol(of) {
        Some((_, size)) if bytes.set(size as usize).is_ok() => 0,
        Some(_) => INVALID_VALUE,
        None => INVALID_SYMBOL,
    }
}

/// `cudaMemcpyToSymbol`
pub fn copy_to_symbol(_: Ready, of: u64, from: u64, count: usize, offset: usize, _: u32) -> u32 {
    within_symbol(of, count, offset, |at| copy(at, from, count as u64))
}

/// `cudaMemcpyToSymbolAsync`
pub fn copy_to_symbol_on(
    ready: Ready,
    of: u64,
    from: u64,
    count: usize,
    offset: usize,
    kind: u32,
    stream: u64,
) -> u32 {
    match captures(stream, Work::Device) {
        true => 0,
        false => copy_to_symbol(ready, of, from, count, offset, kind),
    }
}

/// `cudaMemcpyFromSymbol`
pub fn copy_from_symbol(_: Ready, to: u64, of: u64, count: usize, offset: usize, _: u32) -> u32 {
    within_symbol(of, count, offset, |at| copy(to, at, count as u64))
}

fn within_symbol(of: u64, count: usize, offset: usize, copy: impl Fn(u64) -> u32) -> u32 {
    match symbol(of) {
        None => INVALID_SYMBOL,
        Some((at, bytes)) => match (offset as u64).checked_add(count as u64) {
            Some(end) if end <= bytes => copy(at + offset as u64),
            _ => INVALID_VALUE,
        },
    }
}
