//! What is to be probed, and why it had better not be.

use std::fmt;

use super::{ComputeMode, DeviceMemory, Gpu, GpuList, GpuProcess, MigInstance};
use crate::units::Bytes;

/// A GPU, or one MIG instance of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// NVML's index of the GPU.
    pub index: u32,
    /// The GPU.
    pub gpu: Gpu,
    /// The instance, if the GPU is partitioned and one was chosen.
    pub instance: Option<MigInstance>,
}

/// Whether a probe may take memory beside other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Only a GPU that nobody else uses.
    Refused,
    /// The user said that others can bear it.
    Allowed,
}

/// Why a GPU is not probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// Nobody knows what it has.
    MemoryUnknown(String),
    /// It is partitioned: its own figures are sums that no process can have.
    MigParent {
        /// The instances that could be probed.
        instances: Vec<String>,
    },
    /// Its compute mode lets nobody in.
    Prohibited,
    /// One process at a time, and there is one: a probe in between would lock a job out.
    ExclusiveInUse(Holders),
    /// Others use it: they could run out of memory while the probe holds what was free.
    InUse(Holders),
}

/// Who uses a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holders {
    /// NVML's used bytes.
    pub used: Bytes,
    /// Processes, where they are visible.
    pub processes: Vec<GpuProcess>,
}

impl Target {
    /// Returns the GPU of that UUID, or the MIG instance.
    pub fn find(list: &GpuList, uuid: &str) -> Option<Target> {
        list.rows.iter().find_map(|row| {
            let gpu = row.gpu.as_ref().ok()?;
            let instance = gpu.mig_instances.iter().find(|instance| instance.uuid == uuid);
            let wanted = gpu.uuid == uuid || instance.is_some();
            wanted.then(|| Target {
                index: row.index,
                gpu: gpu.clone(),
                instance: instance.cloned(),
            })
        })
    }

    /// Returns the UUID that CUDA_VISIBLE_DEVICES takes.
    pub fn uuid(&self) -> &str {
        self.instance.as_ref().map_or(&self.gpu.uuid, |instance| &instance.uuid)
    }

    /// Returns its memory, or why that is not known.
    pub fn memory(&self) -> Result<DeviceMemory, &str> {
        let memory = self.instance.as_ref().map_or(&self.gpu.memory, |instance| &instance.memory);
        memory.as_ref().copied().map_err(String::as_str)
    }

    /// Says why this had better not be probed; `None`: nothing speaks against it.
    pub fn obstacle(&self, sharing: Sharing) -> Option<Obstacle> {
        if self.gpu.mig_enabled == Some(true) && self.instance.is_none() {
            let instances = self.gpu.mig_instances.iter().map(|mig| mig.uuid.clone()).collect();
            return Some(Obstacle::MigParent { instances });
        }
        let memory = match self.memory() {
            Ok(memory) => memory,
            Err(reason) => return Some(Obstacle::MemoryUnknown(reason.to_owned())),
        };
        // An instance's processes are on its parent's list, all instances' together.
        let processes = match self.instance {
            Some(_) => Vec::new(),
            None => self.gpu.processes.clone(),
        };
        let unused = is_unused(&memory, &processes);
        let holders = Holders { used: memory.used, processes };
        match self.gpu.compute_mode {
            Some(ComputeMode::Prohibited) => Some(Obstacle::Prohibited),
            Some(ComputeMode::ExclusiveProcess) if !unused || !holders.processes.is_empty() => {
                Some(Obstacle::ExclusiveInUse(holders))
            }
            _ if !unused && sharing == Sharing::Refused => Some(Obstacle::InUse(holders)),
            _ => None,
        }
    }
}

/// The part of a GPU's memory that an old driver can count as used on one that nobody uses, in
/// percent: the 1% that is allowed for elsewhere, and what it keeps for itself, which is 3.2% at most
/// by the built-in profiles (RTX 3060); rounded up.
const USED_BY_OLD_DRIVERS: f64 = 5.0;

/// Whether nobody uses a GPU: NVML's used bytes are under 1% of the total.
///
/// An old driver counts its own reserved bytes as used. There, nobody is on the list of processes
/// either: in a container that is empty whoever uses the GPU.
fn is_unused(memory: &DeviceMemory, processes: &[GpuProcess]) -> bool {
    match memory.reserved {
        Some(_) => memory.used < memory.total.percent(1.0),
        None => processes.is_empty() && memory.used < memory.total.percent(USED_BY_OLD_DRIVERS),
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::MemoryUnknown(reason) => write!(f, "its memory is unknown: {reason}"),
            Obstacle::MigParent { .. } => {
                f.write_str("it is partitioned by MIG, and no process can have all of it")
            }
            Obstacle::Prohibited => f.write_str("its compute mode is `prohibited`"),
            Obstacle::ExclusiveInUse(holders) => {
                write!(f, "it takes one process at a time, and {holders}")
            }
            Obstacle::InUse(holders) => write!(f, "it is in use: {holders}"),
        }
    }
}

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut processes = self.processes.iter();
        let Some(first) = processes.next() else {
            return write!(f, "{} are held by processes that are not visible here", self.used);
        };
        let name = first.name.as_deref().unwrap_or("a process");
        write!(f, "{name} (pid {})", first.pid)?;
        match processes.len() {
            0 => {}
            more => write!(f, " and {more} more")?,
        }
        let verb = if self.processes.len() == 1 { "holds" } else { "hold" };
        write!(f, " {verb} memory, {} in all", self.used)
    }
}

