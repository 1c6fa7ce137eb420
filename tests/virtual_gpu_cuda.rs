//! The stand-in driver's CUDA beyond plain memory: which devices are seen, contexts, texts.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use std::ffi::{CStr, c_char};
use std::ptr::null;

use support::Scenario;
use support::child::{self, Child};
use support::driver::{allocate, context, free_bytes, init, visible_uuids};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const CARDS: &str = "driver order=2,0,1
    gpu uuid=GPU-aaaaaaaa-0000-0000-0000-000000000001 total=8GiB
    gpu uuid=GPU-aaaabbbb-0000-0000-0000-000000000002 total=8GiB
    gpu uuid=GPU-cccccccc-0000-0000-0000-000000000003 total=8GiB";

/// The last digits of the UUIDs of the devices that a process sees.
fn seen() -> String {
    visible_uuids().iter().map(|uuid| &uuid[31..]).collect()
}

#[test]
fn visible_devices_are_numbers_or_starts_of_uuids_in_cudas_order() {
    for (visible, order, expected) in [
        (None, None, "312"),
        (None, Some("PCI_BUS_ID"), "123"),
        (Some("0,2"), None, "32"),
        (Some("0,2"), Some("PCI_BUS_ID"), "13"),
        (Some("2,1,0"), None, "213"),
        (Some("1,9,0"), None, "1"),
        (Some("GPU-aaaab"), None, "2"),
        (Some("GPU-cccccccc-0000-0000-0000-000000000003,GPU-aaaaa"), None, "31"),
        (Some("1,1,2"), None, "1"),
    ] {
        let machine = Scenario::new(CARDS);
        let mut environment = vec![("EXPECTED", expected)];
        environment.extend(visible.map(|list| ("CUDA_VISIBLE_DEVICES", list)));
        environment.extend(order.map(|order| ("CUDA_DEVICE_ORDER", order)));
        child::run_with(&machine, &environment, || {
            assert_eq!(seen(), std::env::var("EXPECTED").expect("is set"));
            // NVML ignores all of it.
            let nvml = nvml_wrapper::Nvml::init().expect("NVML starts");
            assert_eq!(nvml.device_count().expect("a count"), 3);
        });
    }
}

#[test]
fn no_visible_device_is_no_device() {
    for list in ["", "-1", "GPU-aaaa", "GPU-ffff", "x"] {
        let machine = Scenario::new(CARDS);
        child::run_with(&machine, &[("CUDA_VISIBLE_DEVICES", list)], || {
            assert_eq!(init(), Err(100));
        });
    }
}

#[test]
fn one_mig_instance_is_seen_and_no_card_beside_it() {
    let scenario = "gpu total=8GiB
        gpu total=80GiB
        mig gpu=1 uuid=MIG-11111111-0000-0000-0000-000000000004 total=10GiB
        mig gpu=1 uuid=MIG-22222222-0000-0000-0000-000000000005 total=20GiB";
    for (list, expected) in [("0,1", "4"), ("MIG-2", "5"), ("MIG-2,MIG-1", "5"), ("0", "0")] {
        let machine = Scenario::new(scenario);
        let environment = [("CUDA_VISIBLE_DEVICES", list), ("EXPECTED", expected)];
        child::run_with(&machine, &environment, || {
            assert_eq!(seen(), std::env::var("EXPECTED").expect("is set"));
        });
    }
    let machine = Scenario::new(scenario);
    child::run_with(&machine, &[("CUDA_VISIBLE_DEVICES", "MIG-1")], || {
        context(0).expect("a context");
        allocate(4 * GIB).expect("fits");
        assert_eq!(free_bytes(), Ok(6 * GIB));
        let nvml = nvml_wrapper::Nvml::init().expect("NVML starts");
        let card = nvml.device_by_index(1).expect("a GPU");
        let free = |index| {
            let instance = card.mig_device_by_index(index).expect("an instance");
            instance.memory_info().expect("memory").free
        };
        assert_eq!((free(0), free(1)), (6 * GIB, 20 * GIB));
        assert_eq!(card.memory_info().expect("memory").used, 4 * GIB);
    });
}

#[test]
fn attributes_are_the_cards() {
    let machine = Scenario::new("gpu total=8GiB capability=12.1 sms=48 mode=exclusive integrated");
    child::run(&machine, || {
        init().expect("cuInit");
        let attribute = |which: u32| {
            let mut value = 0;
            let code = cuda!(cuDeviceGetAttribute(&mut value => *mut i32, which => u32, 0 => i32));
            (code, value)
        };
        // Multiprocessors, integrated, compute mode, capability, virtual memory management.
        let answers: Vec<_> = [16, 18, 20, 75, 76, 102].into_iter().map(attribute).collect();
        assert_eq!(answers, [(0, 48), (0, 1), (0, 3), (0, 12), (0, 1), (0, 1)]);
        assert_eq!(attribute(100_000), (1, 0));
    });
}

#[test]
fn a_device_that_may_not_be_used_is_unavailable() {
    let machine = Scenario::new("gpu total=8GiB mode=prohibited");
    child::run(&machine, || assert_eq!(context(0), Err(46)));
    let machine = Scenario::new("gpu total=8GiB mode=exclusive\nprocess pid=5 bytes=1");
    child::run(&machine, || assert_eq!(context(0), Err(46)));
    let machine =
        Scenario::new("gpu total=8GiB mode=exclusive\nprocess pid=5 bytes=1 kind=graphics");
    child::run(&machine, || assert!(context(0).is_ok()));
}

