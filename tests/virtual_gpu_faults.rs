//! What a scenario lets go wrong in the stand-in driver, and what neighbours do meanwhile.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use std::os::unix::process::ExitStatusExt;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use support::Scenario;
use support::child::{self, Child};
use support::driver::{allocate, context, free, free_bytes, init, release};

const GIB: u64 = 1 << 30;

#[test]
fn a_call_fails_by_name_and_count_with_any_code() {
    let machine = Scenario::new(
        "gpu total=8GiB
         fault cuMemAlloc_v2 at=2 code=1234
         fault cuMemFree_v2 from=2 code=999",
    );
    child::run(&machine, || {
        context(0).expect("a context");
        let first = allocate(GIB).expect("the first works");
        assert_eq!(allocate(GIB), Err(1234));
        let third = allocate(GIB).expect("the third works");
        assert_eq!(free(first), Ok(()));
        assert_eq!((free(third), free(third)), (Err(999), Err(999)));
        assert_eq!(free_bytes(), Ok(7 * GIB));
    });
    let faults: Vec<_> = machine.calls().into_iter().filter(|call| call.fault).collect();
    let codes: Vec<&str> = faults.iter().map(|call| call.result.as_str()).collect();
    assert_eq!(codes, ["1234", "999", "999"]);
}

#[test]
fn the_nth_call_of_any_name_fails() {
    for n in 1..=4 {
        let machine = Scenario::new(&format!("gpu total=1GiB\nfault * at={n} code=46"));
        child::run_part(&machine, "part_that_fails_once_with_46");
        let calls = machine.calls();
        let failed: Vec<u64> = calls.iter().filter(|c| c.fault).map(|c| c.number).collect();
        assert_eq!(failed, [n]);
    }
}

#[test]
#[ignore = "a part of the_nth_call_of_any_name_fails"]
fn part_that_fails_once_with_46() {
    if child::is_part() {
        let codes = [init(), context(0).map(drop), free_bytes().map(drop)];
        assert_eq!(codes.iter().find(|code| code.is_err()), Some(&Err(46)));
    }
}

#[test]
fn faults_can_be_kept_to_one_interface() {
    let machine = Scenario::new("gpu total=1GiB\nfault nvml* code=999");
    child::run(&machine, || {
        assert!(matches!(Nvml::init(), Err(NvmlError::Unknown)));
        context(0).expect("CUDA works");
    });
    let machine = Scenario::new("gpu total=1GiB\nfault cu* code=999");
    child::run(&machine, || {
        assert_eq!(init(), Err(999));
        assert_eq!(Nvml::init().and_then(|nvml| nvml.device_count()).ok(), Some(1));
    });
}

#[test]
fn nvml_hands_on_a_code_that_it_does_not_know() {
    let machine = Scenario::new("gpu total=1GiB\nfault nvmlDeviceGetCount_v2 code=1234");
    child::run(&machine, || {
        let nvml = Nvml::init().expect("NVML starts");
        assert!(matches!(nvml.device_count(), Err(NvmlError::UnexpectedVariant(1234))));
    });
}

