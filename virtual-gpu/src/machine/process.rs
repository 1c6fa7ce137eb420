//! Which process is which, and whether it still lives.

use std::io;

/// A process for good: process ids are reused, a pid with its start time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks after boot, field 22 of `/proc/PID/stat` (man 5 proc).
    pub start: u64,
}

impl Identity {
    /// Returns who calls.
    pub fn own() -> io::Result<Identity> {
        let pid = std::process::id();
        match stat(pid) {
            Some((_, start)) => Ok(Identity { pid, start }),
            None => Err(io::Error::other("cannot be read")),
        }
    }

    /// Whether the process still holds anything: a zombie has given its memory back.
    pub fn is_alive(self) -> bool {
        match stat(self.pid) {
            Some((state, start)) => start == self.start && !matches!(state, 'Z' | 'X' | 'x'),
            None => false,
        }
    }
}

/// Returns the state letter and the start time of a process.
fn stat(pid: u32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name (field 2) may hold spaces and parentheses: count from the last one.
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}
