//! The simulated GPU's streams, events and graphs: nothing is ever under way, states are right.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use support::{Scenario, child};

/// `cudaErrorStreamCaptureUnsupported`
const UNSUPPORTED: u32 = 900;
const INVALIDATED: u32 = 901;
const UNMATCHED: u32 = 903;
const INVALID_HANDLE: u32 = 400;

fn stream() -> u64 {
    let mut stream = 0;
    let code = cuda!(cudaStreamCreateWithPriority(&mut stream => *mut u64, 1 => u32, -9 => i32));
    assert_eq!(code, 0);
    stream
}

fn event() -> u64 {
    let mut event = 0;
    assert_eq!(cuda!(cudaEventCreateWithFlags(&mut event => *mut u64, 0 => u32)), 0);
    event
}

fn begin(stream: u64) -> u32 {
    cuda!(cudaStreamBeginCapture(stream => u64, 0 => i32))
}

fn end(stream: u64) -> (u32, u64) {
    let mut graph = 0;
    (cuda!(cudaStreamEndCapture(stream => u64, &mut graph => *mut u64)), graph)
}

fn status(stream: u64) -> i32 {
    let mut status = -1;
    assert_eq!(cuda!(cudaStreamIsCapturing(stream => u64, &mut status => *mut i32)), 0);
    status
}

fn fill(stream: u64) -> u32 {
    cuda!(cudaMemsetAsync(0x1000_0000_0000 => u64, 0 => i32, 4 => usize, stream => u64))
}

fn nodes(graph: u64) -> usize {
    let mut count = 0;
    let none = std::ptr::null_mut();
    let code = cuda!(cudaGraphGetNodes(graph => u64, none => *mut u64, &mut count => *mut usize));
    assert_eq!(code, 0);
    count
}

#[test]
fn a_stream_has_its_priority_within_the_range() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let stream = stream();
        let mut priority = 0;
        let ask = |stream: u64, priority: &mut i32| cuda!(cudaStreamGetPriority(stream => u64, priority => *mut i32));
        assert_eq!((ask(stream, &mut priority), priority), (0, -5));
        assert_eq!((ask(0, &mut priority), priority), (0, 0));
        assert_eq!(cuda!(cudaStreamQuery(stream => u64)), 0);
        assert_eq!(cuda!(cudaStreamDestroy(stream => u64)), 0);
        assert_eq!(cuda!(cudaStreamDestroy(stream => u64)), INVALID_HANDLE);
        assert_eq!(ask(stream, &mut priority), INVALID_HANDLE);
    });
}

#[test]
fn events_are_done_and_measure_the_hosts_time() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let (start, end) = (event(), event());
        let record = |event: u64| cuda!(cudaEventRecord(event => u64, 0 => u64));
        let mut milliseconds = -1.0f32;
        let mut elapsed = || {
            let code = cuda!(cudaEventElapsedTime(
                &mut milliseconds => *mut f32, start => u64, end => u64
            ));
            (code, milliseconds)
        };
        assert_eq!(elapsed().0, INVALID_HANDLE);
        assert_eq!(record(start), 0);
        std::thread::sleep(std::time::Duration::from_millis(3));
        assert_eq!(record(end), 0);
        let (code, time) = elapsed();
        assert!(code == 0 && time >= 3.0, "{code} {time}");
        assert_eq!(cuda!(cudaEventQuery(end => u64)), 0);
        assert_eq!(cuda!(cudaEventSynchronize(end => u64)), 0);
        assert_eq!(cuda!(cudaEventDestroy(end => u64)), 0);
        assert_eq!(cuda!(cudaEventDestroy(end => u64)), INVALID_HANDLE);
        assert_eq!(record(end), INVALID_HANDLE);
    });
}

