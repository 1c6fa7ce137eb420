//! What a device must be able to do ([`Inventory`], [`Prober`]), and the search that drives one.

pub mod answer;
pub mod free;
pub mod meter;
pub mod run;
pub mod search;
pub mod target;

use serde::{Deserialize, Serialize};

use crate::memory::trace::Trace;
use crate::units::Bytes;

/// A GPU's memory as NVML's v2 call reports it: total = reserved + used + free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// All of it.
    pub total: Bytes,
    /// Kept by the driver; `None` where the driver is too old to tell.
    pub reserved: Option<Bytes>,
    /// Held by processes (and, on old drivers, the reserved bytes).
    pub used: Bytes,
    /// Left.
    pub free: Bytes,
}

/// A process that holds memory on a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuProcess {
    /// Process id, in the driver's namespace.
    pub pid: u32,
    /// The program's name, where it can be read.
    pub name: Option<String>,
    /// Bytes it holds, where the driver says.
    pub used: Option<Bytes>,
}

/// How a GPU lets processes share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComputeMode {
    /// Any number of processes.
    Default,
    /// One process at a time.
    ExclusiveProcess,
    /// None.
    Prohibited,
}

/// One MIG instance of a partitioned GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigInstance {
    /// MIG device index on its parent.
    pub index: u32,
    /// `MIG-...`, or empty where it could not be read.
    pub uuid: String,
    /// Its own memory, or why it could not be read.
    pub memory: Result<DeviceMemory, String>,
}

/// What is known of one GPU that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// The product name.
    pub name: String,
    /// `GPU-...`
    pub uuid: String,
    /// Whether oomph made it up (`--gpu sim:...`).
    pub simulated: bool,
    /// Its memory, or why it could not be read (unified memory, no permission).
    pub memory: Result<DeviceMemory, String>,
    /// Compute capability, where it could be read.
    pub compute_capability: Option<(u32, u32)>,
    /// Streaming multiprocessors, from CUDA or from the GPU's profile.
    pub sm_count: Option<u32>,
    /// Compute mode, where it could be read.
    pub compute_mode: Option<ComputeMode>,
    /// Whether MIG is on; `None` where the GPU has no MIG.
    pub mig_enabled: Option<bool>,
    /// Its MIG instances.
    pub mig_instances: Vec<MigInstance>,
    /// Who holds memory on it.
    pub processes: Vec<GpuProcess>,
}

/// One row of an inventory: a GPU, or why it did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuRow {
    /// NVML's index, as nvidia-smi shows it.
    pub index: u32,
    /// The GPU, or the reason.
    pub gpu: Result<Gpu, String>,
}

/// What the driver says of all GPUs, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpuList {
    /// The driver's version, where there is a driver.
    pub driver_version: Option<String>,
    /// The newest CUDA version that the driver supports, (12, 8).
    pub cuda_version: Option<(u32, u32)>,
    /// Every GPU, by index.
    pub rows: Vec<GpuRow>,
}

/// Says what GPUs there are and what is free.
pub trait Inventory {
    /// What can go wrong for all GPUs at once (no driver, say).
    type Error;

    /// Asks every GPU.
    fn list(&self) -> Result<GpuList, Self::Error>;
}

/// What one replay of a step's allocations on a device came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Whether every allocation was granted.
    pub fits: bool,
    /// The most that segments took at once.
    pub peak_reserved: Bytes,
    /// Device memory that was free before the first segment.
    pub free_before: Bytes,
    /// Device memory that was free when segments took the most.
    pub free_at_peak: Bytes,
    /// On what it would have gone the same way.
    pub same_on: Capacities,
}

/// Which capacities (what the caching allocator may take) would have granted and refused the same:
/// none where others moved within a replay, so that no single one explains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacities {
    /// The most that was granted at once: no less will do.
    pub from: Bytes,
    /// The least that was refused, if anything was: less than that.
    pub below: Option<Bytes>,
}

impl Capacities {
    /// Whether this capacity is one of them.
    pub fn contains(self, capacity: Bytes) -> bool {
        self.from <= capacity && self.below.is_none_or(|below| capacity < below)
    }
}

/// How much of what is free a replay may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Bytes to leave free at all times.
    pub kept_free: Bytes,
    /// What may be taken at most, however much is free.
    pub cap: Option<Bytes>,
}

impl Room {
    /// Returns what may be taken where so much is free.
    pub fn of(self, free: Bytes) -> Bytes {
        let left = free.saturating_sub(self.kept_free);
        self.cap.map_or(left, |cap| cap.min(left))
    }
}

/// Makes a step's allocations on one device and gives all of them back.
pub trait Prober {
    /// What can go wrong, other than running out of memory.
    type Error;

    /// Returns what the caching allocator could take now: free memory once the context is there.
    fn free(&mut self) -> Result<Bytes, Self::Error>;

    /// Replays the trace by the caching allocator's rules, taking no more at any time than there is
    /// room for.
    fn attempt(&mut self, trace: &Trace, room: Room) -> Result<Attempt, Self::Error>;
}
