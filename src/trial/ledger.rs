//! What the simulated machine itself has noted: peaks, and what could not be trusted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::trial::outcome::{ProcessPeak, Refused};
use crate::trial::reports::{Device, Report};
use crate::units::Bytes;

pub(super) use machine::lifeline_path;
use machine::notes::{self, Kind, Note};

#[path = "../../virtual-gpu/src/machine/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the library itself uses more of it")]
mod machine;

/// The peaks of a run.
#[derive(Debug, Default)]
pub struct Peaks {
    /// The most in use of each GPU, by index, what is held for nobody included.
    pub gpus: Vec<Bytes>,
    /// The most that each process held.
    pub processes: Vec<ProcessPeak>,
    /// Rows that there was no room for.
    pub unrecorded: u64,
}

/// Reads the peaks of the scenario at `path`, with what the processes report of themselves.
///
/// # Errors
/// In words, when the state cannot be read.
pub fn peaks(path: &Path, reports: &[Report]) -> Result<Peaks, String> {
    let machine = machine::Machine::open(path)?;
    let peaks = machine.lock().map_err(|error| error.to_string())?.peaks();
    let processes = peaks.processes.iter();
    let processes = processes.filter(|process| process.peak_bytes > 0 || process.refused.is_some());
    Ok(Peaks {
        gpus: peaks.places.iter().map(|place| Bytes::new(place.peak_bytes)).collect(),
        processes: processes
            .map(|process| {
                let pid = process.process.pid;
                let report = reports.iter().find(|report| report.pid == pid);
                let device = report.and_then(|report| of_gpu(report, process.place));
                ProcessPeak {
                    pid,
                    rank: report.and_then(|report| report.rank),
                    gpu: u32::try_from(process.place).unwrap_or(u32::MAX),
                    peak_device_bytes: Bytes::new(process.peak_bytes),
                    peak_allocated_bytes: device.map(|device| Bytes::new(device.allocated)),
                    peak_reserved_bytes: device.map(|device| Bytes::new(device.reserved)),
                    allocation_retries: device.map(|device| device.retries),
                    refused: process.refused.map(|refused| Refused {
                        times: refused.times,
                        wanted_bytes: Bytes::new(refused.wanted_bytes),
                        left_bytes: Bytes::new(refused.left_bytes),
                    }),
                }
            })
            .collect(),
        unrecorded: peaks.unrecorded,
    })
}

/// Finds a GPU among the devices of a process, which may number them in its own way.
fn of_gpu(report: &Report, place: usize) -> Option<&Device> {
    let uuid = format!("GPU-{:08x}", place + 1);
    report.devices.iter().flatten().find(|device| match &device.gpu {
        serde_json::Value::Number(number) => number.as_u64() == Some(place as u64),
        serde_json::Value::String(text) => {
            text.len() > "GPU-".len()
                && (text.starts_with(&uuid) || uuid.starts_with(text.as_str()))
        }
        _ => false,
    })
}

/// What was noted, in words.
#[derive(Debug, Default)]
pub struct Noted {
    /// Versions of the CUDA libraries that were met.
    pub versions: BTreeMap<String, String>,
    /// What could not be trusted, each a line.
    pub warnings: Vec<String>,
}

/// Reads the notes of the scenario at `path`; without any, all was as it should be.
pub fn notes(path: &Path) -> Noted {
    let text = std::fs::read(notes::notes_path(path)).unwrap_or_default();
    in_words(&notes::parse(&String::from_utf8_lossy(&text)))
}

