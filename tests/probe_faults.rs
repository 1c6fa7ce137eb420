//! What a probe leaves behind and says when anything breaks, at any call, on the stand-in driver.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod probe_support;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use oomph::memory::trace::AllocatorMode;
use oomph::units::Bytes;
use probe_support::{
    HEADROOM, Told, assert_as_before, brute_force, brute_force_in, outside, probe, said,
};
use support::{Call, Scenario};

#[test]
fn the_probing_process() {
    probe_support::probing_process();
}

/// The calls of a whole probe on a small card, made once without a fault.
fn calls_of_a_probe(scenario: &str) -> Vec<Call> {
    let machine = Scenario::new(scenario);
    let output = probe(&machine, &Told::default());
    assert!(said(&output).starts_with("ANSWER"), "{output}");
    machine.calls()
}

const SMALL: &str = "gpu total=1500MiB reserved=10MiB context=100MiB";

#[test]
fn a_kill_at_any_call_leaves_nothing_and_the_next_probe_runs() {
    let calls = calls_of_a_probe(SMALL);
    let expected = format!("ANSWER {}", brute_force(1490, Bytes::mib(100), Bytes::mib(2)));
    assert!(calls.len() > 60, "{} calls", calls.len());
    for number in 1..=calls.len() {
        let machine = Scenario::new(&format!("{SMALL}\n fault * at={number} do=kill"));
        let output = probe(&machine, &Told::default());
        let call = &calls[number - 1].name;
        if call.starts_with("cu") {
            assert!(output.contains("was killed (SIGKILL) in "), "call {number}: {output}");
            assert!(output.contains(&call.replace("Uuid_v2", "Uuid")), "{output}");
            // By the release of the context, the answer is there.
            let known = call.starts_with("cuDevicePrimaryCtxRelease");
            assert_eq!(said(&output).starts_with("ANSWER"), known, "call {number}: {output}");
        } else {
            assert!(!output.contains("ANSWER"), "the parent was killed at call {number}");
        }
        assert_as_before(&machine);
        let output = probe(&machine, &Told::default());
        assert_eq!(said(&output), expected, "after a kill at call {number}");
        assert_as_before(&machine);
    }
}

/// The names of the driver calls that a probe makes, each once.
fn cuda_names(calls: &[Call]) -> BTreeSet<String> {
    calls.iter().map(|call| call.name.clone()).filter(|name| name.starts_with("cu")).collect()
}

#[test]
fn a_segfault_in_any_call_is_reported_with_its_name() {
    for name in cuda_names(&calls_of_a_probe(SMALL)) {
        let machine = Scenario::new(&format!("{SMALL}\n fault {name} at=1 do=segfault"));
        let output = probe(&machine, &Told::default());
        let place = format!("crashed (SIGSEGV) in {}", name.replace("Uuid_v2", "Uuid"));
        assert!(output.contains(&place), "{name}: {output}");
        assert_as_before(&machine);
    }
}

#[test]
fn a_call_that_hangs_is_given_up_and_its_process_killed() {
    let names = cuda_names(&calls_of_a_probe(SMALL));
    assert!(names.len() >= 10, "{names:?}");
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(move || {
                let machine = Scenario::new(&format!("{SMALL}\n fault {name} at=1 do=hang"));
                let told = Told { call: Duration::from_secs(2), ..Told::default() };
                let output = probe(&machine, &told);
                let place =
                    format!("{} did not come back within 2s", name.replace("Uuid_v2", "Uuid"));
                assert!(output.contains(&place), "{name}: {output}");
                assert_as_before(&machine);
            });
        }
    });
}

#[test]
fn a_probe_that_takes_too_long_in_all_is_ended() {
    let machine = Scenario::new(&format!("{SMALL}\n fault cuMemAlloc_v2 at=5 do=hang"));
    let told = Told { total: Duration::from_secs(1), ..Told::default() };
    let output = probe(&machine, &told);
    assert!(output.contains("did not end within 1s"), "{output}");
    assert!(output.contains("its last driver call was cuMemAlloc_v2"), "{output}");
    assert_as_before(&machine);
}

