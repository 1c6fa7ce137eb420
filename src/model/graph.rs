//! A model's forward pass as data: operators on values, in the order in which Python runs them,
//! with the moments at which Python lets go of a value.
//!
//! A graph knows neither precision nor autograd; it says what the model's code says. Shapes follow
//! from the operators (as in PyTorch), so a graph is built for one batch and one sequence length.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use crate::model::quantize::Quantize;

/// Sizes of a tensor or arguments of a view; at most six dimensions. `-1` means "what is left".
pub type Sizes = SmallVec<[i64; 6]>;

/// Names a value of a graph. Ids are dense; parameters and buffers come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub u32);

/// Names a module: an index into [`Graph::modules`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId(pub u32);

/// An element type, as the model's code states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// The dtype that the model was loaded in.
    Model,
    /// The same, but float32 where that is float16: what transformers keeps out of that format
    /// (`_keep_in_fp32_modules`).
    NotF16,
    /// 32-bit float.
    F32,
    /// 64-bit integer.
    I64,
    /// 32-bit integer.
    I32,
    /// Boolean, one byte.
    Bool,
    /// A frozen weight in 8 bits, with a scale for each row.
    Int8,
    /// A frozen weight in 4 bits, with scales for its blocks.
    Nf4,
}

/// A tensor that is loaded with the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// Its value.
    pub value: ValueId,
    /// Its module's.
    pub module: ModuleId,
    /// Its sizes.
    pub sizes: Sizes,
    /// Its dtype.
    pub dtype: Dtype,
    /// What its module calls it; "" for buffers, which nobody names.
    pub name: &'static str,
    /// Whether the optimizer trains it; buffers are not trained.
    pub trained: bool,
}

