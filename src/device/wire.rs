//! What the probe and its child say to each other, over the child's standard input and output.
//!
//! One JSON object a line both ways. A replay's trace follows its line as raw little-endian
//! integers: a step of a large model is some hundred thousand numbers, and the child needs no more
//! of it than sizes and order.

use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};

use super::cuda::CudaError;
use crate::memory::trace::{AllocatorMode, Block, BlockId, Category, Event, Phase, Ties, Trace};
use crate::probe::{Attempt, Room};
use crate::units::Bytes;

/// What the probe asks of its child. The end of the input means: give everything back and leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Read what is free now.
    Free,
    /// Replay the trace that follows this line.
    Attempt {
        /// How much may be taken.
        room: Room,
        /// Blocks that follow, 8 bytes each.
        blocks: usize,
        /// Events that follow, 4 bytes each.
        events: usize,
        /// The device's memory, where segments are expandable.
        expandable: Option<Bytes>,
        /// How free blocks of one size are told apart.
        ties: Ties,
    },
}

/// What the child says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is about to make this driver call.
    Calling(String),
    /// The context is there.
    Ready {
        /// Free, with the context in place.
        free: Bytes,
        /// The device's memory.
        total: Bytes,
        /// What the driver takes for a segment of 2 MiB.
        granule: Bytes,
        /// Streaming multiprocessors.
        sm_count: u32,
    },
    /// The answer to [`Request::Free`].
    Free(Bytes),
    /// The answer to [`Request::Attempt`]: everything is given back.
    Attempted(Attempt),
    /// Everything was given back and the context released.
    Bye,
    /// It broke, and gave back what it could.
    Failed(CudaError),
}

/// The top bit of an event's number says that the block is freed.
const FREED: u32 = 1 << 31;

/// Returns the bytes of a request: its line, and the trace for an attempt.
pub fn free_request() -> Vec<u8> {
    line(&Request::Free)
}

/// Returns the bytes of an attempt: its line, then the trace.
pub fn attempt_request(trace: &Trace, room: Room) -> Vec<u8> {
    let (blocks, events) = (trace.blocks.len(), trace.events.len());
    let expandable = match trace.allocator {
        AllocatorMode::Default => None,
        AllocatorMode::Expandable { total } => Some(total),
    };
    let ties = trace.ties;
    let mut bytes = line(&Request::Attempt { room, blocks, events, expandable, ties });
    bytes.reserve(blocks * 8 + events * 4);
    for block in &trace.blocks {
        bytes.extend_from_slice(&block.bytes.get().to_le_bytes());
    }
    for event in &trace.events {
        let number = match event {
            Event::Alloc(BlockId(id)) => *id,
            Event::Free(BlockId(id)) => *id | FREED,
        };
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// Returns an object as one line.
pub fn line(object: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(object).expect("plain enums always serialize");
    bytes.push(b'\n');
    bytes
}

/// A request as the child has read it.
#[derive(Debug)]
pub enum Received {
    /// [`Request::Free`].
    Free,
    /// [`Request::Attempt`], with its trace.
    Attempt(Trace, Room),
    /// The input ended.
    End,
}

/// Reads the next request.
///
/// # Errors
///
/// When the input breaks off inside a request, or is none.
pub fn read_request(input: &mut impl BufRead) -> io::Result<Received> {
    let mut text = String::new();
    if input.read_line(&mut text)? == 0 {
        return Ok(Received::End);
    }
    match serde_json::from_str(&text)? {
        Request::Free => Ok(Received::Free),
        Request::Attempt { room, blocks, events, expandable, ties } => {
            let mut trace = Trace { ties, ..read_trace(input, blocks, events)? };
            if let Some(total) = expandable {
                trace.allocator = AllocatorMode::Expandable { total };
            }
            Ok(Received::Attempt(trace, room))
        }
    }
}

fn read_trace(input: &mut impl Read, blocks: usize, events: usize) -> io::Result<Trace> {
    let mut trace = Trace { modules: vec![String::new()], ..Trace::default() };
    trace.phases.push((0, Phase::Forward));
    let mut eight = [0; 8];
    for _ in 0..blocks {
        input.read_exact(&mut eight)?;
        trace.blocks.push(Block {
            bytes: Bytes::new(u64::from_le_bytes(eight)),
            category: Category::Temporaries,
            phase: Phase::Forward,
            module: 0,
        });
    }
    let mut four = [0; 4];
    for _ in 0..events {
        input.read_exact(&mut four)?;
        let number = u32::from_le_bytes(four);
        let id = BlockId(number & !FREED);
        if id.0 as usize >= blocks {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an event names no block"));
        }
        trace.events.push(if number & FREED == 0 { Event::Alloc(id) } else { Event::Free(id) });
    }
    Ok(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small_trace() -> Trace {
        let block = |bytes| Block {
            bytes: Bytes::new(bytes),
            category: Category::Temporaries,
            phase: Phase::Forward,
            module: 0,
        };
        Trace {
            blocks: vec![block(512), block(u64::MAX)],
            events: vec![
                Event::Alloc(BlockId(0)),
                Event::Alloc(BlockId(1)),
                Event::Free(BlockId(0)),
            ],
            modules: vec![String::new()],
            phases: vec![(0, Phase::Forward)],
            allocator: AllocatorMode::Expandable { total: Bytes::gib(8) },
            ties: Ties::Age,
        }
    }

    #[test]
    fn a_trace_arrives_as_it_was_sent() {
        let sent = small_trace();
        let asked = Room { kept_free: Bytes::mib(3), cap: Some(Bytes::mib(7)) };
        let mut bytes = attempt_request(&sent, asked);
        bytes.extend(free_request());
        let mut input = bytes.as_slice();
        let Received::Attempt(trace, room) = read_request(&mut input).unwrap() else {
            panic!("an attempt was sent");
        };
        assert_eq!(room, asked);
        assert_eq!(trace.blocks, sent.blocks);
        assert_eq!(trace.events, sent.events);
        assert_eq!((trace.allocator, trace.ties), (sent.allocator, sent.ties));
        assert!(matches!(read_request(&mut input).unwrap(), Received::Free));
        assert!(matches!(read_request(&mut input).unwrap(), Received::End));
    }

    #[test]
    fn a_request_that_breaks_off_is_an_error_and_not_a_shorter_trace() {
        let bytes = attempt_request(&small_trace(), Room { kept_free: Bytes::ZERO, cap: None });
        for cut in 1..bytes.len() {
            assert!(read_request(&mut &bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
