//! What a step's tensors write down: blocks, their births and deaths, and moments to repeat from.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::step::alike::Alike;
use crate::step::repeat::Arrival;
use crate::step::stretch::{Span, stretch};
use crate::trace::{Block, BlockId, Category, Event, Phase, Trace};
use crate::units::Bytes;

/// Collects the trace while a step runs.
#[derive(Debug, Default)]
pub struct Recorder {
    trace: RefCell<Trace>,
    phase: Cell<Option<Phase>>,
    module: Cell<u32>,
    recomputing: Cell<bool>,
    finished: Cell<bool>,
    /// Which layer runs when, where that is watched.
    spans: RefCell<Option<Vec<Span>>>,
    /// The first block that has another number since layers were stretched, and the new numbers.
    renamed: RefCell<Option<(u32, Vec<BlockId>)>>,
}

/// What a block is known to be at birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// Nothing in particular.
    Tensor,
    /// Logits or what has their size.
    Logits,
    /// Scratch of a kernel or of cuBLAS.
    Scratch,
    /// A weight that is made anew.
    Parameter,
}

impl Recorder {
    /// Starts an empty trace.
    pub fn new() -> Rc<Recorder> {
        Rc::new(Recorder::default())
    }

    /// Makes room for so many micro-steps of a graph: about two blocks a statement, forward and
    /// backward (room that is not used costs nothing, moving a trace that grows does).
    pub fn reserve(&self, statements: usize, micro_steps: usize) {
        let blocks = statements.saturating_mul(2).saturating_mul(micro_steps.min(16));
        let mut trace = self.trace.borrow_mut();
        trace.blocks.reserve(blocks);
        trace.events.reserve(2 * blocks);
    }

    /// Begins a phase.
    pub fn begin(&self, phase: Phase) {
        self.phase.set(Some(phase));
        let mut trace = self.trace.borrow_mut();
        let at = trace.events.len();
        trace.phases.push((at, phase));
        if let Some(spans) = &mut *self.spans.borrow_mut() {
            spans.push(Span { start: at, layer: None });
        }
    }

    /// Notes from here on which layer runs when, from the beginning of a phase on.
    pub fn watch_layers(&self) {
        *self.spans.borrow_mut() = Some(Vec::new());
    }

    /// Says which layer runs from here on.
    pub fn set_layer(&self, layer: Option<u8>) {
        if let Some(spans) = &mut *self.spans.borrow_mut()
            && spans.last().is_none_or(|span| span.layer != layer)
        {
            spans.push(Span { start: self.trace.borrow().events.len(), layer });
        }
    }

    /// Returns the number of the span under way.
    pub fn span(&self) -> usize {
        self.spans.borrow().as_ref().map_or(0, |spans| spans.len().saturating_sub(1))
    }

    /// Stretches what was recorded since `from` to all layers; returns what came to parameters.
    pub fn stretch(&self, from: Mark, arrivals: &[Arrival], alike: &Alike) -> Option<Vec<Arrival>> {
        let spans = self.spans.take()?;
        let stretched = stretch(&mut self.trace.borrow_mut(), from, &spans, arrivals, alike)?;
        *self.renamed.borrow_mut() = Some((from.blocks, stretched.renamed));
        Some(stretched.arrivals)
    }

    /// Says which module allocates from here on.
    pub fn set_module(&self, module: u32) {
        self.module.set(module);
    }

    /// Returns the module that allocates.
    pub fn module(&self) -> u32 {
        self.module.get()
    }

    /// Says whether a checkpointed layer is being recomputed.
    pub fn set_recomputing(&self, recomputing: bool) {
        self.recomputing.set(recomputing);
    }

    /// Returns how much is recorded.
    pub fn mark(&self) -> Mark {
        let trace = self.trace.borrow();
        let (events, blocks) = (trace.events.len(), trace.blocks.len() as u32);
        Mark { events, blocks, phases: trace.phases.len() }
    }