impl Obstacle {
    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        match self {
            Obstacle::MemoryUnknown(_) => {
                "plan on the estimate with a budget of your own: --capacity 32GiB (where the host's \
                 memory is the GPU's, less than MemAvailable of /proc/meminfo)"
                    .to_owned()
            }
            Obstacle::MigParent { instances } => match instances.first() {
                Some(first) => format!("name an instance: --gpu {first}"),
                None => "make an instance first (`nvidia-smi mig -cgi ...`)".to_owned(),
            },
            Obstacle::Prohibited => "`nvidia-smi -c 0` as root lets processes in".to_owned(),
            Obstacle::ExclusiveInUse(_) => "try again once it has ended".to_owned(),
            Obstacle::InUse(_) => {
                "wait until they have ended, or pass --shared to take what is free beside them"
                    .to_owned()
            }
        }
    }

    /// Whether waiting can remove it.
    pub fn is_passing(&self) -> bool {
        matches!(self, Obstacle::ExclusiveInUse(_) | Obstacle::InUse(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(used: Bytes) -> Target {
        let total = Bytes::gib(40);
        let memory = DeviceMemory { total, reserved: Some(Bytes::ZERO), used, free: total - used };
        Target {
            index: 0,
            gpu: Gpu {
                name: "test".to_owned(),
                uuid: "GPU-1".to_owned(),
                simulated: false,
                memory: Ok(memory),
                compute_capability: None,
                sm_count: None,
                compute_mode: Some(ComputeMode::Default),
                mig_enabled: None,
                mig_instances: Vec::new(),
                processes: Vec::new(),
            },
            instance: None,
        }
    }

    #[test]
    fn a_gpu_with_under_one_percent_in_use_is_free_to_probe() {
        assert_eq!(target(Bytes::mib(409)).obstacle(Sharing::Refused), None);
        let used = target(Bytes::mib(410));
        assert!(matches!(used.obstacle(Sharing::Refused), Some(Obstacle::InUse(_))));
        assert_eq!(used.obstacle(Sharing::Allowed), None);
    }

    #[test]
    fn an_old_driver_that_shows_no_processes_does_not_make_a_full_gpu_unused() {
        let old = |used| {
            let mut old = target(used);
            let Ok(memory) = &mut old.gpu.memory else { panic!("it was made with a memory") };
            memory.reserved = None;
            old.obstacle(Sharing::Refused)
        };
        assert_eq!(old(Bytes::mib(1300)), None, "it counts what it keeps for itself");
        assert!(matches!(old(Bytes::gib(20)), Some(Obstacle::InUse(_))));
    }

    #[test]
    fn an_exclusive_gpu_with_a_user_is_refused_even_when_shared() {
        let mut exclusive = target(Bytes::mib(1));
        exclusive.gpu.compute_mode = Some(ComputeMode::ExclusiveProcess);
        assert_eq!(exclusive.obstacle(Sharing::Allowed), None);
        exclusive.gpu.processes =
            vec![GpuProcess { pid: 7, name: Some("python".to_owned()), used: None }];
        let obstacle = exclusive.obstacle(Sharing::Allowed).unwrap();
        assert_eq!(
            obstacle.to_string(),
            "it takes one process at a time, and python (pid 7) holds memory, 1.0 MiB in all"
        );
    }

    #[test]
    fn a_partitioned_gpu_is_probed_by_instance_only() {
        let mut parent = target(Bytes::ZERO);
        parent.gpu.mig_enabled = Some(true);
        let memory = Ok(parent.memory().unwrap());
        let instance = MigInstance { index: 0, uuid: "MIG-1".to_owned(), memory };
        parent.gpu.mig_instances = vec![instance];
        let obstacle = parent.obstacle(Sharing::Allowed).unwrap();
        assert_eq!(obstacle.hint(), "name an instance: --gpu MIG-1");
        let list = GpuList {
            rows: vec![super::super::GpuRow { index: 3, gpu: Ok(parent.gpu) }],
            ..GpuList::default()
        };
        let found = Target::find(&list, "MIG-1").unwrap();
        assert_eq!((found.index, found.uuid()), (3, "MIG-1"));
        assert_eq!(found.obstacle(Sharing::Refused), None);
    }

    #[test]
    fn unknown_memory_and_prohibited_mode_are_obstacles() {
        let mut target = target(Bytes::ZERO);
        target.gpu.compute_mode = Some(ComputeMode::Prohibited);
        assert_eq!(target.obstacle(Sharing::Allowed), Some(Obstacle::Prohibited));
        target.gpu.memory = Err("NVML 3".to_owned());
        assert!(matches!(target.obstacle(Sharing::Allowed), Some(Obstacle::MemoryUnknown(_))));
    }
}
