//! Arithmetic of one forward and backward: what recomputation costs, and what frozen weights save.
//!
//! Counted as PyTorch's `FlopCounterMode` does: two operations for each multiplication of matrix
//! products, convolutions and attention, whole also where it is causal; nothing else.
//!
//! Source: PyTorch `torch/utils/flop_counter.py`; attention's backward computes its scores again and
//! is five products for the two of its forward (`sdpa_backward_flop_count`).

use crate::model::graph::{Graph, Op};
use crate::step::alike::{Alike, TEMPLATE};
use crate::step::ops::Backward;
use crate::step::recorder::Recorder;
use crate::step::run::Interpreter;
use crate::step::setup::Setup;
use crate::step::tape::Tape;
use crate::step::tensor::Tensor;

/// Floating-point operations of one micro-step, which grow in proportion to its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Of the forward.
    pub forward: u64,
    /// Of gradients.
    pub gradients: u64,
    /// Of layers that backward runs again.
    pub recomputed: u64,
}

impl Work {
    /// Returns the sum.
    pub fn total(&self) -> u64 {
        self.forward.saturating_add(self.gradients).saturating_add(self.recomputed)
    }
}

/// Counts while an interpreter runs.
#[derive(Debug, Default)]
pub struct Count {
    /// So far.
    pub work: Work,
    /// How many layers the one that runs stands for.
    pub times: u64,
}

/// Runs one micro-step of a graph and counts.
pub fn of(graph: &Graph, setup: &Setup) -> Work {
    let alike = Alike::of(graph, setup.checkpointing);
    let mut tape = Tape::new(setup, Recorder::new());
    tape.logits = graph.logits;
    let mut run = Interpreter::new(graph, tape, alike.as_ref());
    run.count = Some(Count { work: Work::default(), times: 1 });
    run.load();
    run.micro_step();
    run.count.map(|count| count.work).unwrap_or_default()
}

impl Count {
    /// Says which layer runs.
    pub fn set_layer(&mut self, layer: Option<u8>, alike: Option<&Alike>) {
        let stands_for_others = layer.is_some_and(|layer| usize::from(layer) == TEMPLATE);
        let left_out = alike.filter(|_| stands_for_others).map_or(0, Alike::left_out);
        self.times = 1 + left_out as u64;
    }

    /// Counts an operator of the forward, which also runs where a layer is recomputed.
    pub fn operator(&mut self, op: &Op, args: &[Tensor], made: &Tensor, again: bool) {
        let multiplications = forward(op, args, made).saturating_mul(self.times);
        let sum = if again { &mut self.work.recomputed } else { &mut self.work.forward };
        *sum = sum.saturating_add(multiplications.saturating_mul(2));
        if *op == Op::FusedCrossEntropy {
            // Its gradients are made in forward: of what it reads, and of a weight that is trained.
            let products = args[..2].iter().filter(|arg| arg.edge.is_some()).count() as u64;
            let made = multiplications.saturating_mul(2 * products);
            self.work.gradients = self.work.gradients.saturating_add(made);
        }
    }

    /// Counts a node's backward.
    pub fn node(&mut self, op: &Backward, saved: &[Tensor], grad: &Tensor, needs: &[bool]) {
        let multiplications = backward(op, saved, grad, needs).saturating_mul(self.times);
        self.work.gradients = self.work.gradients.saturating_add(multiplications.saturating_mul(2));
    }
}

/// Returns the multiplications of an operator.
fn forward(op: &Op, args: &[Tensor], made: &Tensor) -> u64 {
    let size = |tensor: &Tensor, from_end: usize| {
        let sizes = tensor.sizes.as_slice();
        sizes.len().checked_sub(from_end).and_then(|at| sizes.get(at)).copied().unwrap_or(1)
    };
    match op {
        Op::Linear | Op::Linear4bit | Op::Linear8bit | Op::Matmul | Op::Bmm | Op::GroupedMm => {
            made.numel().saturating_mul(size(&args[0], 1))
        }
        Op::Addmm | Op::Baddbmm => made.numel().saturating_mul(size(&args[1], 1)),
        Op::Conv2d(_) => convolution(made, &args[1]),
        Op::Sdpa { .. } => args[0].numel().saturating_mul(size(&args[1], 2)).saturating_mul(2),
        // (batch, seq_len, heads, head_dim)
        Op::FlashAttn { .. } => args[0].numel().saturating_mul(size(&args[1], 3)).saturating_mul(2),
        Op::FusedCrossEntropy => args[0].numel().saturating_mul(size(&args[1], 2)),
        _ => 0,
    }
}

/// Each element of the result sums over the elements of one filter.
fn convolution(result: &Tensor, weight: &Tensor) -> u64 {
    let filters = weight.sizes.as_slice().first().copied().unwrap_or(1);
    result.numel().saturating_mul(weight.numel() / filters.max(1))
}

/// Returns the multiplications of a node's backward.
fn backward(op: &Backward, saved: &[Tensor], grad: &Tensor, needs: &[bool]) -> u64 {
    let products = needs.iter().take(2).filter(|need| **need).count() as u64;
    let of_pair = |factor: &Tensor, is_second: bool, products: u64| {
        // The inner size is the last but one of the second factor, and the last of the first.
        let sizes = factor.sizes.as_slice();
        let inner = sizes[sizes.len() - if is_second { 2 } else { 1 }];
        grad.numel().saturating_mul(inner).saturating_mul(products)
    };
    match op {
        Backward::Mm | Backward::Bmm | Backward::Baddbmm => {
            saved.first().map_or(0, |factor| of_pair(factor, needs[0], products))
        }
        Backward::Addmm { .. } => {
            let products = needs[1..].iter().filter(|need| **need).count() as u64;
            saved.first().map_or(0, |factor| of_pair(factor, needs[1], products))
        }
        Backward::GroupedMm(layouts) => {
            let inner = layouts[0].0.as_slice().last().copied().unwrap_or(1);
            grad.numel().saturating_mul(inner).saturating_mul(products)
        }
        Backward::Conv2d(_) => convolution(grad, &saved[1]).saturating_mul(products),
        Backward::Linear4bit([_, inputs]) | Backward::Linear8bit { sizes: [_, inputs], .. } => {
            grad.numel().saturating_mul(*inputs)
        }
        Backward::Flash(shape) | Backward::FlashAttn(shape) => shape.product().saturating_mul(5),
        Backward::Efficient(shape) => shape.product().saturating_mul(5),
        _ => 0,
    }
}
