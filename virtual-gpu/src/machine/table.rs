//! The state file: a table of atomics that every process maps, and the lock around it.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

unsafe extern "C" {
    fn mmap(
        address: *mut c_void,
        bytes: usize,
        protection: i32,
        flags: i32,
        file: i32,
        offset: i64,
    ) -> *mut c_void;
    fn munmap(address: *mut c_void, bytes: usize) -> i32;
    fn flock(file: i32, operation: i32) -> i32;
}

// Linux's values, the same on x86-64 and aarch64 (asm-generic/mman-common.h, fcntl.h).
const PROT_READ_WRITE: i32 = 1 | 2;
const MAP_SHARED: i32 = 1;
const LOCK_EX: i32 = 2;
const LOCK_UN: i32 = 8;

/// First word of a state file; the last byte counts layouts.
const MAGIC: u64 = u64::from_le_bytes(*b"oomphgp\x04");
/// Rules (faults and steals) that a scenario may have.
pub const MAX_RULES: usize = 256;
/// Pairs of process and GPU that may hold memory at one time.
const MAX_HOLDERS: usize = 2048;
/// GPUs and MIG instances whose peaks are kept; a scenario has no more.
pub const MAX_PLACES: usize = 256;
/// Pairs of process and GPU whose peaks are kept after the process is gone.
pub const MAX_RECORDS: usize = 4096;

/// What the processes share. All zero is the valid first state.
#[repr(C)]
pub struct Words {
    magic: AtomicU64,
    /// Calls so far, of any process.
    pub calls: AtomicU64,
    /// Holders that were ever in use: the rest need not be looked at.
    pub holders_touched: AtomicU64,
    /// Calls that each rule's pattern has met.
    pub rule_hits: [AtomicU64; MAX_RULES],
    /// Bytes that each steal has moved, plus one; zero before it happens.
    pub moved: [AtomicU64; MAX_RULES],
    /// Who holds memory.
    pub holders: [Holder; MAX_HOLDERS],
    /// The most bytes that were in use at each place.
    pub place_peaks: [AtomicU64; MAX_PLACES],
    /// Records in use, and those that there was no room for.
    pub records_wanted: AtomicU64,
    /// The most bytes that each process held at each place, and what it was refused.
    pub records: [Record; MAX_RECORDS],
}

/// The most that one process held at one place, and what it was refused; stays when it is gone.
#[repr(C)]
pub struct Record {
    /// Process id; zero until the record is whole.
    pub pid: AtomicU64,
    /// The process' start time.
    pub start: AtomicU64,
    /// Index of the place.
    pub place: AtomicU64,
    /// Contexts and allocations together.
    pub peak: AtomicU64,
    /// Requests that were refused.
    pub refusals: AtomicU64,
    /// Bytes that the last of them asked for.
    pub refused: AtomicU64,
    /// Bytes that the process could have got then.
    pub left: AtomicU64,
}

/// What one process holds on one GPU or MIG instance. Free when `pid` is zero.
#[repr(C)]
pub struct Holder {
    /// Process id, written last when a holder is taken and first when it is left.
    pub pid: AtomicU64,
    /// The process' start time.
    pub start: AtomicU64,
    /// Index of the place.
    pub place: AtomicU64,
    /// CUDA contexts, each of which takes the GPU's context bytes.
    pub contexts: AtomicU64,
    /// Bytes of allocations, in granules.
    pub allocated: AtomicU64,
    /// Index of the record of its peak, plus one; zero when there was no room for one.
    pub record: AtomicU64,
}

/// The mapped state file.
pub struct Table {
    file: File,
    words: *mut Words,
}

// SAFETY: the words behind the pointer are atomics, valid until the table drops.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    /// Opens or makes the file at `path`.
    pub fn open(path: &Path) -> io::Result<Table> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let bytes = size_of::<Words>();
        if file.metadata()?.len() < bytes as u64 {
            file.set_len(bytes as u64)?;
        }
        // SAFETY: a fresh shared mapping of a file that is at least this long; the kernel picks
        // the address.
        let words = unsafe {
            mmap(std::ptr::null_mut(), bytes, PROT_READ_WRITE, MAP_SHARED, file.as_raw_fd(), 0)
        };
        if words.addr() == usize::MAX {
            return Err(io::Error::last_os_error());
        }
        let table = Table { file, words: words.cast() };
        let lock = table.lock()?;
        match lock.magic.load(Ordering::Acquire) {
            0 => lock.magic.store(MAGIC, Ordering::Release),
            MAGIC => {}
            _ => return Err(io::Error::other("is not a state file of this version")),
        }
        drop(lock);
        Ok(table)
    }

    /// Waits for the lock that all processes share; the kernel drops it when its owner dies.
    pub fn lock(&self) -> io::Result<Lock<'_>> {
        loop {
            // SAFETY: a system call on a descriptor that is open as long as `self`.
            if unsafe { flock(self.file.as_raw_fd(), LOCK_EX) } == 0 {
                return Ok(Lock { table: self });
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `open`, which nothing refers to any more.
        unsafe { munmap(self.words.cast(), size_of::<Words>()) };
    }
}

/// The lock, and the words it guards.
pub struct Lock<'a> {
    table: &'a Table,
}

impl Deref for Lock<'_> {
    type Target = Words;

    fn deref(&self) -> &Words {
        // SAFETY: mapped, long enough, page-aligned, and made of atomics, as the table lives.
        unsafe { &*self.table.words }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // SAFETY: a system call on an open descriptor.
        unsafe { flock(self.table.file.as_raw_fd(), LOCK_UN) };
    }
}
