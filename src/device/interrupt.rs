//! Ctrl-C and SIGTERM while a probe runs: noticed, so that everything can be given back first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Watches for SIGINT and SIGTERM; dropped, it leaves them as they were: deadly.
#[derive(Debug)]
pub struct Interrupt {
    wakes: UnixStream,
    caught: Arc<AtomicUsize>,
    deadly: Arc<AtomicBool>,
    watching: Vec<SigId>,
}

impl Interrupt {
    /// Starts watching.
    ///
    /// # Errors
    ///
    /// When the system has no descriptor left for it.
    pub fn watch() -> io::Result<Interrupt> {
        let (wakes, writes) = UnixStream::pair()?;
        let mut interrupt = Interrupt {
            wakes,
            caught: Arc::default(),
            deadly: Arc::new(AtomicBool::new(false)),
            watching: Vec::new(),
        };
        for signal in [SIGINT, SIGTERM] {
            // This action stays when the others are gone: signal-hook cannot put the system's own
            // handler back, and a signal that nobody acts on would be lost.
            let deadly = Arc::clone(&interrupt.deadly);
            signal_hook::flag::register_conditional_default(signal, deadly)?;
            let number = usize::try_from(signal).unwrap_or(0);
            let caught = Arc::clone(&interrupt.caught);
            let flag = signal_hook::flag::register_usize(signal, caught, number)?;
            let pipe = signal_hook::low_level::pipe::register(signal, writes.try_clone()?)?;
            interrupt.watching.extend([flag, pipe]);
        }
        Ok(interrupt)
    }

    /// Returns the signal that came, if one did.
    pub fn caught(&self) -> Option<i32> {
        match self.caught.load(Ordering::SeqCst) {
            0 => None,
            signal => i32::try_from(signal).ok(),
        }
    }
}

/// Readable from the first signal on.
impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wakes.as_fd()
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.deadly.store(true, Ordering::SeqCst);
        for id in self.watching.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
