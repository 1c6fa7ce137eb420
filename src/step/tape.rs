//! The autograd graph: nodes, what they save, and the making of tensors.

use std::cell::Cell;
use std::rc::Rc;

use smallvec::SmallVec;

use crate::step::autocast::Autocast;
use crate::step::checkpoint::Frame;
use crate::step::ops::Backward;
use crate::step::ops::quantized::Quantized;
use crate::step::recorder::{Hint, Recorder, Storage};
use crate::step::repeat::Arrival;
use crate::step::scaler::Scaler;
use crate::step::scratch::Scratch;
use crate::step::setup::{Checkpointing, Setup};
use crate::step::tensor::{DType, Dims, Edge, Tensor, TensorData};
use crate::trace::Phase;

/// A tensor that a node keeps for its backward.
#[derive(Debug, Clone)]
pub enum Saved {
    /// Kept as it is.
    Tensor(Tensor),
    /// Recomputed with its layer when backward asks for it: which frame, which of its tensors.
    Recomputed(Rc<Frame>, u32),
}

/// One node of the autograd graph.
#[derive(Debug)]
pub struct Node {
    /// What its backward does.
    pub op: Backward,
    /// What it keeps; empty once its backward has run.
    pub saved: SmallVec<[Option<Saved>; 4]>,
    /// Where the gradients of its inputs go.
    pub next: SmallVec<[Option<Edge>; 3]>,
    /// Sizes and dtype of what its forward made: what its incoming gradients look like.
    pub outputs: SmallVec<[(Dims, DType); 1]>,
    /// The module whose forward made it.
    pub module: u32,
}

/// A trained parameter and its gradient.
#[derive(Debug)]
pub struct Parameter {
    /// The weight, a leaf.
    pub tensor: Tensor,
    /// Whether it is the weight of an `nn.Embedding`.
    pub is_embedding: bool,
    /// Its gradient, from its backward to zero-grad.
    pub grad: Option<Tensor>,
    /// Its accumulator in the current graph.
    pub accumulator: Option<u32>,
}

/// The state of one step under way.
#[derive(Debug)]
pub struct Tape<'s> {
    /// How it is trained.
    pub setup: &'s Setup,
    /// The trace so far.
    pub recorder: Rc<Recorder>,
    /// The autograd graph of the current micro-step, in order of making.
    pub nodes: Vec<Node>,
    /// Trained parameters, in the optimizer's order.
    pub parameters: Vec<Parameter>,
    /// Scratch that outlives a kernel.
    pub scratch: Scratch,
    /// Rows and classes of the logits.
    pub logits: Option<(u64, u64)>,
    /// Whether operators record autograd nodes.
    pub grad_enabled: bool,
    /// The checkpointed layer whose forward runs, and how it treats what is saved: the innermost is
    /// the last.
    pub checkpoints: SmallVec<[Checkpoint; 2]>,
    /// Whether backward runs, on autograd's own thread with its own cuBLAS handle.
    pub in_backward: bool,
    /// Autocast, on in forward and where a layer is run again.
    pub autocast: Autocast,
    /// The gradient scaler of `amp-fp16`.
    pub scaler: Scaler,
    /// What quantized weights leave on the device.
    pub quantized: Quantized,
    /// Tensors that the nodes named hold besides what they save: until the graph goes, not until
    /// their backward has run (attributes of an autograd function's context).
    pub held: Vec<(u32, Tensor)>,
    /// Gradients that have come to their parameters, while the first micro-step is recorded.
    pub arrivals: Option<Vec<Arrival>>,
}

/// What saving a tensor means inside a checkpointed layer.
#[derive(Debug, Clone)]
pub enum Checkpoint {
    /// First forward: the frame only counts what would be saved.
    Counting(Rc<Frame>),
    /// Recomputation: the frame takes the tensors; the number saved so far.
    Filling(Rc<Frame>, u32),
}

thread_local! {
    /// The emptied list of nodes of the last tape. It is large, and touching new memory takes longer
    /// than filling it.
    static SPARE_NODES: Cell<Vec<Node>> = const { Cell::new(Vec::new()) };
}

/// Lets go of what a node kept, which nobody will ask for.
fn forget(saved: Option<Saved>) {
    if let Some(Saved::Recomputed(frame, number)) = saved {
        frame.forget(number);
    }
}

impl Drop for Tape<'_> {
    fn drop(&mut self) {
        self.nodes.clear();
        SPARE_NODES.set(std::mem::take(&mut self.nodes));
    }
}

