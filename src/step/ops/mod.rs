//! What each operator allocates, saves and needs in backward: its forward as a method of the tape,
//! its backward as a case of [`Backward`], side by side.
//!
//! Results of a backward come in the order of the inputs given to `Tape::record`, but are computed
//! in the alphabetical order of PyTorch's argument names (`mat2` before `self`), as its generated
//! code does.

pub mod attention;
pub mod conv;
mod elementwise;
mod embedding;
mod experts;
mod fused_loss;
mod loss;
mod matmul;
mod norm;
mod pool;
pub mod quantized;
mod views;

use smallvec::SmallVec;

use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor};

/// Gradients of a node's inputs; `None` where nobody asks.
pub type Grads = SmallVec<[Option<Tensor>; 3]>;

/// What a node's backward does, with what it remembers besides tensors.
#[derive(Debug, Clone, PartialEq)]
pub enum Backward {
    /// Puts the gradient where the optimizer finds it.
    Accumulate {
        /// Which parameter.
        parameter: u32,
    },
    /// Keeps the gradient of a leaf that no optimizer knows, for as long as the graph.
    Leaf,
    /// Passes the gradient on as it is, to each of the inputs.
    Same,
    /// Passes the gradient on with other sizes: a view, or a copy where strides forbid one.
    Reshape(Dims),
    /// Transposes the gradient.
    Transpose(usize, usize),
    /// Drops a dimension of one.
    Squeeze(usize),
    /// Sums over what was repeated.
    SumTo(Dims),
    /// Puts the gradient of a slice into zeros of the whole.
    Slice {
        /// Sizes of the whole.
        sizes: Dims,
    },
    /// Copies what is not padding out of the gradient.
    Narrow(Dims),
    /// Rolls the gradient back.
    RollTwo,
    /// Adds the gradient to zeros where it was picked from what was kept.
    Gather,
    /// Sums over so many repetitions along the first dimension.
    Repeat(u64),
    /// Cuts the gradient apart.
    Cat {
        /// The dimension.
        dim: usize,
        /// Sizes along it.
        parts: SmallVec<[u64; 4]>,
    },
    /// Joins the gradients of all parts.
    Split {
        /// Sizes of the whole.
        sizes: Dims,
    },
    /// Casts the gradient back.
    Cast(DType),
    /// One kernel from the gradient and what was saved to a tensor of the gradient's kind.
    Pointwise,
    /// `dropout` whose mask was kept.
    Dropout,
    /// `a * b` of two tensors; which of them need a gradient.
    Mul(bool, bool),
    /// `where` whose condition was kept.
    Where,
    /// `clamp` whose input was kept.
    Clamp,
    /// `clamp` to bounds on the device, whose input and bounds were kept.
    ClampTo,
    /// `masked_fill` whose mask was kept.
    MaskedFill,
    /// `x ** exponent`
    Pow,
    /// `rsqrt`
    Rsqrt,
    /// `torch.sqrt`, whose result was kept.
    Sqrt,
    /// `a - b`.
    Difference,
    /// Mean over a dimension, which was kept; the sizes before.
    Mean(Dims),
    /// Rows of a table.
    Embedding {
        /// Rows of the table.
        rows: u64,
        /// Columns.
        columns: u64,
    },
    /// `mm`
    Mm,
    /// `bmm`
    Bmm,
    /// `baddbmm` with a factor
    Baddbmm,
    /// `addmm`
    Addmm {
        /// Whether the weight was the transpose of a contiguous one.
        turned: bool,
    },
    /// `softmax` of an input of that dtype.
    Softmax(DType),
    /// Mean over height and width, kept or not.
    MeanSpatial {
        /// Sizes of the whole.
        sizes: Dims,
    },
    /// Puts the gradient where `as_strided` took it from.
    AsStrided,
    /// `conv2d`
    Conv2d(conv::ConvCall),
    /// `batch_norm`
    BatchNorm,
    /// `max_pool2d` of an input of these sizes.
    MaxPool2d(Dims),
    /// Puts the gradient of one index of a dimension into zeros of the whole.
    Select {
        /// Sizes of the whole.
        sizes: Dims,
    },
    /// Permutes the gradient back.
    Permute(Dims),
    /// `layer_norm`
    LayerNorm,
    /// Puts the gradient where the best values were.
    Scatter {
        /// Sizes of the whole.
        sizes: Dims,
    },
    /// `a / b` of two tensors.
    Quotient,
    /// Adds gradients up by index along one dimension.
    IndexRows {
        /// Sizes of the whole.
        sizes: Dims,
        /// The dimension.
        dim: usize,
    },
    /// Adds gradients up by indices of the first two dimensions.
    IndexPairs {
        /// Sizes of the whole.
        sizes: Dims,
    },
    /// Passes the gradient on, and picks from it what was added.
    IndexAdd,
    /// `grouped_mm`: sizes and strides of rows and weights; boxed, since rare.
    GroupedMm(Box<[(Dims, Dims); 2]>),
    /// Repeats the gradient along what was summed.
    ///
    /// Sizes with the summed dimension as one, and of the whole; boxed, or every node would be as
    /// large as this rare one.
    ExpandTo(Box<(Dims, Dims)>),
    /// Flash attention.
    Flash(attention::FlashShape),
    /// Flash attention of the package flash-attn.
    FlashAttn(attention::FlashShape),
    /// Memory-efficient attention.
    Efficient(attention::EfficientShape),
    /// `log_softmax` of an input of this dtype
    LogSoftmax(DType),
    /// A loss, whose gradient looks like the first tensor that was kept.
    Loss,
    /// `Linear4bit` with a weight of these sizes.
    Linear4bit([u64; 2]),
    /// `Linear8bitLt`.
    Linear8bit {
        /// Sizes of its weight.
        sizes: [u64; 2],
        /// What it read was in.
        dtype: DType,
    },
    /// Liger's fused linear cross-entropy: its gradients were made in forward.
    FusedCrossEntropy,
}

