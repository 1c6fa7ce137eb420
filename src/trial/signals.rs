//! Signals that ask oomph to stop, while commands run.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::trial::launch::Event;

/// Passes SIGINT, SIGTERM, SIGHUP and SIGQUIT on to whatever run goes on.
#[derive(Debug)]
pub struct Interrupts {
    handle: Handle,
    to: Arc<Mutex<Option<Sender<Event>>>>,
    first: Arc<AtomicI32>,
}

impl Interrupts {
    /// Starts watching.
    ///
    /// # Errors
    /// When the system has no descriptor left for it.
    pub fn watch() -> io::Result<Interrupts> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
        let handle = signals.handle();
        let to: Arc<Mutex<Option<Sender<Event>>>> = Arc::default();
        let first = Arc::new(AtomicI32::new(0));
        let (there, noted) = (Arc::clone(&to), Arc::clone(&first));
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let _ = noted.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
                if let Some(to) = &*there.lock().unwrap_or_else(PoisonError::into_inner) {
                    let _ = to.send(Event::Signal(signal));
                }
            }
        });
        Ok(Interrupts { handle, to, first })
    }

    /// Returns the first signal that came.
    pub fn caught(&self) -> Option<i32> {
        Some(self.first.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
    }

    /// Notes a signal that came to the command alone, from its terminal.
    pub(super) fn note(&self, signal: i32) {
        let _ = self.first.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
    }

    pub(super) fn send_to(&self, to: Option<Sender<Event>>) {
        *self.to.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.handle.close();
    }
}
