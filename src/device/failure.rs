//! How long a probe may take, and why it has no answer.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use super::cuda::CudaError;
use super::lock::LockError;

/// How long a probe may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One driver call. Creating a context on a machine of eight GPUs without persistence mode
    /// takes ten seconds and more.
    pub call: Duration,
    /// All of it.
    pub total: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { call: Duration::from_secs(30), total: Duration::from_secs(300) }
    }
}

/// Why a probe has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// Another probe has the GPU.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The child could not be started, or talked to.
    #[error("the probing process could not be {doing}: {source}")]
    Process {
        /// Started, watched, written to.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The driver gave an error.
    #[error(transparent)]
    Driver(#[from] CudaError),
    /// Not even a context fits: an answer, as nothing else does.
    #[error("{}", CudaError::NoContext)]
    NoContext {
        /// Driver calls made.
        calls: u64,
    },
    /// A driver call did not come back.
    #[error("{call} did not come back within {waited:?} (driver call {number} of this probe)")]
    Hung {
        /// The call.
        call: String,
        /// Which one.
        number: u64,
        /// The limit.
        waited: Duration,
    },
    /// The whole probe took too long.
    #[error("the probe did not end within {limit:?}; its last driver call was {call}")]
    Deadline {
        /// The limit.
        limit: Duration,
        /// The call.
        call: String,
    },
    /// The child ended by itself.
    #[error("the probing process {how} in {call} (driver call {number} of this probe)")]
    Died {
        /// With which signal or code.
        how: String,
        /// The call.
        call: String,
        /// Which one.
        number: u64,
    },
    /// The child said what it should not.
    #[error("the probing process answered out of turn: {0}")]
    Protocol(String),
    /// SIGINT or SIGTERM; everything was given back.
    #[error("interrupted")]
    Interrupted {
        /// The signal.
        signal: i32,
    },
}

/// Says how a process ended, for people.
pub(super) fn how_it_ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(11), _) => "crashed (SIGSEGV)".to_owned(),
        (Some(7), _) => "crashed (SIGBUS)".to_owned(),
        (Some(6), _) => "aborted (SIGABRT)".to_owned(),
        (Some(9), _) => "was killed (SIGKILL)".to_owned(),
        (Some(signal), _) => format!("ended by signal {signal}"),
        (None, Some(code)) => format!("ended with code {code}"),
        (None, None) => "ended".to_owned(),
    }
}
