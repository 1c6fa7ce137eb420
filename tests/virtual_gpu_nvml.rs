//! What the stand-in driver's NVML says, through nvml-wrapper.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use nvml_wrapper::bitmasks::InitFlags;
use nvml_wrapper::enum_wrappers::device::ComputeMode;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use support::driver::is_present;
use support::{Scenario, child, garbage_driver};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Starts NVML and hands on the GPU of that index.
fn with_gpu(index: u32, look: impl FnOnce(&Device)) {
    let nvml = Nvml::init().expect("NVML starts");
    look(&nvml.device_by_index(index).expect("a GPU"));
}

#[test]
fn every_answer_is_the_scenarios() {
    let machine = Scenario::new(
        "driver version=550.54.15 cuda=12.4
         gpu total=16GiB
         gpu name=\"NVIDIA GeForce RTX 4090\" uuid=GPU-4c41b0c2-6d5b-4a6e-9b1e-0123456789ab \
         total=24564MiB reserved=300MiB capability=8.9 sms=128 mode=exclusive",
    );
    child::run(&machine, || {
        let nvml = Nvml::init().expect("NVML starts");
        assert_eq!(nvml.sys_driver_version().expect("a version"), "550.54.15");
        assert_eq!(nvml.sys_cuda_driver_version().expect("a version"), 12040);
        assert_eq!(nvml.device_count().expect("a count"), 2);
        let gpu = nvml.device_by_index(1).expect("a GPU");
        assert_eq!(gpu.name().expect("a name"), "NVIDIA GeForce RTX 4090");
        assert_eq!(gpu.uuid().expect("a UUID"), "GPU-4c41b0c2-6d5b-4a6e-9b1e-0123456789ab");
        assert_eq!(gpu.index().expect("an index"), 1);
        assert_eq!(gpu.minor_number().expect("a number"), 1);
        assert_eq!(gpu.pci_info().expect("an address").bus_id, "00000000:02:00.0");
        assert_eq!(gpu.compute_mode().expect("a mode"), ComputeMode::ExclusiveProcess);
        let capability = gpu.cuda_compute_capability().expect("a capability");
        assert_eq!((capability.major, capability.minor), (8, 9));
        assert_eq!(gpu.num_cores().expect("cores"), 16384);
        assert!(gpu.is_in_persistent_mode().expect("a mode"));
        assert!(matches!(gpu.mig_mode(), Err(NvmlError::NotSupported)));
        let memory = gpu.memory_info().expect("memory");
        assert_eq!((memory.total, memory.reserved), (24564 * MIB, 300 * MIB));
        assert_eq!((memory.used, memory.free), (0, 24264 * MIB));
        let same = nvml.device_by_uuid("GPU-4c41b0c2-6d5b-4a6e-9b1e-0123456789ab");
        assert_eq!(same.expect("is found").index().expect("an index"), 1);
        assert!(matches!(nvml.device_by_uuid("GPU-0"), Err(NvmlError::NotFound)));
        assert!(matches!(nvml.device_by_index(2), Err(NvmlError::InvalidArg)));
    });
    machine.assert_balanced();
}

#[test]
fn the_older_memory_call_counts_what_is_reserved_as_used() {
    let machine = Scenario::new("gpu total=8GiB reserved=1GiB\nprocess pid=9 bytes=2GiB");
    child::run(&machine, || {
        with_gpu(0, |gpu| {
            let memory = gpu.memory_info().expect("memory");
            assert_eq!((memory.used, memory.free), (2 * GIB, 5 * GIB));
        });
        let nvml = Nvml::init_with_flags(InitFlags::empty()).expect("NVML starts");
        let gpu = nvml.device_by_index(0).expect("a GPU");
        let call = nvml.lib().nvmlDeviceGetMemoryInfo.as_ref().expect("is exported");
        let mut memory = std::mem::MaybeUninit::uninit();
        // SAFETY: a live handle, and room for one answer.
        assert_eq!(unsafe { call(gpu.handle(), memory.as_mut_ptr()) }, 0);
        // SAFETY: written on success.
        let memory = unsafe { memory.assume_init() };
        assert_eq!((memory.total, memory.used, memory.free), (8 * GIB, 3 * GIB, 5 * GIB));
    });
}