/// Operators are those that the model's Python code calls. What each allocates, saves and needs in
/// backward is stated once, in `step::ops`.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Makes new data from nothing that needs a gradient (`arange`, comparisons, masks). `[] -> [out]`
    Fresh {
        /// Sizes of the result.
        sizes: Sizes,
        /// Its dtype.
        dtype: Dtype,
    },
    /// The same, of a's dtype. `[a] -> [out]`
    FreshLike {
        /// Sizes of the result.
        sizes: Sizes,
    },
    /// Rows of a table. `[weight, ids] -> [out]`
    Embedding,
    /// `nn.functional.linear`. `[x, weight, bias?] -> [out]`
    Linear,
    /// bitsandbytes' `Linear4bit`. `[x, weight, bias?] -> [out]`
    Linear4bit,
    /// bitsandbytes' `Linear8bitLt`. `[x, weight, bias?] -> [out]`
    Linear8bit,
    /// `a.clone()`. `[a] -> [out]`
    Clone,
    /// `torch.addmm(bias, x, weight)` on two-dimensional x, weight (in, out). `[bias, x, weight] -> [out]`
    Addmm,
    /// `torch.matmul` of tensors with equal leading sizes. `[a, b] -> [out]`
    Matmul,
    /// `torch.bmm`. `[a, b] -> [out]`
    Bmm,
    /// `torch.baddbmm(bias, a, b, alpha=number)`, where bias needs no gradient. `[bias, a, b] -> [out]`
    Baddbmm,
    /// `torch.gather` along some dimension: what the index names, in its sizes. `[a, index] -> [out]`
    Gather,
    /// `a.repeat(times, 1, ...)`. `[a] -> [out]`
    Repeat {
        /// How often along the first dimension.
        times: u64,
    },
    /// `a + b`. `[a, b] -> [out]`
    Add,
    /// `a - b`. `[a, b] -> [out]`
    Sub,
    /// `a * b`. `[a, b] -> [out]`
    Mul,
    /// `a / b`. `[a, b] -> [out]`
    Div,
    /// `torch.where(condition, a, b)`, where b needs no gradient. `[condition, a, b] -> [out]`
    Where,
    /// `torch.clamp(a, min=-number, max=number)` of a float16 tensor; other formats as they are.
    /// `[a] -> [out]`
    ClampHalf,
    /// Asks whether a float16 tensor is finite throughout, to clamp it where it is not, which no
    /// training goes on with; other formats are not asked. `[a] -> [out]`
    AskFinite {
        /// `isfinite(a).all()`; else `isinf(a).any() or isnan(a).any()`.
        at_once: bool,
    },
    /// The largest number that a float16 tensor is clamped to, by whether it has an infinity; of other
    /// formats nothing. `[a] -> [out]`
    FiniteBound,
    /// `torch.clamp(a, min=-b, max=b)` of a float16 tensor and a bound on the device; other formats as
    /// they are. `[a, b] -> [out]`
    ClampTo,
    /// A number as a tensor without dimensions, of a's dtype. `[a] -> [out]`
    NumberLike,
    /// `torch.zeros(sizes)` of a's dtype: a bias that is not learned. Where layers are recomputed its
    /// code asks for a gradient, so that it is not cut off. `[a] -> [out]`
    ZeroBias {
        /// Sizes of the result.
        sizes: Sizes,
    },
    /// `a + number`. `[a] -> [out]`
    AddNumber,
    /// `a * number`. `[a] -> [out]`
    MulNumber,
    /// `-a`. `[a] -> [out]`
    Neg,
    /// `a ** exponent`. `[a] -> [out]`
    Pow {
        /// The exponent.
        exponent: u32,
    },
    /// `torch.rsqrt`. `[a] -> [out]`
    Rsqrt,
    /// `torch.sqrt`. `[a] -> [out]`
    Sqrt,
    /// `torch.tanh`. `[a] -> [out]`
    Tanh,
    /// `silu`, one kernel. `[a] -> [out]`
    Silu,
    /// `gelu`, one kernel, exact or tanh. `[a] -> [out]`
    Gelu,
    /// `relu`. `[a] -> [out]`
    Relu,
    /// Mean over a dimension, which is kept. `[a] -> [out]`
    Mean {
        /// The dimension; negative counts from the end.
        dim: i32,
    },
    /// Mean over the two spatial dimensions, the last of (batch, channels, height, width).
    /// `[a] -> [out]`
    MeanSpatial {
        /// Whether they are kept, as ones.
        keep: bool,
    },
    /// `a += b`, where a is not needed any more as it was. `[a, b] -> [out]`
    AddInPlace,
    /// `nn.functional.conv2d`. `[x, weight, bias?] -> [out]`
    Conv2d(Conv2d),
    /// `batch_norm` in training over (batch, channels, height, width). `[a, weight, bias] -> [out]`
    BatchNorm,
    /// `max_pool2d`. `[a] -> [out]`
    MaxPool2d {
        /// Height and width of the window.
        kernel: u64,
        /// Step of the window.
        stride: u64,
        /// Rows and columns added on each side.
        padding: u64,
    },
    /// Concatenation along a dimension. `[a, ...] -> [out]`
    Cat {
        /// The dimension; negative counts from the end.
        dim: i32,
    },
    /// `.to(dtype)`: itself where it has that dtype. `[a] -> [out]`
    To {
        /// The dtype.
        dtype: Dtype,
    },
    /// `.to(like.dtype)`. `[a, like] -> [out]`
    ToLike,
    /// `.view`. `[a] -> [out]`
    View {
        /// The new sizes.
        sizes: Sizes,
    },
    /// `.reshape`: a view where strides allow it, else a copy. `[a] -> [out]`
    Reshape {
        /// The new sizes.
        sizes: Sizes,
    },
    /// `.transpose`. `[a] -> [out]`
    Transpose {
        /// One dimension; negative counts from the end.
        dim0: i32,
        /// The other.
        dim1: i32,
    },
    /// `.unsqueeze`. `[a] -> [out]`
    Unsqueeze {
        /// Where the new dimension goes.
        dim: i32,
    },
    /// `.squeeze` of a dimension of one. `[a] -> [out]`
    Squeeze {
        /// The dimension.
        dim: i32,
    },
    /// `.expand`. `[a] -> [out]`
    Expand {
        /// The new sizes; -1 keeps one.
        sizes: Sizes,
    },
    /// `.contiguous()`: itself where it is. `[a] -> [out]`
    Contiguous,
    /// `a[..., start:end]` on one dimension. `[a] -> [out]`
    Slice {
        /// The dimension; negative counts from the end.
        dim: i32,
        /// The first index.
        start: i64,
        /// One past the last.
        end: i64,
    },
    /// `a[..., first::2, ...]`: every second index of one dimension. `[a] -> [out]`
    EverySecond {
        /// The dimension.
        dim: i32,
        /// The first index, 0 or 1.
        first: u64,
    },
    /// `nn.functional.pad`: zeros behind what is there; a copy where none are added. `[a] -> [out]`
    Pad {
        /// How many are added to each dimension.
        behind: Sizes,
    },
    /// `torch.roll` along two dimensions. `[a] -> [out]`
    RollTwo,
    /// `a[..., :, ...]`: a slice of one whole dimension, without bounds. `[a] -> [out]`
    All {
        /// The dimension.
        dim: i32,
    },
    /// `a[..., index, ...]`: one index of a dimension, which goes. `[a] -> [out]`
    Select {
        /// The dimension.
        dim: i32,
    },
    /// `a.masked_fill(mask, number)`. `[a, mask] -> [out]`
    MaskedFill,
    /// `a.masked_fill_(mask, number)`. `[a, mask] -> [out]`
    MaskedFillInPlace,
    /// `.permute`. `[a] -> [out]`
    Permute {
        /// Which dimension each one of the result was.
        order: Sizes,
    },
    /// `.split(size, dim)` into equal parts. `[a] -> [out, ...]`
    Split {
        /// The dimension.
        dim: i32,
        /// Parts.
        parts: u32,
    },
    /// `.unbind(dim)`: views without the dimension. `[a] -> [out, ...]`
    Unbind {
        /// The dimension; negative counts from the end.
        dim: i32,
        /// Its size.
        parts: u32,
    },
    /// `softmax` over the last dimension. `[a] -> [out]`
    Softmax {
        /// Whether it is asked for in float32 (`dtype=torch.float32`).
        in_f32: bool,
    },
    /// `log_softmax` and `nll_loss` over classes, mean. `[logits (rows, classes), labels] -> [loss]`
    CrossEntropy,
    /// `mse_loss`, mean. `[a, b] -> [loss]`
    MseLoss,
    /// `binary_cross_entropy_with_logits`, mean. `[logits, labels] -> [loss]`
    BceLoss,
    /// Liger's fused linear cross-entropy over classes, mean.
    /// `[x (rows, inputs), weight (classes, inputs), labels] -> [loss]`
    FusedCrossEntropy,
    /// `dropout` in training; nothing at all where the probability is 0. `[a] -> [out]`
    Dropout {
        /// The probability.
        probability: f64,
    },
    /// `layer_norm` over the last dimension. `[a, weight, bias?] -> [out]`
    LayerNorm,
    /// `scaled_dot_product_attention`. `[query, key, value, mask?] -> [out]`
    Sdpa {
        /// Dropout on the probabilities.
        dropout: f64,
        /// `is_causal`.
        causal: bool,
        /// `enable_gqa`: keys and values have fewer heads than queries.
        grouped: bool,
    },
    /// `a.to(autocast's dtype)` where a is in float32; itself without autocast. `[a] -> [out]`
    ToAutocast,
    /// `flash_attn_func`, causal. `[query, key, value] (batch, seq_len, heads, head_dim) -> [out]`
    FlashAttn {
        /// Dropout on the probabilities.
        dropout: f64,
    },
    /// Sum over a dimension. `[a] -> [out]`
    SumDim {
        /// The dimension; negative counts from the end.
        dim: i32,
        /// Whether it is kept, as one.
        keep: bool,
    },
    /// `a.div_(b)`. `[a, b] -> [out]`
    DivInPlace,
    /// `torch.topk` over the last dimension. `[a] -> [values, indices]`
    TopK {
        /// How many.
        k: u64,
    },
    /// `torch.sort` of one row of integers. `[a] -> [values, indices]`
    Sort,
    /// `a[:, ..., index]`: what an index names along a dimension. `[a, index] -> [out]`
    IndexRows {
        /// The dimension.
        dim: i32,
    },
    /// `a[rows, columns]` on the first two dimensions. `[a, rows, columns] -> [out]`
    IndexPairs,
    /// `a.index_add_(0, index, b)`. `[a, index, b] -> [out]`
    IndexAdd,
    /// `grouped_mm`: rows by the matrix of their group. `[x, weight (groups, in, out), offsets] -> [out]`
    GroupedMm,
    /// `mask.sum()` of a boolean mask: counted in int64. `[mask] -> [out]`
    CountTrue,
    /// `torch.cumsum` over the last dimension, without a gradient. `[a] -> [out]`
    CumulativeSum {
        /// What it sums in: 64 bits for booleans and integers, if nothing else is asked for.
        dtype: Dtype,
    },
    /// `mask.all()`. `[mask] -> [out]`
    AllTrue,
    /// `a.dtype`, as a value without elements. `[a] -> [out]`
    DtypeOf,
    /// `a.requires_grad_(True)`: the gradient of a ends there. `[a] -> [out]`
    RequireGrad,
}

