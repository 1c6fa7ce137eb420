//! Whether this is Linux under Windows (WSL 2), where the driver grants more than the card has.

use std::fs;

/// Why nothing is allocated there.
///
/// Source: microsoft/WSL#11050, where allocations past the card's memory go to the host's.
pub const WHY_NOT: &str = "on WSL an allocation past the card's memory succeeds, in the host's: the \
     answer is arithmetic on what NVML says is free";

/// Whether this process runs on WSL.
///
/// Source: microsoft/WSL#423: its kernels have Microsoft's name in their version, and its sessions
/// the variable, which containers in it do not have.
pub fn is_here() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    is_wsl_kernel(&release) || std::env::var_os("WSL_DISTRO_NAME").is_some()
}

fn is_wsl_kernel(release: &str) -> bool {
    release.to_ascii_lowercase().contains("microsoft")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_of_wsl_say_so() {
        assert!(is_wsl_kernel("5.15.90.1-microsoft-standard-WSL2\n"));
        assert!(is_wsl_kernel("4.4.0-19041-Microsoft\n"));
        assert!(!is_wsl_kernel("6.8.0-45-generic\n"));
    }
}