    /// Records again what was recorded between two marks, on new blocks, with `edits` in the order
    /// of their places; returns the new block of each that was born there.
    pub fn repeat(&self, from: Mark, to: Mark, edits: &[Edit]) -> Repeated {
        let mut trace = self.trace.borrow_mut();
        let Trace { blocks, events, phases, .. } = &mut *trace;
        let left_out = |edit: &Edit| match *edit {
            Edit::Skip(at) => Some(events[at].block().0),
            Edit::Free(..) => None,
        };
        let skipped: Vec<u32> = edits.iter().filter_map(left_out).collect();
        let made = Repeated { old: from.blocks, new: blocks.len() as u32, skipped };
        let mut next = from.blocks;
        for &skipped in made.skipped.iter().chain([&to.blocks]) {
            blocks.extend_from_within(next as usize..skipped as usize);
            next = skipped + 1;
        }
        let mut edits = edits.iter().peekable();
        let mut begun = from.phases..to.phases;
        let mut at = from.events;
        loop {
            let edit = edits.peek().map_or(to.events, |edit| edit.order().0);
            let stop = phases[begun.clone()].first().map_or(edit, |&(event, _)| event.min(edit));
            made.copy(events, at..stop);
            at = stop;
            while let Some(Edit::Free(_, id)) = edits.next_if(|edit| edit.is_free_at(at)) {
                events.push(Event::Free(made.of(*id)));
            }
            while let Some(&(_, phase)) = phases[begun.clone()].first().filter(|it| it.0 == at) {
                phases.push((events.len(), phase));
                begun.start += 1;
            }
            if at == to.events {
                return made;
            }
            if edits.next_if(|edit| matches!(edit, Edit::Skip(skipped) if *skipped == at)).is_some()
            {
                at += 1;
            }
        }
    }

    /// Returns the blocks born between two marks that are alive, with the events of their birth.
    pub fn alive(&self, from: Mark, to: Mark) -> BTreeMap<BlockId, usize> {
        const DEAD: u32 = u32::MAX;
        let trace = self.trace.borrow();
        let mut births = vec![DEAD; (to.blocks - from.blocks) as usize];
        for (at, event) in (0u32..).zip(&trace.events[..to.events]).skip(from.events) {
            let (id, birth) = match *event {
                Event::Alloc(id) => (id, at),
                Event::Free(id) => (id, DEAD),
            };
            if let Some(slot) = id.0.checked_sub(from.blocks) {
                births[slot as usize] = birth;
            }
        }
        let alive = (from.blocks..).zip(births).filter(|&(_, birth)| birth != DEAD);
        alive.map(|(id, birth)| (BlockId(id), birth as usize)).collect()
    }

    fn allocate(&self, bytes: u64, hint: Hint) -> BlockId {
        let mut trace = self.trace.borrow_mut();
        let id = BlockId(trace.blocks.len() as u32);
        let phase = self.phase.get().unwrap_or(Phase::Load);
        // What is known at birth; the rest follows at the end.
        let category = match hint {
            Hint::Scratch => Category::Workspace,
            Hint::Parameter => Category::Parameters,
            Hint::Logits => Category::LogitsLoss,
            Hint::Tensor if self.recomputing.get() => Category::Activations,
            Hint::Tensor => Category::Temporaries,
        };
        let module = self.module.get();
        trace.blocks.push(Block { bytes: Bytes::new(bytes), category, phase, module });
        trace.events.push(Event::Alloc(id));
        id
    }

    fn free(&self, storage: &Storage) {
        // What dies after the end lives on in the trace.
        if self.finished.get() {
            return;
        }
        let id = match &*self.renamed.borrow() {
            Some((first, ids)) if !storage.renamed && storage.block.0 >= *first => {
                ids[(storage.block.0 - first) as usize]
            }
            _ => storage.block,
        };
        self.trace.borrow_mut().events.push(Event::Free(id));
    }

    /// Ends the trace: each block's category follows from its birth and its death.
    pub fn finish(&self) -> Trace {
        self.finished.set(true);
        let mut trace = std::mem::take(&mut *self.trace.borrow_mut());
        let mut deaths = vec![None; trace.blocks.len()];
        let ends = trace.phases.iter().skip(1).map(|&(at, _)| at).chain([trace.events.len()]);
        for (&(begin, phase), end) in trace.phases.iter().zip(ends) {
            for event in &trace.events[begin..end] {
                if let Event::Free(id) = event {
                    deaths[id.0 as usize] = Some(phase);
                }
            }
        }
        for (block, death) in trace.blocks.iter_mut().zip(deaths) {
            block.category = categorize(block.phase, death, block.category);
        }
        trace
    }
}