/// How a window goes over an image, the same in both directions, and how channels are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Step of the window.
    pub stride: u64,
    /// Rows and columns of zeros on each side.
    pub padding: u64,
    /// Whether it goes along the width alone, over images of one row (`conv1d`).
    pub one_row: bool,
    /// Groups of channels that see each other.
    pub groups: u64,
}

/// One line of a graph.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// An operator runs.
    Run {
        /// The operator.
        op: Op,
        /// What it reads.
        inputs: SmallVec<[ValueId; 4]>,
        /// What it makes.
        outputs: SmallVec<[ValueId; 3]>,
    },
    /// Python's last name for a value goes away.
    Drop(ValueId),
    /// A module's forward begins.
    Enter(ModuleId),
    /// It ends; the module named runs on.
    Leave(ModuleId),
    /// Autocast is switched off, or on again (`torch.autocast(enabled=False)`).
    Autocast {
        /// Whether it is on from here.
        on: bool,
    },
    /// A region begins that checkpointing may recompute as a whole.
    BeginLayer(LayerId),
    /// It ends.
    EndLayer(LayerId),
}

/// Names a region: an index into [`Graph::layers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(pub u32);

/// What a region that checkpointing may recompute is of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Region {
    /// A whole layer; its number.
    Layer(u64),
    /// A stage of layers.
    Stage,
    /// The attention of one.
    Attention,
}