impl<'s> Tape<'s> {
    /// Starts a tape for a setup.
    pub fn new(setup: &'s Setup, recorder: Rc<Recorder>) -> Tape<'s> {
        Tape {
            setup,
            recorder,
            nodes: SPARE_NODES.take(),
            parameters: Vec::new(),
            scratch: Scratch::default(),
            logits: None,
            grad_enabled: true,
            checkpoints: SmallVec::new(),
            in_backward: false,
            autocast: Autocast::default(),
            scaler: Scaler::default(),
            quantized: Quantized::default(),
            held: Vec::new(),
            arrivals: None,
        }
    }

    /// Begins a phase of the trace.
    pub fn begin(&self, phase: Phase) {
        self.recorder.begin(phase);
    }

    fn hint(&self, sizes: &Dims, dtype: DType) -> Hint {
        let is_logits = self.logits.is_some_and(|(rows, classes)| {
            sizes.product() == rows * classes && !matches!(dtype, DType::I64 | DType::I32)
        });
        if is_logits { Hint::Logits } else { Hint::Tensor }
    }

    fn storage(&self, sizes: &Dims, dtype: DType) -> Option<Rc<Storage>> {
        if self.recomputation_is_complete() {
            return None;
        }
        let bytes = sizes.product() * dtype.bytes();
        Storage::new(&self.recorder, bytes, self.hint(sizes, dtype))
    }

    /// Makes a contiguous tensor that needs no gradient.
    pub fn empty(&self, sizes: Dims, dtype: DType) -> Tensor {
        self.empty_strided(sizes, sizes.contiguous_strides(), dtype)
    }

    /// Makes a dense tensor that needs no gradient.
    pub fn empty_strided(&self, sizes: Dims, strides: Dims, dtype: DType) -> Tensor {
        let storage = self.storage(&sizes, dtype);
        Rc::new(TensorData { sizes, strides, dtype, storage, edge: None, is_view: false })
    }

    /// Makes a weight anew that is not trained.
    pub fn parameter(&self, sizes: Dims, dtype: DType) -> Tensor {
        let bytes = sizes.product() * dtype.bytes();
        let storage = Storage::new(&self.recorder, bytes, Hint::Parameter);
        let strides = sizes.contiguous_strides();
        Rc::new(TensorData { sizes, strides, dtype, storage, edge: None, is_view: false })
    }

    /// Makes a dense tensor whose gradient goes to `edge`.
    pub fn result(&self, sizes: Dims, strides: Dims, dtype: DType, edge: Option<Edge>) -> Tensor {
        let storage = self.storage(&sizes, dtype);
        Rc::new(TensorData { sizes, strides, dtype, storage, edge, is_view: false })
    }

    /// Makes another view of a tensor's memory.
    pub fn alias(&self, x: &Tensor, sizes: Dims, strides: Dims, edge: Option<Edge>) -> Tensor {
        let storage = x.storage.clone();
        Rc::new(TensorData { sizes, strides, dtype: x.dtype, storage, edge, is_view: true })
    }

    /// Takes `bytes` of scratch and gives it back at once.
    pub fn transient(&self, bytes: u64) {
        drop(self.hold(bytes));
    }

    /// Takes `bytes` of scratch until the result is dropped.
    pub fn hold(&self, bytes: u64) -> Option<Rc<Storage>> {
        if self.recomputation_is_complete() {
            return None;
        }
        Storage::new(&self.recorder, bytes, Hint::Scratch)
    }

    /// Whether an operator on these inputs records a node.
    pub fn needs_grad(&self, inputs: &[&Tensor]) -> bool {
        self.grad_enabled && inputs.iter().any(|x| x.edge.is_some())
    }

    /// Adds a node; its results must be made with the edge returned.
    ///
    /// `inputs` are the forward's differentiable inputs, in the order of `Backward::apply`'s
    /// results; `saves` are kept in the order given.
    pub fn record(
        &mut self,
        op: Backward,
        inputs: &[&Tensor],
        saves: &[&Tensor],
        outputs: &[(Dims, DType)],
    ) -> Option<Edge> {
        if !self.needs_grad(inputs) {
            return None;
        }
        let saved = saves.iter().map(|x| Some(self.save(x))).collect();
        let next = inputs.iter().map(|x| x.edge).collect();
        let module = self.recorder.module();
        let outputs = SmallVec::from_slice(outputs);
        self.nodes.push(Node { op, saved, next, outputs, module });
        Some(Edge { node: self.nodes.len() as u32 - 1, slot: 0 })
    }

    /// Adds a result to what the newest node keeps.
    pub fn save_result(&mut self, edge: Option<Edge>, result: &Tensor) {
        let Some(edge) = edge else { return };
        let saved = self.save(result);
        self.nodes[edge.node as usize].saved.push(Some(saved));
    }

    /// Keeps a tensor for backward, as the innermost checkpointed layer under way does.
    pub fn save(&mut self, x: &Tensor) -> Saved {
        match self.checkpoints.last_mut() {
            None => Saved::Tensor(Rc::clone(x)),
            Some(Checkpoint::Counting(frame)) => {
                Saved::Recomputed(Rc::clone(frame), frame.count_one())
            }
            Some(Checkpoint::Filling(frame, filled)) => {
                frame.fill(*filled, x);
                *filled += 1;
                Saved::Tensor(Rc::clone(x))
            }
        }
    }

    /// Whether the layer being recomputed has delivered all that backward will ask for.
    pub fn recomputation_is_complete(&self) -> bool {
        matches!(self.checkpoints.last(), Some(Checkpoint::Filling(frame, n)) if *n >= frame.count())
    }

    /// Returns the edge to a parameter's accumulator in the current graph.
    pub fn parameter_edge(&mut self, index: usize) -> Edge {
        if let Some(node) = self.parameters[index].accumulator {
            return Edge { node, slot: 0 };
        }
        let tensor = &self.parameters[index].tensor;
        let outputs = SmallVec::from_slice(&[(tensor.sizes, tensor.dtype)]);
        self.nodes.push(Node {
            op: Backward::Accumulate { parameter: index as u32 },
            saved: SmallVec::new(),
            next: SmallVec::new(),
            outputs,
            module: self.recorder.module(),
        });
        let node = self.nodes.len() as u32 - 1;
        self.parameters[index].accumulator = Some(node);
        Edge { node, slot: 0 }
    }

    /// `x.requires_grad_(True)`: x itself where a gradient goes through it already.
    pub fn require_grad(&mut self, x: &Tensor) -> Tensor {
        if x.edge.is_some() || !self.grad_enabled {
            return Rc::clone(x);
        }
        // The accumulator of a leaf holds it.
        let saved = SmallVec::from_iter([Some(Saved::Tensor(Rc::clone(x)))]);
        self.nodes.push(Node {
            op: Backward::Leaf,
            saved,
            next: SmallVec::new(),
            outputs: SmallVec::from_slice(&[(x.sizes, x.dtype)]),
            module: self.recorder.module(),
        });
        let edge = Some(Edge { node: self.nodes.len() as u32 - 1, slot: 0 });
        let storage = x.storage.clone();
        let (sizes, strides) = (x.sizes, x.strides);
        Rc::new(TensorData { sizes, strides, dtype: x.dtype, storage, edge, is_view: x.is_view })
    }

    /// Makes zeros: a leaf that needs a gradient where layers are recomputed, and only there.
    pub fn zero_bias(&mut self, sizes: Dims, dtype: DType) -> Tensor {
        let zeros = self.empty(sizes, dtype);
        match self.setup.checkpointing {
            Checkpointing::None | Checkpointing::Attention => zeros,
            _ => self.require_grad(&zeros),
        }
    }

    /// Returns a gradient that its leaf can own, and whether it is a copy: the tensor itself where
    /// nobody else has it.
    pub fn own_gradient(&self, grad: Tensor) -> (Tensor, bool) {
        let steal = Rc::strong_count(&grad) == 1 && grad.is_contiguous();
        if steal { (grad, false) } else { (self.empty(grad.sizes, grad.dtype), true) }
    }

    /// Forgets the newest nodes but so many: what they made is gone, and nobody asks for gradients.
    pub fn forget_nodes(&mut self, kept: usize) {
        self.release_held(kept);
        self.nodes.drain(kept..).flat_map(|node| node.saved).for_each(forget);
    }

    /// Lets go of what is kept by nodes that the loss does not lead to: what they made is gone too.
    pub fn forget_unreached(&mut self, reached: &[bool]) {
        let unreached = self.nodes.iter_mut().zip(reached).filter(|(_, reached)| !**reached);
        unreached.flat_map(|(node, _)| std::mem::take(&mut node.saved)).for_each(forget);
    }

    /// Whether a gradient may come to a node from a later one, or will whatever becomes of the values
    /// that it made: a leaf's, or what autocast keeps.
    pub fn is_read(&self, node: u32) -> bool {
        let leads = |later: &Node| later.next.iter().flatten().any(|edge| edge.node == node);
        let own = &self.nodes[node as usize].op;
        matches!(own, Backward::Accumulate { .. } | Backward::Leaf)
            || self.nodes[node as usize + 1..].iter().any(leads)
            || self.autocast.keeps(node)
    }

    /// Lets go of what a node keeps, to which no gradient will come; returns those that it led to.
    pub fn forget_unread(&mut self, node: u32) -> SmallVec<[u32; 3]> {
        let Node { saved, next, .. } = &mut self.nodes[node as usize];
        std::mem::take(saved).into_iter().for_each(forget);
        std::mem::take(next).into_iter().flatten().map(|edge| edge.node).collect()
    }

    /// Lets go of what the newest nodes but so many hold.
    pub fn release_held(&mut self, kept: usize) {
        let first = self.held.partition_point(|&(node, _)| (node as usize) < kept);
        self.held.truncate(first);
    }

    /// Forgets the graph of the micro-step that has ended.
    pub fn clear_graph(&mut self) {
        self.held.clear();
        self.nodes.clear();
        for parameter in &mut self.parameters {
            parameter.accumulator = None;
        }
    }
}
