//! The stand-in driver's memory: what is granted, charged, shared between processes and given back.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use cudarc::driver::result;
use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;
use support::Scenario;
use support::child::{self, Child};
use support::driver::{allocate, context, free, free_bytes, init, no_context, release};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What NVML says is free on the first GPU.
fn nvml_free() -> u64 {
    let nvml = Nvml::init().expect("NVML starts");
    let device = nvml.device_by_index(0).expect("a GPU");
    device.memory_info().expect("its memory").free
}

/// Pids and bytes of compute processes on the first GPU.
fn nvml_processes() -> Vec<(u32, UsedGpuMemory)> {
    let nvml = Nvml::init().expect("NVML starts");
    let device = nvml.device_by_index(0).expect("a GPU");
    let processes = device.running_compute_processes().expect("its processes");
    processes.into_iter().map(|p| (p.pid, p.used_gpu_memory)).collect()
}

#[test]
fn memory_is_granted_in_granules_to_the_last_byte() {
    let machine = Scenario::new("gpu total=8GiB reserved=512MiB context=300MiB");
    child::run(&machine, || {
        context(0).expect("a context");
        let all = 8 * GIB - 512 * MIB - 300 * MIB;
        assert_eq!(free_bytes(), Ok(all));
        let one = allocate(1).expect("fits");
        assert_eq!(free_bytes(), Ok(all - 2 * MIB));
        assert_eq!(allocate(all - 2 * MIB + 1), Err(2));
        let rest = allocate(all - 2 * MIB).expect("the rest fits");
        assert_eq!(free_bytes(), Ok(0));
        assert_eq!(allocate(1), Err(2));
        assert_eq!((free(one), free(rest)), (Ok(()), Ok(())));
        assert_eq!(free_bytes(), Ok(all));
        assert_eq!(release(0), Ok(()));
    });
    machine.assert_balanced();
    assert_eq!(machine.held(0), 0);
    assert_eq!(machine.peak_bytes(), 8 * GIB - 812 * MIB);
}

#[test]
fn the_granularity_is_the_scenarios() {
    let machine = Scenario::new("gpu total=1GiB granularity=64KiB");
    child::run(&machine, || {
        context(0).expect("a context");
        allocate(65537).expect("fits");
        assert_eq!(free_bytes(), Ok(GIB - 128 * 1024));
    });
}

#[test]
fn a_freed_address_is_not_given_out_again() {
    let machine = Scenario::new("gpu total=1GiB");
    child::run(&machine, || {
        context(0).expect("a context");
        let mut last = 0;
        for _ in 0..10 {
            let address = allocate(4 * MIB).expect("fits");
            assert!(address > last && address.is_multiple_of(2 * MIB));
            last = address + 4 * MIB - 1;
            assert_eq!(free(address), Ok(()));
            assert_eq!(free(address), Err(1));
        }
    });
}

#[test]
fn calls_at_the_wrong_time_or_with_wrong_values_fail() {
    let machine = Scenario::new("gpu total=1GiB");
    child::run(&machine, || {
        assert_eq!(allocate(1), Err(3));
        assert_eq!(release(0), Err(3));
        init().expect("cuInit");
        assert_eq!(allocate(1), Err(201));
        assert_eq!(free_bytes(), Err(201));
        assert_eq!(release(0), Err(201));
        assert_eq!(context(1), Err(101));
        context(0).expect("a context");
        assert_eq!(allocate(0), Err(1));
        assert_eq!(free(0), Err(1));
        assert_eq!(free(0x1000_0000_0000), Err(1));
        assert_eq!(allocate(u64::MAX), Err(2));
        assert_eq!(no_context(), Ok(()));
        assert_eq!(allocate(1), Err(201));
    });
}

#[test]
fn the_current_context_belongs_to_a_thread() {
    let machine = Scenario::new("gpu total=1GiB");
    child::run(&machine, || {
        context(0).expect("a context");
        let elsewhere = std::thread::spawn(|| allocate(1)).join().expect("it ends");
        assert_eq!(elsewhere, Err(201));
        allocate(1).expect("here it is current");
    });
}

#[test]
fn a_primary_context_is_charged_once_and_given_back_at_the_last_release() {
    let machine = Scenario::new("gpu total=2GiB context=500MiB");
    child::run(&machine, || {
        let before = nvml_free();
        assert_eq!(context(0), context(0));
        allocate(100 * MIB).expect("fits");
        assert_eq!(nvml_free(), before - 600 * MIB);
        release(0).expect("is retained twice");
        assert_eq!(nvml_free(), before - 600 * MIB);
        release(0).expect("is retained once");
        assert_eq!(nvml_free(), before);
        assert_eq!(allocate(1), Err(201));
    });
}

#[test]
fn a_context_that_does_not_fit_is_out_of_memory() {
    let machine = Scenario::new("gpu total=2GiB context=500MiB\nprocess pid=7 bytes=1549MiB");
    child::run(&machine, || assert_eq!(context(0), Err(2)));
    let machine = Scenario::new("gpu total=2GiB context=500MiB\nprocess pid=7 bytes=1548MiB");
    child::run(&machine, || assert!(context(0).is_ok()));
}

