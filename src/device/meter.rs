//! NVML as the meter of a run: memory in use, and whose it is.

use nvml_wrapper::{Device, Nvml};

use super::nvml::{memory, reason};
use super::nvml_failure::NvmlFailure;
use super::processes::held;
use crate::probe::meter::{Meter, Reading};

/// Reads GPUs, or MIG instances, by their UUIDs.
#[derive(Debug)]
pub struct NvmlMeter {
    nvml: Nvml,
    uuids: Vec<String>,
}

impl NvmlMeter {
    /// Loads NVML for these GPUs; none is asked yet.
    ///
    /// # Errors
    /// When there is no driver.
    pub fn open(uuids: Vec<String>) -> Result<NvmlMeter, NvmlFailure> {
        let nvml = Nvml::init().map_err(|error| NvmlFailure::at("nvmlInit_v2", &error))?;
        Ok(NvmlMeter { nvml, uuids })
    }
}

impl Meter for NvmlMeter {
    fn read(&self, gpu: usize) -> Result<Reading, String> {
        let uuid = self.uuids.get(gpu).ok_or("there is no such GPU")?;
        let read = |device: Device<'_>| {
            let memory = memory(&device)?;
            let processes = held(&device).into_iter().collect();
            Ok(Reading { used: memory.used, free: memory.free, processes })
        };
        self.nvml.device_by_uuid(uuid.as_str()).and_then(read).map_err(|error| reason(&error))
    }
}
