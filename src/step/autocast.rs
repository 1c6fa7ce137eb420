//! What autocast does to an operator's inputs: its lists of operators, and the weight casts that it
//! keeps until it ends.
//!
//! Source: PyTorch `aten/src/ATen/autocast_mode.{h,cpp}`. Operators that are not listed run in the
//! dtypes that they are given, and promote them as always (`cat` too: its kernel reads mixed types).

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::model::graph::Op;
use crate::step::ops::Backward;
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Tensor};

/// Autocast, where the setup has it.
#[derive(Debug, Default)]
pub struct Autocast {
    /// What it casts to, while it is on.
    pub dtype: Option<DType>,
    /// Casts of leaves, by their accumulator's node.
    casts: BTreeMap<u32, Tensor>,
}

impl Autocast {
    /// Whether a cast that it keeps was made by that node.
    pub fn keeps(&self, node: u32) -> bool {
        self.casts.values().any(|cast| cast.edge.is_some_and(|edge| edge.node == node))
    }

    /// Ends it: what it kept goes, unless a node has saved it.
    pub fn end(&mut self) {
        self.dtype = None;
        self.casts.clear();
    }
}

/// A list of autocast.
enum Listed {
    /// `lower_precision_fp`: inputs are cast to the 16-bit type.
    Lower,
    /// `fp32`: inputs are cast to float32.
    Float,
    /// On none; those of `fp32_set_opt_dtype` see to themselves (softmax).
    Not,
}

const fn list_of(op: &Op) -> Listed {
    match op {
        Op::Linear
        | Op::Addmm
        | Op::Matmul
        | Op::Bmm
        | Op::Baddbmm
        | Op::Sdpa { .. }
        | Op::Conv2d(_) => Listed::Lower,
        Op::Pow { .. } | Op::Rsqrt | Op::LayerNorm | Op::MseLoss | Op::BceLoss => Listed::Float,
        _ => Listed::Not,
    }
}

impl Tape<'_> {
    /// Casts an operator's inputs as autocast does, the last one first: so gcc evaluates the
    /// arguments of the call.
    pub fn autocast_inputs(&mut self, op: &Op, inputs: &mut SmallVec<[Tensor; 4]>) {
        let Some(lower) = self.autocast.dtype else { return };
        let dtype = match list_of(op) {
            Listed::Not => return,
            Listed::Lower => lower,
            Listed::Float => DType::F32,
        };
        for input in inputs.iter_mut().rev() {
            *input = self.cached_cast(input, dtype);
        }
    }

    /// Returns a float tensor in another float dtype; the 16-bit cast of a leaf that needs a gradient
    /// (a trained weight, embeddings that were asked to need one) is made once.
    pub fn cached_cast(&mut self, x: &Tensor, dtype: DType) -> Tensor {
        if !x.dtype.is_float() || x.dtype == dtype {
            return x.clone();
        }
        let leaf = x.edge.map(|edge| edge.node).filter(|&node| {
            let op = &self.nodes[node as usize].op;
            matches!(op, Backward::Accumulate { .. } | Backward::Leaf)
                && !x.is_view
                && dtype.is_half()
        });
        let Some(node) = leaf else { return self.to(x, dtype) };
        if let Some(cast) = self.autocast.casts.get(&node) {
            return cast.clone();
        }
        let cast = self.to(x, dtype);
        self.autocast.casts.insert(node, cast.clone());
        cast
    }
}
