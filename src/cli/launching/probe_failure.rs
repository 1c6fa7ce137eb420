//! Why a probe has no answer, as the border says it: what happened, what to do, the exit code.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::target::code_of;
use crate::device::cuda::CudaError;
use crate::device::failure::ProbeFailure;
use crate::device::session::ProbeError;
use crate::step::StepError;

/// Returns what happened, what to do, and the exit code; an error where all else is off.
pub fn explain(error: ProbeError<StepError>) -> Result<(String, Option<String>, u8), CliError> {
    let fact = error.to_string();
    let (hint, code) = match error {
        ProbeError::Trace(error) => return Err(error.into()),
        ProbeError::Failed(ProbeFailure::Interrupted { signal }) => {
            return Err(interrupted(signal));
        }
        ProbeError::Inventory(failure) => return Err(failure.into()),
        ProbeError::Gone { .. } => (Some("see what `nvidia-smi` says".to_owned()), exit::NO_GPU),
        ProbeError::Obstacle(obstacle) => (Some(obstacle.hint()), code_of(&obstacle)),
        ProbeError::Failed(ProbeFailure::Driver(error)) => {
            let code = if error.is_absent() { exit::NO_GPU } else { exit::NOT_MEASURED };
            (Some(error.hint()), code)
        }
        ProbeError::Failed(ProbeFailure::NoContext { .. }) => {
            (Some(CudaError::NoContext.hint()), exit::DOES_NOT_FIT)
        }
        ProbeError::Failed(ProbeFailure::Lock(error)) => {
            (Some(error.hint().to_owned()), exit::NOT_MEASURED)
        }
        ProbeError::Failed(ProbeFailure::Hung { .. } | ProbeFailure::Deadline { .. }) => (
            Some("a driver that hangs: see `dmesg | grep -i xid`; --timeout and --call-timeout wait longer".to_owned()),
            exit::NOT_MEASURED,
        ),
        ProbeError::Failed(ProbeFailure::Died { .. }) => {
            (Some("see `dmesg | grep -i xid`, or plan with --probe never".to_owned()), exit::NOT_MEASURED)
        }
        ProbeError::Failed(ProbeFailure::Process { .. } | ProbeFailure::Protocol(_)) => {
            (None, exit::BROKEN)
        }
    };
    Ok((fact, hint, code))
}

/// Says that a signal ended it.
pub fn interrupted(signal: i32) -> CliError {
    let code = match signal {
        signal_hook::consts::SIGTERM => exit::TERMINATED,
        _ => exit::INTERRUPTED,
    };
    CliError::new(code, "interrupted; everything was given back")
}

/// Returns the code that comes first where two apply (see [`exit`]).
pub fn first_of(one: u8, other: u8) -> u8 {
    const ORDER: [u8; 4] = [exit::NO_GPU, exit::BROKEN, exit::NOT_MEASURED, exit::DOES_NOT_FIT];
    ORDER.into_iter().find(|code| [one, other].contains(code)).unwrap_or(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_driver_comes_before_an_error_and_that_before_a_misfit() {
        assert_eq!(first_of(exit::OK, exit::DOES_NOT_FIT), exit::DOES_NOT_FIT);
        assert_eq!(first_of(exit::NOT_MEASURED, exit::DOES_NOT_FIT), exit::NOT_MEASURED);
        assert_eq!(first_of(exit::NOT_MEASURED, exit::NO_GPU), exit::NO_GPU);
    }
}
