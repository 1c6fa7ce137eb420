//! What a run came to, as plain data: what `report` renders, programs read and trials keep.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::Bytes;

/// How the command itself ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// With an exit code.
    Exit(i32),
    /// By a signal.
    Signal(i32),
}

impl Ending {
    /// Returns the exit code as a shell gives it: 128 and the signal's number for a signal.
    pub const fn code(self) -> i32 {
        match self {
            Ending::Exit(code) => code,
            Ending::Signal(signal) => 128 + signal,
        }
    }
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The command ended with 0, or printed what was waited for.
    Ran,
    /// The GPU's memory ran out.
    OutOfMemory,
    /// Anything else went wrong.
    Failed,
    /// Time was up, and nothing was decided.
    TimedOut,
}

impl Verdict {
    /// Returns the name used in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Ran => "ran",
            Verdict::OutOfMemory => "out_of_memory",
            Verdict::Failed => "failed",
            Verdict::TimedOut => "timed_out",
        }
    }
}

/// How a peak is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeakSource {
    /// Every allocation was written down.
    #[default]
    Allocations,
    /// What the driver says of the command's processes, looked at many times a second.
    Processes,
    /// What the GPU had in use beyond what it had before, where the driver does not tell processes
    /// apart.
    Device,
    /// Not at all.
    Unknown,
}

impl PeakSource {
    /// Returns the name used in JSON.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            PeakSource::Allocations => Some("allocations"),
            PeakSource::Processes => Some("processes"),
            PeakSource::Device => Some("device"),
            PeakSource::Unknown => None,
        }
    }
}

/// A GPU and the most that was in use on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuPeak {
    /// Its number.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// UUID.
    pub uuid: String,
    /// Whether oomph made it up.
    pub simulated: bool,
    /// All of its memory.
    pub total_bytes: Bytes,
    /// What the command could take.
    pub free_bytes: Bytes,
    /// What all of the command's processes held at once, at most; zero where nothing is known.
    pub peak_bytes: Bytes,
    /// How that is known.
    #[serde(default)]
    pub source: PeakSource,
}

impl GpuPeak {
    /// Returns the peak, where it is known.
    pub fn peak(&self) -> Option<Bytes> {
        (self.source != PeakSource::Unknown).then_some(self.peak_bytes)
    }
}

/// Requests for memory of one GPU that were refused to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// How many. A program that gives cached memory back and asks again was refused too.
    pub times: u64,
    /// What the last of them asked for, in the device's granules.
    pub wanted_bytes: Bytes,
    /// What the process could have got then.
    pub left_bytes: Bytes,
}

/// A process and the most that it held on one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessPeak {
    /// Process id.
    pub pid: u32,
    /// Rank, where it is one of several.
    pub rank: Option<u64>,
    /// The GPU's number.
    pub gpu: u32,
    /// Context and allocations together, as the device counts them.
    pub peak_device_bytes: Bytes,
    /// PyTorch's `max_memory_allocated`, where it is a PyTorch program that could tell.
    pub peak_allocated_bytes: Option<Bytes>,
    /// PyTorch's `max_memory_reserved`.
    pub peak_reserved_bytes: Option<Bytes>,
    /// How often PyTorch gave cached memory back and asked again.
    pub allocation_retries: Option<u64>,
    /// What the device refused it.
    pub refused: Option<Refused>,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How the command ended; `None` when that was not seen.
    pub ending: Option<Ending>,
    /// What it came to.
    pub verdict: Verdict,
    /// Why that is so, in words.
    pub reason: String,
    /// How long it took.
    pub seconds: f64,
    /// Every GPU.
    pub gpus: Vec<GpuPeak>,
    /// Every process that held memory of a GPU, a row a GPU.
    pub processes: Vec<ProcessPeak>,
    /// Versions of what the program has imported, and of the CUDA runtime that it met.
    pub versions: BTreeMap<String, String>,
    /// What could not be trusted, and what to keep in mind.
    pub warnings: Vec<String>,
    /// Whether the GPU's memory ran out on the way and the command went on: what it did then may be
    /// less than was asked for.
    #[serde(default)]
    pub met_out_of_memory: bool,
    /// Whether other programs took memory of a GPU meanwhile.
    #[serde(default)]
    pub contended: bool,
    /// The last lines that the command printed.
    pub tail: Vec<String>,
}

impl Outcome {
    /// Returns the GPU that came nearest to its end.
    pub fn tightest(&self) -> Option<&GpuPeak> {
        let left =
            |gpu: &&GpuPeak| i128::from(gpu.free_bytes.get()) - i128::from(gpu.peak_bytes.get());
        self.gpus.iter().min_by_key(left)
    }

    /// Returns whether no GPU had more in use than the command could take; what is not known counts
    /// as such.
    pub fn within_free(&self) -> bool {
        self.gpus.iter().all(|gpu| gpu.peak().is_none_or(|peak| peak <= gpu.free_bytes))
    }

    /// Returns whether the command ran as it was told to: to its end, out of memory nowhere on the
    /// way, and within what it could take.
    pub fn fits(&self) -> bool {
        self.verdict == Verdict::Ran && !self.met_out_of_memory && self.within_free()
    }

    /// Whether it is known that no GPU was used.
    pub fn left_gpus_alone(&self) -> bool {
        !self.gpus.is_empty() && self.idle_gpus().count() == self.gpus.len()
    }

    /// Returns the GPUs of which it is known that they were not used.
    pub fn idle_gpus(&self) -> impl Iterator<Item = &GpuPeak> {
        self.gpus.iter().filter(|gpu| gpu.peak() == Some(Bytes::ZERO))
    }

    /// Says why no GPU was used, as far as the versions that were met tell.
    pub fn unused_because(&self) -> String {
        match (self.versions.get("torch"), self.versions.get("cuda")) {
            (Some(torch), None) => format!(
                "PyTorch {torch} is built without CUDA: install a CUDA build of it \
                 (pytorch.org/get-started), which needs no GPU here"
            ),
            (Some(torch), Some(_)) => format!(
                "PyTorch {torch} could have, and was not asked to: does the command move its model \
                 to `cuda`, and leave CUDA_VISIBLE_DEVICES as it is?"
            ),
            (None, _) => "no process of it called CUDA: is it the training command, run by the \
                          Python that has PyTorch's CUDA build?"
                .to_owned(),
        }
    }

    /// Returns PyTorch's peak of allocated bytes, of the process that had most.
    pub fn most_allocated(&self) -> Option<Bytes> {
        self.processes.iter().filter_map(|process| process.peak_allocated_bytes).max()
    }

    /// Returns the peak of the GPU that came nearest to its end, as it would be on one that has
    /// `capacity` for the command; `None` unless the peaks of all are known.
    pub fn peak_within(&self, capacity: Bytes) -> Option<Bytes> {
        let peaks = self.gpus.iter().map(|gpu| {
            let more = capacity.saturating_sub(gpu.free_bytes);
            let less = gpu.free_bytes.saturating_sub(capacity);
            Some((gpu.peak()? + more).saturating_sub(less))
        });
        peaks.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// Returns whether PyTorch had to give cached memory back to go on.
    pub fn was_tight(&self) -> bool {
        self.processes.iter().any(|process| process.allocation_retries.is_some_and(|n| n > 0))
    }
}
