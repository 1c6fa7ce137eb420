//! Starts a command under its guard, watches it to its end, and ends it where it must.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use regex::bytes::Regex;
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::SIGTERM;

use crate::trial::environment::Change;
use crate::trial::outcome::Ending;
pub use crate::trial::signals::Interrupts;
use crate::trial::start::{Stream, listen, spawn, wait_for};
use crate::trial::terminal::Terminal;
use crate::trial::tree;
use crate::trial::watch::Watch;
pub use crate::trial::watch::{Said, Seen, Sink};

/// What a run waits for.
#[derive(Debug)]
pub enum Event {
    /// A signal came to oomph.
    Signal(i32),
    /// The guard says something.
    Guard(String),
    /// The guard was stopped, with the command (Ctrl-Z).
    Stopped,
    /// The guard has ended.
    GuardGone,
    /// The command printed what ends it.
    Until,
    /// One of the command's streams, or the guard's words, have come to their end.
    StreamEnd,
}

/// A command and how it is to run.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The program, then its arguments.
    pub command: &'a [OsString],
    /// What is different in its environment.
    pub environment: &'a [Change],
    /// The run's folder, which the guard removes when oomph dies.
    pub folder: &'a Path,
    /// Ends the command, gently, once a line matches.
    pub until: Option<Regex>,
    /// Ends the command, gently, after that long.
    pub timeout: Option<Duration>,
    /// Whether the command reads what oomph could read, and has its terminal.
    pub interactive: bool,
    /// Where its standard output goes.
    pub stdout: Sink,
    /// Where its standard error goes.
    pub stderr: Sink,
    /// What keeps a copy of both.
    pub log: Option<File>,
}

/// Why a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The command ended by itself.
    ByItself,
    /// It printed what was waited for.
    UntilSeen,
    /// Time was up.
    TimedOut,
    /// This signal came.
    Interrupted(i32),
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Why.
    pub how: How,
    /// How the command itself ended; `None` when its guard was killed.
    pub ending: Option<Ending>,
    /// How long it ran.
    pub elapsed: Duration,
    /// What was found in what it printed.
    pub seen: Seen,
    /// Processes of this machine that the kernel killed meanwhile for want of memory; `None` where it
    /// does not say.
    pub oom_kills: Option<u64>,
}

/// Why a command could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The system does not start it.
    #[error("`{program}` cannot be run: {reason}")]
    Refused {
        /// The program as it was named.
        program: String,
        /// The system's error number, 0 where it has none.
        code: i32,
        /// The system's words.
        reason: String,
    },
    /// Something of the launcher's own.
    #[error("the command cannot be watched: {0}")]
    Io(#[from] std::io::Error),
}

/// Runs a command to its end; nothing of it survives.
///
/// # Errors
/// When it cannot be started. However it ends is an answer.
pub fn run(launch: Launch<'_>, interrupts: &Interrupts) -> Result<Ended, LaunchError> {
    // Whoever outlives the guard comes to this process.
    tree::adopt_orphans()?;
    let before = oom_kills();
    let (events, inbox) = channel();
    interrupts.send_to(Some(events.clone()));
    let result = Run::start(&launch, events, inbox).and_then(|run| run.finish(&launch));
    interrupts.send_to(None);
    let mut ended = result?;
    let counted = before.zip(oom_kills());
    ended.oom_kills = counted.map(|(before, after)| after.saturating_sub(before));
    if let How::Interrupted(signal) = ended.how {
        interrupts.note(signal);
    }
    Ok(ended)
}

/// Returns how many processes the kernel has killed since it started, for want of memory.
///
/// Source: `oom_kill` of /proc/vmstat, since Linux 4.13; a group's limit counts as the machine's.
fn oom_kills() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

struct Run {
    inbox: Receiver<Event>,
    socket: UnixStream,
    guard: Pid,
    terminal: Option<Terminal>,
    watch: Watch,
    begun: Instant,
    how: How,
    ending: Option<Ending>,
    program: String,
    refused: Option<LaunchError>,
    /// A signal that the terminal sent to the command and not to this process.
    overheard: Option<i32>,
    /// Streams that have not come to their end: the command's two, and the guard's words.
    streams: u32,
}

