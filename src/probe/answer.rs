//! The answer of a probe over several GPUs, as plain data: what `report` renders.

use super::run::{Found, Tried};
use crate::plan::result::Versions;
use crate::step::setup::Setup;
use crate::units::{Bytes, MicroBatch};

/// What `oomph probe` has found out.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeAnswer {
    /// The model, as the user named it.
    pub model: String,
    /// The setup; its micro-batch is 1.
    pub setup: Setup,
    /// The micro-batch that was asked about; `None`: the largest.
    pub wanted: Option<MicroBatch>,
    /// A row for each GPU.
    pub gpus: Vec<GpuAnswer>,
    /// PyTorch and transformers.
    pub versions: Versions,
    /// What was assumed, each a line.
    pub assumptions: Vec<String>,
    /// What to keep in mind, each a line.
    pub notes: Vec<String>,
    /// What to try where it does not fit.
    pub hints: Vec<String>,
}

/// What was found out on one GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuAnswer {
    /// NVML's index, or the number of the simulated one.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// UUID, or the name of a simulated one.
    pub uuid: String,
    /// Whether oomph made it up: then nothing was allocated, and the answer is an estimate.
    pub simulated: bool,
    /// All of its memory.
    pub total: Bytes,
    /// Left free on purpose.
    pub headroom: Bytes,
    /// What was allowed to be allocated at most, where a limit was given.
    pub cap: Option<Bytes>,
    /// The answer, or why there is none.
    pub outcome: Result<Measured, NotMeasured>,
}

/// A search that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// What it found, with every replay.
    pub found: Found,
    /// What the context took, or was taken to take.
    pub context: Bytes,
    /// Left free in all: headroom, and what the training process needs outside its allocator beyond
    /// the context.
    pub kept_free: Bytes,
    /// What the driver takes for a segment of 2 MiB.
    pub granule: Bytes,
    /// Driver calls made.
    pub driver_calls: u64,
    /// What went wrong once the answer was there.
    pub warning: Option<String>,
    /// Why nothing was allocated, if so: then the answer is an estimate.
    pub untouched: Option<String>,
}

/// Why a GPU has no answer, and what was known by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotMeasured {
    /// What happened.
    pub fact: String,
    /// What to do.
    pub hint: Option<String>,
    /// Replays that came to an end before.
    pub tried: Vec<Tried>,
}

impl ProbeAnswer {
    /// Returns the largest micro-batch that fits on every GPU, 0 for none; `None` where one of them
    /// has no answer.
    pub fn largest(&self) -> Option<u64> {
        let answers: Option<Vec<u64>> = self.gpus.iter().map(GpuAnswer::largest).collect();
        answers?.into_iter().min()
    }

    /// Whether what was asked for fits on every GPU: the micro-batch, or any at all.
    pub fn fits(&self) -> Option<bool> {
        let wanted = self.wanted.unwrap_or(MicroBatch::ONE);
        self.largest().map(|largest| largest >= wanted.get())
    }

    /// Returns how the answer is known: by allocations only if that is so on every GPU.
    pub fn method(&self) -> &'static str {
        if self.gpus.iter().all(GpuAnswer::is_probed) { "probed" } else { "estimated" }
    }
}

impl GpuAnswer {
    /// Whether the answer rests on allocations, or would have if there were one.
    pub fn is_probed(&self) -> bool {
        let estimated =
            |measured: &Measured| measured.untouched.is_some() || !measured.found.is_confirmed();
        !self.simulated && !self.outcome.as_ref().is_ok_and(estimated)
    }

    /// Returns how the answer is known.
    pub fn method(&self) -> &'static str {
        if self.is_probed() { "probed" } else { "estimated" }
    }

    /// Returns the largest micro-batch, 0 for none; `None` where there is no answer.
    pub fn largest(&self) -> Option<u64> {
        let measured = self.outcome.as_ref().ok()?;
        Some(measured.found.largest.map_or(0, MicroBatch::get))
    }
}