#[test]
fn counts_go_on_over_processes() {
    let machine = Scenario::new("gpu total=1GiB\nfault cuInit at=2 code=802");
    child::run(&machine, || assert_eq!(init(), Ok(())));
    child::run(&machine, || assert_eq!(init(), Err(802)));
    child::run(&machine, || assert_eq!(init(), Ok(())));
    let numbers: Vec<u64> = machine.calls().iter().map(|call| call.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn a_call_goes_on_after_a_signal_that_does_not_end_the_process() {
    // SIGCONT does nothing to a process that runs.
    let machine = Scenario::new("gpu total=1GiB\nfault cuInit do=signal signal=18");
    child::run(&machine, || assert_eq!(init(), Ok(())));
    let call = &machine.calls_of("cuInit")[0];
    assert_eq!((call.number_of("signal"), call.succeeded()), (Some(18), true));
    let machine = Scenario::new("gpu total=1GiB\nfault cuInit do=signal signal=15 to=self");
    let (status, output) = child::try_part(&machine, "part_that_does_a_bit_of_everything");
    assert_eq!(status.signal(), Some(15), "{output}");
}

#[test]
fn a_call_can_end_the_process() {
    for (word, signal) in [("kill", 9), ("segfault", 11)] {
        let machine = Scenario::new(&format!("gpu total=1GiB\nfault cuMemGetInfo_v2 do={word}"));
        let (status, output) = child::try_part(&machine, "part_that_does_a_bit_of_everything");
        assert_eq!(status.signal(), Some(signal), "{output}");
        assert_eq!(machine.calls().last().map(|call| call.result.clone()), Some(word.to_owned()));
        assert_eq!(machine.held(0), 0);
    }
}

#[test]
fn a_call_that_hangs_holds_nobody_else_up() {
    let machine = Scenario::new("gpu total=2GiB\nfault cuMemFree_v2 do=hang");
    let mut hanging = Child::start(&machine, "part_that_hangs");
    hanging.wait_until(|| !machine.calls_of("cuMemFree_v2").is_empty());
    assert_eq!(machine.held(0), GIB);
    child::run_part(&machine, "part_that_sees_one_gib");
    hanging.kill();
    assert_eq!(machine.held(0), 0);
}

#[test]
#[ignore = "a part of a_call_that_hangs_holds_nobody_else_up"]
fn part_that_hangs() {
    if child::is_part() {
        context(0).expect("a context");
        let address = allocate(GIB).expect("fits");
        // Another thread says that all is set: this one does not come back.
        std::thread::spawn(child::hold);
        let _ = free(address);
    }
}

#[test]
#[ignore = "a part of a_call_that_hangs_holds_nobody_else_up"]
fn part_that_sees_one_gib() {
    if child::is_part() {
        context(0).expect("a context");
        assert_eq!(free_bytes(), Ok(GIB));
    }
}

#[test]
fn a_neighbour_grows_and_shrinks_after_calls() {
    let machine = Scenario::new(
        "gpu total=8GiB
         process pid=77 bytes=1GiB
         steal cuMemGetInfo_v2 after=1 pid=77 take=2GiB
         steal cuMemGetInfo_v2 after=2 pid=78 take=100GiB
         steal cuMemGetInfo_v2 after=3 pid=77 give=1GiB
         steal cuMemGetInfo_v2 after=4 pid=77 give=100GiB",
    );
    child::run(&machine, || {
        context(0).expect("a context");
        let free: Vec<u64> = (0..5).map(|_| free_bytes().expect("is current") / GIB).collect();
        assert_eq!(free, [7, 5, 0, 1, 3]);
        let nvml = Nvml::init().expect("NVML starts");
        let device = nvml.device_by_index(0).expect("a GPU");
        let processes = device.running_compute_processes().expect("processes");
        let mut pids: Vec<u32> = processes.iter().map(|process| process.pid).collect();
        pids.retain(|pid| *pid != std::process::id());
        assert_eq!(pids, [78]);
    });
}

#[test]
fn killed_at_any_call_a_process_leaves_nothing() {
    for n in 1.. {
        let machine =
            Scenario::new(&format!("gpu total=2GiB context=64MiB\nfault * at={n} do=kill"));
        let (status, output) = child::try_part(&machine, "part_that_does_a_bit_of_everything");
        assert_eq!(machine.held(0), 0);
        if status.success() {
            assert_eq!(n, 18, "the program has 17 calls");
            break;
        }
        assert_eq!(status.signal(), Some(9), "{output}");
        child::run_part(&machine, "part_that_does_a_bit_of_everything");
    }
}

#[test]
#[ignore = "a part of other tests"]
fn part_that_does_a_bit_of_everything() {
    if child::is_part() {
        context(0).expect("a context");
        let addresses: Vec<u64> = (0..6).map(|_| allocate(100 << 20).expect("fits")).collect();
        assert_eq!(free_bytes(), Ok((2 << 30) - (664 << 20)));
        for address in addresses {
            free(address).expect("was allocated");
        }
        release(0).expect("was retained");
    }
}

#[test]
fn killed_from_outside_at_any_moment_a_process_leaves_nothing() {
    let machine = Scenario::new("gpu total=2GiB context=64MiB");
    let log = machine.folder().join("calls.log");
    let log_bytes = || std::fs::metadata(&log).map_or(0, |file| file.len());
    for _ in 0..20 {
        let mut worker = Child::start(&machine, "part_that_allocates_for_ever");
        let before = log_bytes();
        worker.wait_until(|| log_bytes() > before + 1000);
        worker.kill();
        assert_eq!(machine.held(0), 0);
    }
}

#[test]
#[ignore = "a part of killed_from_outside_at_any_moment_a_process_leaves_nothing"]
fn part_that_allocates_for_ever() {
    if child::is_part() {
        context(0).expect("a context");
        std::thread::spawn(child::hold);
        loop {
            let address = allocate(1 << 30).expect("all is there");
            free(address).expect("was allocated");
        }
    }
}

#[test]
fn a_scenario_that_cannot_be_understood_ends_the_process() {
    for (line, said) in [
        ("gpu total=1GiB colour=red", "`colour`"),
        ("gpu total=lots", "total=lots"),
        ("card total=1GiB", "`card`"),
        ("gpu total=1GiB\nfault cuMemAlloc code=2", "`cuMemAlloc`"),
        ("gpu total=1GiB\nfault cuInit", "code=N"),
        ("gpu total=1GiB\nprocess gpu=1 pid=1 bytes=1", "gpu="),
    ] {
        let machine = Scenario::new(line);
        let (status, output) = child::try_part(&machine, "part_that_does_a_bit_of_everything");
        assert_eq!(status.signal(), Some(6), "{line}");
        assert!(output.contains(said), "{line}:\n{output}");
    }
}