impl Tape<'_> {
    /// Runs one node's backward.
    pub fn apply(
        &mut self,
        op: &Backward,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Grads {
        let Some(grad) = grads.iter().flatten().next() else {
            return needs.iter().map(|_| None).collect();
        };
        match op {
            Backward::Accumulate { .. } | Backward::Leaf => Grads::new(),
            Backward::Narrow(sizes) => one(self.narrow_copy(grad, *sizes)),
            Backward::Gather => one(self.empty(saved[0].sizes, saved[0].dtype)),
            Backward::Repeat(times) => one(self.repeat_backward(grad, *times)),
            Backward::RollTwo => one(self.roll_two_data(grad, None)),
            Backward::Same => needs.iter().map(|&need| need.then(|| grad.clone())).collect(),
            Backward::Reshape(sizes) => one(self.reshape_data(grad, *sizes)),
            Backward::Transpose(a, b) => one(self.transposed(grad, *a, *b, None)),
            Backward::Squeeze(dim) => one(self.squeezed(grad, *dim)),
            Backward::SumTo(sizes) => one(self.sum_to(grad, *sizes)),
            Backward::Slice { sizes } => one(self.empty(*sizes, grad.dtype)),
            Backward::Cat { dim, parts } => self.cat_backward(grad, *dim, parts, needs),
            Backward::Split { sizes } => one(self.cat_data(grads, *sizes)),
            Backward::Cast(dtype) => one(self.cast(grad, *dtype, None)),
            Backward::Pointwise => one(self.pointwise_backward(grad, saved)),
            Backward::Dropout => one(self.dropout_backward(grad)),
            Backward::Mul(..) => self.mul_backward(op, grad, saved),
            Backward::Where => one(self.where_backward(grad, saved)),
            Backward::Clamp => one(self.clamp_backward(grad, saved)),
            Backward::ClampTo => one(self.clamp_to_backward(grad, saved)),
            Backward::AsStrided => one(self.empty(grad.sizes, grad.dtype)),
            Backward::MaskedFill => one(self.empty(grad.sizes, grad.dtype)),
            Backward::Pow => one(self.pow_backward(grad, saved)),
            Backward::Difference => self.difference_backward(grad, needs),
            Backward::Sqrt => one(self.sqrt_backward(grad, saved)),
            Backward::Rsqrt => one(self.rsqrt_backward(grad, saved)),
            Backward::Mean(sizes) => one(self.empty(*sizes, grad.dtype)),
            Backward::Embedding { rows, columns } => {
                one(self.embedding_backward(grad, saved, *rows, *columns))
            }
            Backward::Mm => self.mm_backward(grad, saved, needs),
            Backward::Bmm => self.bmm_backward(grad, saved, needs),
            Backward::Baddbmm => self.baddbmm_backward(grad, saved, needs),
            Backward::Addmm { turned } => self.addmm_backward(grad, saved, needs, *turned),
            Backward::Softmax(dtype) => one(self.softmax_backward(grad, saved, *dtype)),
            Backward::MeanSpatial { sizes } => one(self.mean_spatial_backward(grad, *sizes)),
            Backward::Conv2d(call) => self.conv2d_backward(call, grad, saved, needs),
            Backward::BatchNorm => self.batch_norm_backward(grad, saved, needs),
            Backward::MaxPool2d(sizes) => one(self.max_pool2d_backward(grad, saved, *sizes)),
            Backward::Select { sizes } => one(self.empty(*sizes, grad.dtype)),
            Backward::Permute(back) => one(self.permuted(grad, back, None)),
            Backward::LayerNorm => self.layer_norm_backward(grad, saved, needs),
            Backward::Scatter { sizes } => one(self.empty(*sizes, grad.dtype)),
            Backward::Quotient => self.quotient_backward(grad, saved, needs),
            Backward::IndexRows { sizes, dim } => {
                one(self.index_rows_backward(grad, saved, *sizes, *dim))
            }
            Backward::IndexPairs { sizes } => one(self.index_pairs_backward(grad, saved, *sizes)),
            Backward::IndexAdd => self.index_add_backward(grad, saved, needs),
            Backward::GroupedMm(layouts) => self.grouped_mm_backward(grad, layouts, needs),
            Backward::ExpandTo(shapes) => {
                let kept = self.reshape_data(grad, shapes.0);
                one(self.expand(&kept, shapes.1))
            }
            Backward::Flash(shape) => self.flash_backward(shape, grad, saved),
            Backward::FlashAttn(shape) => self.flash_attn_backward(shape, saved),
            Backward::Efficient(shape) => self.efficient_backward(shape, grad, saved),
            Backward::LogSoftmax(dtype) => one(self.empty(grad.sizes, *dtype)),
            Backward::Linear4bit(sizes) => one(self.linear_4bit_backward(grad, *sizes)),
            Backward::Linear8bit { sizes, dtype } => {
                one(self.linear_8bit_backward(grad, *sizes, *dtype))
            }
            Backward::FusedCrossEntropy => self.fused_cross_entropy_backward(saved, needs),
            Backward::Loss => one(self.empty(saved[0].sizes, saved[0].dtype)),
        }
    }
}

/// One gradient.
fn one(grad: Tensor) -> Grads {
    let mut grads = Grads::new();
    grads.push(Some(grad));
    grads
}