/// A region that checkpointing may recompute.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// What it is.
    pub region: Region,
    /// Statements between its `BeginLayer` and `EndLayer`, as indices.
    pub statements: std::ops::Range<usize>,
    /// Values born in it: a dense range of ids.
    pub values: std::ops::Range<u32>,
    /// Values from outside that it reads, weights excepted.
    pub captured: SmallVec<[ValueId; 4]>,
}

/// A model's forward pass, loss included.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// What is loaded with the model, in the order in which `.to("cuda")` moves it.
    pub weights: Vec<Weight>,
    /// Trained weights in the optimizer's order, that of `model.parameters()`, as indices. It is not
    /// that of loading: `.to("cuda")` moves what a module's children hold before its own weights.
    pub trained: Vec<u32>,
    /// The batch: values that are moved to the device before each micro-step, all of them int64
    /// or in the model's dtype.
    pub batch: Vec<(ValueId, Sizes, Dtype)>,
    /// The forward pass.
    pub statements: Vec<Statement>,
    /// The loss.
    pub loss: Option<ValueId>,
    /// Values in all.
    pub value_count: u32,
    /// Names of modules, as PyTorch names them; the first is the model itself, "".
    pub modules: Vec<String>,
    /// Regions that checkpointing may recompute; those of attention lie within layers.
    pub layers: Vec<Layer>,
    /// What of the batch are images: they come to the device in float32, and are cast there where
    /// the model has another dtype.
    pub images: Option<ValueId>,
    /// The format of its linear weights, where that is not the model's: all else is then in float32.
    pub quantized: Option<Quantize>,
    /// Elements of the logits, for telling them apart in reports: (rows, classes).
    pub logits: Option<(u64, u64)>,
}

