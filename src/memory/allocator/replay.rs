//! A whole trace, driven through the allocator.

use super::{
    BEYOND_ANY_DEVICE, BlockHandle, CachingAllocator, PageSource, Refusal, round_request,
    segment_size,
};
use crate::memory::trace::{BlockId, Event, Trace};
use crate::units::Bytes;

/// How a replay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every allocation was granted.
    Ran,
    /// PyTorch would have raised `torch.OutOfMemoryError`.
    OutOfMemory {
        /// Index into [`Trace::events`] of the allocation that was refused.
        event: usize,
        /// The segment asked for in vain, as PyTorch's message says it ("Tried to allocate").
        requested: Bytes,
    },
}

/// What a replay came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    /// Whether it ran.
    pub outcome: Outcome,
    /// `torch.cuda.max_memory_allocated()`.
    pub peak_allocated: Bytes,
    /// Index into [`Trace::events`] of the allocation that first reached `peak_allocated`.
    pub peak_event: usize,
    /// `torch.cuda.max_memory_reserved()`.
    pub peak_reserved: Bytes,
    /// How often cached segments were given back because the source had run out.
    pub retries: u64,
    /// How often the source granted a segment, or pages at once.
    pub segments_granted: u64,
    /// How often they were given back while the step ran; the rest is given back at its end.
    pub segments_released: u64,
}

impl Replay {
    /// Whether every allocation was granted.
    pub fn ran(&self) -> bool {
        self.outcome == Outcome::Ran
    }
}

/// Replays a trace by PyTorch's rules in the trace's mode, on memory from `source`; all of it is
/// given back.
///
/// An allocation of no bytes takes nothing, as in PyTorch. A free of what is not live is passed
/// over; [`Trace::check`] finds such traces.
///
/// # Errors
///
/// What the source failed with; running out of memory is an [`Outcome`]. Everything obtained before
/// is given back, as far as the source lets it.
pub fn replay<S: PageSource>(trace: &Trace, source: &mut S) -> Result<Replay, S::Error> {
    let mut run = Run::new(trace, source);
    let outcome = run.advance(trace.events.len(), |_, _| {});
    let replay = outcome.map(|outcome| run.result(outcome));
    let cleaned = run.allocator.give_back_all();
    // Of two failures the first says why.
    replay.and_then(|replay| cleaned.map(|()| replay))
}

/// A replay on its way: the allocator, and where each live block of the trace is.
#[derive(Debug, Clone)]
pub(in crate::memory) struct Run<'t, S> {
    trace: &'t Trace,
    allocator: CachingAllocator<S>,
    places: Vec<BlockHandle>,
    next_event: usize,
    peak_event: usize,
}

impl<'t, S: PageSource> Run<'t, S> {
    /// Starts before the first event.
    pub fn new(trace: &'t Trace, source: S) -> Run<'t, S> {
        Run {
            trace,
            allocator: CachingAllocator::new(source, trace.allocator, trace.ties),
            places: vec![BlockHandle::NONE; trace.blocks.len()],
            next_event: 0,
            peak_event: 0,
        }
    }

    /// Drives the trace on up to the event `end`, or to the allocation that runs out of memory;
    /// tells `taken` what each allocation takes.
    pub fn advance(
        &mut self,
        end: usize,
        mut taken: impl FnMut(BlockId, Bytes),
    ) -> Result<Outcome, S::Error> {
        let trace = self.trace;
        let end = end.min(trace.events.len());
        while self.next_event < end {
            if let Some((id, bytes)) = self.passing(end) {
                taken(id, bytes);
                self.next_event += 2;
                continue;
            }
            match trace.events[self.next_event] {
                Event::Alloc(id) => match self.allocate(id) {
                    Ok(Bytes::ZERO) => {}
                    Ok(bytes) => taken(id, bytes),
                    Err(Refusal::OutOfMemory) => return Ok(self.out_of_memory(id)),
                    Err(Refusal::Failed(error)) => return Err(error),
                },
                Event::Free(id) => {
                    let place = self.places.get_mut(id.0 as usize);
                    let handle = place.map(|place| std::mem::replace(place, BlockHandle::NONE));
                    if let Some(handle) = handle.filter(|handle| handle.is_some()) {
                        self.allocator.free(handle);
                    }
                }
            }
            self.next_event += 1;
        }
        Ok(Outcome::Ran)
    }

    /// Takes a block that is freed at once, as workspaces are: where a cached block serves it,
    /// nothing is left of it but perhaps a peak.
    fn passing(&mut self, end: usize) -> Option<(BlockId, Bytes)> {
        let Event::Alloc(id) = self.trace.events[self.next_event] else { return None };
        let next = self.next_event + 1;
        if next >= end || self.trace.events[next] != Event::Free(id) {
            return None;
        }
        let bytes = self.trace.blocks.get(id.0 as usize)?.bytes;
        let peak = self.allocator.statistics().peak_allocated;
        let taken = self.allocator.pass(bytes)?;
        if self.allocator.statistics().peak_allocated > peak {
            self.peak_event = self.next_event;
        }
        Some((id, taken))
    }

    fn allocate(&mut self, id: BlockId) -> Result<Bytes, Refusal<S::Error>> {
        let index = id.0 as usize;
        let Some(block) = self.trace.blocks.get(index) else { return Ok(Bytes::ZERO) };
        if block.bytes == Bytes::ZERO {
            return Ok(Bytes::ZERO);
        }
        let peak = self.allocator.statistics().peak_allocated;
        let handle = self.allocator.allocate(block.bytes)?;
        self.places[index] = handle;
        if self.allocator.statistics().peak_allocated > peak {
            self.peak_event = self.next_event;
        }
        Ok(self.allocator.block(handle).1)
    }

    fn out_of_memory(&self, id: BlockId) -> Outcome {
        let bytes = self.trace.blocks[id.0 as usize].bytes.min(BEYOND_ANY_DEVICE);
        let requested = segment_size(round_request(bytes));
        Outcome::OutOfMemory { event: self.next_event, requested }
    }

    /// Returns the trace that is replayed.
    pub fn trace(&self) -> &'t Trace {
        self.trace
    }

    /// Returns how many events are behind it.
    pub fn events_done(&self) -> usize {
        self.next_event
    }

    /// Returns the bytes of live blocks and of segments at this moment.
    pub fn holds(&self) -> (Bytes, Bytes) {
        let statistics = self.allocator.statistics();
        (statistics.allocated, statistics.reserved)
    }

    /// Returns where the segments come from.
    pub fn source(&self) -> &S {
        self.allocator.source()
    }

    /// Returns where the segments come from, to change it.
    pub fn source_mut(&mut self) -> &mut S {
        self.allocator.source_mut()
    }

    /// Sums up.
    pub fn result(&self, outcome: Outcome) -> Replay {
        let statistics = self.allocator.statistics();
        Replay {
            outcome,
            peak_allocated: statistics.peak_allocated,
            peak_event: self.peak_event,
            peak_reserved: statistics.peak_reserved,
            retries: statistics.retries,
            segments_granted: statistics.segments_granted,
            segments_released: statistics.segments_released,
        }
    }
}