#[test]
fn a_capture_counts_what_is_asked_for_and_ends_where_it_began() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let (one, two) = (stream(), stream());
        assert_eq!(begin(0), UNSUPPORTED);
        assert_eq!((begin(one), status(one), status(two)), (0, 1, 0));
        assert_eq!(begin(one), 401);
        assert_eq!((fill(one), fill(two), fill(one)), (0, 0, 0));
        // An event carries the capture to another stream.
        let event = event();
        assert_eq!(cuda!(cudaEventRecord(event => u64, one => u64)), 0);
        let wait = cuda!(cudaStreamWaitEvent(two => u64, event => u64, 0 => u32));
        assert_eq!((wait, status(two), fill(two)), (0, 1, 0));
        let (mut state, mut ids) = (0, [0u64; 2]);
        for (stream, id) in [one, two].into_iter().zip(&mut ids) {
            let none = std::ptr::null_mut::<u64>();
            let code = cuda!(cudaStreamGetCaptureInfo_v2(
                stream => u64, &mut state => *mut i32, id => *mut u64, none => *mut u64,
                none => *mut u64, none => *mut u64
            ));
            assert_eq!((code, state), (0, 1));
        }
        assert!(ids[0] != 0 && ids[0] == ids[1]);
        assert_eq!(end(two).0, UNMATCHED);
        let (code, graph) = end(one);
        assert_eq!((code, nodes(graph), status(one), status(two)), (0, 3, 0, 0));
        assert_eq!(cuda!(cudaGraphDestroy(graph => u64)), 0);
        assert_eq!(cuda!(cudaGraphDestroy(graph => u64)), 1);
    });
}

#[test]
fn waiting_for_a_captured_stream_breaks_the_capture() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let stream = stream();
        assert_eq!(begin(stream), 0);
        assert_eq!(cuda!(cudaStreamSynchronize(stream => u64)), UNSUPPORTED);
        assert_eq!((status(stream), end(stream)), (2, (INVALIDATED, 0)));
        assert_eq!((status(stream), cuda!(cudaStreamSynchronize(stream => u64))), (0, 0));
    });
}

extern "C" fn count(counter: *const AtomicU64) {
    // SAFETY: the test passes the address of a counter that outlives the call.
    unsafe { &*counter }.fetch_add(1, SeqCst);
}

#[test]
fn the_hosts_functions_run_at_once_or_at_each_replay() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let stream = stream();
        let ask = || {
            let function = count as extern "C" fn(*const AtomicU64);
            cuda!(cudaLaunchHostFunc(
                stream => u64, function => extern "C" fn(*const AtomicU64),
                &CALLS => *const AtomicU64
            ))
        };
        assert_eq!((ask(), CALLS.load(SeqCst)), (0, 1));
        assert_eq!(begin(stream), 0);
        assert_eq!((ask(), CALLS.load(SeqCst)), (0, 1));
        let (_, graph) = end(stream);
        let mut executable = 0;
        let code = cuda!(cudaGraphInstantiate(
            &mut executable => *mut u64, graph => u64, 0 => u64
        ));
        assert_eq!(code, 0);
        let replay = || cuda!(cudaGraphLaunch(executable => u64, stream => u64));
        assert_eq!((replay(), replay(), CALLS.load(SeqCst)), (0, 0, 3));
        assert_eq!(cuda!(cudaGraphExecDestroy(executable => u64)), 0);
        assert_eq!(replay(), INVALID_HANDLE);
    });
}

#[test]
fn a_users_object_ends_with_the_last_graph_that_holds_it() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        static ENDED: AtomicU64 = AtomicU64::new(0);
        let (mut graph, mut executable, mut object) = (0u64, 0u64, 0u64);
        assert_eq!(cuda!(cudaGraphCreate(&mut graph => *mut u64, 0 => u32)), 0);
        let function = count as extern "C" fn(*const AtomicU64);
        let made = cuda!(cudaUserObjectCreate(
            &mut object => *mut u64, &ENDED => *const AtomicU64,
            function => extern "C" fn(*const AtomicU64), 1 => u32, 1 => u32
        ));
        // 1: the caller's own hold moves to the graph.
        let kept = cuda!(cudaGraphRetainUserObject(
            graph => u64, object => u64, 1 => u32, 1 => u32
        ));
        assert_eq!((made, kept), (0, 0));
        let code = cuda!(cudaGraphInstantiate(
            &mut executable => *mut u64, graph => u64, 0 => u64
        ));
        assert_eq!(code, 0);
        assert_eq!(cuda!(cudaGraphDestroy(graph => u64)), 0);
        assert_eq!(ENDED.load(SeqCst), 0);
        assert_eq!(cuda!(cudaGraphExecDestroy(executable => u64)), 0);
        assert_eq!(ENDED.load(SeqCst), 1);
    });
}
