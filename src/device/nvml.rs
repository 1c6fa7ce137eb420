//! GPUs as NVML reports them: one row each, whether it answers or not.
//!
//! Asks through nvml-wrapper and touches neither CUDA nor any GPU's memory.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use nvml_wrapper::enum_wrappers::device::ComputeMode as NvmlComputeMode;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor};

use super::nvml_codes::{Failed, describe, is_fatal};
use super::nvml_failure::NvmlFailure;
use super::processes::{held, holders};
use crate::probe::{ComputeMode, DeviceMemory, Gpu, GpuList, GpuRow, Inventory, MigInstance};
use crate::units::Bytes;

/// How long NVML may take: an idle driver without persistence mode starts every GPU first.
///
/// Source: pytorch/pytorch#97585, where nvidia-smi took 60 s on a runner with a crashed GPU.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often somebody who may no longer want to wait is asked.
const LOOK: Duration = Duration::from_millis(50);
/// How long a driver that does not hang may take to end what it was asked, when nobody wants to wait.
const GRACE: Duration = Duration::from_secs(3);

/// Asks every GPU of this machine, and gives up on a driver that hangs.
///
/// # Errors
///
/// When NVML could say nothing at all.
pub fn list_gpus() -> Result<GpuList, NvmlFailure> {
    list_gpus_within(PATIENCE, || false)
}

/// As [`list_gpus`], for no longer than `limit`, and hardly longer once `stop` says so.
///
/// # Errors
///
/// When NVML could say nothing at all, or not in time.
pub fn list_gpus_within(limit: Duration, stop: impl Fn() -> bool) -> Result<GpuList, NvmlFailure> {
    let waited = limit.min(PATIENCE);
    let ask = || NvmlInventory::open().and_then(|inventory| inventory.list());
    patiently(waited, stop, ask).unwrap_or(Err(NvmlFailure::Silent { waited }))
}

/// Returns what one process holds on a GPU, or on a MIG instance, where the driver says so within
/// `limit`, which ends soon once `stop` says so.
pub fn held_by(pid: u32, uuid: &str, limit: Duration, stop: impl Fn() -> bool) -> Option<Bytes> {
    let uuid = uuid.to_owned();
    let ask = move || {
        let nvml = Nvml::init().ok()?;
        let device = nvml.device_by_uuid(uuid).ok()?;
        held(&device).get(&pid).copied().flatten()
    };
    patiently(limit.min(PATIENCE), stop, ask).flatten()
}

/// Returns the answer of a thread of its own; `None` when it hangs for as long, or once `stop` says
/// so for [`GRACE`].
fn patiently<T: Send + 'static>(
    limit: Duration,
    stop: impl Fn() -> bool,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (answer, answered) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody listens any more when this comes too late.
        let _ = answer.send(ask());
    });
    let begun = Instant::now();
    let (mut limit, mut stopped) = (limit, false);
    while let Some(left) = limit.checked_sub(begun.elapsed()) {
        match answered.recv_timeout(left.min(LOOK)) {
            Err(RecvTimeoutError::Timeout) => {}
            answer => return answer.ok(),
        }
        if !stopped && stop() {
            stopped = true;
            limit = limit.min(begun.elapsed() + GRACE);
        }
    }
    None
}

/// The GPUs of this machine.
#[derive(Debug)]
pub struct NvmlInventory {
    nvml: Nvml,
}

impl NvmlInventory {
    /// Loads and starts NVML.
    ///
    /// # Errors
    ///
    /// When there is no driver, or it does not answer; no GPU is asked yet.
    pub fn open() -> Result<NvmlInventory, NvmlFailure> {
        let nvml = Nvml::init().map_err(|error| NvmlFailure::at("nvmlInit_v2", &error))?;
        Ok(NvmlInventory { nvml })
    }
}

impl Inventory for NvmlInventory {
    type Error = NvmlFailure;

