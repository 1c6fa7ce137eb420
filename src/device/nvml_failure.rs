//! Why NVML could say nothing about any GPU: no driver, one that does not start, one that hangs.

use std::time::Duration;

use nvml_wrapper::error::NvmlError;

use super::nvml_codes::describe;

/// Why NVML could say nothing at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NvmlFailure {
    /// There is no library to ask.
    #[error("no NVIDIA driver on this machine")]
    NoLibrary {
        /// What the loader said.
        loader: String,
    },
    /// The library is there, the kernel driver is not.
    #[error("the NVIDIA kernel driver is not loaded")]
    DriverNotLoaded,
    /// Library and kernel driver are of different versions.
    #[error("the NVIDIA driver and its library are of different versions")]
    VersionMismatch,
    /// A call has not come back.
    #[error("NVML did not answer within {waited:?}")]
    Silent {
        /// How long it was given.
        waited: Duration,
    },
    /// NVML started badly, or broke at a call that concerns every GPU.
    #[error("{call} failed")]
    Failed {
        /// The call.
        call: &'static str,
        /// What it answered.
        answer: String,
    },
}

impl NvmlFailure {
    /// Returns what lies behind it.
    pub fn cause(&self) -> String {
        match self {
            NvmlFailure::NoLibrary { loader } => loader.clone(),
            NvmlFailure::DriverNotLoaded => {
                "NVML 9 (DRIVER_NOT_LOADED): the library is installed, but no kernel module answers"
                    .to_owned()
            }
            NvmlFailure::VersionMismatch => {
                "NVML 18 (LIB_RM_VERSION_MISMATCH): the driver was updated while it was in use"
                    .to_owned()
            }
            NvmlFailure::Silent { .. } => {
                "the driver hangs, as it does after a GPU has crashed".to_owned()
            }
            NvmlFailure::Failed { answer, .. } => answer.clone(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        const SIMULATED: &str = "or plan for a GPU that is not here: --gpu sim:h100-80gb";
        match self {
            NvmlFailure::NoLibrary { .. } => {
                format!(
                    "install the NVIDIA driver (in a container: start it with `--gpus all`), {SIMULATED}"
                )
            }
            NvmlFailure::DriverNotLoaded => {
                format!(
                    "`modprobe nvidia` (in a container: start it with `--gpus all`), {SIMULATED}"
                )
            }
            NvmlFailure::VersionMismatch => {
                format!("reboot, or reload the nvidia kernel modules, {SIMULATED}")
            }
            NvmlFailure::Silent { .. } => {
                format!("see `dmesg | grep -i xid`; a reboot helps, {SIMULATED}")
            }
            NvmlFailure::Failed { .. } => format!("see what `nvidia-smi` says, {SIMULATED}"),
        }
    }

    pub(super) fn at(call: &'static str, error: &NvmlError) -> NvmlFailure {
        match error {
            NvmlError::LibloadingError(loader) => {
                NvmlFailure::NoLibrary { loader: loader.to_string() }
            }
            NvmlError::DriverNotLoaded => NvmlFailure::DriverNotLoaded,
            NvmlError::LibRmVersionMismatch => NvmlFailure::VersionMismatch,
            other => NvmlFailure::Failed { call, answer: describe(other) },
        }
    }
}
