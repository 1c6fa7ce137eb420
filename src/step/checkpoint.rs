//! Activation checkpointing as `torch.utils.checkpoint` does it without reentrance: a layer's
//! forward only counts what it would save; the first backward that asks runs the layer again,
//! up to the last tensor that was counted.
//!
//! Source: PyTorch `torch/utils/checkpoint.py`.

use std::cell::{Cell, RefCell};

use crate::model::graph::{LayerId, ValueId};
use crate::step::tape::Saved;
use crate::step::tensor::{Edge, Tensor};

/// What a checkpointed layer read from outside.
#[derive(Debug)]
pub struct Input {
    /// Which value.
    pub value: ValueId,
    /// The tensor.
    pub saved: Saved,
    /// Where its gradient goes: also where the tensor is recomputed.
    pub edge: Option<Edge>,
}

/// One checkpointed layer of one micro-step.
#[derive(Debug)]
pub struct Frame {
    /// The layer.
    pub layer: LayerId,
    /// What it read from outside; held until every tensor it saved is used up, or recomputed with the
    /// checkpointed stage that the layer is in.
    pub inputs: Vec<Input>,
    count: Cell<u32>,
    /// Numbers of tensors whose nodes are gone before any backward: nobody will ask for them.
    unwanted: RefCell<Vec<u32>>,
    recomputed: RefCell<Vec<Option<Tensor>>>,
    done: Cell<bool>,
}

impl Frame {
    /// Starts a frame.
    pub fn new(layer: LayerId, inputs: Vec<Input>) -> Frame {
        Frame {
            layer,
            inputs,
            count: Cell::new(0),
            unwanted: RefCell::default(),
            recomputed: RefCell::default(),
            done: Cell::new(false),
        }
    }

    /// Counts one more saved tensor and returns its number.
    pub fn count_one(&self) -> u32 {
        let number = self.count.get();
        self.count.set(number + 1);
        number
    }

    /// Returns how many tensors the layer saves.
    pub fn count(&self) -> u32 {
        self.count.get()
    }

    /// Says that nobody will ask for a tensor.
    pub fn forget(&self, number: u32) {
        self.unwanted.borrow_mut().push(number);
    }

    /// Takes a recomputed tensor.
    pub fn fill(&self, number: u32, tensor: &Tensor) {
        let mut recomputed = self.recomputed.borrow_mut();
        debug_assert_eq!(recomputed.len(), number as usize);
        let wanted = !self.unwanted.borrow().contains(&number);
        recomputed.push(wanted.then(|| tensor.clone()));
    }

    /// Whether the layer was run again.
    pub fn is_recomputed(&self) -> bool {
        self.done.get()
    }

    /// Says that it was.
    pub fn set_recomputed(&self) {
        self.done.set(true);
    }

    /// Hands a recomputed tensor over; the frame keeps it no longer.
    pub fn take(&self, number: u32) -> Option<Tensor> {
        self.recomputed.borrow_mut().get_mut(number as usize)?.take()
    }
}