impl Graph {
    /// Whether the first table that is read is not trained.
    pub fn input_table_is_frozen(&self) -> bool {
        self.input_table().is_some_and(|table| !self.weights[table.0 as usize].trained)
    }

    /// Returns the outputs of the input embeddings, and the statements that end them: of each module that looks up the
    /// table of tokens (of encoder-decoders both halves do), or of that which makes an image's patches; of `every` part
    /// of the model, which an encoder of sounds is, its own too.
    pub fn embedded(&self, every: bool) -> Vec<(ValueId, usize)> {
        let mut found = Vec::new();
        let (mut module, mut last) = (ModuleId(0), None);
        let table = self.input_table();
        let mut looks_up = false;
        for (index, statement) in self.statements.iter().enumerate() {
            match statement {
                Statement::Enter(entered) => module = *entered,
                Statement::Run { op, inputs, outputs } => {
                    looks_up |= *op == Op::Embedding && Some(inputs[0]) == table;
                    last = outputs.first().copied();
                }
                Statement::Leave(outer) => {
                    let name = self.name(module);
                    let patches = table.is_none() && name.ends_with("patch_embeddings");
                    let sounds = every && name.ends_with("encoder.conv1");
                    if std::mem::take(&mut looks_up) || patches || sounds {
                        found.extend(last.map(|output| (output, index)));
                    }
                    module = *outer;
                }
                _ => {}
            }
        }
        found
    }

    /// Returns the table of the input embeddings, which is the first that is not one of positions.
    fn input_table(&self) -> Option<ValueId> {
        let mut module = ModuleId(0);
        self.statements.iter().find_map(|statement| match statement {
            Statement::Enter(id) | Statement::Leave(id) => {
                module = *id;
                None
            }
            Statement::Run { op: Op::Embedding, inputs, .. } => {
                (!self.name(module).ends_with("positions")).then(|| inputs[0])
            }
            _ => None,
        })
    }

    fn name(&self, module: ModuleId) -> &str {
        &self.modules[module.0 as usize]
    }

    /// Returns the weights of `nn.Embedding` modules: tables that rows are looked up in, and those that
    /// are read as a tensor (DeBERTa's of distances, Whisper's of positions).
    pub fn embeddings(&self) -> BTreeSet<ValueId> {
        let looked_up = self.statements.iter().filter_map(|statement| match statement {
            Statement::Run { op: Op::Embedding, inputs, .. } => Some(inputs[0]),
            _ => None,
        });
        let read_whole = self.weights.iter().filter(|weight| {
            let module = self.name(weight.module);
            module.ends_with("rel_embeddings") || module.ends_with("embed_positions")
        });
        looked_up.chain(read_whole.map(|weight| weight.value)).collect()
    }

    /// Returns the names of the trained parameters in the optimizer's order, as `named_parameters()`
    /// gives them.
    pub fn parameter_names(&self) -> Vec<String> {
        let name = |&index: &u32| {
            let weight = &self.weights[index as usize];
            match self.modules[weight.module.0 as usize].as_str() {
                "" => weight.name.to_owned(),
                module => format!("{module}.{}", weight.name),
            }
        };
        self.trained.iter().map(name).collect()
    }
}