fn in_words(notes: &[Note]) -> Noted {
    let details = |kind: Kind| -> BTreeSet<&str> {
        let of_kind = notes.iter().filter(|note| note.kind == kind);
        of_kind.map(|note| note.detail.as_str()).collect()
    };
    let joined = |kind| details(kind).into_iter().collect::<Vec<_>>().join(", ");
    let mut noted = Noted::default();
    for (what, version) in details(Kind::Version).iter().filter_map(|text| text.split_once(' ')) {
        noted.versions.insert(what.to_owned(), runtime_version(version));
    }
    let mut warn = |warning: String| noted.warnings.push(warning);
    for detail in details(Kind::NoKernelImage) {
        warn(format!(
            "the program has no kernels for this GPU: {}",
            detail.replacen(" has ", ", it has ", 1)
        ));
    }
    if !details(Kind::Unanswered).is_empty() {
        warn(format!(
            "calls that the simulated GPU does not answer as a real one would: {}",
            joined(Kind::Unanswered)
        ));
    }
    let values = most_of_each(notes, Kind::Value);
    if values > 0 {
        let times = if values == 1 { "once" } else { &format!("{values} times") };
        warn(format!(
            "the program asked {times} for a single value that a kernel would have computed \
             (`.item()`, `if tensor:`) and got zero, or a usual run's yes or no: where its course \
             depends on it, a real run may take another"
        ));
    }
    let bytes = Bytes::new(most_of_each(notes, Kind::Readback));
    if bytes > Bytes::ZERO {
        warn(format!(
            "the program copied {bytes} of arrays to the host that kernels would have computed, all \
             zeros: do not use what it has written (a checkpoint, predictions)"
        ));
    }
    let older = most_of_each(notes, Kind::Older);
    if older > 0 {
        let times = if older == 1 { "once" } else { &format!("{older} times") };
        warn(format!(
            "the program read {times} from the GPU what it had copied there before and work that is \
             not followed may have written since (Triton's kernels, random numbers, an optimizer's \
             step): if so, the value is an older one, and a real run reads another"
        ));
    }
    for (what, bytes) in details(Kind::Allowance).iter().filter_map(|text| text.split_once(' ')) {
        let bytes = Bytes::new(bytes.trim().parse().unwrap_or(0));
        warn(format!("{what}: {bytes} are an allowance, not measured"));
    }
    noted
}

/// Adds up the largest count that each process has noted.
fn most_of_each(notes: &[Note], kind: Kind) -> u64 {
    let mut most: BTreeMap<u32, u64> = BTreeMap::new();
    for note in notes.iter().filter(|note| note.kind == kind) {
        let count = note.detail.trim().parse().unwrap_or(0);
        let known = most.entry(note.pid).or_default();
        *known = count.max(*known);
    }
    most.values().sum()
}

/// Turns CUDA's number of a version into words: 13020 is 13.2; other text stays.
fn runtime_version(text: &str) -> String {
    match text.parse::<u32>() {
        Ok(number) if number >= 1000 => format!("{}.{}", number / 1000, number % 1000 / 10),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_become_words_and_the_largest_readback_of_a_process_counts() {
        let noted = in_words(&notes::parse(
            "7 version cudart 13020\n7 value 3\n7 value 10\n8 value 2\n7 readback 1000\n7 readback 2000\n8 readback 48\n7 unanswered \
             cudaFoo\n8 unanswered cudaFoo\n7 no-kernel-image sm_70 has sm_75,sm_80\n8 allowance \
             nccl 67108864\n",
        ));
        assert_eq!(noted.versions["cudart"], "13.2");
        let all = noted.warnings.join("\n");
        for part in ["12 times", "2.0 KiB", "cudaFoo", "sm_70, it has sm_75", "nccl: 64.0 MiB"] {
            assert!(all.contains(part), "{part} in {all}");
        }
        assert_eq!(all.matches("cudaFoo").count(), 1);
    }

    #[test]
    fn a_device_is_found_by_number_and_by_uuid() {
        let device = |gpu| Device { gpu, ..Device::default() };
        let report = Report {
            devices: Some(vec![
                device(serde_json::json!(2)),
                device(serde_json::json!("GPU-00000002-0000")),
            ]),
            ..Report::default()
        };
        assert!(of_gpu(&report, 2).is_some() && of_gpu(&report, 1).is_some());
        assert!(of_gpu(&report, 0).is_none());
    }
}
