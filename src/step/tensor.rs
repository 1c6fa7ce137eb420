//! Tensors without values: sizes, strides, dtype, and a storage that frees itself in the trace.

use std::rc::Rc;

use crate::model::graph::Sizes;
use crate::step::recorder::Storage;

/// An element type, as the device holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// bfloat16.
    Bf16,
    /// float16.
    F16,
    /// 64-bit integer.
    I64,
    /// 32-bit integer.
    I32,
    /// Unsigned 8-bit integer.
    U8,
    /// Boolean.
    Bool,
}

impl DType {
    /// Returns the bytes of one element.
    pub const fn bytes(self) -> u64 {
        match self {
            DType::I64 => 8,
            DType::F32 | DType::I32 => 4,
            DType::Bf16 | DType::F16 => 2,
            DType::U8 | DType::Bool => 1,
        }
    }

    /// Returns the bytes of the type that arithmetic on this one accumulates in.
    pub const fn accumulator_bytes(self) -> u64 {
        match self {
            DType::F32 | DType::Bf16 | DType::F16 => 4,
            other => other.bytes(),
        }
    }

    /// Whether it is a float of 16 bits.
    pub const fn is_half(self) -> bool {
        matches!(self, DType::Bf16 | DType::F16)
    }

    /// Whether it is a float.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::Bf16 | DType::F16)
    }

    /// Returns the type of an operator on two tensors.
    pub fn promote(self, other: DType) -> DType {
        match (self, other) {
            (a, b) if a == b => a,
            (a, b) if a.is_float() && !b.is_float() => a,
            (a, b) if b.is_float() && !a.is_float() => b,
            (DType::I64, _) | (_, DType::I64) => DType::I64,
            (DType::I32, _) | (_, DType::I32) => DType::I32,
            (DType::U8, _) | (_, DType::U8) => DType::U8,
            _ => DType::F32,
        }
    }
}

/// Most dimensions that a tensor has here.
pub const MAX_DIMS: usize = 6;

/// Sizes or strides, one for each dimension.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Dims {
    len: u8,
    values: [u64; MAX_DIMS],
}

impl std::fmt::Debug for Dims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_slice().fmt(f)
    }
}

impl Dims {
    /// Copies a slice of at most [`MAX_DIMS`] values.
    pub fn new(values: &[u64]) -> Dims {
        let mut dims = Dims { len: values.len() as u8, values: [0; MAX_DIMS] };
        dims.values[..values.len()].copy_from_slice(values);
        dims
    }

    /// Returns the values.
    pub fn as_slice(&self) -> &[u64] {
        &self.values[..self.len as usize]
    }

    /// Returns the values, to change.
    pub fn as_mut_slice(&mut self) -> &mut [u64] {
        &mut self.values[..self.len as usize]
    }

    /// Returns how many dimensions there are.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Returns the product of all values.
    pub fn product(&self) -> u64 {
        self.as_slice().iter().product()
    }

    /// Turns a dimension that may count from the end into an index.
    pub fn index(&self, dim: i32) -> usize {
        if dim < 0 { (self.len as i32 + dim) as usize } else { dim as usize }
    }

    /// Returns the values with one more inserted.
    pub fn inserted(&self, at: usize, value: u64) -> Dims {
        let mut out = Dims { len: self.len + 1, values: [0; MAX_DIMS] };
        let (head, tail) = self.as_slice().split_at(at);
        out.values[..at].copy_from_slice(head);
        out.values[at] = value;
        out.values[at + 1..at + 1 + tail.len()].copy_from_slice(tail);
        out
    }

    /// Returns the values without one of them.
    pub fn without(&self, at: usize) -> Dims {
        let mut out = Dims { len: self.len - 1, values: [0; MAX_DIMS] };
        let (head, tail) = self.as_slice().split_at(at);
        out.values[..at].copy_from_slice(head);
        out.values[at..at + tail.len() - 1].copy_from_slice(&tail[1..]);
        out
    }

    /// Returns the strides of a contiguous tensor of these sizes.
    pub fn contiguous_strides(&self) -> Dims {
        let mut strides = *self;
        let mut stride = 1;
        for i in (0..self.len()).rev() {
            strides.values[i] = stride;
            stride *= self.values[i].max(1);
        }
        strides
    }

    /// Resolves a size argument with at most one -1 for `numel` elements.
    pub fn resolve(sizes: &Sizes, numel: u64) -> Dims {
        let known: i64 = sizes.iter().filter(|&&n| n >= 0).product();
        let mut dims = Dims { len: sizes.len() as u8, values: [0; MAX_DIMS] };
        for (slot, &size) in dims.values.iter_mut().zip(sizes) {
            *slot = if size < 0 { numel / known.max(1) as u64 } else { size as u64 };
        }
        dims
    }
}

/// Where a gradient goes: a node of the autograd graph, and which of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The node.
    pub node: u32,
    /// The input.
    pub slot: u32,
}

/// What a tensor is, apart from its memory.
#[derive(Debug, Clone)]
pub struct TensorData {
    /// Sizes.
    pub sizes: Dims,
    /// Strides, in elements.
    pub strides: Dims,
    /// Element type.
    pub dtype: DType,
    /// Its memory; `None` where it has no elements.
    pub storage: Option<Rc<Storage>>,
    /// Where its gradient goes; `None` where it needs none.
    pub edge: Option<Edge>,
    /// Whether autograd sees it as a view: a view keeps its base, so that gradients are not
    /// summed into it in place.
    pub is_view: bool,
}

/// A tensor, counted like Python's.
pub type Tensor = Rc<TensorData>;

impl TensorData {
    /// Returns the same memory without a history.
    pub fn detached(&self) -> TensorData {
        let (sizes, strides, dtype) = (self.sizes, self.strides, self.dtype);
        let storage = self.storage.clone();
        TensorData { sizes, strides, dtype, storage, edge: None, is_view: self.is_view }
    }

    /// Returns the number of elements.
    pub fn numel(&self) -> u64 {
        self.sizes.product()
    }

    /// Whether elements lie in memory in order, without gaps.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (&size, &stride) in self.sizes.as_slice().iter().zip(self.strides.as_slice()).rev() {
            if size != 1 {
                if stride != expected {
                    return false;
                }
                expected *= size;
            }
        }
        true
    }

    /// Whether elements fill their memory without gaps, in some order of dimensions.
    pub fn is_dense(&self) -> bool {
        if self.is_contiguous() {
            return true;
        }
        let mut pairs: Vec<(u64, u64)> = self
            .strides
            .as_slice()
            .iter()
            .copied()
            .zip(self.sizes.as_slice().iter().copied())
            .filter(|&(_, size)| size != 1)
            .collect();
        pairs.sort_unstable();
        let mut expected = 1;
        pairs.iter().all(|&(stride, size)| {
            let fits = stride == expected;
            expected *= size;
            fits
        })
    }
}