#[test]
fn an_exclusive_device_is_free_again_when_its_process_dies() {
    let machine = Scenario::new("gpu total=8GiB mode=exclusive");
    let mut holder = Child::start(&machine, "part_that_holds_a_context");
    let second = child::try_part(&machine, "part_that_holds_a_context");
    assert!(second.1.contains("a context: 46"), "{}", second.1);
    holder.kill();
    child::run_part(&machine, "part_that_holds_a_context");
}

#[test]
#[ignore = "a part of an_exclusive_device_is_free_again_when_its_process_dies"]
fn part_that_holds_a_context() {
    if child::is_part() {
        context(0).expect("a context");
        child::hold();
    }
}

#[test]
fn limits_and_overcommit_are_the_scenarios() {
    let machine = Scenario::new("gpu total=8GiB client_limit=3GiB");
    child::run(&machine, || {
        context(0).expect("a context");
        assert_eq!(free_bytes(), Ok(3 * GIB));
        allocate(2 * GIB).expect("fits");
        assert_eq!((free_bytes(), allocate(2 * GIB)), (Ok(GIB), Err(2)));
    });
    let machine = Scenario::new("gpu total=1GiB overcommit");
    child::run(&machine, || {
        context(0).expect("a context");
        allocate(3 * GIB).expect("succeeds past the memory");
        assert_eq!(free_bytes(), Ok(0));
    });
}

#[test]
fn a_stub_library_says_so() {
    let machine = Scenario::new("driver cuda_init=34\ngpu total=8GiB");
    child::run(&machine, || assert_eq!((init(), allocate(1)), (Err(34), Err(3))));
}

#[test]
fn contexts_can_be_stacked_and_destroyed() {
    let machine = Scenario::new("gpu total=1GiB context=100MiB");
    child::run(&machine, || {
        let primary = context(0).expect("a context");
        let mut other = 0;
        assert_eq!(cuda!(cuCtxCreate_v2(&mut other => *mut u64, 0 => u32, 0 => i32)), 0);
        allocate(10 * MIB).expect("fits, and ends with its context");
        assert_eq!(free_bytes(), Ok(GIB - 210 * MIB));
        assert_eq!(cuda!(cuCtxDestroy_v2(primary => u64)), 201);
        assert_eq!(cuda!(cuCtxDestroy_v2(other => u64)), 0);
        let mut current = 0;
        assert_eq!(cuda!(cuCtxGetCurrent(&mut current => *mut u64)), 0);
        assert_eq!(current, primary);
        assert_eq!(free_bytes(), Ok(GIB - 100 * MIB));
        assert_eq!(cuda!(cuDevicePrimaryCtxReset_v2(0 => i32)), 0);
        assert_eq!(free_bytes(), Err(201));
        let nvml = nvml_wrapper::Nvml::init().expect("NVML starts");
        let gpu = nvml.device_by_index(0).expect("a GPU");
        assert_eq!(gpu.memory_info().expect("memory").free, GIB);
    });
}

#[test]
fn codes_have_names_and_unknown_ones_have_none() {
    let machine = Scenario::new("gpu total=1GiB");
    child::run(&machine, || {
        let name = |code: u32| {
            let mut text: *const c_char = null();
            let answer = cuda!(cuGetErrorName(code => u32, &mut text => *mut *const c_char));
            // SAFETY: null, or the driver's own text.
            (answer, (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }))
        };
        assert_eq!(name(2), (0, Some(c"CUDA_ERROR_OUT_OF_MEMORY")));
        assert_eq!(name(1234), (1, None));
    });
}

#[test]
fn the_drivers_own_tables_are_not_there_and_who_needs_them_is_noted() {
    let machine = Scenario::new("gpu total=1GiB");
    child::run(&machine, || {
        // As NVRTC asks for one.
        let mut table = 7usize;
        let code = cuda!(cuGetExportTable(&mut table => *mut usize, 0 => u64));
        assert_eq!((code, table), (1, 0));
    });
    assert!(machine.notes().is_empty());
    child::run(&machine, || {
        // As a runtime does that is linked statically.
        let (mut function, mut status) = (7usize, 9u32);
        let code = cuda!(cuGetProcAddress_v2(
            c"cuGetExportTable".as_ptr() => *const c_char, &mut function => *mut usize,
            13000 => i32, 0 => u64, &mut status => *mut u32
        ));
        assert_eq!((code, function, status), (500, 0, 1));
    });
    let notes = machine.notes();
    assert!(
        notes.iter().any(|note| note.detail.starts_with("cuGetExportTable, of a CUDA runtime"))
    );
}

#[test]
fn functions_are_found_by_their_plain_names() {
    let machine = Scenario::new("gpu total=1GiB");
    child::run(&machine, || {
        let find = |symbol: &CStr, version: i32| {
            let (mut function, mut status) = (0usize, 9u32);
            let code = cuda!(cuGetProcAddress_v2(
                symbol.as_ptr() => *const c_char, &mut function => *mut usize,
                version => i32, 0 => u64, &mut status => *mut u32
            ));
            (code, function, status)
        };
        let (code, allocate, status) = find(c"cuMemAlloc", 12000);
        assert_eq!((code, status), (0, 0));
        // SAFETY: looked up as a plain address.
        let exported = unsafe {
            *cudarc::driver::sys::culib().get::<usize>(b"cuMemAlloc_v2\0").expect("is exported")
        };
        assert!(allocate != 0 && exported != 0);
        assert_eq!(find(c"cuNotThere", 12000), (500, 0, 1));
        assert_ne!(find(c"cuCtxCreate", 12000).1, find(c"cuCtxCreate", 13000).1);
    });
}
