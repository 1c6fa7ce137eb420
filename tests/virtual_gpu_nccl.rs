//! The simulated GPU's NCCL: ranks are processes, small collectives are really exchanged.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use support::child::{self, Child};
use support::{Scenario, machine::notes::Kind};

const RANKS: i32 = 3;
/// `ncclRemoteError`
const REMOTE_ERROR: u32 = 6;

/// `ncclUniqueId`
#[repr(C)]
#[derive(Clone, Copy)]
struct UniqueId([u8; 128]);

const UINT8: u32 = 1;
const INT32: u32 = 2;
const INT64: u32 = 4;
const HALF: u32 = 6;
const FLOAT: u32 = 7;
const BRAIN: u32 = 9;
const SUM: u32 = 0;
const PRODUCT: u32 = 1;
const MAX: u32 = 2;
const MIN: u32 = 3;
const AVERAGE: u32 = 4;

fn at<T>(values: &[T]) -> u64 {
    values.as_ptr().expose_provenance() as u64
}

/// Joins as the next rank: who comes first makes the id, as torch's store does.
fn join() -> (u64, i32) {
    let scenario = std::env::var("OOMPH_VIRTUAL_GPU").expect("is set");
    let rank = (0..).find(|rank| fs::File::create_new(format!("{scenario}.rank{rank}")).is_ok());
    let rank = rank.expect("one is free");
    let path = format!("{scenario}.id");
    let mut id = UniqueId([0; 128]);
    if rank == 0 {
        assert_eq!(cuda!(ncclGetUniqueId(&mut id => *mut UniqueId)), 0);
        fs::write(format!("{path}.new"), id.0).expect("is written");
        fs::rename(format!("{path}.new"), &path).expect("is renamed");
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while !fs::exists(&path).expect("can be looked at") {
        assert!(Instant::now() < deadline, "the first rank never came");
        std::thread::sleep(Duration::from_millis(1));
    }
    id.0 = fs::read(&path).expect("is there").try_into().expect("128 bytes");
    assert_eq!(cuda!(cudaSetDevice(rank => i32)), 0);
    let mut communicator = 0;
    let code = cuda!(ncclCommInitRank(
        &mut communicator => *mut u64, RANKS => i32, id => UniqueId, rank => i32
    ));
    assert_eq!(code, 0);
    (communicator, rank)
}

fn all_reduce<T>(of: u64, from: &[T], to: &mut [T], kind: u32, by: u32) -> u32 {
    let (source, target, count) = (at(from), at(to), from.len());
    cuda!(ncclAllReduce(
        source => u64, target => u64, count => usize, kind => u32, by => u32, of => u64, 0 => u64
    ))
}

/// Starts every rank on the part of that name, and fails if one fails.
fn run_ranks(machine: &Scenario, part: &str) {
    let mut ranks: Vec<_> = (0..RANKS)
        .map(|_| {
            let program = std::env::current_exe().expect("has a path");
            let mut command = machine.command(program);
            command.args(["--exact", part, "--ignored", "--nocapture"]);
            command.env("OOMPH_TEST_ROLE", "part").spawn().expect("the test binary runs")
        })
        .collect();
    for rank in &mut ranks {
        assert!(rank.wait().expect("it ends").success());
    }
}

fn three_cards() -> Scenario {
    Scenario::unlogged("gpu total=8GiB nccl=100MiB\ngpu total=8GiB\ngpu total=8GiB")
}

#[test]
fn small_collectives_are_exchanged_and_buffers_are_charged() {
    let machine = three_cards();
    run_ranks(&machine, "part_that_does_every_collective");
    let peaks = machine.peaks();
    let bytes: Vec<_> = peaks.places.iter().map(|place| place.peak_bytes).collect();
    // The communicator and what rank 0 split off.
    assert_eq!(bytes, [200 << 20, 0, 0]);
    let notes = machine.notes();
    let said = notes.iter().find(|note| note.kind == Kind::Allowance).expect("is noted");
    assert_eq!(said.detail, "nccl 104857600");
}

#[test]
#[ignore = "a part of small_collectives_are_exchanged_and_buffers_are_charged"]
fn part_that_does_every_collective() {
    if !child::is_part() {
        return;
    }
    let (of, rank) = join();
    reductions(of, rank);
    gathers(of, rank);
    messages(of, rank);
    splits(of, rank);
    assert_eq!(cuda!(ncclCommDestroy(of => u64)), 0);
    assert_eq!(cuda!(ncclCommDestroy(of => u64)), 4);
}

fn reductions(of: u64, rank: i32) {
    let own = [rank + 1, -(rank + 1), 7];
    let wanted = [
        (SUM, [6, -6, 21]),
        (PRODUCT, [6, -6, 343]),
        (MAX, [3, -1, 7]),
        (MIN, [1, -3, 7]),
        (AVERAGE, [2, -2, 7]),
    ];
    for (by, answer) in wanted {
        let mut got = [0; 3];
        assert_eq!(all_reduce(of, &own, &mut got, INT32, by), 0);
        assert_eq!(got, answer, "reduction {by}");
    }
    let mut long = [0i64];
    assert_eq!(all_reduce(of, &[i64::from(rank) << 40], &mut long, INT64, MAX), 0);
    assert_eq!(long, [2 << 40]);
    let mut single = [0f32];
    assert_eq!(all_reduce(of, &[rank as f32 / 2.0], &mut single, FLOAT, AVERAGE), 0);
    assert_eq!(single, [0.5]);
    // 1.5 in bfloat16 and in half precision; three of them are 4.5.
    let mut sixteen = [0u16];
    assert_eq!(all_reduce(of, &[0x3fc0u16], &mut sixteen, BRAIN, SUM), 0);
    assert_eq!(sixteen, [0x4090]);
    assert_eq!(all_reduce(of, &[0x3e00u16], &mut sixteen, HALF, SUM), 0);
    assert_eq!(sixteen, [0x4480]);
    let (mut scaled, half) = (0u32, [0.5f32]);
    let made = cuda!(ncclRedOpCreatePreMulSum(
        &mut scaled => *mut u32, at(&half) => u64, FLOAT => u32, 1 => u32, of => u64
    ));
    assert_eq!(made, 0);
    assert_eq!(all_reduce(of, &[2.0f32], &mut single, FLOAT, scaled), 0);
    assert_eq!(single, [3.0]);
    // Large ones are skipped, by all ranks alike.
    let large = vec![1i32; 20_000];
    let mut answer = vec![0i32; 20_000];
    assert_eq!(all_reduce(of, &large, &mut answer, INT32, SUM), 0);
    assert!(answer.iter().all(|value| *value == 0));
}

fn gathers(of: u64, rank: i32) {
    let own = [rank * 10, rank * 10 + 1];
    let mut all = [-1; 6];
    let code = cuda!(ncclAllGather(
        at(&own) => u64, at(&all) => u64, 2 => usize, INT32 => u32, of => u64, 0 => u64
    ));
    assert_eq!((code, std::hint::black_box(&mut all)), (0, &mut [0, 1, 10, 11, 20, 21]));
    let parts = [rank, rank + 10, rank + 20];
    let mut piece = [-1];
    let code = cuda!(ncclReduceScatter(
        at(&parts) => u64, at(&piece) => u64, 1 => usize, INT32 => u32, SUM => u32, of => u64,
        0 => u64
    ));
    assert_eq!((code, *std::hint::black_box(&mut piece)), (0, [3 + 30 * rank]));
    let mut value = [rank];
    let code = cuda!(ncclBroadcast(
        at(&value) => u64, at(&value) => u64, 1 => usize, INT32 => u32, 2 => i32, of => u64,
        0 => u64
    ));
    assert_eq!((code, *std::hint::black_box(&mut value)), (0, [2]));
    let mut sum = [-1];
    let code = cuda!(ncclReduce(
        at(&[rank]) => u64, at(&sum) => u64, 1 => usize, INT32 => u32, SUM => u32, 1 => i32,
        of => u64, 0 => u64
    ));
    let wanted = if rank == 1 { 3 } else { -1 };
    assert_eq!((code, *std::hint::black_box(&mut sum)), (0, [wanted]));
    let root = cuda!(ncclBroadcast(
        at(&value) => u64, at(&value) => u64, 1 => usize, INT32 => u32, 3 => i32, of => u64,
        0 => u64
    ));
    assert_eq!(root, 4);
}

/// Every rank to every rank, more messages than a ring holds, in one group.
fn messages(of: u64, rank: i32) {
    const ROUNDS: usize = 20;
    let own: Vec<i32> = (0..ROUNDS as i32).map(|round| rank * 100 + round).collect();
    let mut got = vec![[-1i32; ROUNDS]; RANKS as usize];
    assert_eq!(cuda!(ncclGroupStart()), 0);
    for round in 0..ROUNDS {
        for peer in 0..RANKS {
            let from = at(&own[round..]);
            let sent = cuda!(ncclSend(
                from => u64, 1 => usize, INT32 => u32, peer => i32, of => u64, 0 => u64
            ));
            let to = at(&got[peer as usize][round..]);
            let received = cuda!(ncclRecv(
                to => u64, 1 => usize, INT32 => u32, peer => i32, of => u64, 0 => u64
            ));
            assert_eq!((sent, received), (0, 0));
        }
    }
    assert_eq!(cuda!(ncclGroupEnd()), 0);
    for (peer, row) in std::hint::black_box(&mut got).iter().enumerate() {
        let wanted: [i32; ROUNDS] = std::array::from_fn(|round| peer as i32 * 100 + round as i32);
        assert_eq!(row, &wanted);
    }
    assert_eq!(cuda!(ncclGroupEnd()), 5);
}

/// Ranks 0 and 2 make a communicator in the order of their keys; rank 1 has no part in it.
fn splits(of: u64, rank: i32) {
    let mut part = 1u64;
    let colour = if rank == 1 { -1 } else { 5 };
    let code = cuda!(ncclCommSplit(
        of => u64, colour => i32, -rank => i32, &mut part => *mut u64, 0 => u64
    ));
    assert_eq!((code, part == 0), (0, rank == 1));
    if part == 0 {
        return;
    }
    let (mut ranks, mut own) = (0, 0);
    assert_eq!(cuda!(ncclCommCount(part => u64, &mut ranks => *mut i32)), 0);
    assert_eq!(cuda!(ncclCommUserRank(part => u64, &mut own => *mut i32)), 0);
    assert_eq!((ranks, own), (2, if rank == 2 { 0 } else { 1 }));
    let mut sum = [0];
    assert_eq!(all_reduce(part, &[rank], &mut sum, INT32, SUM), 0);
    assert_eq!(sum, [2]);
    assert_eq!(cuda!(ncclCommDestroy(part => u64)), 0);
}

#[test]
fn a_flag_of_kernels_is_raised_by_no_rank() {
    run_ranks(&three_cards(), "part_that_reduces_flags");
}

#[test]
#[ignore = "a part of a_flag_of_kernels_is_raised_by_no_rank"]
fn part_that_reduces_flags() {
    if !child::is_part() {
        return;
    }
    let (of, _) = join();
    let mut flag = 0u64;
    assert_eq!(cuda!(cudaMalloc(&mut flag => *mut u64, 512 => usize)), 0);
    // That all have to agree is not such a flag.
    for (by, wanted) in [(MAX, 0), (MIN, 1), (SUM, 0)] {
        let reduced = cuda!(ncclAllReduce(
            flag => u64, flag => u64, 1 => usize, UINT8 => u32, by => u32, of => u64, 0 => u64
        ));
        let byte = [0xaau8];
        let read = cuda!(cudaMemcpy(at(&byte) => u64, flag => u64, 1 => usize, 4 => u32));
        assert_eq!((reduced, read, std::hint::black_box(byte)), (0, 0, [wanted]), "by {by}");
    }
}

#[test]
fn a_rank_that_dies_fails_the_others() {
    let machine = three_cards();
    // Each joins in a thread of its own start: joining waits for all.
    let mut ranks: Vec<Child> = std::thread::scope(|scope| {
        let start = || scope.spawn(|| Child::start(&machine, "part_that_loses_a_rank"));
        let started: Vec<_> = (0..RANKS).map(|_| start()).collect();
        started.into_iter().map(|child| child.join().expect("it started")).collect()
    });
    ranks.remove(0).kill();
    for rank in ranks {
        assert!(rank.finish().success());
    }
}

#[test]
#[ignore = "a part of a_rank_that_dies_fails_the_others"]
fn part_that_loses_a_rank() {
    if !child::is_part() {
        return;
    }
    let (of, _) = join();
    let mut sum = [0];
    assert_eq!(all_reduce(of, &[1], &mut sum, INT32, SUM), 0);
    assert_eq!(sum, [3]);
    child::hold();
    assert_eq!(all_reduce(of, &[1], &mut sum, INT32, SUM), REMOTE_ERROR);
    let mut failure = 0;
    assert_eq!(cuda!(ncclCommGetAsyncError(of => u64, &mut failure => *mut u32)), 0);
    assert_eq!(failure, REMOTE_ERROR);
    assert_eq!(cuda!(ncclCommAbort(of => u64)), 0);
}

#[test]
fn one_process_can_have_all_ranks() {
    let machine = three_cards();
    child::run(&machine, || {
        let mut all = [0u64; 3];
        let devices = [0, 1, 2];
        let code = cuda!(ncclCommInitAll(
            all.as_mut_ptr() => *mut u64, 3 => i32, devices.as_ptr() => *const i32
        ));
        assert_eq!(code, 0);
        let values = [[1], [10], [100]];
        let mut sums = [[0]; 3];
        assert_eq!(cuda!(ncclGroupStart()), 0);
        for (rank, of) in all.iter().enumerate() {
            assert_eq!(all_reduce(*of, &values[rank], &mut sums[rank], INT32, SUM), 0);
        }
        assert_eq!(cuda!(ncclGroupEnd()), 0);
        assert_eq!(std::hint::black_box(&mut sums), &mut [[111]; 3]);
    });
}
