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
}