    fn list(&self) -> Result<GpuList, NvmlFailure> {
        let count = self
            .nvml
            .device_count()
            .map_err(|error| NvmlFailure::at("nvmlDeviceGetCount_v2", &error))?;
        let version = self.nvml.sys_cuda_driver_version().ok();
        Ok(GpuList {
            driver_version: self.nvml.sys_driver_version().ok(),
            cuda_version: version.and_then(|version| {
                let major = cuda_driver_version_major(version).try_into().ok()?;
                let minor = cuda_driver_version_minor(version).try_into().ok()?;
                Some((major, minor))
            }),
            rows: (0..count)
                .map(|index| GpuRow {
                    index,
                    gpu: ask(&self.nvml, index).map_err(|failed| failed.to_string()),
                })
                .collect(),
        })
    }
}

/// Asks one GPU everything.
///
/// # Errors
///
/// When it has no handle, no name or no UUID, when it is lost, or when its memory is denied.
fn ask(nvml: &Nvml, index: u32) -> Result<Gpu, Failed> {
    let device =
        nvml.device_by_index(index).map_err(Failed::at("nvmlDeviceGetHandleByIndex_v2"))?;
    let uuid = device.uuid().map_err(Failed::at("nvmlDeviceGetUUID"))?;
    let name = device.name().map_err(Failed::at("nvmlDeviceGetName"))?;
    // NVML_DEVICE_MIG_ENABLE is 1; a GPU without MIG answers NOT_SUPPORTED.
    let mig_mode = optional("nvmlDeviceGetMigMode", device.mig_mode())?;
    let mig_enabled = mig_mode.map(|mode| mode.current == 1);
    let memory = match memory(&device) {
        Ok(memory) => Ok(memory),
        Err(failed) if may_lack_memory(&failed.error, mig_enabled) => Err(why_no_memory(&failed)),
        Err(failed) => return Err(failed),
    };
    let capability = device.cuda_compute_capability();
    let compute_capability = optional("nvmlDeviceGetCudaComputeCapability", capability)?
        .and_then(|cc| Some((cc.major.try_into().ok()?, cc.minor.try_into().ok()?)));
    let mode = optional("nvmlDeviceGetComputeMode", device.compute_mode())?;
    Ok(Gpu {
        name,
        uuid,
        simulated: false,
        memory,
        compute_capability,
        sm_count: sm_count(&device, compute_capability),
        compute_mode: mode.map(compute_mode),
        mig_enabled,
        mig_instances: if mig_enabled == Some(true) { mig_instances(&device) } else { Vec::new() },
        processes: holders(&device),
    })
}

/// Turns "this GPU cannot say" into `None`, and keeps "this GPU is gone" an error.
fn optional<T>(call: &'static str, answer: Result<T, NvmlError>) -> Result<Option<T>, Failed> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_fatal(&error) => Err(Failed { call, error }),
        Err(_) => Ok(None),
    }
}

/// Reads a device's memory by the v2 call, and by the first one where the driver has no other.
///
/// Source: nvml-wrapper 0.13 asks v2 only; drivers before 510 do not have it.
pub(super) fn memory(device: &Device<'_>) -> Result<DeviceMemory, Failed> {
    match device.memory_info() {
        Ok(info) => Ok(DeviceMemory {
            total: Bytes::new(info.total),
            reserved: Some(Bytes::new(info.reserved)),
            used: Bytes::new(info.used),
            free: Bytes::new(info.free),
        }),
        Err(
            error @ (NvmlError::FailedToLoadSymbol(_)
            | NvmlError::FunctionNotFound
            | NvmlError::InvalidArg
            | NvmlError::UnexpectedVariant(25)),
        ) => memory_v1(device).unwrap_or(Err(Failed::at(MEMORY)(error))),
        Err(error) => Err(Failed::at(MEMORY)(error)),
    }
}

const MEMORY: &str = "nvmlDeviceGetMemoryInfo_v2";

