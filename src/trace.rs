//! A training step as the ordered allocations and frees that PyTorch makes.
//!
//! A trace holds requested bytes; rounding belongs to the allocator.

use crate::units::Bytes;

/// What a block of memory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Weights and buffers.
    Parameters,
    /// Gradients of the weights, from their backward to zero-grad.
    Gradients,
    /// What the optimizer keeps between steps.
    OptimizerState,
    /// Born in forward (or recomputed in backward) and kept for backward.
    Activations,
    /// Logits, and the loss computed from them.
    LogitsLoss,
    /// Lives only inside the optimizer's step.
    OptimizerTemp,
    /// Lives only inside a forward or a backward operator.
    Temporaries,
    /// The batch.
    Inputs,
    /// cuBLAS and kernel scratch.
    Workspace,
}

impl Category {
    /// Every category, in the order in which reports show them.
    pub const ALL: [Category; 9] = [
        Category::Parameters,
        Category::Gradients,
        Category::OptimizerState,
        Category::Activations,
        Category::LogitsLoss,
        Category::OptimizerTemp,
        Category::Temporaries,
        Category::Inputs,
        Category::Workspace,
    ];

    /// Returns the name used in JSON (`optimizer_state`).
    pub const fn name(self) -> &'static str {
        match self {
            Category::Parameters => "parameters",
            Category::Gradients => "gradients",
            Category::OptimizerState => "optimizer_state",
            Category::Activations => "activations",
            Category::LogitsLoss => "logits_loss",
            Category::OptimizerTemp => "optimizer_temp",
            Category::Temporaries => "temporaries",
            Category::Inputs => "inputs",
            Category::Workspace => "workspace",
        }
    }
}

/// A part of a training step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The model is moved to the device.
    Load,
    /// A micro-batch is moved to the device.
    Batch,
    /// Forward and loss.
    Forward,
    /// Backward.
    Backward,
    /// The optimizer's step.
    Optimizer,
    /// Gradients are dropped or zeroed.
    ZeroGrad,
}

impl Phase {
    /// Returns the name used in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Load => "load",
            Phase::Batch => "batch",
            Phase::Forward => "forward",
            Phase::Backward => "backward",
            Phase::Optimizer => "optimizer",
            Phase::ZeroGrad => "zero_grad",
        }
    }
}

/// In which mode a program runs PyTorch's caching allocator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AllocatorMode {
    /// Segments by cudaMalloc.
    #[default]
    Default,
    /// `expandable_segments:True`: pages that are mapped into ranges of addresses.
    Expandable {
        /// The device's memory as CUDA reports it, free or not: a range has nine eighths of it, and
        /// what is left of one decides which free block is taken.
        total: Bytes,
    },
}

impl AllocatorMode {
    /// Returns the same on a device with so much memory.
    pub const fn on_device_of(self, total: Bytes) -> AllocatorMode {
        match self {
            AllocatorMode::Default => AllocatorMode::Default,
            AllocatorMode::Expandable { .. } => AllocatorMode::Expandable { total },
        }
    }
}

/// Which of several free blocks of one size PyTorch's caching allocator takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Ties {
    /// The one of the lowest address.
    #[default]
    Address,
    /// The one that was made first, of a segment or as a part of a block; what is left of a parted block
    /// is as old as that.
    Age,
}

/// Names one block of a trace: an index into [`Trace::blocks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

/// One call that PyTorch makes to its allocator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The block is requested.
    Alloc(BlockId),
    /// The block is given back.
    Free(BlockId),
}

impl Event {
    /// Returns the block that it is about.
    pub const fn block(self) -> BlockId {
        let (Event::Alloc(id) | Event::Free(id)) = self;
        id
    }
}

/// One block: what was asked for, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Bytes as requested, before the allocator rounds them.
    pub bytes: Bytes,
    /// What it is for.
    pub category: Category,
    /// The phase it was born in.
    pub phase: Phase,
    /// The module that asked for it: an index into [`Trace::modules`].
    pub module: u32,
}