impl Run {
    fn start(
        launch: &Launch<'_>,
        events: Sender<Event>,
        inbox: Receiver<Event>,
    ) -> Result<Run, LaunchError> {
        let (socket, theirs) = UnixStream::pair()?;
        let mut child = spawn(launch, &theirs)?;
        drop(theirs);
        let guard = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let guard = guard.ok_or_else(|| std::io::Error::other("no process id"))?;
        let log = launch.log.as_ref().map(File::try_clone).transpose()?;
        let watch = Watch::new(launch.until.clone(), log);
        for (stream, sink) in [
            (child.stdout.take().map(Stream::Out), launch.stdout),
            (child.stderr.take().map(Stream::Err), launch.stderr),
        ] {
            let (watch, events) = (watch.clone(), events.clone());
            std::thread::spawn(move || {
                if let Some(stream) = stream {
                    let found = || drop(events.send(Event::Until));
                    stream.pass_on(&watch, sink, found);
                }
                let _ = events.send(Event::StreamEnd);
            });
        }
        listen(socket.try_clone()?, events.clone());
        std::thread::spawn(move || wait_for(guard, &events));
        let terminal = launch.interactive.then(Terminal::in_foreground).flatten();
        if let Some(terminal) = &terminal {
            terminal.give(guard);
        }
        let mut run = Run {
            inbox,
            socket,
            guard,
            terminal,
            watch,
            begun: Instant::now(),
            how: How::ByItself,
            ending: None,
            program: launch
                .command
                .first()
                .map_or(String::new(), |program| program.to_string_lossy().into_owned()),
            refused: None,
            overheard: None,
            streams: 3,
        };
        run.tell("go");
        Ok(run)
    }

    fn finish(mut self, launch: &Launch<'_>) -> Result<Ended, LaunchError> {
        let mut deadline = launch.timeout.and_then(|timeout| self.begun.checked_add(timeout));
        let (mut gone, mut elapsed) = (false, None);
        while !gone || self.streams > 0 {
            let patience = deadline.map_or(Duration::from_secs(3600), |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            match self.inbox.recv_timeout(patience) {
                Ok(Event::GuardGone) => {
                    // Whom a guard leaves, killed or not, comes to this process.
                    let all_gone = tree::end_all(Duration::ZERO, |_, _| ());
                    gone = true;
                    elapsed = elapsed.or(Some(self.begun.elapsed()));
                    // Who cannot be ended holds the streams open.
                    if !all_gone {
                        break;
                    }
                }
                Ok(Event::StreamEnd) => self.streams -= 1,
                Ok(event) => {
                    self.take_in(event);
                    if self.ending.is_some() {
                        elapsed = elapsed.or(Some(self.begun.elapsed()));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        deadline = None;
                        self.end(How::TimedOut);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        drop(self.terminal.take());
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        let failed = self.ending != Some(Ending::Exit(0));
        let how = match (self.how, self.overheard) {
            (How::ByItself, Some(signal)) if failed => How::Interrupted(signal),
            (how, _) => how,
        };
        let elapsed = elapsed.unwrap_or_else(|| self.begun.elapsed());
        let (ending, seen) = (self.ending, self.watch.take());
        Ok(Ended { how, ending, elapsed, seen, oom_kills: None })
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::Guard(line) => self.hear(&line),
            Event::Until => self.end(How::UntilSeen),
            Event::Signal(signal) => match self.how {
                How::Interrupted(_) => self.tell("kill"),
                _ => {
                    self.how = How::Interrupted(signal);
                    self.tell(&format!("signal {signal}"));
                }
            },
            Event::Stopped => self.stop_too(),
            Event::GuardGone | Event::StreamEnd => {}
        }
    }

    fn hear(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = rest.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        match word {
            "exit" => self.ending = Some(Ending::Exit(number)),
            "killed" => self.ending = Some(Ending::Signal(number)),
            "signal" => self.overheard = self.overheard.or(Some(number)),
            "refused" => {
                let reason = rest.split_once(' ').map_or(rest, |(_, reason)| reason);
                let program = self.program.clone();
                let reason = reason.to_owned();
                self.refused = Some(LaunchError::Refused { program, code: number, reason });
            }
            _ => {}
        }
    }

    /// Ends the command gently, unless it is ending already.
    fn end(&mut self, how: How) {
        if self.how == How::ByItself && self.ending.is_none() {
            self.how = how;
            self.tell(&format!("signal {SIGTERM}"));
        }
    }

    /// Ctrl-Z stops the command and its guard; the shell waits for this process to stop.
    fn stop_too(&self) {
        if let Some(terminal) = &self.terminal {
            terminal.take_back();
        }
        let _ = rustix::process::kill_current_process_group(Signal::TSTP);
        // Here `fg` goes on.
        if let Some(terminal) = &self.terminal {
            terminal.give(self.guard);
        }
        let _ = kill_process_group(self.guard, Signal::CONT);
    }

    /// Tells the guard; one that is gone says so by its end.
    fn tell(&mut self, word: &str) {
        let _ = self.socket.write_all(format!("{word}\n").as_bytes());
    }
}