#[test]
fn processes_are_listed_by_kind() {
    let machine = Scenario::new(
        "gpu total=8GiB
         process pid=10 bytes=1GiB
         process pid=11 bytes=2GiB kind=graphics name=Xorg
         process pid=12 bytes=3GiB kind=mps",
    );
    child::run(&machine, || {
        with_gpu(0, |gpu| {
            let lists = [
                gpu.running_compute_processes(),
                gpu.running_graphics_processes(),
                gpu.mps_running_compute_processes(),
            ];
            for (at, list) in lists.into_iter().enumerate() {
                let list = list.expect("a list");
                assert_eq!(list.len(), 1);
                assert_eq!(list[0].pid, 10 + at as u32);
                let bytes = (at as u64 + 1) * GIB;
                assert_eq!(list[0].used_gpu_memory, UsedGpuMemory::Used(bytes));
            }
            assert_eq!(gpu.memory_info().expect("memory").used, 6 * GIB);
        });
        let nvml = Nvml::init().expect("NVML starts");
        assert_eq!(nvml.sys_process_name(11, 64).expect("a name"), "Xorg");
    });
}

#[test]
fn bytes_of_processes_can_be_unavailable() {
    let machine = Scenario::new("gpu total=8GiB no-process-memory\nprocess pid=10 bytes=1GiB");
    child::run(&machine, || {
        with_gpu(0, |gpu| {
            let list = gpu.running_compute_processes().expect("a list");
            assert_eq!(list[0].used_gpu_memory, UsedGpuMemory::Unavailable);
        });
    });
}

#[test]
fn a_list_that_grew_in_between_is_too_short() {
    let machine = Scenario::new(
        "gpu total=8GiB\nprocess pid=10 bytes=1GiB
         fault nvmlDeviceGetComputeRunningProcesses_v3 at=2 code=7",
    );
    child::run(&machine, || {
        with_gpu(0, |gpu| {
            let first = gpu.running_compute_processes();
            assert!(matches!(first, Err(NvmlError::InsufficientSize(_))));
            assert_eq!(gpu.running_compute_processes().expect("a list").len(), 1);
        });
    });
}

#[test]
fn mig_instances_have_memory_of_their_own() {
    let machine = Scenario::new(
        "gpu total=80GiB mig=on failing=nvmlDeviceGetMemoryInfo_v2:4
         mig uuid=MIG-11111111-2222-3333-4444-555555555555 index=1 profile=1g.10gb total=10GiB
         mig index=4 total=20GiB reserved=1GiB
         process mig=4 pid=33 bytes=5GiB",
    );
    child::run(&machine, || {
        let nvml = Nvml::init().expect("NVML starts");
        let card = nvml.device_by_index(0).expect("a GPU");
        assert_eq!(card.mig_mode().expect("a mode").current, 1);
        assert!(matches!(card.memory_info(), Err(NvmlError::NoPermission)));
        assert_eq!(card.mig_device_count().expect("a maximum"), 7);
        let found: Vec<u32> = (0..7).filter(|n| card.mig_device_by_index(*n).is_ok()).collect();
        assert_eq!(found, [1, 4]);
        assert!(matches!(card.mig_device_by_index(0), Err(NvmlError::NotFound)));
        let first = card.mig_device_by_index(1).expect("an instance");
        assert_eq!(first.uuid().expect("a UUID"), "MIG-11111111-2222-3333-4444-555555555555");
        assert_eq!(first.name().expect("a name"), "NVIDIA A100-SXM4-40GB MIG 1g.10gb");
        assert_eq!(first.memory_info().expect("memory").free, 10 * GIB);
        assert!(first.mig_is_mig_device_handle().expect("an answer"));
        assert_eq!(first.mig_parent_device().expect("a card").index().expect("an index"), 0);
        let second = card.mig_device_by_index(4).expect("an instance");
        assert_eq!(second.memory_info().expect("memory").free, 14 * GIB);
        assert_eq!(second.attributes().expect("attributes").memory_size_mb, 20 << 10);
        let processes = card.running_compute_processes().expect("a list");
        assert_eq!((processes[0].pid, processes[0].gpu_instance_id), (33, Some(5)));
    });
}