/// Reads memory by the call that every driver has; `None` where even that is missing.
fn memory_v1(device: &Device<'_>) -> Option<Result<DeviceMemory, Failed>> {
    let call = device.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref().ok()?;
    let mut info = std::mem::MaybeUninit::zeroed();
    // SAFETY: the handle belongs to `device`, whose NVML is alive; the call fills the struct that
    // its own binding declares, which is three integers: zeroed is a valid value of it.
    let (code, info) = unsafe {
        let code = call(device.handle(), info.as_mut_ptr());
        (code, info.assume_init())
    };
    Some(match nvml_wrapper::error::nvml_try(code) {
        Ok(()) => Ok(DeviceMemory {
            total: Bytes::new(info.total),
            reserved: None,
            used: Bytes::new(info.used),
            free: Bytes::new(info.free),
        }),
        Err(error) => Err(Failed::at("nvmlDeviceGetMemoryInfo")(error)),
    })
}

/// Whether a GPU without readable memory is still a GPU worth a row of its own.
///
/// Unified memory and odd products answer NOT_SUPPORTED; a partitioned GPU denies its parent's
/// figure to those who may use its instances.
fn may_lack_memory(error: &NvmlError, mig_enabled: Option<bool>) -> bool {
    match error {
        NvmlError::NotSupported => true,
        NvmlError::NoPermission => mig_enabled == Some(true),
        other => !is_fatal(other) && !matches!(other, NvmlError::LibRmVersionMismatch),
    }
}

fn why_no_memory(failed: &Failed) -> String {
    let Failed { call, error } = failed;
    match error {
        NvmlError::NotSupported => format!(
            "{call} failed: {}: no memory of its own to report, as with unified memory (GB10, Jetson)",
            describe(error)
        ),
        NvmlError::NoPermission => {
            format!("{call} failed: {}: partitioned by MIG, ask its instances", describe(error))
        }
        _ => failed.to_string(),
    }
}

fn compute_mode(mode: NvmlComputeMode) -> ComputeMode {
    match mode {
        NvmlComputeMode::Default => ComputeMode::Default,
        NvmlComputeMode::ExclusiveThread | NvmlComputeMode::ExclusiveProcess => {
            ComputeMode::ExclusiveProcess
        }
        NvmlComputeMode::Prohibited => ComputeMode::Prohibited,
    }
}

/// Walks the places an instance can have; most of them are empty.
fn mig_instances(device: &Device<'_>) -> Vec<MigInstance> {
    let places = device.mig_device_count().unwrap_or(0);
    (0..places)
        .filter_map(|index| {
            let answer = match device.mig_device_by_index(index) {
                Err(NvmlError::NotFound) => return None,
                answer => answer.map_err(Failed::at("nvmlDeviceGetMigDeviceHandleByIndex")),
            };
            let answer = answer.and_then(|instance| {
                let uuid = instance.uuid().map_err(Failed::at("nvmlDeviceGetUUID"))?;
                Ok((uuid, memory(&instance)))
            });
            let (uuid, memory) = answer.unwrap_or_else(|failed| (String::new(), Err(failed)));
            Some(MigInstance { index, uuid, memory: memory.map_err(|failed| failed.to_string()) })
        })
        .collect()
}

/// Works out the number of SMs from CUDA cores, so that no CUDA context is needed to learn it.
///
/// Source: CUDA C++ Programming Guide, technical specifications per compute capability: 64 FP32
/// cores an SM on 6.0, 7.x and 8.0; 128 on 5.x, 6.1, 8.6, 8.9, 9.0, 10.x, 12.x.
fn sm_count(device: &Device<'_>, compute_capability: Option<(u32, u32)>) -> Option<u32> {
    let cores_per_sm = match compute_capability? {
        (6, 0) | (7, _) | (8, 0) => 64,
        (5 | 6 | 8 | 9 | 10 | 12, _) => 128,
        _ => return None,
    };
    let cores = device.num_cores().ok()?;
    (cores > 0 && cores.is_multiple_of(cores_per_sm)).then_some(cores / cores_per_sm)
}
