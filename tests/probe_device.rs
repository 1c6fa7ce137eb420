//! What a probe finds on the stand-in driver, with steps made up by hand: the same as brute force, in
//! few replays, whatever the capacity, the neighbours and the granule.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod probe_support;
mod support;

use oomph::units::Bytes;
use probe_support::{
    HEADROOM, Told, assert_as_before, brute_force, fillings, outside, probe, said,
};
use support::Scenario;

#[test]
fn the_probing_process() {
    probe_support::probing_process();
}

#[test]
fn the_answer_is_brute_forces_whatever_the_capacity_the_neighbours_and_the_granule() {
    let mut replays = Vec::new();
    for (total, reserved, context, granule, neighbour) in [
        (1024, 0, 0, 2, 0),
        (2048, 100, 250, 2, 0),
        (3000, 0, 300, 2, 500),
        (4096, 128, 300, 2, 0),
        (4096, 128, 300, 4, 0),
        (4096, 128, 300, 32, 0),
        (6144, 256, 450, 2, 1000),
        (6144, 256, 450, 64, 1000),
        (8192, 256, 450, 2, 0),
        (8192, 300, 450, 2, 3000),
        (12_288, 300, 450, 2, 1),
        (12_288, 300, 450, 16, 0),
        (16_384, 400, 500, 2, 7777),
        (24_576, 400, 500, 2, 0),
        (24_576, 400, 500, 128, 0),
        (700, 0, 100, 2, 0),
        (760, 0, 100, 2, 0),
        (900, 0, 100, 2, 0),
        (1500, 0, 100, 2, 999),
        (5000, 1, 1, 2, 333),
        (40_960, 600, 500, 2, 0),
        (10_000, 0, 0, 2, 5000),
    ] {
        let process = match neighbour {
            0 => String::new(),
            mib => format!("process gpu=0 pid=4190001 bytes={mib}MiB"),
        };
        let machine = Scenario::new(&format!(
            "gpu total={total}MiB reserved={reserved}MiB context={context}MiB \
             granularity={granule}MiB\n {process}"
        ));
        let free = total - reserved - neighbour;
        let expected = brute_force(free, Bytes::mib(context), Bytes::mib(granule));
        let output = probe(&machine, &Told::default());
        assert_eq!(said(&output), format!("ANSWER {expected}"), "{total} {granule} {neighbour}");
        machine.assert_balanced();
        assert_as_before(&machine);
        // `taken` by the log, so granules count: never into the headroom, nor, but for the look at
        // the granule, into what is kept for kernels.
        let peak = Bytes::new(machine.peak_bytes());
        let context = Bytes::mib(context);
        assert!(peak + context + HEADROOM <= Bytes::mib(free), "it ate into the headroom");
        let kept = if expected == 0 { context } else { outside(context) };
        assert!(peak + kept + HEADROOM <= Bytes::mib(free), "it ate into the kernels' room");
        // One filling is the look at the granule; nothing is filled where nothing fits.
        replays.push(fillings(&machine.calls()).saturating_sub(1));
        assert_eq!(machine.calls_of("cuInit").is_empty(), expected == 0, "{output}");
    }
    replays.sort_unstable();
    let median = replays[replays.len() / 2];
    assert!(median <= 2, "{replays:?}");
    assert!(replays.iter().all(|replays| *replays <= 3), "{replays:?}");
}

#[test]
fn the_context_and_the_room_for_kernels_are_accounted() {
    let machine = Scenario::new("gpu total=8GiB reserved=100MiB context=300MiB granularity=32MiB");
    let output = probe(&machine, &Told::default());
    // The context takes 300 MiB, kernels 256 more; it is allowed 360.
    assert!(output.contains("TERMS context=300.0 MiB kept=456.0 MiB granule=32.0 MiB"), "{output}");
    assert!(output.contains("WARNING \n") && output.contains("CONTENDED None"), "{output}");
}

#[test]
fn success_past_the_cards_memory_is_not_believed() {
    let machine = Scenario::new("gpu total=4GiB context=400MiB overcommit");
    let expected = brute_force(4096, Bytes::mib(400), Bytes::mib(2));
    let output = probe(&machine, &Told::default());
    assert_eq!(said(&output), format!("ANSWER {expected}"));
    assert!(machine.peak_bytes() <= 4 << 30, "it took the host's memory");
}

#[test]
fn another_index_order_in_cuda_changes_nothing() {
    let machine = Scenario::new(
        "driver order=1,0\n gpu total=3GiB context=400MiB\n gpu total=9GiB context=400MiB",
    );
    let expected = brute_force(3072, Bytes::mib(400), Bytes::mib(2));
    let output = probe(&machine, &Told::default());
    assert_eq!(said(&output), format!("ANSWER {expected}"), "{output}");
    assert_as_before(&machine);
    assert!(machine.calls_of("cuMemAlloc_v2").len() > 10);
}

#[test]
fn a_mig_instance_is_probed_as_a_device_of_its_own() {
    let machine = Scenario::new(
        "gpu total=80GiB context=400MiB
         mig gpu=0 index=2 total=5GiB uuid=MIG-00000002-0000-4000-8000-000000000000
         mig gpu=0 index=3 total=20GiB
         process gpu=0 mig=3 pid=4190001 bytes=19GiB",
    );
    let told = Told { uuid: "MIG-00000002-0000-4000-8000-000000000000", ..Told::default() };
    let output = probe(&machine, &Told { shared: false, ..told });
    let expected = brute_force(5120, Bytes::mib(400), Bytes::mib(2));
    assert_eq!(said(&output), format!("ANSWER {expected}"), "{output}");
    machine.assert_balanced();
}

#[test]
fn neighbours_that_move_during_the_search_are_noticed() {
    let scenario = "gpu total=8GiB context=400MiB\n process pid=4190001 bytes=3GiB";
    let answer = |free| brute_force(free, Bytes::mib(400), Bytes::mib(2));
    let steady = Scenario::new(scenario);
    assert_eq!(said(&probe(&steady, &Told::default())), format!("ANSWER {}", answer(5120)));
    // At any allocation of the search: memory is taken, or given back.
    let allocations = steady.calls_of("cuMemAlloc_v2").len();
    for after in 3..allocations {
        for (steal, free) in [("take=1GiB", 4096), ("give=1500MiB", 6620)] {
            let machine = Scenario::new(&format!(
                "{scenario}\n steal cuMemAlloc_v2 after={after} pid=4190001 {steal}"
            ));
            let output = probe(&machine, &Told::default());
            assert_eq!(
                said(&output),
                format!("ANSWER {}", answer(free)),
                "{after} {steal}: {output}"
            );
            machine.assert_balanced();
        }
    }
}