/// The allocations and frees of loading a model and of two optimizer steps, in PyTorch's order.
///
/// Two steps, because the first creates the optimizer's state and the second is like all others.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// Every block, in order of birth.
    pub blocks: Vec<Block>,
    /// What happens to them, in order. A block that is never freed lives on.
    pub events: Vec<Event>,
    /// Names of modules, as PyTorch names them (`model.layers.0.mlp`).
    pub modules: Vec<String>,
    /// Where each phase begins: (index into `events`, phase), ascending.
    pub phases: Vec<(usize, Phase)>,
    /// How the program runs its allocator, which replays it.
    pub allocator: AllocatorMode,
    /// How that tells free blocks of one size apart.
    pub ties: Ties,
}

/// Why a sequence of events is no trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// An event names a block that is not in [`Trace::blocks`].
    #[error("event {event} names block {block}, which the trace does not have")]
    UnknownBlock {
        /// Index into [`Trace::events`].
        event: usize,
        /// The block named.
        block: u32,
    },
    /// A block is allocated a second time.
    #[error("event {event} allocates block {block}, which was allocated before")]
    AllocatedTwice {
        /// Index into [`Trace::events`].
        event: usize,
        /// The block named.
        block: u32,
    },
    /// A block is freed that is not alive.
    #[error("event {event} frees block {block}, which is not alive")]
    NotAlive {
        /// Index into [`Trace::events`].
        event: usize,
        /// The block named.
        block: u32,
    },
}

impl Trace {
    /// Checks that each block is allocated once at most, and freed once at most, after that.
    ///
    /// For traces that come from outside; those that oomph makes hold it by construction.
    ///
    /// # Errors
    ///
    /// The first event that is out of order.
    pub fn check(&self) -> Result<(), TraceError> {
        #[derive(Clone, Copy, PartialEq)]
        enum Life {
            Unborn,
            Alive,
            Dead,
        }
        let mut lives = vec![Life::Unborn; self.blocks.len()];
        for (event, &what) in self.events.iter().enumerate() {
            let (Event::Alloc(BlockId(block)) | Event::Free(BlockId(block))) = what;
            let life =
                lives.get_mut(block as usize).ok_or(TraceError::UnknownBlock { event, block })?;
            *life = match (what, *life) {
                (Event::Alloc(_), Life::Unborn) => Life::Alive,
                (Event::Free(_), Life::Alive) => Life::Dead,
                (Event::Alloc(_), _) => return Err(TraceError::AllocatedTwice { event, block }),
                (Event::Free(_), _) => return Err(TraceError::NotAlive { event, block }),
            };
        }
        Ok(())
    }

    /// Returns the phase that an event belongs to; [`Phase::Load`] before the first phase begins.
    pub fn phase_at(&self, event: usize) -> Phase {
        let begun = self.phases.partition_point(|&(first, _)| first <= event);
        begun.checked_sub(1).map_or(Phase::Load, |last| self.phases[last].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(blocks: usize, events: &[Event]) -> Trace {
        let block = Block {
            bytes: Bytes::kib(1),
            category: Category::Temporaries,
            phase: Phase::Forward,
            module: 0,
        };
        Trace { blocks: vec![block; blocks], events: events.to_vec(), ..Trace::default() }
    }

    #[test]
    fn each_block_lives_once() {
        use Event::{Alloc, Free};
        let id = BlockId(0);
        let (event, block) = (1, 0);
        assert_eq!(trace(1, &[Alloc(id), Free(id)]).check(), Ok(()));
        assert_eq!(
            trace(1, &[Alloc(id), Alloc(id)]).check(),
            Err(TraceError::AllocatedTwice { event, block })
        );
        assert_eq!(
            trace(1, &[Alloc(id), Free(id), Free(id)]).check(),
            Err(TraceError::NotAlive { event: 2, block })
        );
        assert_eq!(trace(1, &[Free(id)]).check(), Err(TraceError::NotAlive { event: 0, block }));
        assert_eq!(
            trace(1, &[Alloc(id), Alloc(BlockId(7))]).check(),
            Err(TraceError::UnknownBlock { event, block: 7 })
        );
    }

    #[test]
    fn an_event_belongs_to_the_phase_that_began_last() {
        let mut trace = trace(0, &[]);
        trace.phases = vec![(0, Phase::Load), (4, Phase::Batch), (4, Phase::Forward)];
        assert_eq!(trace.phase_at(3), Phase::Load);
        assert_eq!(trace.phase_at(4), Phase::Forward);
        assert_eq!(trace.phase_at(99), Phase::Forward);
    }
}
