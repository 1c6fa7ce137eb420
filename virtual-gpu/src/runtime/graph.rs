//! Graphs: how many nodes they have, the host's functions among them, and the program's own
//! objects that they keep alive. A replay calls the functions; kernels do nothing anyway.

use std::collections::BTreeMap;

use super::capture::Work;
use super::launch;
use super::state::Ready;
use super::stream::{INVALID_HANDLE, INVALID_VALUE, with};
use crate::c::Out;

/// Graphs, what was instantiated from them, and objects.
#[derive(Default)]
pub struct Graphs {
    /// Graphs by handle.
    pub live: BTreeMap<u64, Graph>,
    executable: BTreeMap<u64, Graph>,
    objects: BTreeMap<u64, Object>,
}

/// A graph.
#[derive(Default, Clone)]
pub struct Graph {
    nodes: usize,
    functions: Vec<(u64, u64)>,
    /// Handles of objects and how often each is held.
    objects: Vec<(u64, u32)>,
}

/// A `cudaUserObject_t`: what to call, with what, when nobody holds it any more.
struct Object {
    function: u64,
    data: u64,
    count: u32,
}

impl Graph {
    /// Adds a node.
    pub fn add(&mut self, work: Work) {
        self.nodes += 1;
        if let Work::Host(function, data) = work {
            self.functions.push((function, data));
        }
    }
}

/// Functions to call once the table's lock is given up.
type Ended = Vec<(u64, u64)>;

impl Graphs {
    /// Lets go of objects; returns what has to be called.
    fn release(&mut self, held: &[(u64, u32)]) -> Ended {
        let mut ended = Vec::new();
        for (handle, count) in held {
            if let Some(object) = self.objects.get_mut(handle) {
                object.count = object.count.saturating_sub(*count);
                if object.count == 0 {
                    ended.push((object.function, object.data));
                    self.objects.remove(handle);
                }
            }
        }
        ended
    }
}

fn call_all(functions: Ended) {
    for (function, data) in functions {
        launch::call_host(function, data);
    }
}

/// `cudaGraphCreate`
pub fn create(_: Ready, graph: Out<u64>, _flags: u32) -> u32 {
    with(|streams| {
        let handle = streams.new_handle();
        streams.graphs.live.insert(handle, Graph::default());
        if graph.set(handle).is_ok() { 0 } else { INVALID_VALUE }
    })
}

/// `cudaGraphGetNodes`: the count, and handles if there is room given.
pub fn nodes(_: Ready, graph: u64, nodes: Out<u64>, count: Out<usize>) -> u32 {
    with(|streams| {
        let Some(found) = streams.graphs.live.get(&graph) else {
            return INVALID_VALUE;
        };
        if !nodes.is_null() {
            let room = count.get().unwrap_or(0);
            for index in 0..room.min(found.nodes) {
                // A number that no other handle has.
                let _ = nodes.set_at(index, (graph << 20) + index as u64);
            }
        }
        if count.set(found.nodes).is_ok() { 0 } else { INVALID_VALUE }
    })
}

/// `cudaGraphInstantiate` of every version and `...WithFlags`: what it makes holds the graph's
/// objects too.
pub fn instantiate(_: Ready, executable: Out<u64>, graph: u64) -> u32 {
    with(|streams| {
        let Some(copy) = streams.graphs.live.get(&graph).cloned() else {
            return INVALID_VALUE;
        };
        for (object, count) in &copy.objects {
            if let Some(object) = streams.graphs.objects.get_mut(object) {
                object.count += count;
            }
        }
        let handle = streams.new_handle();
        streams.graphs.executable.insert(handle, copy);
        if executable.set(handle).is_ok() { 0 } else { INVALID_VALUE }
    })
}

/// `cudaGraphLaunch`
pub fn launch(_: Ready, executable: u64, _stream: u64) -> u32 {
    let functions =
        with(|streams| streams.graphs.executable.get(&executable).map(|g| g.functions.clone()));
    match functions {
        Some(functions) => {
            call_all(functions);
            0
        }
        None => INVALID_HANDLE,
    }
}

/// `cudaGraphUpload`
pub fn upload(_: Ready, executable: u64, _stream: u64) -> u32 {
    let known = with(|streams| streams.graphs.executable.contains_key(&executable));
    if known { 0 } else { INVALID_HANDLE }
}

/// `cudaGraphDestroy`
pub fn destroy(_: Ready, graph: u64) -> u32 {
    let ended = with(|streams| {
        let gone = streams.graphs.live.remove(&graph)?;
        Some(streams.graphs.release(&gone.objects))
    });
    match ended {
        Some(ended) => {
            call_all(ended);
            0
        }
        None => INVALID_VALUE,
    }
}

/// `cudaGraphExecDestroy`
pub fn destroy_executable(_: Ready, executable: u64) -> u32 {
    let ended = with(|streams| {
        let gone = streams.graphs.executable.remove(&executable)?;
        Some(streams.graphs.release(&gone.objects))
    });
    match ended {
        Some(ended) => {
            call_all(ended);
            0
        }
        None => INVALID_VALUE,
    }
}

/// `cudaUserObjectCreate`
pub fn create_object(
    _: Ready,
    object: Out<u64>,
    data: u64,
    function: u64,
    count: u32,
    _flags: u32,
) -> u32 {
    if function == 0 || count == 0 {
        return INVALID_VALUE;
    }
    with(|streams| {
        let handle = streams.new_handle();
        streams.graphs.objects.insert(handle, Object { function, data, count });
        if object.set(handle).is_ok() { 0 } else { INVALID_VALUE }
    })
}

/// `cudaUserObjectRelease`
pub fn release_object(_: Ready, object: u64, count: u32) -> u32 {
    call_all(with(|streams| streams.graphs.release(&[(object, count)])));
    0
}

/// `cudaUserObjectRetain`
pub fn retain_object(_: Ready, object: u64, count: u32) -> u32 {
    with(|streams| match streams.graphs.objects.get_mut(&object) {
        Some(object) => {
            object.count += count;
            0
        }
        None => INVALID_VALUE,
    })
}

/// `cudaGraphRetainUserObject`: with flag 1 the caller's own hold moves to the graph.
pub fn keep_object(_: Ready, graph: u64, object: u64, count: u32, flags: u32) -> u32 {
    const MOVE: u32 = 1;
    with(|streams| {
        let graphs = &mut streams.graphs;
        let (Some(graph), Some(held)) =
            (graphs.live.get_mut(&graph), graphs.objects.get_mut(&object))
        else {
            return INVALID_VALUE;
        };
        if flags & MOVE == 0 {
            held.count += count;
        }
        graph.objects.push((object, count));
        0
    })
}
