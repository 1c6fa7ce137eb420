//! The probe's parent side: starts the child, talks to it, and outlives whatever becomes of it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::{Errno, FdFlags};

use super::child::ARGUMENT;
use super::cuda::CudaError;
use super::failure::{Limits, ProbeFailure, how_it_ended};
use super::interrupt::Interrupt;
use super::lock::GpuLock;
use super::wire::{Reply, attempt_request, free_request};
use crate::memory::trace::Trace;
use crate::probe::{Attempt, Prober, Room};
use crate::units::Bytes;

/// How long the child may take to give everything back before it is killed.
const GRACE: Duration = Duration::from_secs(3);
/// How long a killed process may take to disappear: one that hangs in the kernel may never.
const BURIAL: Duration = Duration::from_secs(5);

/// Held while a child starts.
static STARTING: Mutex<()> = Mutex::new(());

/// The running program itself, also when its file has been replaced meanwhile.
pub const SELF: &str = "/proc/self/exe";

/// What the child has found once its context was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Free, with the context in place.
    pub free: Bytes,
    /// The device's memory, as CUDA reports it.
    pub total: Bytes,
    /// What the driver takes for a segment of 2 MiB.
    pub granule: Bytes,
    /// Streaming multiprocessors.
    pub sm_count: u32,
}

/// A GPU that is probed through a child process.
#[derive(Debug)]
pub struct CudaProber<'a> {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    unread: VecDeque<u8>,
    interrupt: &'a Interrupt,
    limits: Limits,
    begun: Instant,
    heard: Instant,
    call: String,
    calls: u64,
    ready: Ready,
    _lock: GpuLock,
}

