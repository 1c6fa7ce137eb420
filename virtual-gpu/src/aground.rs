//! Signals, and calls that the caller does not come back from.

use std::time::Duration;

use crate::machine::Fault;

unsafe extern "C" {
    fn kill(pid: i32, signal: i32) -> i32;
    fn getppid() -> i32;
}

/// Sends a signal to this process, or to its parent.
pub fn signal(number: i32, to_parent: bool) {
    // SAFETY: two system calls.
    unsafe {
        let pid = if to_parent { getppid() } else { std::process::id() as i32 };
        kill(pid, number);
    }
}

/// Does what the caller does not come back from.
pub fn run_aground(end: Fault) -> ! {
    const SIGKILL: i32 = 9;
    match end {
        Fault::Kill => {
            // SAFETY: a system call; it ends this process.
            unsafe { kill(std::process::id() as i32, SIGKILL) };
        }
        Fault::Segfault => {
            let nowhere: *mut u8 = std::ptr::without_provenance_mut(std::hint::black_box(8));
            // SAFETY: not sound, and meant so: the page at address zero is never mapped, so this
            // is the invalid access that the scenario asks for.
            unsafe { nowhere.write_volatile(1) };
        }
        _ => {}
    }
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
