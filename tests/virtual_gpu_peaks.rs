//! The virtual GPU's ledger beyond the life of who held memory, and what the library says of a run.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use support::driver::{allocate, context, free};
use support::machine::notes::{Kind, Note, parse};
use support::{Scenario, child};

const MIB: u64 = 1 << 20;

#[test]
fn peaks_stay_when_the_process_is_gone() {
    let machine = Scenario::new("gpu total=8GiB context=300MiB\ngpu total=8GiB");
    child::run(&machine, || {
        context(0).expect("a context");
        let first = allocate(100 * MIB).expect("fits");
        free(first).expect("was allocated");
        allocate(30 * MIB).expect("fits");
    });
    let peaks = machine.peaks();
    assert_eq!(machine.held(0), 0);
    assert_eq!(peaks.places.iter().map(|p| p.peak_bytes).collect::<Vec<_>>(), [400 * MIB, 0]);
    let processes: Vec<_> = peaks.processes.iter().map(|p| (p.place, p.peak_bytes)).collect();
    assert_eq!(processes, [(0, 400 * MIB)]);
    assert_eq!(peaks.unrecorded, 0);
}

#[test]
fn the_last_refusal_of_a_process_is_kept_with_what_was_left() {
    let machine = Scenario::new("gpu total=1GiB context=300MiB client_limit=500MiB");
    child::run(&machine, || {
        context(0).expect("a context");
        allocate(700 * MIB).expect_err("more than a client may hold");
        allocate(150 * MIB).expect("fits");
        allocate(51 * MIB).expect_err("a granule more than is left");
        allocate(50 * MIB).expect("fits");
    });
    let refused = machine.peaks().processes[0].refused.expect("it was refused");
    assert_eq!((refused.times, refused.wanted_bytes, refused.left_bytes), (2, 52 * MIB, 50 * MIB));
}

#[test]
fn a_second_process_has_a_record_of_its_own() {
    let machine = Scenario::new("gpu total=8GiB");
    for bytes in [10 * MIB, 20 * MIB] {
        child::run_with(&machine, &[("BYTES", &bytes.to_string())], || {
            let bytes = std::env::var("BYTES").expect("is set").parse().expect("a number");
            context(0).expect("a context");
            allocate(bytes).expect("fits");
        });
    }
    let peaks = machine.peaks();
    let processes: Vec<_> = peaks.processes.iter().map(|p| p.peak_bytes).collect();
    assert_eq!((peaks.places[0].peak_bytes, processes), (20 * MIB, vec![10 * MIB, 20 * MIB]));
}

#[test]
fn the_peak_of_a_card_counts_its_instances_and_neighbours() {
    let machine = Scenario::new(
        "gpu total=8GiB mig=on
         mig gpu=0 total=4GiB
         mig gpu=0 total=4GiB
         process gpu=0 mig=1 pid=4242 bytes=1GiB",
    );
    child::run(&machine, || {
        context(0).expect("a context");
        allocate(10 * MIB).expect("fits");
    });
    let bytes: Vec<_> = machine.peaks().places.iter().map(|p| p.peak_bytes).collect();
    assert_eq!(bytes, [1034 * MIB, 10 * MIB, 0]);
}

#[test]
fn notes_are_read_as_they_are_written_and_a_torn_line_is_dropped() {
    let note = Note { pid: 7, kind: Kind::Unanswered, detail: "cudaFoo bar".to_owned() };
    let text = format!("{}8 no-such-kind x\n9 readback 10\n9 readback 1", note.line());
    let read = Note { pid: 9, kind: Kind::Readback, detail: "10".to_owned() };
    assert_eq!(parse(&text), [note, read]);
}