#[test]
fn an_error_at_any_call_is_named_and_nothing_is_left() {
    let calls = calls_of_a_probe(SMALL);
    for number in 1..=calls.len() {
        let name = &calls[number - 1].name;
        let code = [4711, 999, 1, 46][number % 4];
        let machine = Scenario::new(&format!("{SMALL}\n fault * at={number} code={code}"));
        let output = probe(&machine, &Told::default());
        assert!(!output.contains("panicked"), "call {number}, {name}: {output}");
        assert_as_before(&machine);
        if name.starts_with("cu") {
            let failed = format!("{} failed: CUDA", name.replace("Uuid_v2", "Uuid"));
            assert!(output.contains(&failed), "call {number}, {name}: {output}");
            assert!(output.contains(&code.to_string()), "{output}");
            let known = name.starts_with("cuDevicePrimaryCtxRelease");
            assert_eq!(said(&output).starts_with("ANSWER"), known, "{output}");
            // All but what the broken call itself was to give back.
            let spoilt = usize::from(name.contains("Free") || name.contains("Release"));
            let left = support::log::left(&machine.calls());
            assert!(left.len() <= spoilt, "call {number}, {name}: {left:?}");
        }
    }
}

#[test]
fn out_of_memory_at_any_allocation_is_an_answer() {
    let calls = calls_of_a_probe(SMALL);
    let largest = brute_force(1490, Bytes::mib(100), Bytes::mib(2));
    let allocations = calls.iter().filter(|call| call.name == "cuMemAlloc_v2").count();
    for number in 1..=allocations {
        let machine = Scenario::new(&format!("{SMALL}\n fault cuMemAlloc_v2 at={number} code=2"));
        let output = probe(&machine, &Told::default());
        let answer: u64 = said(&output).strip_prefix("ANSWER ").unwrap().parse().unwrap();
        assert!(answer <= largest, "{output}");
        machine.assert_balanced();
        assert_as_before(&machine);
    }
}

#[test]
fn a_driver_that_cannot_be_used_is_named_by_cause() {
    for (scenario, expected) in [
        ("driver cuda_init=34", "CUDA 34 (CUDA_ERROR_STUB_LIBRARY)"),
        ("driver cuda_init=100", "CUDA 100 (CUDA_ERROR_NO_DEVICE)"),
        ("driver cuda_init=803", "CUDA 803 (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)"),
        ("driver cuda_init=4711", "CUDA code 4711, which has no name here"),
    ] {
        let machine = Scenario::new(&format!("{SMALL}\n {scenario}"));
        let output = probe(&machine, &Told::default());
        assert!(said(&output).contains(expected), "{output}");
    }
    let machine = Scenario::new(SMALL);
    machine.without_symbol("cuMemAlloc_v2");
    let output = probe(&machine, &Told::default());
    assert_eq!(said(&output), "ERROR the driver lacks cuMemAlloc_v2");
    // A library that is none of NVIDIA's, and a file that is no library.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let other = maps.split_whitespace().find(|word| word.contains("/libc.so")).unwrap();
    let expectations = [
        (std::fs::read(other).unwrap(), "ERROR the driver lacks cuInit"),
        (b"not a library".to_vec(), "ERROR libcuda was not found, although NVML answers"),
    ];
    for (content, expected) in expectations {
        let machine = Scenario::new(SMALL);
        for name in ["libcuda.so", "libcuda.so.1"] {
            let path = machine.folder().join(name);
            std::fs::remove_file(&path).unwrap();
            std::fs::write(path, &content).unwrap();
        }
        assert_eq!(said(&probe(&machine, &Told::default())), expected);
    }
}

