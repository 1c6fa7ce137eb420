//! Reads memory that may not be there: what lies behind arguments whose sizes nobody tells.
//!
//! Launches pass addresses of their arguments, and nearly always those lie on the calling thread's
//! stack, of which all from here up to its end can be read. Anything else is asked of the kernel.

use std::cell::Cell;
use std::ffi::c_void;

/// `pthread_attr_t`: 56 bytes on x86-64, 64 on aarch64 (bits/pthreadtypes-arch.h).
#[repr(C, align(8))]
struct Attributes([u8; 64]);

/// `struct iovec`
#[repr(C)]
struct Range {
    start: *mut c_void,
    bytes: usize,
}

unsafe extern "C" {
    fn pthread_self() -> usize;
    fn pthread_getattr_np(thread: usize, attributes: *mut Attributes) -> i32;
    fn pthread_attr_getstack(
        attributes: *const Attributes,
        lowest: *mut *mut c_void,
        bytes: *mut usize,
    ) -> i32;
    fn pthread_attr_destroy(attributes: *mut Attributes) -> i32;
    fn process_vm_readv(
        pid: i32,
        local: *const Range,
        locals: usize,
        remote: *const Range,
        remotes: usize,
        flags: usize,
    ) -> isize;
}

const WORD: u64 = 8;
const UNKNOWN: u64 = u64::MAX;

thread_local! {
    /// Where this thread's stack begins and ends; zeros where that is not told.
    static BOUNDS: Cell<(u64, u64)> = const { Cell::new((UNKNOWN, UNKNOWN)) };
}

/// The part of this thread's stack that is in use.
pub struct Stack {
    start: u64,
    end: u64,
}

impl Stack {
    /// Looks where the caller's stack is.
    pub fn here() -> Stack {
        let mark = 0u64;
        let start = std::ptr::from_ref(&mark).expose_provenance() as u64;
        let (lowest, end) = BOUNDS.with(|bounds| {
            if bounds.get().0 == UNKNOWN {
                bounds.set(told_bounds());
            }
            bounds.get()
        });
        // A fiber's stack is another than its thread's: nothing of it is read unasked.
        let is_threads = lowest <= start && start < end;
        Stack { start, end: if is_threads { end } else { start } }
    }

    /// Whether a word at an address lies on it.
    pub fn holds(&self, address: u64) -> bool {
        address.is_multiple_of(WORD) && self.start <= address && address + WORD <= self.end
    }

    /// Reads words from an address on; returns how many could be read.
    pub fn read(&self, address: u64, words: &mut [u64]) -> usize {
        if !self.holds(address) {
            return ask(address, words);
        }
        let count = words.len().min(((self.end - address) / WORD) as usize);
        let from: *const u64 = std::ptr::with_exposed_provenance(address as usize);
        for (index, word) in words[..count].iter_mut().enumerate() {
            // SAFETY: between this function's frame and the end of the thread's stack.
            *word = unsafe { from.add(index).read_volatile() };
        }
        count
    }
}

/// Asks libc where this thread's stack begins and ends; it is read from /proc/self/maps for the first thread.
fn told_bounds() -> (u64, u64) {
    let mut attributes = Attributes([0; 64]);
    let (mut lowest, mut bytes) = (std::ptr::null_mut(), 0);
    // SAFETY: room for what each writes.
    unsafe {
        if pthread_getattr_np(pthread_self(), &raw mut attributes) != 0 {
            return (0, 0);
        }
        let code = pthread_attr_getstack(&raw const attributes, &raw mut lowest, &raw mut bytes);
        pthread_attr_destroy(&raw mut attributes);
        if code == 0 { (lowest.addr() as u64, (lowest.addr() + bytes) as u64) } else { (0, 0) }
    }
}

/// Reads by the kernel, which fails where there is no memory.
fn ask(address: u64, words: &mut [u64]) -> usize {
    let at = std::ptr::with_exposed_provenance_mut(address as usize);
    let remote = Range { start: at, bytes: size_of_val(words) };
    let local = Range { start: words.as_mut_ptr().cast(), bytes: size_of_val(words) };
    let me = std::process::id() as i32;
    // SAFETY: the local range is `words`; the other is only looked at by the kernel.
    let read = unsafe { process_vm_readv(me, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).unwrap_or(0) / WORD as usize
}