#[test]
fn cudarcs_own_functions_work_on_it() {
    let machine = Scenario::new("gpu name=\"NVIDIA L4\" total=24GiB reserved=1GiB capability=8.9");
    child::run(&machine, || {
        result::init().expect("cuInit");
        let device = result::device::get(0).expect("a device");
        assert_eq!(result::device::get_name(device).expect("a name"), "NVIDIA L4");
        // SAFETY: the device came from cuDeviceGet; the context is live while it is used.
        unsafe {
            assert_eq!(result::device::total_mem(device).expect("a size"), 23 << 30);
            let context = result::primary_ctx::retain(device).expect("a context");
            result::ctx::set_current(context).expect("is current");
            assert_eq!(result::ctx::get_current().expect("is current"), Some(context));
            let address = result::malloc_sync(1 << 30).expect("fits");
            assert_eq!(result::mem_get_info().expect("memory"), (22 << 30, 23 << 30));
            let error = result::malloc_sync(23 << 30).expect_err("too much");
            assert!(format!("{error:?}").contains("out of memory"), "{error:?}");
            result::free_sync(address).expect("is freed");
            result::ctx::synchronize().expect("nothing is under way");
            result::primary_ctx::release(device).expect("is released");
        }
    });
    machine.assert_balanced();
}

#[test]
fn processes_share_the_memory_and_death_gives_it_back() {
    let machine = Scenario::new("gpu total=8GiB context=256MiB");
    let mut holder = Child::start(&machine, "part_that_holds_3_gib");
    assert_eq!(machine.held(0), 3 * GIB + 256 * MIB);
    child::run_part(&machine, "part_that_meets_3_gib");
    // What the second process held is back already, though it freed nothing.
    assert_eq!(machine.held(0), 3 * GIB + 256 * MIB);
    // A zombie holds nothing, reaped or not.
    holder.kill();
    assert_eq!(machine.held(0), 0);
    child::run_part(&machine, "part_that_meets_nobody");
}

#[test]
#[ignore = "a part of other tests, which start it"]
fn part_that_holds_3_gib() {
    if child::is_part() {
        context(0).expect("a context");
        allocate(3 * GIB).expect("fits");
        child::hold();
    }
}

#[test]
#[ignore = "a part of processes_share_the_memory_and_death_gives_it_back"]
fn part_that_meets_3_gib() {
    if child::is_part() {
        assert_eq!(nvml_free(), 5 * GIB - 256 * MIB);
        let processes = nvml_processes();
        assert_eq!(processes.len(), 1);
        assert_eq!(processes[0].1, UsedGpuMemory::Used(3 * GIB + 256 * MIB));
        context(0).expect("a second context");
        assert_eq!(allocate(5 * GIB), Err(2));
        allocate(4 * GIB).expect("fits beside the other");
    }
}

#[test]
#[ignore = "a part of processes_share_the_memory_and_death_gives_it_back"]
fn part_that_meets_nobody() {
    if child::is_part() {
        assert_eq!(nvml_free(), 8 * GIB);
        assert_eq!(nvml_processes(), []);
    }
}

#[test]
fn a_fork_starts_anew() {
    let machine = Scenario::new("gpu total=4GiB context=100MiB");
    child::run(&machine, || {
        unsafe extern "C" {
            fn fork() -> i32;
            fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
        }
        context(0).expect("a context");
        allocate(GIB).expect("fits");
        // SAFETY: the child only calls the driver and ends; no other thread holds its lock.
        let pid = unsafe { fork() };
        if pid == 0 {
            let anew = allocate(1) == Err(3) && init().is_ok() && allocate(1) == Err(201);
            let charged = context(0).is_ok() && free_bytes() == Ok(3 * GIB - 200 * MIB);
            std::process::exit(if anew && charged { 7 } else { 1 });
        }
        let mut status = 0;
        // SAFETY: room for one status.
        unsafe { waitpid(pid, &mut status, 0) };
        assert_eq!(status >> 8, 7);
        assert_eq!(free_bytes(), Ok(3 * GIB - 100 * MIB));
    });
}

#[test]
fn an_allocation_finds_the_memory_of_a_process_that_died() {
    let machine = Scenario::new("gpu total=4GiB");
    let mut holder = Child::start(&machine, "part_that_holds_3_gib");
    let waiter = Child::start(&machine, "part_that_wants_4_gib_twice");
    holder.kill();
    assert!(waiter.finish().success());
}

#[test]
#[ignore = "a part of an_allocation_finds_the_memory_of_a_process_that_died"]
fn part_that_wants_4_gib_twice() {
    if child::is_part() {
        context(0).expect("a context");
        assert_eq!(allocate(4 * GIB), Err(2));
        child::hold();
        assert!(allocate(4 * GIB).is_ok());
    }
}
