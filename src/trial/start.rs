//! Starts a command's guard, and turns what becomes of it into events.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Sender;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::trial::environment::Change;
use crate::trial::guard;
use crate::trial::launch::{Event, Launch};
use crate::trial::watch::{SILENCE, Sink, Watch};

/// One of the command's streams.
pub(super) enum Stream {
    Out(std::process::ChildStdout),
    Err(std::process::ChildStderr),
}

impl Stream {
    /// Passes it on to its end.
    pub(super) fn pass_on(self, watch: &Watch, sink: Sink, found: impl FnMut()) {
        match self {
            Stream::Out(stream) => watch.pass_on(stream, sink, is_silent, found),
            Stream::Err(stream) => watch.pass_on(stream, sink, is_silent, found),
        }
    }
}

/// Waits a while for something to read; whether nothing came, nor the stream's end.
fn is_silent(stream: &impl AsFd) -> bool {
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(SILENCE.subsec_nanos()) };
    let mut waits = [PollFd::new(stream, PollFlags::IN)];
    matches!(poll(&mut waits, Some(&timeout)), Ok(0))
}

/// Starts the guard, with its end of the socket.
pub(super) fn spawn(launch: &Launch<'_>, socket: &UnixStream) -> std::io::Result<Child> {
    let number = socket.as_raw_fd();
    let mut command = Command::new("/proc/self/exe");
    command.arg0("oomph").arg(guard::ARGUMENT).arg(number.to_string()).arg(launch.folder);
    command.arg(launch.environment.len().to_string());
    command.args(launch.environment.iter().map(Change::as_argument));
    command.args(launch.command);
    command.stdin(if launch.interactive { Stdio::inherit() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let inherited = socket.try_clone()?;
    // SAFETY: between fork and exec there is one system call, and no memory is allocated.
    unsafe {
        command.pre_exec(move || {
            // The number that was passed stays open; the clone keeps its owner alive.
            let _ = &inherited;
            rustix::io::fcntl_setfd(
                std::os::fd::BorrowedFd::borrow_raw(number),
                rustix::io::FdFlags::empty(),
            )?;
            Ok(())
        });
    }
    command.spawn()
}

/// Turns what the guard says into events.
pub(super) fn listen(socket: UnixStream, events: Sender<Event>) {
    std::thread::spawn(move || {
        for line in BufReader::new(socket).lines() {
            let Ok(line) = line else { break };
            if events.send(Event::Guard(line)).is_err() {
                return;
            }
        }
        // Only now all is known that the guard has said.
        let _ = events.send(Event::StreamEnd);
    });
}

/// Turns what becomes of the guard into events.
pub(super) fn wait_for(guard: Pid, events: &Sender<Event>) {
    loop {
        match waitpid(Some(guard), WaitOptions::UNTRACED) {
            Ok(Some((_, status))) if status.stopped() => drop(events.send(Event::Stopped)),
            Ok(Some(_)) => {
                let _ = events.send(Event::GuardGone);
                return;
            }
            Err(rustix::io::Errno::INTR) | Ok(None) => {}
            Err(_) => {
                let _ = events.send(Event::GuardGone);
                return;
            }
        }
    }
}
