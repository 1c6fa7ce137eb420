//! The address space of device memory: one mapping, made when the first address is given out.
//!
//! Readable and writable, so that small copies are real; nothing of it takes host memory until it
//! is written. Where the system refuses such a mapping (`vm.overcommit_memory=2`, `ulimit -v`),
//! addresses are numbers alone, and copies of device memory are noted as not answered.

use std::ffi::c_void;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

unsafe extern "C" {
    fn mmap(
        address: *mut c_void,
        bytes: usize,
        protection: i32,
        flags: i32,
        file: i32,
        offset: i64,
    ) -> *mut c_void;
    fn madvise(address: *mut c_void, bytes: usize, advice: i32) -> i32;
}

// Linux's values, the same on x86-64 and aarch64 (asm-generic/mman-common.h).
const PROT_READ_WRITE: i32 = 1 | 2;
const MAP_PRIVATE_ANONYMOUS: i32 = 2 | 0x20;
const MAP_NORESERVE: i32 = 0x4000;
const MAP_FIXED_NOREPLACE: i32 = 0x0010_0000;
const MADV_DONTNEED: i32 = 4;
/// A page of the host.
const PAGE: u64 = 4096;

/// Above where Linux starts to give addresses, below programs, libraries and stacks.
const FIRST: u64 = 0x1000_0000_0000;
/// 64 TiB, or what there is room for.
const SIZES: [u64; 4] = [64 << 40, 16 << 40, 1 << 40, 128 << 30];

static ONCE: Once = Once::new();
static START: AtomicU64 = AtomicU64::new(FIRST);
static MAPPED: AtomicU64 = AtomicU64::new(0);

/// Where device addresses start, and how many bytes of them there are.
pub fn span() -> (u64, u64) {
    ONCE.call_once(reserve);
    match MAPPED.load(Relaxed) {
        0 => (FIRST, SIZES[0]),
        bytes => (START.load(Relaxed), bytes),
    }
}

/// Whether an address is of the device, and can be read and written.
pub fn holds(address: u64) -> bool {
    address.wrapping_sub(START.load(Relaxed)) < MAPPED.load(Relaxed)
}

/// Distance of a device address from the start.
pub fn offset(address: u64) -> u64 {
    address - START.load(Relaxed)
}

/// Gives the host's memory of freed device addresses back; they read as zeros from then on.
pub fn discard(address: u64, bytes: u64) {
    let start = address.next_multiple_of(PAGE);
    let end = (address + bytes) / PAGE * PAGE;
    if holds(address) && end > start {
        let at = std::ptr::with_exposed_provenance_mut(start as usize);
        // SAFETY: whole pages within the mapping made below; nobody reads freed device memory.
        unsafe { madvise(at, (end - start) as usize, MADV_DONTNEED) };
    }
}

fn reserve() {
    for bytes in SIZES {
        for (wish, flags) in [(FIRST, MAP_FIXED_NOREPLACE), (0, 0)] {
            if let Some(start) = map(wish, bytes, flags) {
                START.store(start, Relaxed);
                MAPPED.store(bytes, Relaxed);
                return;
            }
        }
    }
}

/// Maps zeros that take no memory until they are written.
pub fn map(wish: u64, bytes: u64, flags: i32) -> Option<u64> {
    let wish = std::ptr::with_exposed_provenance_mut(wish as usize);
    let flags = MAP_PRIVATE_ANONYMOUS | MAP_NORESERVE | flags;
    // SAFETY: a new mapping that replaces none: without a wish the kernel picks the place, and
    // MAP_FIXED_NOREPLACE fails where something is.
    let at = unsafe { mmap(wish, bytes as usize, PROT_READ_WRITE, flags, -1, 0) };
    (at.addr() != usize::MAX).then_some(at.expose_provenance() as u64)
}
