//! Capturing streams into graphs: what is asked for is counted, not done, and events carry a
//! capture from stream to stream.

use super::event;
use super::graph::Graph;
use super::state::Ready;
use super::stream::{
    CAPTURE_UNSUPPORTED, INVALID_HANDLE, INVALID_VALUE, Streams, any_capturing, with,
};
use super::version::version;
use crate::c::Out;

/// `cudaErrorStreamCaptureInvalidated`
const INVALIDATED: u32 = 901;
/// `cudaErrorStreamCaptureUnmatched`
const UNMATCHED: u32 = 903;
/// `cudaErrorIllegalState`
const ILLEGAL_STATE: u32 = 401;

// cudaStreamCaptureStatus
const NONE: i32 = 0;
const ACTIVE: i32 = 1;
const INVALID: i32 = 2;

/// A capture that has begun.
pub struct Capture {
    /// The stream that it began on, and has to end on.
    origin: u64,
    /// Something was asked for that cannot be captured.
    pub(super) invalid: bool,
    /// Handle of the graph that it fills.
    graph: u64,
}

/// What is asked for of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A kernel, a copy or a fill.
    Device,
    /// A function of the host and what to call it with.
    Host(u64, u64),
}

/// Whether the work is captured, and so is not to be done now.
pub fn captures(stream: u64, work: Work) -> bool {
    if !any_capturing() {
        return false;
    }
    with(|streams| {
        let Some(graph) = streams.capture_of(stream).map(|(_, capture)| capture.graph) else {
            return false;
        };
        if let Some(graph) = streams.graphs.live.get_mut(&graph) {
            graph.add(work);
        }
        true
    })
}

/// `cudaStreamBeginCapture`: not on the legacy default stream.
pub fn begin(ready: Ready, stream: u64, _mode: i32) -> u32 {
    let graph = with(|streams| {
        let handle = streams.new_handle();
        streams.graphs.live.insert(handle, Graph::default());
        handle
    });
    begin_into(ready, stream, graph)
}

/// `cudaStreamBeginCaptureToGraph`
pub fn begin_to_graph(
    ready: Ready,
    stream: u64,
    graph: u64,
    _dependencies: u64,
    _edges: u64,
    _count: usize,
    _mode: i32,
) -> u32 {
    begin_into(ready, stream, graph)
}

fn begin_into(_: Ready, stream: u64, graph: u64) -> u32 {
    with(|streams| {
        let known = streams.graphs.live.contains_key(&graph);
        let number = streams.new_handle();
        match streams.live.get_mut(&stream) {
            None if stream <= 2 => CAPTURE_UNSUPPORTED,
            None => INVALID_HANDLE,
            Some(_) if !known => INVALID_VALUE,
            Some(live) if live.capture.is_some() => ILLEGAL_STATE,
            Some(live) => {
                live.capture = Some(number);
                let capture = Capture { origin: stream, invalid: false, graph };
                streams.captures.insert(number, capture);
                0
            }
        }
    })
}

/// `cudaStreamEndCapture`: on the stream that it began on.
pub fn end(_: Ready, stream: u64, graph: Out<u64>) -> u32 {
    with(|streams| {
        let Some((number, capture)) = streams.capture_of(stream) else {
            return ILLEGAL_STATE;
        };
        if capture.origin != stream {
            return UNMATCHED;
        }
        let (invalid, made) = (capture.invalid, capture.graph);
        forget(streams, number);
        graph.set_if_wanted(if invalid { 0 } else { made });
        if invalid { INVALIDATED } else { 0 }
    })
}

fn forget(streams: &mut Streams, number: u64) {
    streams.captures.remove(&number);
    for stream in streams.live.values_mut() {
        if stream.capture == Some(number) {
            stream.capture = None;
        }
    }
}

/// Returns status, number and graph of the capture that a stream is a part of.
fn status(stream: u64) -> (i32, u64, u64) {
    if !any_capturing() {
        return (NONE, 0, 0);
    }
    with(|streams| match streams.capture_of(stream) {
        None => (NONE, 0, 0),
        Some((number, capture)) => {
            (if capture.invalid { INVALID } else { ACTIVE }, number, capture.graph)
        }
    })
}

