//! The process between oomph and the command: whatever happens, nothing of the command survives.
//!
//! It leads the command's process group and is the reaper of all descendants. It notices its
//! parent's death by the end of their socket, kills all that is left and removes the run's folder.
//! The other way round, the parent is a reaper too, and the command dies with the guard.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitStatus};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::trial::folder::scenario_in;
use crate::trial::{lifeline, private, tree};

/// The hidden first argument that makes this program a command's guard.
pub const ARGUMENT: &str = "__run-guard";

/// How long what the command leaves behind may take to end when it is asked to.
const LEFTOVERS: Duration = Duration::from_secs(2);
/// How long the command may take to end when it is asked to.
pub const GRACE: Duration = Duration::from_secs(8);

/// Returns what follows the hidden argument, if this process was started as a guard.
pub fn arguments(command_line: &[OsString]) -> Option<Vec<OsString>> {
    let (first, rest) = command_line.get(1..)?.split_first()?;
    (first == ARGUMENT).then(|| rest.to_vec())
}

/// What the guard is told on its command line.
struct Task {
    /// The number of its end of the socket.
    socket: i32,
    folder: PathBuf,
    command: Command,
}

/// Reads `SOCKET FOLDER COUNT CHANGE... PROGRAM ARGUMENT...`; a change of the environment is
/// `+NAME=VALUE` or `-NAME`.
fn read(arguments: &[OsString]) -> Option<Task> {
    let [socket, folder, count, rest @ ..] = arguments else { return None };
    let count: usize = count.to_str()?.parse().ok()?;
    let (changes, command) = rest.split_at_checked(count)?;
    let (program, arguments) = command.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments);
    for change in changes {
        let (sign, change) = change.as_bytes().split_first()?;
        let text = std::ffi::OsStr::from_bytes;
        match (sign, change.iter().position(|byte| *byte == b'=')) {
            (b'+', Some(at)) => command.env(text(&change[..at]), text(&change[at + 1..])),
            _ => command.env_remove(text(change)),
        };
    }
    Some(Task { socket: socket.to_str()?.parse().ok()?, folder: folder.into(), command })
}

/// What the guard waits for.
enum Event {
    Told(String),
    ParentGone,
    Signal(i32),
}

/// Runs the guard and returns its exit code, which nobody reads.
pub fn main(arguments: &[OsString]) -> u8 {
    let Some(task) = read(arguments) else { return 2 };
    // SAFETY: the parent passes its socket under this number, and nothing else here knows it.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(task.socket) });
    let Ok(reading) = socket.try_clone() else { return 1 };
    // The command and its descendants must not have the socket: its end is a message.
    if rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).is_err()
        || tree::adopt_orphans().is_err()
    {
        return 1;
    }
    let held = (private::hold(&task.folder), lifeline::hold(&scenario_in(&task.folder)));
    let (events, inbox) = channel();
    if watch(reading, events).is_err() {
        return 1;
    }
    let parent_lives = Guard { socket, inbox, child: None, told: Vec::new() }.run(task.command);
    if !parent_lives {
        let _ = fs::remove_dir_all(&task.folder);
    }
    drop(held);
    0
}

/// Starts the threads that turn messages and signals into events.
fn watch(socket: UnixStream, events: Sender<Event>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
    let to = events.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if to.send(Event::Signal(signal)).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        for line in BufReader::new(socket).lines() {
            let Ok(line) = line else { break };
            if events.send(Event::Told(line)).is_err() {
                return;
            }
        }
        let _ = events.send(Event::ParentGone);
    });
    Ok(())
}

struct Guard {
    socket: UnixStream,
    inbox: Receiver<Event>,
    child: Option<Pid>,
    /// Signals that the parent wanted sent: they reach this process too.
    told: Vec<i32>,
}

impl Guard {
    /// Waits for the word, runs the command to its end, and ends what it leaves behind. Returns
    /// whether the parent still lives.
    fn run(mut self, command: Command) -> bool {
        // The terminal is ours by the time that the word comes.
        loop {
            match self.inbox.recv() {
                Ok(Event::Told(word)) if word == "go" => break,
                Ok(Event::ParentGone) | Err(_) => return false,
                Ok(Event::Told(_)) => return true,
                Ok(Event::Signal(_)) => {}
            }
        }
        match start(command) {
            Ok(pid) => self.child = Some(pid),
            Err(error) => {
                self.say(&format!("refused {} {error}", error.raw_os_error().unwrap_or(0)));
                return true;
            }
        }
        let parent_lives = self.until_the_end();
        let grace = if parent_lives { LEFTOVERS } else { Duration::ZERO };
        let child = self.child;
        let mut ended = None;
        tree::end_all(grace, |pid, status| {
            if Some(pid) == child {
                ended = Some(status);
            }
        });
        if let Some(status) = ended {
            self.say_ended(status);
        }
        parent_lives
    }

    /// Serves until the command has ended or must be killed at once; returns whether the parent
    /// still lives.
    fn until_the_end(&mut self) -> bool {
        let mut kill_at: Option<Instant> = None;
        loop {
            let patience = kill_at.map_or(Duration::from_secs(3600), |at| {
                at.saturating_duration_since(Instant::now())
            });
            match self.inbox.recv_timeout(patience) {
                Ok(Event::ParentGone) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(Event::Told(word)) => match word.split_once(' ') {
                    None if word == "kill" => return true,
                    Some(("signal", number)) => {
                        let _ = number.parse().map(|number| self.forward(number));
                        kill_at = kill_at.or(Some(Instant::now() + GRACE));
                    }
                    _ => {}
                },
                Ok(Event::Signal(SIGCHLD)) => {
                    if self.reap() {
                        return true;
                    }
                }
                Ok(Event::Signal(number)) => {
                    if !self.told.contains(&number) {
                        self.say(&format!("signal {number}"));
                        if matches!(number, SIGTERM | SIGHUP) {
                            self.forward(number);
                            kill_at = kill_at.or(Some(Instant::now() + GRACE));
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if kill_at.is_some_and(|at| Instant::now() >= at) {
                        return true;
                    }
                }
            }
        }
    }

    /// Sends a signal to the command's group, which this process is in too.
    fn forward(&mut self, number: i32) {
        self.told.push(number);
        if let Some(signal) = Signal::from_named_raw(number) {
            let _ = rustix::process::kill_current_process_group(signal);
            let _ = rustix::process::kill_current_process_group(Signal::CONT);
        }
    }

    /// Takes in who has ended; returns whether the command has.
    fn reap(&mut self) -> bool {
        let child = self.child;
        let mut ended = None;
        tree::reap(&mut |pid, status| {
            if Some(pid) == child {
                ended = Some(status);
            }
        });
        if let Some(status) = ended {
            self.say_ended(status);
        }
        ended.is_some()
    }

    fn say_ended(&mut self, status: WaitStatus) {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => self.say(&format!("exit {code}")),
            (None, Some(signal)) => self.say(&format!("killed {signal}")),
            (None, None) => {}
        }
    }

    /// Tells the parent; when it is gone, the socket's end says so.
    fn say(&mut self, line: &str) {
        let _ = self.socket.write_all(format!("{line}\n").as_bytes());
    }
}

fn start(mut command: Command) -> std::io::Result<Pid> {
    // SAFETY: between fork and exec there is one system call, and no memory is allocated.
    unsafe {
        command.pre_exec(tree::die_with_parent);
    }
    let child = command.spawn()?;
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| std::io::Error::other("no process id"))
}
