//! Who holds memory on a GPU: NVML's three process lists as one, with the names that /proc knows.

use std::collections::BTreeMap;
use std::fs;

use nvml_wrapper::Device;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

use crate::probe::GpuProcess;
use crate::units::Bytes;

/// How often a list is asked for again when processes start faster than it can be read.
const LIST_ATTEMPTS: u32 = 4;
/// Characters kept of a program's name.
const LONGEST_NAME: usize = 64;

/// Returns every process that holds memory on the device, each once, by pid, with its name.
pub fn holders(device: &Device<'_>) -> Vec<GpuProcess> {
    let named = |(pid, used)| GpuProcess { pid, name: name_of(pid), used };
    held(device).into_iter().map(named).collect()
}

/// Returns what each process holds on the device, where the driver says.
///
/// Compute, graphics and MPS clients; a list that this device or driver does not have is empty. A
/// process in two lists holds the larger of the two figures: NVML reports its memory whole in each.
pub(super) fn held(device: &Device<'_>) -> BTreeMap<u32, Option<Bytes>> {
    let lists = [
        list(|| device.running_compute_processes()),
        list(|| device.running_graphics_processes()),
        list(|| device.mps_running_compute_processes()),
    ];
    merge(lists.into_iter().flatten())
}

/// Asks for one list again while it outgrows the buffer that NVML's count suggested.
fn list(ask: impl Fn() -> Result<Vec<ProcessInfo>, NvmlError>) -> Vec<ProcessInfo> {
    for _ in 0..LIST_ATTEMPTS {
        match ask() {
            Ok(processes) => return processes,
            Err(NvmlError::InsufficientSize(_)) => {}
            Err(_) => return Vec::new(),
        }
    }
    Vec::new()
}

fn merge(processes: impl Iterator<Item = ProcessInfo>) -> BTreeMap<u32, Option<Bytes>> {
    let mut by_pid: BTreeMap<u32, Option<Bytes>> = BTreeMap::new();
    for process in processes {
        let used = match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(Bytes::new(bytes)),
            UsedGpuMemory::Unavailable => None,
        };
        let known = by_pid.entry(process.pid).or_default();
        *known = (*known).max(used);
    }
    by_pid
}

/// Returns the program's name, if this pid can be seen from here.
///
/// In a container NVML's pids are the host's, so a name can be missing, or even another program's;
/// nothing is decided by it.
fn name_of(pid: u32) -> Option<String> {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
    let program = String::from_utf8_lossy(program);
    let base = program.rsplit('/').next().unwrap_or_default();
    if !base.is_empty() {
        return Some(printable(base, LONGEST_NAME));
    }
    let comm = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let comm = printable(String::from_utf8_lossy(&comm).trim_end(), LONGEST_NAME);
    (!comm.is_empty()).then_some(comm)
}

/// A process chooses its own name: control characters must not reach a terminal.
pub(super) fn printable(name: &str, longest: usize) -> String {
    name.chars().filter(|c| !c.is_control()).take(longest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, used: UsedGpuMemory) -> ProcessInfo {
        ProcessInfo { pid, used_gpu_memory: used, gpu_instance_id: None, compute_instance_id: None }
    }

    #[test]
    fn a_process_in_two_lists_is_counted_once() {
        let merged = merge(
            [
                process(7, UsedGpuMemory::Used(5)),
                process(7, UsedGpuMemory::Used(9)),
                process(8, UsedGpuMemory::Unavailable),
                process(7, UsedGpuMemory::Unavailable),
            ]
            .into_iter(),
        );
        assert_eq!(merged.into_iter().collect::<Vec<_>>(), [(7, Some(Bytes::new(9))), (8, None)]);
    }

    #[test]
    fn this_process_has_a_name_and_pid_zero_has_none() {
        assert!(name_of(std::process::id()).is_some());
        assert_eq!(name_of(0), None);
    }

    #[test]
    fn control_characters_in_a_name_are_dropped() {
        assert_eq!(printable("py\u{1b}[31mthon\n", LONGEST_NAME), "py[31mthon");
    }
}