/// A moment of a recording.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// Events so far.
    pub events: usize,
    phases: usize,
    blocks: u32,
}

/// How a repetition differs from what was recorded.
#[derive(Debug, Clone, Copy)]
pub enum Edit {
    /// Before this event, the block (as it was recorded) is freed.
    Free(usize, BlockId),
    /// This event, an allocation, is left out: what it made is still there.
    Skip(usize),
}

impl Mark {
    /// Returns the number of blocks so far.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Returns the number of phases so far.
    pub fn phases(&self) -> usize {
        self.phases
    }
}

impl Edit {
    /// Returns the event that it is about, and its place among those about the same event.
    pub fn order(&self) -> (usize, bool) {
        match *self {
            Edit::Free(at, _) => (at, false),
            Edit::Skip(at) => (at, true),
        }
    }

    fn is_free_at(&self, event: usize) -> bool {
        matches!(self, Edit::Free(at, _) if *at == event)
    }
}

/// The blocks of a repetition.
#[derive(Debug)]
pub struct Repeated {
    /// The first block that was recorded.
    old: u32,
    /// The first block that was made.
    new: u32,
    /// The recorded blocks whose allocations were left out, ascending.
    skipped: Vec<u32>,
}

impl Repeated {
    /// Returns the block that stands for one that was recorded, and not left out.
    pub fn of(&self, BlockId(id): BlockId) -> BlockId {
        debug_assert!(self.old <= id, "what is repeated frees only what it allocated");
        debug_assert!(!self.skipped.contains(&id), "what is left out is not made");
        let left_out = self.skipped.partition_point(|&skipped| skipped < id) as u32;
        BlockId(id - self.old + self.new - left_out)
    }

    /// Copies events to the end, on the blocks that stand for theirs.
    fn copy(&self, events: &mut Vec<Event>, range: std::ops::Range<usize>) {
        let end = events.len();
        events.extend_from_within(range);
        for event in &mut events[end..] {
            let (Event::Alloc(id) | Event::Free(id)) = event;
            *id = self.of(*id);
        }
    }
}

fn categorize(born: Phase, death: Option<Phase>, known: Category) -> Category {
    match (born, death, known) {
        (_, _, Category::Workspace) => Category::Workspace,
        (Phase::Load, ..) | (_, _, Category::Parameters) => Category::Parameters,
        (Phase::Batch, ..) => Category::Inputs,
        // Dropped by zero-grad, or zeroed and kept.
        (_, Some(Phase::ZeroGrad), _) | (Phase::Backward | Phase::Forward, None, _) => {
            Category::Gradients
        }
        (Phase::Optimizer, None, _) => Category::OptimizerState,
        (Phase::Optimizer, ..) => Category::OptimizerTemp,
        (_, _, Category::LogitsLoss) => Category::LogitsLoss,
        (Phase::Forward, Some(Phase::Forward), _) => Category::Temporaries,
        (Phase::Forward, ..) | (_, _, Category::Activations) => Category::Activations,
        _ => Category::Temporaries,
    }
}

/// A block of device memory. Its drop is the free.
#[derive(Debug)]
pub struct Storage {
    block: BlockId,
    /// Whether the block's number is one that was given after layers were stretched.
    renamed: bool,
    recorder: Rc<Recorder>,
}

impl Storage {
    /// Allocates `bytes`; no bytes, no block.
    pub fn new(recorder: &Rc<Recorder>, bytes: u64, hint: Hint) -> Option<Rc<Storage>> {
        (bytes > 0).then(|| Storage::adopt(recorder, recorder.allocate(bytes, hint)))
    }

    /// Owns a block that is recorded already.
    pub fn adopt(recorder: &Rc<Recorder>, block: BlockId) -> Rc<Storage> {
        let renamed = recorder.renamed.borrow().is_some();
        Rc::new(Storage { block, renamed, recorder: Rc::clone(recorder) })
    }

    /// Returns its block.
    pub fn block(&self) -> BlockId {
        self.block
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.recorder.free(self);
    }
}
