//! NVML as the meter of a run: memory in use, and whose it is.

use nvml_wrapper::Nvml;

use super::nvml::memory;
use super::nvml_codes::Failed;
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
        let device = self.nvml.device_by_uuid(uuid.as_str());
        let device = device.map_err(Failed::at("nvmlDeviceGetHandleByUUID"));
        let device = device.map_err(|failed| failed.to_string())?;
        let memory = memory(&device).map_err(|failed| failed.to_string())?;
        let processes = held(&device).into_iter().collect();
        Ok(Reading { used: memory.used, free: memory.free, processes })
    }
}
