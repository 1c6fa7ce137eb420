//! All descendants of this process, and their end.
//!
//! This process is their subreaper: whoever loses its parent becomes a child of this process, so
//! that nobody gets away, whatever sessions and groups they make.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

/// How often it is looked whether all are gone.
const LOOK: Duration = Duration::from_millis(5);
/// How long a killed process may take: one that waits for a disk cannot die before it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes this process the reaper of all its descendants.
///
/// # Errors
/// What the system says; on others than Linux that there is no such thing there.
pub fn adopt_orphans() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?);
    #[cfg(not(target_os = "linux"))]
    Err(io::ErrorKind::Unsupported.into())
}

/// Makes this process die with its parent.
///
/// # Errors
/// As [`adopt_orphans`].
pub fn die_with_parent() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?);
    #[cfg(not(target_os = "linux"))]
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns every descendant of this process that has not ended.
pub fn descendants() -> Vec<Pid> {
    descendants_in(|state| !matches!(state, 'Z' | 'X' | 'x'))
}

/// Returns every descendant of this process whose state (proc(5)) is one of those.
fn descendants_in(states: impl Fn(char) -> bool) -> Vec<Pid> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some((state, parent)) = state_and_parent(pid)
            && states(state)
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut look_at = vec![std::process::id()];
    while let Some(parent) = look_at.pop() {
        for pid in children.remove(&parent).unwrap_or_default() {
            look_at.push(pid);
            found.extend(i32::try_from(pid).ok().and_then(Pid::from_raw));
        }
    }
    found
}

/// Whether a process descends from this one, or has done so to its end without being waited for.
pub fn is_descendant(pid: u32) -> bool {
    // Who starts a process at each step of the way can make the way as long as they like.
    const LONGEST: u32 = 1_000;
    let mut at = pid;
    for _ in 0..LONGEST {
        match state_and_parent(at) {
            Some((_, parent)) if parent == std::process::id() => return true,
            Some((_, parent)) if parent > 1 => at = parent,
            _ => return false,
        }
    }
    false
}

/// Returns the state letter and the parent of a process (proc(5), `/proc/PID/stat`).
fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name may hold anything: count from its closing parenthesis.
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// The child that [`end_all`] leaves alone; 0 for none.
static SPARED: AtomicI32 = AtomicI32::new(0);

/// Has [`end_all`] leave this child alone, in place of the one before; 0 is none.
pub fn spare(child: u32) {
    SPARED.store(i32::try_from(child).unwrap_or(0), Ordering::Relaxed);
}

/// Ends all descendants but the one that is spared: asks first where `grace` is not zero, then kills;
/// `reaped` is told of every child that ends. Returns whether all are gone.
pub fn end_all(grace: Duration, mut reaped: impl FnMut(Pid, rustix::process::WaitStatus)) -> bool {
    let mut look = Look::default();
    if !grace.is_zero() && !look.all_gone(&mut reaped) {
        for pid in to_end(descendants()) {
            let _ = kill_process(pid, Signal::TERM);
            // What is stopped hears of it when it goes on.
            let _ = kill_process(pid, Signal::CONT);
        }
        let begun = Instant::now();
        while begun.elapsed() < grace && !look.all_gone(&mut reaped) {
            std::thread::sleep(LOOK);
        }
    }
    let begun = Instant::now();
    while !look.all_gone(&mut reaped) {
        for pid in to_end(descendants()) {
            let _ = kill_process(pid, Signal::KILL);
        }
        if begun.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}

/// Leaves out the child that is spared.
fn to_end(mut all: Vec<Pid>) -> Vec<Pid> {
    let spared = Pid::from_raw(SPARED.load(Ordering::Relaxed));
    all.retain(|&pid| Some(pid) != spared);
    all
}

/// A look whether all descendants are gone.
#[derive(Default)]
struct Look {
    /// Looks in a row that found none but the one that is spared.
    without: u32,
}

impl Look {
    /// Without a child that is spared, no children left is the end. With one, a look at `/proc` can miss
    /// who is born behind it to a parent that ends before it: two in a row do not. What has ended and
    /// cannot be taken in yet counts: other threads of it live, or its parent does.
    fn all_gone(&mut self, reaped: &mut impl FnMut(Pid, rustix::process::WaitStatus)) -> bool {
        if !reap(reaped) {
            return true;
        }
        let others = SPARED.load(Ordering::Relaxed) == 0
            || !to_end(descendants_in(|state| !matches!(state, 'X' | 'x'))).is_empty();
        self.without = if others { 0 } else { self.without + 1 };
        self.without >= 2
    }
}

/// Takes in the children that have ended; returns whether any are left.
pub fn reap(reaped: &mut impl FnMut(Pid, rustix::process::WaitStatus)) -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                // Its number can be another's now.
                let number = pid.as_raw_nonzero().get();
                let _ = SPARED.compare_exchange(number, 0, Ordering::Relaxed, Ordering::Relaxed);
                reaped(pid, status);
            }
            Ok(None) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_and_theirs_descend_from_this_process_and_its_parent_does_not() {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "sleep 60 & echo $!; wait"]).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        let grandchild: u32 = line.trim().parse().unwrap();
        assert!(is_descendant(child.id()) && is_descendant(grandchild));
        assert!(!is_descendant(1) && !is_descendant(0) && !is_descendant(std::process::id()));
        let _ = kill_process(Pid::from_raw(grandchild.cast_signed()).unwrap(), Signal::KILL);
        child.wait().unwrap();
    }
}
