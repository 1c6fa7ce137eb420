//! Autograd's engine: runs nodes from the newest to the oldest as their gradients arrive.
//!
//! Source: PyTorch `torch/csrc/autograd/engine.cpp`, `input_buffer.cpp`,
//! `functions/accumulate_grad.h`.

use std::collections::BinaryHeap;
use std::rc::Rc;

use smallvec::SmallVec;

use crate::step::layout::elementwise_strides;
use crate::step::ops::{Backward, Grads};
use crate::step::repeat::Arrival;
use crate::step::run::Interpreter;
use crate::step::tape::Saved;
use crate::step::tensor::Tensor;

/// Gradients that have arrived at a node, one slot for each of its outputs.
type Buffer = SmallVec<[Option<Tensor>; 1]>;

impl Interpreter<'_, '_> {
    /// Runs backward from a value that needs a gradient, given the gradient of it.
    pub fn backward(&mut self, root: &Tensor, gradient: Tensor) {
        let Some(edge) = root.edge else { return };
        let (mut waiting, reached) = self.dependencies(edge.node);
        self.tape.forget_unreached(&reached);
        let mut buffers: Vec<Buffer> = Vec::new();
        buffers.resize_with(self.tape.nodes.len(), Buffer::new);
        buffers[edge.node as usize].push(Some(gradient));
        let mut ready = BinaryHeap::new();
        ready.push((self.priority(edge.node), edge.node));
        while let Some((_, node)) = ready.pop() {
            let inputs = std::mem::take(&mut buffers[node as usize]);
            self.note_layer(node);
            let outputs = self.run_node(node, inputs);
            for (i, grad) in outputs.into_iter().enumerate() {
                let Some(edge) = self.tape.nodes[node as usize].next[i] else { continue };
                let slots = self.tape.nodes[edge.node as usize].outputs.len();
                let buffer = &mut buffers[edge.node as usize];
                buffer.resize(slots, None);
                if let Some(grad) = grad {
                    let slot = buffer[edge.slot as usize].take();
                    let sum = self.accumulate(slot, grad);
                    buffers[edge.node as usize][edge.slot as usize] = Some(sum);
                }
                let left = &mut waiting[edge.node as usize];
                *left -= 1;
                if *left == 0 {
                    ready.push((self.priority(edge.node), edge.node));
                }
            }
        }
    }

    /// Newer nodes first; accumulators before all others.
    fn priority(&self, node: u32) -> u32 {
        match self.tape.nodes[node as usize].op {
            Backward::Accumulate { .. } | Backward::Leaf => u32::MAX,
            _ => node,
        }
    }

    /// Counts for each node how many gradients will reach it, and says whether it is run at all.
    fn dependencies(&self, root: u32) -> (Vec<u32>, Vec<bool>) {
        let mut counts = vec![0; self.tape.nodes.len()];
        let mut seen = vec![false; self.tape.nodes.len()];
        let mut stack = vec![root];
        seen[root as usize] = true;
        while let Some(node) = stack.pop() {
            for edge in self.tape.nodes[node as usize].next.iter().flatten() {
                counts[edge.node as usize] += 1;
                if !seen[edge.node as usize] {
                    seen[edge.node as usize] = true;
                    stack.push(edge.node);
                }
            }
        }
        (counts, seen)
    }

    fn run_node(&mut self, node: u32, mut inputs: Buffer) -> Grads {
        let op = self.tape.nodes[node as usize].op.clone();
        self.tape.recorder.set_module(self.tape.nodes[node as usize].module);
        if let Backward::Accumulate { parameter } = op {
            if let Some(grad) = inputs.pop().flatten() {
                self.accumulate_into(parameter as usize, grad);
            }
            return Grads::new();
        }
        if op == Backward::Leaf {
            let kept = inputs.pop().flatten().map(|grad| self.tape.own_gradient(grad).0);
            let node = &mut self.tape.nodes[node as usize];
            node.saved.extend(kept.map(|grad| Some(Saved::Tensor(grad))));
            return Grads::new();
        }
        let saved = self.unpack(node);
        let needs: SmallVec<[bool; 3]> =
            self.tape.nodes[node as usize].next.iter().map(Option::is_some).collect();
        if let (Some(count), Some(grad)) = (&mut self.count, inputs.iter().flatten().next()) {
            count.node(&op, &saved, grad, &needs);
        }
        let mut outputs = self.tape.apply(&op, &saved, &inputs, &needs);
        // Recomputed tensors had no other owner; what the node itself kept goes further down.
        drop(saved);
        for (i, output) in outputs.iter_mut().enumerate() {
            let Some(edge) = self.tape.nodes[node as usize].next[i] else { continue };
            if let Some(grad) = output.take() {
                *output = Some(self.validated(grad, edge.node, edge.slot));
            }
        }
        drop(inputs);
        self.tape.nodes[node as usize].saved.clear();
        outputs
    }

    /// Takes the tensors that a node kept, recomputing its layer where it kept none.
    fn unpack(&mut self, node: u32) -> SmallVec<[Tensor; 5]> {
        let count = self.tape.nodes[node as usize].saved.len();
        let mut tensors = SmallVec::new();
        for i in 0..count {
            let Some(saved) = self.tape.nodes[node as usize].saved[i].clone() else { continue };
            tensors.extend(self.unpacked(&saved));
        }
        tensors
    }

    /// Returns a tensor that was saved, recomputing its layer first where that was not done.
    pub fn unpacked(&mut self, saved: &Saved) -> Option<Tensor> {
        match saved {
            Saved::Tensor(tensor) => Some(Rc::clone(tensor)),
            Saved::Recomputed(frame, number) => {
                if !frame.is_recomputed() {
                    self.recompute(frame);
                }
                frame.take(*number)
            }
        }
    }

    /// Gives a gradient the sizes and the dtype of what it is the gradient of.
    fn validated(&mut self, grad: Tensor, node: u32, slot: u32) -> Tensor {
        let (sizes, dtype) = self.tape.nodes[node as usize].outputs[slot as usize];
        let summed = self.tape.sum_to(&grad, sizes);
        drop(grad);
        if summed.dtype == dtype { summed } else { self.tape.cast(&summed, dtype, None) }
    }

    /// Adds a gradient to what has arrived: in place where nobody else sees that tensor.
    fn accumulate(&mut self, old: Option<Tensor>, new: Tensor) -> Tensor {
        let Some(old) = old else { return new };
        let alone = Rc::strong_count(&old) == 1
            && !old.is_view
            && old.storage.as_ref().is_none_or(|s| Rc::strong_count(s) == 1);
        if alone && old.is_dense() {
            return old;
        }
        let strides = elementwise_strides(&[&old, &new], &old.sizes);
        self.tape.empty_strided(old.sizes, strides, old.dtype)
    }

    /// The end of a gradient's way: it becomes the parameter's, is added to it, or is copied.
    fn accumulate_into(&mut self, parameter: usize, grad: Tensor) {
        let tape = &mut self.tape;
        if tape.parameters[parameter].grad.is_some() {
            return;
        }
        let event = (tape.recorder.mark().events, tape.recorder.span());
        let (kept, copied) = tape.own_gradient(grad);
        if let Some(arrivals) = &mut tape.arrivals {
            arrivals.push(Arrival::new(parameter, event, copied, &kept));
        }
        tape.parameters[parameter].grad = Some(kept);
    }
}
