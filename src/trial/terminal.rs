//! Who has the terminal: the command while it runs, so that Ctrl-C and Ctrl-Z are its own.

use std::fs::File;

use rustix::process::{Pid, getpgrp};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

unsafe extern "C" {
    /// signal(2).
    fn signal(number: i32, handler: usize) -> usize;
}

/// The terminal that this process has in its foreground.
#[derive(Debug)]
pub struct Terminal {
    file: File,
    own: Pid,
}

impl Terminal {
    /// Returns the terminal, unless there is none, or another process group has it.
    pub fn in_foreground() -> Option<Terminal> {
        let file = File::options().read(true).write(true).open("/dev/tty").ok()?;
        let own = getpgrp();
        (tcgetpgrp(&file).ok()? == own).then_some(Terminal { file, own })
    }

    /// Gives it to a process group.
    pub fn give(&self, group: Pid) {
        let _ = tcsetpgrp(&self.file, group);
    }

    /// Takes it back.
    pub fn take_back(&self) {
        // A process in the background that changes the terminal is stopped, unless it ignores
        // that.
        // SAFETY: SIG_IGN (1) as the handler runs no code; the old one is put back at once.
        let old = unsafe { signal(signal_hook::consts::SIGTTOU, 1) };
        let _ = tcsetpgrp(&self.file, self.own);
        // SAFETY: what was the handler before.
        unsafe { signal(signal_hook::consts::SIGTTOU, old) };
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.take_back();
    }
}