#[test]
fn a_gpu_that_had_better_not_be_probed_is_not_touched() {
    for (scenario, expected) in [
        ("gpu total=8GiB mode=prohibited", "its compute mode is `prohibited`"),
        (
            "gpu total=8GiB mode=exclusive\n process pid=4190001 bytes=1MiB name=python3",
            "it takes one process at a time, and a process (pid 4190001) holds memory",
        ),
        (
            "gpu total=8GiB\n process pid=4190001 bytes=1GiB name=python3",
            "it is in use: a process (pid 4190001) holds memory, 1.0 GiB in all",
        ),
        ("gpu total=8GiB\n mig gpu=0 total=4GiB", "it is partitioned by MIG"),
        (
            "gpu total=8GiB failing=nvmlDeviceGetMemoryInfo_v2:3",
            "its memory is unknown: nvmlDeviceGetMemoryInfo_v2 failed: NVML 3",
        ),
    ] {
        let machine = Scenario::new(scenario);
        let output = probe(&machine, &Told { shared: false, ..Told::default() });
        assert!(said(&output).contains(expected), "{output}");
        assert!(machine.calls().iter().all(|call| call.name.starts_with("nvml")));
    }
    let machine = Scenario::new("gpu total=8GiB integrated context=100MiB");
    let output = probe(&machine, &Told::default());
    assert!(said(&output).contains("shares the host's memory"), "{output}");
    assert!(machine.calls_of("cuDevicePrimaryCtxRetain").is_empty());
}

fn expandable() -> Told {
    Told { expandable: true, ..Told::default() }
}

/// What brute force finds on [`SMALL`] with expandable segments.
fn largest_expandable() -> u64 {
    let allocator = AllocatorMode::Expandable { total: Bytes::mib(1490) };
    brute_force_in(allocator, 1490, Bytes::mib(100), Bytes::mib(2))
}

#[test]
fn expandable_segments_are_probed_page_by_page_and_nothing_is_left() {
    let machine = Scenario::new(SMALL);
    let output = probe(&machine, &expandable());
    assert_eq!(said(&output), format!("ANSWER {}", largest_expandable()));
    machine.assert_balanced();
    assert_as_before(&machine);
    let calls = machine.calls();
    let of = |name: &str| calls.iter().filter(|call| call.name == name).collect::<Vec<_>>();
    let pages = of("cuMemCreate");
    let mib = |call: &&Call| call.number_of("bytes").map(|bytes| bytes >> 20);
    assert!(pages.len() > 60 && pages.iter().all(|page| mib(page) == Some(20)), "{pages:?}");
    // Nine eighths of the card in pages of 20 MiB, for each replay.
    let ranges = of("cuMemAddressReserve");
    assert!(ranges.iter().all(|range| mib(range) == Some(1680)), "{ranges:?}");
    // What looks at the granule is by segments.
    assert_eq!(of("cuMemAlloc_v2").len(), 2);
}

#[test]
fn an_error_at_any_call_of_expandable_segments_is_named_and_nothing_is_left() {
    let machine = Scenario::new(SMALL);
    assert!(said(&probe(&machine, &expandable())).starts_with("ANSWER"));
    let calls = machine.calls();
    let mapping: Vec<(usize, &Call)> =
        (1..).zip(&calls).filter(|(_, call)| call.name.starts_with("cuMem")).collect();
    for (number, call) in mapping.into_iter().step_by(5) {
        let name = &call.name;
        let code = [4711, 999, 1, 46][number % 4];
        let machine = Scenario::new(&format!("{SMALL}\n fault * at={number} code={code}"));
        let output = probe(&machine, &expandable());
        assert!(output.contains(&format!("{name} failed: CUDA")), "call {number}: {output}");
        assert!(output.contains(&code.to_string()) && !output.contains("panicked"), "{output}");
        let left = support::log::left(&machine.calls());
        let spoilt = match name.as_str() {
            // The addresses of what is still mapped cannot be given back either.
            "cuMemUnmap" => 2,
            name => usize::from(name.contains("Free") || name.contains("Release")),
        };
        assert!(left.len() <= spoilt, "call {number}, {name}: {left:?}");
        assert_as_before(&machine);
    }
}

#[test]
fn out_of_memory_at_any_page_is_an_answer() {
    let machine = Scenario::new(SMALL);
    probe(&machine, &expandable());
    let pages = machine.calls_of("cuMemCreate").len();
    let largest = largest_expandable();
    for number in (1..=pages).step_by(3) {
        let machine = Scenario::new(&format!("{SMALL}\n fault cuMemCreate at={number} code=2"));
        let output = probe(&machine, &expandable());
        let answer: u64 = said(&output).strip_prefix("ANSWER ").unwrap().parse().unwrap();
        assert!(answer <= largest, "{output}");
        machine.assert_balanced();
        assert_as_before(&machine);
    }
}

