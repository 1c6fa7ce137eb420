//! Ends this process once nobody is left who would: oomph and the run's guard, killed at the same
//! moment by SIGKILL.
//!
//! Those two hold a FIFO beside the scenario open for writing. Each process of the run has the
//! reading end of its own, on which the kernel is asked for SIGKILL as the signal of news (fcntl(2),
//! F_SETSIG): when the last writer goes, it comes. No thread, no handler, and nothing to poll; a
//! program that closes every file it does not know takes itself out of it.
//!
//! None of them removes the run's folder then: SIGKILL runs nothing of a process any more, and any
//! other signal, on which the library could, is one that a program may block, ignore or handle
//! itself, and so live on. A process of oomph's own that waits for the same end does
//! (src/trial/sweeper.rs).
//!
//! Kernels before 5.10 are left alone: some send news of a FIFO whenever anybody closes it
//! (`pipe_release` in fs/pipe.c of Linux 5.4, against `!pipe->readers != !pipe->writers` since 5.6).

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use crate::fork::pthread_atfork;
use crate::machine::lifeline_path;

unsafe extern "C" {
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn close(file: c_int) -> c_int;
    fn read(file: c_int, to: *mut c_void, bytes: usize) -> isize;
    fn fcntl(file: c_int, command: c_int, ...) -> c_int;
    fn getpid() -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
}

// asm-generic/fcntl.h, which x86-64 and arm64 share.
const O_NONBLOCK: c_int = 0o4_000;
const O_ASYNC: c_int = 0o20_000;
const O_CLOEXEC: c_int = 0o2_000_000;
const F_SETFL: c_int = 4;
const F_SETOWN: c_int = 8;
const F_SETSIG: c_int = 10;
const F_GETSIG: c_int = 11;
const F_DUPFD_CLOEXEC: c_int = 1030;
const SIGKILL: c_int = 9;

/// File numbers from here on are out of the way of programs that count on low ones.
const OUT_OF_THE_WAY: [c_int; 2] = [1000, 200];
/// The oldest kernel on which only the end of all writers is news.
const KERNEL: (u32, u32) = (5, 10);

static PATH: OnceLock<CString> = OnceLock::new();
static HELD: AtomicI32 = AtomicI32::new(-1);

/// Takes hold of the lifeline beside the scenario, if there is one, for this process and its forks.
pub fn take(scenario: &Path) {
    let path = lifeline_path(scenario);
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return };
    if !kernel_is_fit() || !hold(&path) {
        return;
    }
    if PATH.set(path).is_ok() {
        // SAFETY: the function lives as long as the process: the library is never unloaded.
        unsafe { pthread_atfork(None, None, Some(in_child)) };
    }
}

/// A fork shares its parent's file, whose signal is its parent's: it takes one of its own.
extern "C" fn in_child() {
    let parents = HELD.swap(-1, Relaxed);
    // The number may be another file's by now.
    // SAFETY: plain system calls.
    unsafe {
        if fcntl(parents, F_GETSIG) == SIGKILL {
            close(parents);
        }
    }
    if let Some(path) = PATH.get() {
        hold(path);
    }
}

/// Opens the FIFO and asks for the signal; whether there is one.
fn hold(path: &CStr) -> bool {
    // SAFETY: plain system calls on a path that ends in NUL and a file that is ours.
    unsafe {
        let low = open(path.as_ptr(), O_NONBLOCK | O_CLOEXEC);
        if low < 0 {
            return false;
        }
        let mut higher = OUT_OF_THE_WAY.iter().map(|least| fcntl(low, F_DUPFD_CLOEXEC, *least));
        let file = match higher.find(|file| *file >= 0) {
            Some(file) => {
                close(low);
                file
            }
            None => low,
        };
        // Without the first of these the program's own handler of SIGIO would be called.
        if fcntl(file, F_SETSIG, SIGKILL) < 0
            || fcntl(file, F_SETOWN, getpid()) < 0
            || fcntl(file, F_SETFL, O_NONBLOCK | O_ASYNC) < 0
        {
            close(file);
            return false;
        }
        HELD.store(file, Relaxed);
        // Who went before that sends nothing any more.
        let mut byte = 0u8;
        if read(file, (&raw mut byte).cast(), 1) == 0 {
            kill(getpid(), SIGKILL);
        }
        true
    }
}

fn kernel_is_fit() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    version(&release).is_some_and(|version| version >= KERNEL)
}

/// Reads `5.14.0-427.el9` as (5, 14).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
