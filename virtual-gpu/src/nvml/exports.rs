//! The exported names of libnvidia-ml.so.1, as nvml.h of CUDA 13 has them.

use std::ffi::{c_char, c_void};

use super::{Handle, device, link, memory, mig, system};
use crate::c::{Out, Text};
use crate::exports::exports;
use device::{Attributes, PciInfo};
use memory::{Memory, MemoryV2, ProcessInfo, ProcessInfoV1};

exports! {
    nvmlInit_v2() => system::init;
    nvmlInit() => system::init;
    nvmlInitWithFlags(flags: u32) => system::init_with_flags;
    nvmlShutdown() => system::shutdown;
    nvmlSystemGetDriverVersion(text: Out<c_char>, length: u32) => system::driver_version;
    nvmlSystemGetNVMLVersion(text: Out<c_char>, length: u32) => system::nvml_version;
    nvmlSystemGetCudaDriverVersion(version: Out<i32>) => system::cuda_version;
    nvmlSystemGetCudaDriverVersion_v2(version: Out<i32>) => system::cuda_version;
    nvmlSystemGetProcessName(pid: u32, text: Out<c_char>, length: u32) => system::process_name;

    nvmlDeviceGetCount_v2(count: Out<u32>) => device::count;
    nvmlDeviceGetHandleByIndex_v2(index: u32, device: Out<Handle>) => device::by_index;
    nvmlDeviceGetHandleByUUID(uuid: Text, device: Out<Handle>) => device::by_uuid;
    nvmlDeviceGetHandleByPciBusId_v2(address: Text, device: Out<Handle>) => device::by_pci_bus_id;
    nvmlDeviceGetName(device: Handle, text: Out<c_char>, length: u32) => device::name;
    nvmlDeviceGetUUID(device: Handle, text: Out<c_char>, length: u32) => device::uuid;
    nvmlDeviceGetIndex(device: Handle, index: Out<u32>) => device::index;
    nvmlDeviceGetMinorNumber(device: Handle, number: Out<u32>) => device::index;
    nvmlDeviceGetPciInfo_v3(device: Handle, pci: Out<PciInfo>) => device::pci_info;
    nvmlDeviceGetComputeMode(device: Handle, mode: Out<u32>) => device::compute_mode;
    nvmlDeviceGetCudaComputeCapability(device: Handle, major: Out<i32>, minor: Out<i32>)
        => device::compute_capability;
    nvmlDeviceGetPersistenceMode(device: Handle, mode: Out<u32>) => device::persistence_mode;
    nvmlDeviceGetNumGpuCores(device: Handle, cores: Out<u32>) => device::cores;
    nvmlDeviceGetArchitecture(device: Handle, architecture: Out<u32>) => device::architecture;
    nvmlDeviceGetAttributes_v2(device: Handle, attributes: Out<Attributes>) => device::attributes;

    nvmlDeviceGetMemoryInfo(device: Handle, memory: Out<Memory>) => memory::info;
    nvmlDeviceGetMemoryInfo_v2(device: Handle, memory: Out<MemoryV2>) => memory::info_v2;
    nvmlDeviceGetComputeRunningProcesses(device: Handle, count: Out<u32>, list: Out<ProcessInfoV1>)
        => memory::processes;
    nvmlDeviceGetComputeRunningProcesses_v2(device: Handle, count: Out<u32>, list: Out<ProcessInfo>)
        => memory::processes;
    nvmlDeviceGetComputeRunningProcesses_v3(device: Handle, count: Out<u32>, list: Out<ProcessInfo>)
        => memory::processes;
    nvmlDeviceGetGraphicsRunningProcesses(device: Handle, count: Out<u32>, list: Out<ProcessInfoV1>)
        => memory::processes;
    nvmlDeviceGetGraphicsRunningProcesses_v2(device: Handle, count: Out<u32>, list: Out<ProcessInfo>)
        => memory::processes;
    nvmlDeviceGetGraphicsRunningProcesses_v3(device: Handle, count: Out<u32>, list: Out<ProcessInfo>)
        => memory::processes;
    nvmlDeviceGetMPSComputeRunningProcesses(device: Handle, count: Out<u32>, list: Out<ProcessInfoV1>)
        => memory::processes;
    nvmlDeviceGetMPSComputeRunningProcesses_v2(device: Handle, count: Out<u32>, list: Out<ProcessInfo>)
        => memory::processes;
    nvmlDeviceGetMPSComputeRunningProcesses_v3(device: Handle, count: Out<u32>, list: Out<ProcessInfo>)
        => memory::processes;

    nvmlDeviceGetMigMode(device: Handle, current: Out<u32>, pending: Out<u32>) => mig::mode;
    nvmlDeviceGetMaxMigDeviceCount(device: Handle, count: Out<u32>) => mig::max_count;
    nvmlDeviceGetMigDeviceHandleByIndex(device: Handle, index: u32, instance: Out<Handle>)
        => mig::by_index;
    nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance: Handle, device: Out<Handle>)
        => mig::parent;
    nvmlDeviceIsMigDeviceHandle(device: Handle, is_instance: Out<u32>) => mig::is_instance;
    nvmlDeviceGetGpuInstanceId(device: Handle, id: Out<u32>) => mig::gpu_instance_id;
    nvmlDeviceGetComputeInstanceId(device: Handle, id: Out<u32>) => mig::compute_instance_id;

    nvmlDeviceGetP2PStatus(device: Handle, peer: Handle, index: u32, status: Out<u32>)
        => link::peer_status;
    nvmlDeviceGetNvLinkState(device: Handle) => link::none;
    nvmlDeviceGetNvLinkVersion(device: Handle) => link::none;
    nvmlDeviceGetNvLinkCapability(device: Handle) => link::none;
    nvmlDeviceGetNvLinkRemoteDeviceType(device: Handle) => link::none;
    nvmlDeviceGetNvLinkRemotePciInfo_v2(device: Handle) => link::none;
    nvmlDeviceGetGpuFabricInfoV(device: Handle) => link::none;
    nvmlDeviceGetFieldValues(device: Handle) => link::none;
    nvmlDeviceGetUtilizationRates(device: Handle, rates: Out<c_void>) => link::utilization;
    nvmlDeviceGetPowerUsage(device: Handle) => link::unmeasured;
    nvmlDeviceGetTemperature(device: Handle) => link::unmeasured;
    nvmlDeviceGetClockInfo(device: Handle) => link::unmeasured;
    nvmlDeviceGetTotalEnergyConsumption(device: Handle) => link::unmeasured;
}
