//! GPUs that are not there (`--gpu sim:...`), behind the same traits as real ones.

use std::convert::Infallible;

use crate::memory::allocator::Capacity;
use crate::memory::fit::replay_in;
use crate::memory::trace::Trace;
use crate::probe::{
    Attempt, Capacities, ComputeMode, DeviceMemory, Gpu, GpuList, GpuRow, Inventory, Prober, Room,
};
use crate::profile::simulated::SimulatedGpus;
use crate::units::Bytes;

/// Simulated GPUs of one kind, as an inventory.
#[derive(Debug, Clone)]
pub struct SimInventory {
    gpus: SimulatedGpus,
}

impl SimInventory {
    /// Lists the GPUs of a `sim:` specification.
    pub fn new(gpus: SimulatedGpus) -> SimInventory {
        SimInventory { gpus }
    }
}

impl Inventory for SimInventory {
    type Error = Infallible;

    fn list(&self) -> Result<GpuList, Infallible> {
        let profile = &self.gpus.profile;
        let free = self.gpus.free_each();
        let memory = DeviceMemory {
            total: profile.total,
            reserved: Some(profile.reserved),
            used: profile.total.saturating_sub(profile.reserved).saturating_sub(free),
            free,
        };
        let gpu = |index: u32| Gpu {
            name: profile.product_name.clone(),
            uuid: format!("SIM-{}-{index}", profile.name.replace(' ', "")),
            simulated: true,
            memory: Ok(memory),
            compute_capability: Some(profile.arch.compute_capability),
            sm_count: Some(profile.arch.sm_count),
            compute_mode: Some(ComputeMode::Default),
            mig_enabled: None,
            mig_instances: Vec::new(),
            processes: Vec::new(),
        };
        let rows = (0..self.gpus.count).map(|index| GpuRow { index, gpu: Ok(gpu(index)) });
        Ok(GpuList { rows: rows.collect(), ..GpuList::default() })
    }
}

/// One simulated GPU, for the search: an allocation is arithmetic against what is free.
#[derive(Debug, Clone)]
pub struct SimProber {
    free: Bytes,
}

impl SimProber {
    /// Takes a GPU with `free` bytes, of which a context takes `context`.
    pub fn new(free: Bytes, context: Bytes) -> SimProber {
        SimProber { free: free.saturating_sub(context) }
    }
}

impl Prober for SimProber {
    type Error = Infallible;

    fn free(&mut self) -> Result<Bytes, Infallible> {
        Ok(self.free)
    }

    fn attempt(&mut self, trace: &Trace, room: Room) -> Result<Attempt, Infallible> {
        let mut device = Capacity::new(room.of(self.free));
        let replayed = replay_in(trace, &mut device);
        let peak = device.largest_granted();
        Ok(Attempt {
            fits: replayed.ran(),
            peak_reserved: peak,
            free_before: self.free,
            free_at_peak: self.free.saturating_sub(peak),
            same_on: Capacities { from: peak, below: device.smallest_refused() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_gpu_names_itself_and_has_what_its_specification_says() {
        let gpus = SimulatedGpus::parse("sim:h100-80gb*2,free=60GiB").unwrap();
        let Ok(list) = SimInventory::new(gpus).list();
        assert_eq!(list.rows.len(), 2);
        let gpu = list.rows[1].gpu.as_ref().unwrap();
        assert!(gpu.simulated && gpu.uuid.starts_with("SIM-h100-80gb-1"), "{}", gpu.uuid);
        let memory = gpu.memory.as_ref().unwrap();
        assert_eq!(memory.free, Bytes::gib(60));
        assert_eq!(memory.total, memory.reserved.unwrap() + memory.used + memory.free);
    }
}
