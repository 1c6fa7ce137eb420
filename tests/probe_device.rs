//! What a probe finds on the stand-in driver, with steps made up by hand: the same as brute force, in
//! few replays, whatever the capacity, the neighbours and the granule.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod probe_support;
mod support;

use oomph::units::Bytes;
use probe_support::{
    HEADROOM, OUTSIDE, Told, assert_as_before, brute_force, fillings, probe, said,
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
        let kept = if expected == 0 { context } else { context.max(OUTSIDE) };
        assert!(peak + kept + HEADROOM <= Bytes::mib(free), "it ate into the kernels' room");
        replays.push(fillings(&machine.calls()) - 1);
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
    // The process is taken to need 350 MiB outside the allocator, of which its context has 300.
    assert!(output.contains("TERMS context=300.0 MiB kept=250.0 MiB granule=32.0 MiB"), "{output}");
    assert!(output.contains("WARNING \n") && output.contains("CONTENDED None"), "{output}");
}