/// `cudaStreamIsCapturing`
pub fn is_capturing(_: Ready, stream: u64, answer: Out<i32>) -> u32 {
    if answer.set(status(stream).0).is_ok() { 0 } else { INVALID_VALUE }
}

/// `cudaStreamGetCaptureInfo_v2` and later: seven arguments from 13 (and `_v3`) on, six before.
pub fn info_v2(
    _: Ready,
    stream: u64,
    answer: Out<i32>,
    number: Out<u64>,
    graph: Out<u64>,
    dependencies: Out<u64>,
    count: Out<usize>,
) -> u32 {
    let (status, id, of) = status(stream);
    number.set_if_wanted(id);
    graph.set_if_wanted(of);
    dependencies.set_if_wanted(0);
    count.set_if_wanted(0);
    if answer.set(status).is_ok() { 0 } else { INVALID_VALUE }
}

/// `cudaStreamGetCaptureInfo_v3`, and the plain name in CUDA 13.
#[expect(clippy::too_many_arguments, reason = "the header's")]
pub fn info_v3(
    ready: Ready,
    stream: u64,
    answer: Out<i32>,
    number: Out<u64>,
    graph: Out<u64>,
    dependencies: Out<u64>,
    edges: Out<u64>,
    count: Out<usize>,
) -> u32 {
    edges.set_if_wanted(0);
    info_v2(ready, stream, answer, number, graph, dependencies, count)
}

/// `cudaStreamGetCaptureInfo`: before 13 it had three arguments, and what follows is not ours.
#[expect(clippy::too_many_arguments, reason = "the header's")]
pub fn info(
    ready: Ready,
    stream: u64,
    answer: Out<i32>,
    number: Out<u64>,
    graph: Out<u64>,
    dependencies: Out<u64>,
    edges: Out<u64>,
    count: Out<usize>,
) -> u32 {
    if version() >= 13000 {
        return info_v3(ready, stream, answer, number, graph, dependencies, edges, count);
    }
    let (status, id, _) = status(stream);
    number.set_if_wanted(id);
    if answer.set(status).is_ok() { 0 } else { INVALID_VALUE }
}

/// `cudaStreamUpdateCaptureDependencies`: only counts are kept of a graph, not its edges.
pub fn update_dependencies(_: Ready, stream: u64) -> u32 {
    if status(stream).0 == ACTIVE { 0 } else { ILLEGAL_STATE }
}

/// `cudaEventRecord`, `cudaEventRecordWithFlags`: the event belongs to the stream's capture.
pub fn record(_: Ready, handle: u64, stream: u64, _flags: u32) -> u32 {
    let capture = match any_capturing() {
        false => 0,
        true => with(|streams| streams.capture_of(stream).map_or(0, |(number, _)| number)),
    };
    event::record(handle, capture)
}

/// `cudaEventRecord`
pub fn record_plain(ready: Ready, handle: u64, stream: u64) -> u32 {
    record(ready, handle, stream, 0)
}

/// `cudaStreamWaitEvent`: the stream joins the capture that the event belongs to.
pub fn wait(_: Ready, stream: u64, handle: u64, _flags: u32) -> u32 {
    let Some(number) = event::capture(handle) else {
        return INVALID_HANDLE;
    };
    if number == 0 || !any_capturing() {
        return 0;
    }
    with(|streams| {
        if streams.captures.contains_key(&number)
            && let Some(live) = streams.live.get_mut(&stream)
            && live.capture.is_none()
        {
            live.capture = Some(number);
        }
        0
    })
}

/// `cudaThreadExchangeStreamCaptureMode`: no mode forbids anything here; it is kept as told.
pub fn exchange_mode(_: Ready, mode: Out<i32>) -> u32 {
    thread_local! {
        static MODE: std::cell::Cell<i32> = const { std::cell::Cell::new(0) };
    }
    match mode.get() {
        Ok(wanted @ 0..=2) => {
            mode.set_if_wanted(MODE.replace(wanted));
            0
        }
        _ => INVALID_VALUE,
    }
}