impl<'a> CudaProber<'a> {
    /// Starts a child on the GPU or MIG instance of that UUID, and waits for its context.
    ///
    /// `headroom` is left free from the start; [`Prober::attempt`] may be asked to leave more.
    /// `program` is an oomph binary: [`SELF`], unless this library is in another program. The child
    /// dies with the calling *thread*, so call this from one that outlives the probe.
    ///
    /// # Errors
    ///
    /// When the child or the driver fails; nothing is left behind then.
    pub fn start(
        program: &Path,
        uuid: &str,
        headroom: Bytes,
        limits: Limits,
        lock: GpuLock,
        interrupt: &'a Interrupt,
    ) -> Result<CudaProber<'a>, ProbeFailure> {
        let process = |doing| move |source| ProbeFailure::Process { doing, source };
        // The child keeps the lock for as long as it lives, should this process be killed; no other
        // GPU's child may start meanwhile, and get it too.
        let starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let inherit = |flags| rustix::io::fcntl_setfd(lock.file(), flags).map_err(io::Error::from);
        inherit(FdFlags::empty()).map_err(process("started"))?;
        let spawned = Command::new(program)
            .args([ARGUMENT, uuid, &headroom.get().to_string(), &std::process::id().to_string()])
            .env("CUDA_VISIBLE_DEVICES", uuid)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        inherit(FdFlags::CLOEXEC).map_err(process("started"))?;
        drop(starting);
        let mut child = spawned.map_err(process("started"))?;
        let input = child.stdin.take().expect("stdin was piped above");
        let output = child.stdout.take().expect("stdout was piped above");
        let unready =
            Ready { free: Bytes::ZERO, total: Bytes::ZERO, granule: Bytes::ZERO, sm_count: 0 };
        let mut prober = CudaProber {
            child,
            input: None,
            output,
            unread: VecDeque::new(),
            interrupt,
            limits,
            begun: Instant::now(),
            heard: Instant::now(),
            call: "its start".to_owned(),
            calls: 0,
            ready: unready,
            _lock: lock,
        };
        let nonblocking = rustix::fs::fcntl_setfl(&input, OFlags::NONBLOCK)
            .and_then(|()| rustix::fs::fcntl_setfl(&prober.output, OFlags::NONBLOCK));
        prober.input = Some(input);
        nonblocking.map_err(|e| process("watched")(e.into()))?;
        let first = prober.exchange(Vec::new());
        let first = first.map_err(|failure| match failure {
            ProbeFailure::Driver(CudaError::NoContext) => {
                ProbeFailure::NoContext { calls: prober.calls }
            }
            other => other,
        });
        match first? {
            Reply::Ready { free, total, granule, sm_count } => {
                prober.ready = Ready { free, total, granule, sm_count };
                Ok(prober)
            }
            other => Err(ProbeFailure::Protocol(format!("{other:?}"))),
        }
    }

    /// Returns what the child found when it started.
    pub fn ready(&self) -> Ready {
        self.ready
    }

    /// Returns the child's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the driver calls made so far.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// Ends the probe: the child gives everything back and says so.
    ///
    /// # Errors
    ///
    /// When it could not.
    pub fn finish(mut self) -> Result<(), ProbeFailure> {
        drop(self.input.take());
        match self.exchange(Vec::new())? {
            Reply::Bye => Ok(()),
            other => Err(ProbeFailure::Protocol(format!("{other:?}"))),
        }
    }

    /// Sends a request and waits for the answer to it.
    fn exchange(&mut self, request: Vec<u8>) -> Result<Reply, ProbeFailure> {
        let mut unsent = VecDeque::from(request);
        self.heard = Instant::now();
        loop {
            while let Some(reply) = self.next_line()? {
                match reply {
                    Reply::Calling(call) => {
                        self.calls += 1;
                        self.call = call;
                    }
                    Reply::Failed(error) => return Err(error.into()),
                    // A SIGTERM to the whole process group reaches the child as well, even first.
                    Reply::Bye if self.input.is_some() => {
                        let mut failure = self.death();
                        if let ProbeFailure::Died { how, .. } = &mut failure {
                            "was stopped by a signal".clone_into(how);
                        }
                        return Err(failure);
                    }
                    answer => return Ok(answer),
                }
            }
            self.wait(!unsent.is_empty())?;
            self.send(&mut unsent)?;
            if self.receive()? == 0 {
                return Err(self.death());
            }
        }
    }

    /// Waits until the child says something or can be told something.
    fn wait(&self, sending: bool) -> Result<(), ProbeFailure> {
        if let Some(signal) = self.interrupt.caught() {
            return Err(ProbeFailure::Interrupted { signal });
        }
        let left = |limit: Duration, since: Instant| limit.checked_sub(since.elapsed());
        let Some(total) = left(self.limits.total, self.begun) else {
            let call = self.call.clone();
            return Err(ProbeFailure::Deadline { limit: self.limits.total, call });
        };
        let Some(call) = left(self.limits.call, self.heard) else {
            let (call, number) = (self.call.clone(), self.calls);
            return Err(ProbeFailure::Hung { call, number, waited: self.limits.call });
        };
        let mut fds = vec![
            PollFd::new(&self.output, PollFlags::IN),
            PollFd::new(self.interrupt, PollFlags::IN),
        ];
        if let Some(input) = self.input.as_ref().filter(|_| sending) {
            fds.push(PollFd::new(input, PollFlags::OUT));
        }
        match poll(&mut fds, Some(&timespec(total.min(call)))) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(ProbeFailure::Process { doing: "watched", source: error.into() }),
        }
    }

    fn send(&mut self, unsent: &mut VecDeque<u8>) -> Result<(), ProbeFailure> {
        let Some(input) = self.input.as_mut().filter(|_| !unsent.is_empty()) else {
            return Ok(());
        };
        match input.write(unsent.make_contiguous()) {
            Ok(written) => {
                unsent.drain(..written);
                self.heard = Instant::now();
                Ok(())
            }
            // The child is gone: reading says so, and how.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                unsent.clear();
                Ok(())
            }
            Err(error) if is_transient(&error) => Ok(()),
            Err(source) => Err(ProbeFailure::Process { doing: "written to", source }),
        }
    }

    /// Reads what there is; 0 is the end, and at least 1 is everything else.
    fn receive(&mut self) -> Result<usize, ProbeFailure> {
        let mut buffer = [0; 4096];
        match self.output.read(&mut buffer) {
            Ok(read) => {
                self.unread.extend(&buffer[..read]);
                self.heard = Instant::now();
                Ok(read)
            }
            Err(error) if is_transient(&error) => Ok(1),
            Err(source) => Err(ProbeFailure::Process { doing: "listened to", source }),
        }
    }

    fn next_line(&mut self) -> Result<Option<Reply>, ProbeFailure> {
        let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let line: Vec<u8> = self.unread.drain(..=end).collect();
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|_| ProbeFailure::Protocol(String::from_utf8_lossy(&line).trim().to_owned()))
    }

    /// Says how the child ended, which its output already has.
    fn death(&mut self) -> ProbeFailure {
        drop(self.input.take());
        let status = self.await_end(GRACE);
        if let Some(signal) = self.interrupt.caught() {
            return ProbeFailure::Interrupted { signal };
        }
        let how = status.map_or("closed its output".to_owned(), how_it_ended);
        ProbeFailure::Died { how, call: self.call.clone(), number: self.calls }
    }

    fn await_end(&mut self, patience: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        let mut pause = Duration::from_micros(200);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if begun.elapsed() < patience => std::thread::sleep(pause),
                _ => return None,
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Lets the child give back what it holds, for as long as it makes calls that come back.
    fn let_it_clean_up(&mut self) -> bool {
        drop(self.input.take());
        let begun = Instant::now();
        while begun.elapsed() < GRACE {
            let mut fds = [PollFd::new(&self.output, PollFlags::IN)];
            let ready = poll(&mut fds, Some(&timespec(GRACE.saturating_sub(begun.elapsed()))));
            match ready {
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => return false,
                // Its end of output comes with its exit.
                Ok(_) => match self.receive() {
                    Ok(0) | Err(_) => return self.await_end(GRACE).is_some(),
                    Ok(_) => self.unread.clear(),
                },
            }
        }
        false
    }
}

impl Drop for CudaProber<'_> {
    fn drop(&mut self) {
        let hung = self.heard.elapsed() >= self.limits.call;
        if !hung && self.let_it_clean_up() {
            return;
        }
        // Fails only when it is gone already.
        let _ = self.child.kill();
        self.await_end(BURIAL);
    }
}

impl Prober for CudaProber<'_> {
    type Error = ProbeFailure;

    fn free(&mut self) -> Result<Bytes, ProbeFailure> {
        match self.exchange(free_request())? {
            Reply::Free(free) => Ok(free),
            other => Err(ProbeFailure::Protocol(format!("{other:?}"))),
        }
    }

    fn attempt(&mut self, trace: &Trace, room: Room) -> Result<Attempt, ProbeFailure> {
        match self.exchange(attempt_request(trace, room))? {
            Reply::Attempted(attempt) => Ok(attempt),
            other => Err(ProbeFailure::Protocol(format!("{other:?}"))),
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
