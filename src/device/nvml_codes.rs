//! Names and cures for what NVML answers, for codes that the wrapper knows and those it does not.

use std::fmt;

use nvml_wrapper::error::NvmlError;

/// Returns NVML's name and number for an error, and what it means, in one line.
///
/// A code that nobody here knows is named by its number alone.
///
/// Source: the return codes of nvml.h (12.x), nvml-wrapper-sys 0.10.0.
pub fn describe(error: &NvmlError) -> String {
    match error {
        NvmlError::UnexpectedVariant(code) => match late_name(*code) {
            Some(name) => format!("NVML {code} ({name})"),
            None => format!("NVML code {code}, which has no name here"),
        },
        known => match number(known) {
            Some((code, name)) => format!("NVML {code} ({name}): {known}"),
            None => known.to_string(),
        },
    }
}

/// A call about one GPU that failed.
#[derive(Debug)]
pub struct Failed {
    /// The call.
    pub call: &'static str,
    /// What it answered.
    pub error: NvmlError,
}

impl Failed {
    /// Says which call an error is of.
    pub fn at(call: &'static str) -> impl Fn(NvmlError) -> Failed {
        move |error| Failed { call, error }
    }
}

/// The call, its answer, and what to do.
impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed { call, error } = self;
        write!(f, "{call} failed: {}; {}", describe(error), cure(error))
    }
}

/// Returns what to do about an error that concerns one GPU.
fn cure(error: &NvmlError) -> &'static str {
    match error {
        NvmlError::GpuLost => {
            "it fell off the bus: see `dmesg | grep -i xid`, then reset or reboot"
        }
        NvmlError::ResetRequired => "`nvidia-smi --gpu-reset` once nobody uses it",
        NvmlError::NoPermission => {
            "this user or container may not ask this GPU: check /dev/nvidia*, cgroups and `--gpus`"
        }
        NvmlError::OperatingSystem => "the operating system or a cgroup blocks its device node",
        NvmlError::InsufficientPower => "its power cables are not attached",
        NvmlError::LibRmVersionMismatch => "reboot, or reload the nvidia kernel modules",
        NvmlError::IrqIssue => "the kernel sees interrupt trouble with it: see `dmesg`",
        _ => "see what `nvidia-smi` says",
    }
}

/// Whether an error means that the GPU itself is gone, not just that one question has no answer.
pub fn is_fatal(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::GpuLost
            | NvmlError::ResetRequired
            | NvmlError::OperatingSystem
            | NvmlError::IrqIssue
            | NvmlError::InsufficientPower
            | NvmlError::Uninitialized
    )
}

/// Return codes that nvml.h names and nvml-wrapper 0.13 does not.
fn late_name(code: u32) -> Option<&'static str> {
    Some(match code {
        23 => "INSUFFICIENT_RESOURCES",
        24 => "FREQ_NOT_SUPPORTED",
        25 => "ARGUMENT_VERSION_MISMATCH",
        26 => "DEPRECATED",
        27 => "NOT_READY",
        28 => "GPU_NOT_FOUND",
        29 => "INVALID_STATE",
        30 => "RESET_TYPE_NOT_SUPPORTED",
        _ => return None,
    })
}

fn number(error: &NvmlError) -> Option<(u32, &'static str)> {
    Some(match error {
        NvmlError::Uninitialized => (1, "UNINITIALIZED"),
        NvmlError::InvalidArg => (2, "INVALID_ARGUMENT"),
        NvmlError::NotSupported => (3, "NOT_SUPPORTED"),
        NvmlError::NoPermission => (4, "NO_PERMISSION"),
        NvmlError::NotFound => (6, "NOT_FOUND"),
        NvmlError::InsufficientSize(_) => (7, "INSUFFICIENT_SIZE"),
        NvmlError::InsufficientPower => (8, "INSUFFICIENT_POWER"),
        NvmlError::DriverNotLoaded => (9, "DRIVER_NOT_LOADED"),
        NvmlError::Timeout => (10, "TIMEOUT"),
        NvmlError::IrqIssue => (11, "IRQ_ISSUE"),
        NvmlError::LibraryNotFound => (12, "LIBRARY_NOT_FOUND"),
        NvmlError::FunctionNotFound => (13, "FUNCTION_NOT_FOUND"),
        NvmlError::CorruptedInfoROM => (14, "CORRUPTED_INFOROM"),
        NvmlError::GpuLost => (15, "GPU_IS_LOST"),
        NvmlError::ResetRequired => (16, "RESET_REQUIRED"),
        NvmlError::OperatingSystem => (17, "OPERATING_SYSTEM"),
        NvmlError::LibRmVersionMismatch => (18, "LIB_RM_VERSION_MISMATCH"),
        NvmlError::InUse => (19, "IN_USE"),
        NvmlError::InsufficientMemory => (20, "MEMORY"),
        NvmlError::NoData => (21, "NO_DATA"),
        NvmlError::VgpuEccNotSupported => (22, "VGPU_ECC_NOT_SUPPORTED"),
        NvmlError::Unknown => (999, "UNKNOWN"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown_codes_keep_their_number() {
        assert!(describe(&NvmlError::GpuLost).contains("15 (GPU_IS_LOST)"));
        assert_eq!(
            describe(&NvmlError::UnexpectedVariant(25)),
            "NVML 25 (ARGUMENT_VERSION_MISMATCH)"
        );
        assert_eq!(
            describe(&NvmlError::UnexpectedVariant(4711)),
            "NVML code 4711, which has no name here"
        );
    }
}