#[test]
fn a_lost_card_leaves_the_others() {
    let machine = Scenario::new("gpu total=8GiB failing=nvml:15\ngpu total=8GiB");
    child::run(&machine, || {
        let nvml = Nvml::init().expect("NVML starts");
        assert!(matches!(nvml.device_by_index(0), Err(NvmlError::GpuLost)));
        assert!(nvml.device_by_index(1).expect("a GPU").memory_info().is_ok());
    });
}

#[test]
fn an_older_driver_lacks_the_newer_memory_call() {
    let machine = Scenario::new("gpu total=8GiB");
    machine.without_symbol("nvmlDeviceGetMemoryInfo_v2");
    child::run(&machine, || {
        with_gpu(0, |gpu| {
            assert!(matches!(gpu.memory_info(), Err(NvmlError::FailedToLoadSymbol(_))));
        });
    });
    let machine = Scenario::new("gpu total=8GiB failing=nvmlDeviceGetMemoryInfo_v2:13");
    child::run(&machine, || {
        with_gpu(0, |gpu| {
            assert!(matches!(gpu.memory_info(), Err(NvmlError::FunctionNotFound)));
        });
    });
}

#[test]
fn a_driver_that_is_not_loaded_says_so() {
    let machine = Scenario::new("driver nvml_init=18\ngpu total=8GiB");
    child::run(&machine, || {
        assert!(matches!(Nvml::init(), Err(NvmlError::LibRmVersionMismatch)));
    });
    let machine = Scenario::new("gpu total=8GiB");
    child::run_with(&machine, &[("OOMPH_VIRTUAL_GPU", "")], || {
        assert!(matches!(Nvml::init(), Err(NvmlError::DriverNotLoaded)));
        assert_eq!(support::driver::init(), Err(100));
    });
}

#[test]
fn a_machine_without_a_driver_has_no_libraries() {
    let machine = Scenario::new("gpu total=8GiB");
    let garbage = garbage_driver();
    let folder = garbage.path().to_str().expect("is text").to_owned();
    child::run_with(&machine, &[("LD_LIBRARY_PATH", &folder)], || {
        assert!(matches!(Nvml::init(), Err(NvmlError::LibloadingError(_))));
        assert!(!is_present());
    });
}

#[test]
fn the_readmes_example_is_a_scenario() {
    let readme = include_str!("../virtual-gpu/README.md");
    let lines = readme.lines().filter_map(|line| line.strip_prefix("    "));
    let example: Vec<&str> = lines
        .skip_while(|line| !line.starts_with("driver "))
        .take_while(|line| !line.starts_with("rustfmt"))
        .collect();
    assert_eq!(example.len(), 8);
    let machine = Scenario::new(&example.join("\n"));
    child::run(&machine, || {
        with_gpu(0, |gpu| {
            assert_eq!(gpu.name().expect("a name"), "NVIDIA A100-SXM4-80GB");
            assert_eq!(gpu.memory_info().expect("memory").used, 3 * GIB);
        });
        with_gpu(1, |gpu| assert_eq!(gpu.mig_mode().expect("a mode").current, 1));
    });
}

#[test]
fn cores_and_architecture_follow_the_compute_capability() {
    use nvml_wrapper::enums::device::DeviceArchitecture::{Ampere, Pascal, Turing, Volta};
    for (capability, cores, architecture) in [
        ("6.0", 64, Pascal),
        ("6.1", 128, Pascal),
        ("7.0", 64, Volta),
        ("7.5", 64, Turing),
        ("8.0", 64, Ampere),
        ("8.6", 128, Ampere),
    ] {
        let line = format!("gpu total=1GiB capability={capability} sms=10");
        let machine = Scenario::unlogged(&line);
        child::run(&machine, || {
            let nvml = Nvml::init().expect("NVML starts");
            let gpu = nvml.device_by_index(0).expect("a GPU");
            assert_eq!(gpu.num_cores().expect("cores"), 10 * cores, "{capability}");
            assert_eq!(gpu.architecture().expect("one"), architecture, "{capability}");
        });
    }
}
