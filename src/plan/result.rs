//! The answers, as plain data: what `report` renders and programs read.

use crate::memory::footprint::Footprint;
use crate::model::config::Task;
use crate::model::tuning::Tuning;
use crate::plan::capacity::{Capacity, OutsideAllocator};
use crate::plan::schedule::Scheduled;
use crate::plan::solver::Solution;
use crate::plan::sync::Sync;
use crate::plan::unequal::Unequal;
use crate::plan::world::World;
use crate::step::setup::{Setup, Version};
use crate::units::{Bytes, DataParallelSize, EffectiveBatch};

/// How an answer is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Worked out from the trace.
    Estimated,
    /// The trace's segments were allocated on the device.
    Probed,
    /// The training command itself ran.
    Tried,
}

impl Method {
    /// Returns the word that every output uses.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Estimated => "estimated",
            Method::Probed => "probed",
            Method::Tried => "tried",
        }
    }
}

/// The versions that an answer assumes, and where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// PyTorch.
    pub torch: Version,
    /// transformers.
    pub transformers: Version,
    /// Where they come from, in words (`installed in /venv`, `--torch`, `newest known`).
    pub source: String,
}

/// The memory of one step of one setup on one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// The model, as the user named it.
    pub model: String,
    /// The setup that the footprint belongs to.
    pub setup: Setup,
    /// What it is trained for.
    pub task: Task,
    /// Pixels of an image's side, of a model of images.
    pub image_size: Option<u64>,
    /// What of the model is trained.
    pub tuning: Tuning,
    /// What it needs inside the caching allocator.
    pub footprint: Footprint,
    /// What the device spends beside it.
    pub outside: OutsideAllocator,
    /// The capacity it was judged against, if any.
    pub capacity: Option<Capacity>,
    /// The largest micro-batch under the capacity, where it was searched for.
    pub largest_micro_batch: Option<u64>,
    /// PyTorch and transformers.
    pub versions: Versions,
    /// What was assumed, each a line.
    pub assumptions: Vec<String>,
    /// What to keep in mind, each a line.
    pub notes: Vec<String>,
    /// What to try when it does not fit, each a line.
    pub hints: Vec<String>,
}

impl Estimate {
    /// Returns whether the step runs under the capacity; `None` without one.
    ///
    /// Below the smallest safe capacity a step may still run by luck (not monotonic); that is not
    /// called a fit.
    pub fn fits(&self) -> Option<bool> {
        self.capacity.map(|capacity| self.need() <= capacity.bytes)
    }

    /// Returns the least that the caching allocator can do with; where that was not worked out, as
    /// there is room for more, what it takes.
    pub fn need(&self) -> Bytes {
        self.footprint.min_capacity.unwrap_or(self.footprint.peak_reserved)
    }

    /// Returns what the caching allocator takes under the capacity: `peak_reserved` where there is
    /// room for it, else what it needs.
    pub fn taken(&self) -> Bytes {
        let reserved = self.footprint.peak_reserved;
        match self.capacity {
            Some(capacity) if reserved <= capacity.bytes => reserved,
            _ => self.need(),
        }
    }
}

/// A GPU that a plan is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanGpu {
    /// NVML's index, or the number of the simulated one.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// UUID.
    pub uuid: String,
    /// Whether oomph made it up.
    pub simulated: bool,
    /// All of its memory.
    pub total: Bytes,
    /// What is free.
    pub free: Bytes,
    /// What the caching allocator may take of it.
    pub capacity: Capacity,
}

/// What unequal GPUs could do by themselves: information, since no framework lets them differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnequalGpus {
    /// The largest micro-batch of each GPU at the plan's accumulation, as estimated, by index.
    pub largest: Vec<(u32, u64)>,
    /// A plan with a micro-batch of its own for each GPU, in the same order, where that saves
    /// micro-steps.
    pub plan: Option<Unequal>,
}

/// What was asked for, in samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goal {
    /// The effective batch to reach.
    pub effective_batch: EffectiveBatch,
    /// Tokens asked for (`--effective-tokens`), where that is how it was said.
    pub tokens: Option<u64>,
}

/// How to train: the answer of `oomph plan`.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The GPUs, the one that bounds the plan first.
    pub gpus: Vec<PlanGpu>,
    /// Devices, and who says so.
    pub world: World,
    /// Replicas.
    pub data_parallel: DataParallelSize,
    /// What was asked for; `None`: the largest micro-batch.
    pub goal: Option<Goal>,
    /// The plan and its alternatives; `None` when nothing fits, and the estimate says why.
    pub solution: Option<Solution>,
    /// The schedule whose worst stage the plan is for, if there is one.
    pub schedule: Option<Scheduled>,
    /// What unequal GPUs could do, were they allowed to differ.
    pub unequal: Option<UnequalGpus>,
    /// When gradients are summed, and what each policy sends and keeps.
    pub sync: Sync,
    /// How it is known.
    pub method: Method,
    /// The estimate at the plan's sizes (or, when nothing fits, at the smallest).
    pub estimate: Estimate,
}