/// A neighbour takes memory while a row of pages is made, so that the driver refuses one of them:
/// what was made of the row is given back, and then no more is free than before the row.
#[test]
fn pages_of_a_refused_row_are_not_counted_twice_as_free() {
    let context = Bytes::mib(100);
    let kept = HEADROOM + outside(context) - context;
    let mut broken_rows = 0;
    for after in (4..60).step_by(4) {
        for take in [700, 900, 1100] {
            let machine = Scenario::new(&format!(
                "{SMALL}\n process pid=4190001 bytes=100MiB
                 steal cuMemCreate after={after} pid=4190001 take={take}MiB"
            ));
            let output = probe(&machine, &expandable());
            assert!(said(&output).starts_with("ANSWER "), "{output}");
            let calls = machine.calls();
            let is_refused = |call: &Call| call.name == "cuMemCreate" && call.result == "2";
            let Some(refused) = calls.iter().position(is_refused) else { continue };
            broken_rows += 1;
            let most = most_pages_after(&calls, refused);
            let held = most + context + if most == Bytes::ZERO { Bytes::ZERO } else { kept };
            assert!(held <= free(&machine), "{after} {take}: {most} at once, {kept} to be kept");
        }
    }
    assert!(broken_rows > 10, "{broken_rows}");
}

/// What is free once the probe has ended.
fn free(machine: &Scenario) -> Bytes {
    let machine = support::machine::Machine::open(&machine.path()).unwrap();
    let locked = machine.lock().unwrap();
    locked.reap();
    Bytes::new(locked.free(0))
}

/// The most that pages took at once when one was made after this call; zero where none was.
fn most_pages_after(calls: &[Call], at: usize) -> Bytes {
    let mut live = BTreeMap::new();
    let mut most = Bytes::ZERO;
    for (number, call) in calls.iter().enumerate().filter(|(_, call)| call.succeeded()) {
        let handle = call.number_of("handle");
        match call.name.as_str() {
            "cuMemCreate" => {
                live.insert(handle, Bytes::new(call.number_of("bytes").unwrap()));
            }
            "cuMemRelease" => {
                live.remove(&handle);
            }
            _ => {}
        }
        if number > at && call.name == "cuMemCreate" {
            most = most.max(live.values().copied().sum());
        }
    }
    most
}

#[test]
fn a_mapping_call_that_hangs_is_given_up() {
    let names = ["cuMemAddressReserve", "cuMemCreate", "cuMemMap", "cuMemSetAccess", "cuMemUnmap"];
    std::thread::scope(|scope| {
        for name in names {
            scope.spawn(move || {
                let machine = Scenario::new(&format!("{SMALL}\n fault {name} at=1 do=hang"));
                let told = Told { call: Duration::from_secs(2), ..expandable() };
                let output = probe(&machine, &told);
                let place = format!("{name} did not come back within 2s");
                assert!(output.contains(&place), "{name}: {output}");
                assert_as_before(&machine);
            });
        }
    });
}

#[test]
fn a_driver_without_virtual_memory_is_told_from_one_that_broke() {
    let lacks = "ERROR the driver has no virtual memory calls for this GPU: expandable segments \
                 cannot work on it";
    let machine = Scenario::new(SMALL);
    machine.without_symbol("cuMemCreate");
    assert_eq!(said(&probe(&machine, &expandable())), lacks);
    assert!(said(&probe(&machine, &Told::default())).starts_with("ANSWER"));
    let machine = Scenario::new(&format!("{SMALL}\n fault cuMemCreate at=1 code=801"));
    let output = probe(&machine, &expandable());
    assert!(said(&output).contains("cuMemCreate failed: CUDA 801 (CUDA_ERROR_NOT_SUPPORTED)"));
    let machine = Scenario::new(&format!("{SMALL} granularity={}", 4 << 20));
    let output = probe(&machine, &expandable());
    assert!(said(&output).contains("maps pages of 4194304 bytes"), "{output}");
    machine.assert_balanced();
    assert_as_before(&machine);
}
