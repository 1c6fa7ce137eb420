//! `scaled_dot_product_attention`: which kernel PyTorch chooses, and what each takes.
//!
//! Source: PyTorch `aten/src/ATen/native/transformers/cuda/` (`sdp_utils.cpp`, `flash_api.cpp`,
//! `attention.cu`, `attention_backward.cu`, `mem_eff_attention/kernel_backward.h`).

use std::rc::Rc;

use smallvec::SmallVec;

use crate::step::ops::{Backward, Grads};
use crate::step::setup::Version;
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Edge, Tensor};

/// Sizes of one attention, (batch, heads, queries, keys, head_dim).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlashShape {
    batch: u64,
    heads: u64,
    kv_heads: u64,
    queries: u64,
    keys: u64,
    head_dim: u64,
}

impl FlashShape {
    /// Returns the multiplications of queries by keys, or of probabilities by values.
    pub fn product(&self) -> u64 {
        self.batch * self.heads * self.queries * self.keys * self.head_dim
    }
}

impl EfficientShape {
    /// As [`FlashShape::product`].
    pub fn product(&self) -> u64 {
        self.shape.product()
    }
}

/// Sizes of one memory-efficient attention, and whether it drops out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EfficientShape {
    shape: FlashShape,
    dropout: bool,
    /// Whether the mask that is added needs a gradient: it is learned.
    learned_bias: bool,
}

/// How `scaled_dot_product_attention` is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SdpaCall {
    /// Dropout on the probabilities.
    pub dropout: f64,
    /// `is_causal`
    pub causal: bool,
    /// `enable_gqa`
    pub grouped: bool,
}

/// The kernels, from the one that PyTorch likes best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    Flash,
    Efficient,
    Math,
}

/// From this version on the memory-efficient kernel takes grouped queries.
///
/// Evidence: shared/oracle/README.md, Versions, switch 1.
const EFFICIENT_GROUPED: Version = Version::new(2, 14);

/// A mask's rows are padded to a multiple of so many elements.
///
/// Source: PyTorch `attention.cpp` (`mem_eff_alignment`).
const MASK_ALIGNMENT: u64 = 8;

/// Rows of a bias' gradient are padded to a multiple of so many elements.
///
/// Source: PyTorch `attention_backward.cu` (`alignTo` in `_efficient_attention_backward`).
const BIAS_GRADIENT_ALIGNMENT: u64 = 16;

/// From this version on flash attention rounds heads of more than 128 up to a multiple of 64. Run on
/// 2.8, 2.12 and 2.15; where between the first two it changed is not known.
const HEADS_BY_64: Version = Version::new(2, 9);

/// From this version on the memory-efficient kernel without dropout keeps its empty seeds on the
/// device. Run on 2.13.0 (GPT-NeoX is equal without them) and 2.14.1.
const SEEDS_ON_DEVICE: Version = Version::new(2, 14);

/// From this version on flash attention keeps the state of its random numbers on the device, with
/// dropout or without. Run on 2.6.0 and 2.7.1.
const FLASH_STATE_ON_DEVICE: Version = Version::new(2, 7);

/// From this version on the math kernel computes in float32 where its inputs are in 16 bits.
///
/// Source: PyTorch `attention.cpp` (`_scaled_dot_product_attention_math`,
/// `allowFP16BF16ReductionMathSDP`); run on 2.8 and 2.15 on a simulated T4, and on 2.4, which does not.
const MATH_IN_FLOAT32: Version = Version::new(2, 5);

/// From this version on the math kernel fills its masks and its rows that are masked as a whole in
/// place: before, each made a tensor more. Run on 2.5.1 and 2.6.0; 2.4 is taken to be as 2.5.
const MATH_IN_PLACE: Version = Version::new(2, 6);

/// Whether the kernel reads a mask as it is.
///
/// Source: `aligned_tensor` in PyTorch's `attention.cpp`: strides count, also of a dimension of one.
fn is_aligned(mask: &Tensor) -> bool {
    let strides = mask.strides.as_slice();
    let Some((last, others)) = strides.split_last() else { return true };
    *last == 1 && others.iter().all(|stride| stride.is_multiple_of(MASK_ALIGNMENT))
}

impl Tape<'_> {
    fn choose(&self, q: &Tensor, head_dim: u64, call: &SdpaCall, masked: bool) -> Kernel {
        let (major, minor) = self.setup.gpu.compute_capability;
        let flash_arch = major >= 8;
        // Backward of wide heads does not fit the shared memory of these.
        let narrow_smem = matches!((major, minor), (8, 6 | 7 | 9) | (12, _));
        let flash = q.dtype.is_half()
            && flash_arch
            && !masked
            && head_dim <= 256
            && !(narrow_smem && head_dim > 192);
        if flash {
            return Kernel::Flash;
        }
        let dtype_runs = match q.dtype {
            DType::Bf16 => flash_arch,
            _ => true,
        };
        let grouped_runs = !call.grouped || self.setup.torch >= EFFICIENT_GROUPED;
        let aligned = match q.dtype {
            DType::F32 => head_dim.is_multiple_of(4),
            _ => head_dim.is_multiple_of(8),
        };
        if dtype_runs && grouped_runs && aligned { Kernel::Efficient } else { Kernel::Math }
    }

    /// Runs attention on (batch, heads, seq_len, head_dim) tensors.
    pub fn sdpa(
        &mut self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        mask: Option<&Tensor>,
        call: &SdpaCall,
    ) -> Tensor {
        let (qs, ks) = (q.sizes.as_slice(), k.sizes.as_slice());
        let shape = FlashShape {
            batch: qs[0],
            heads: qs[1],
            kv_heads: ks[1],
            queries: qs[2],
            keys: ks[2],
            head_dim: qs[3],
        };
        match self.choose(q, shape.head_dim, call, mask.is_some()) {
            Kernel::Flash => self.flash(q, k, v, shape, call),
            Kernel::Efficient => self.efficient(q, k, v, mask, shape, call),
            Kernel::Math => self.math(q, k, v, mask, shape, call),
        }
    }

    fn flash(
        &mut self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        s: FlashShape,
        call: &SdpaCall,
    ) -> Tensor {
        let meta = [(q.sizes, q.dtype)];
        let edge = self.record(Backward::Flash(s), &[q, k, v], &[q, k, v], &meta);
        // empty_like of the query as the kernel sees it, (batch, seq_len, heads, head_dim).
        let layout = like_layout(q);
        let out = self.result(q.sizes, layout, q.dtype, edge);
        let lse = self.empty(Dims::new(&[s.batch, s.heads, s.queries]), DType::F32);
        let splits = if call.dropout == 0.0 { self.flash_splits(&s) } else { 1 };
        let accumulators = (splits > 1).then(|| {
            let rounded = self.rounded_in_kernels(s.head_dim);
            let lse = self.hold(4 * splits * s.batch * s.heads * s.queries);
            let out = self.hold(4 * splits * s.batch * s.heads * s.queries * rounded);
            (lse, out)
        });
        self.save_result(edge, &out);
        self.save_result(edge, &lse);
        if self.setup.torch >= FLASH_STATE_ON_DEVICE {
            self.save_flash_state(edge, call.dropout > 0.0);
        }
        drop(accumulators);
        out
    }

    /// Saves the state of the random numbers for backward.
    fn save_flash_state(&mut self, edge: Option<Edge>, dropout: bool) {
        let first_state = self.empty(Dims::new(&[2]), DType::I64);
        let unused = self.empty(Dims::new(&[]), DType::I64);
        if dropout {
            let state = self.empty(Dims::new(&[2]), DType::I64);
            self.save_result(edge, &unused);
            self.save_result(edge, &state);
        } else {
            self.save_result(edge, &first_state);
            self.save_result(edge, &unused);
        }
    }

    /// `flash_attn_func` on (batch, seq_len, heads, head_dim) tensors.
    ///
    /// Source: flash-attn `flash_attn_interface.py` (`FlashAttnFunc`), `csrc/flash_attn/flash_api.cpp`
    /// (`mha_fwd`, `mha_bwd`) of August 2026.
    pub fn flash_attn(&mut self, [q, k, v]: [&Tensor; 3], dropout: f64) -> Tensor {
        let (qs, ks) = (q.sizes.as_slice(), k.sizes.as_slice());
        let s = FlashShape {
            batch: qs[0],
            heads: qs[2],
            kv_heads: ks[2],
            queries: qs[1],
            keys: ks[1],
            head_dim: qs[3],
        };
        let meta = [(q.sizes, q.dtype)];
        let edge = self.record(Backward::FlashAttn(s), &[q, k, v], &[q, k, v], &meta);
        let out = self.result(q.sizes, like_layout(q), q.dtype, edge);
        let lse = self.empty(Dims::new(&[s.batch, s.heads, s.queries]), DType::F32);
        let splits = if dropout == 0.0 { self.flash_splits(&s) } else { 1 };
        let accumulators = (splits > 1).then(|| {
            let rows = 4 * splits * s.batch * s.heads * s.queries;
            (self.hold(rows), self.hold(rows * rounded_head(s.head_dim)))
        });
        let state = self.empty(Dims::new(&[2]), DType::I64);
        for saved in [&out, &lse, &state] {
            self.save_result(edge, saved);
        }
        drop(accumulators);
        // out[..., :head_dim]
        self.alias(&out, out.sizes, out.strides, out.edge)
    }

    /// Gradients of query, key and value; those of groups are summed from each head's.
    pub fn flash_attn_backward(&mut self, s: &FlashShape, saved: &[Tensor]) -> Grads {
        let like = |x: &Tensor| self.empty_strided(x.sizes, like_layout(x), x.dtype);
        let (dq, dk, dv) = (like(&saved[0]), like(&saved[1]), like(&saved[2]));
        let rows = 4 * s.batch * s.heads * s.queries.next_multiple_of(128);
        let delta = self.hold(rows);
        let dq_sum = self.hold(rows * rounded_head(s.head_dim));
        let expanded = (s.heads != s.kv_heads).then(|| {
            let sizes = Dims::new(&[s.batch, s.keys, s.heads, s.head_dim]);
            (self.empty(sizes, saved[0].dtype), self.empty(sizes, saved[0].dtype))
        });
        drop((delta, dq_sum, expanded));
        let view = |x: Tensor| Some(self.alias(&x, x.sizes, x.strides, None));
        Grads::from_iter([view(dq), view(dk), view(dv)])
    }

    /// Returns into how many parts flash attention splits the keys when there are few blocks.
    ///
    /// Source: `flash_api.cpp` (`num_splits_heuristic`, `set_params_splitkv`).
    fn flash_splits(&self, s: &FlashShape) -> u64 {
        let block_n = match s.head_dim {
            ..=64 => 256,
            65..=128 => 128,
            _ => 64,
        };
        let key_blocks = s.keys.div_ceil(block_n);
        let blocks = s.batch * s.heads * s.queries.div_ceil(64);
        let sms = u64::from(self.setup.gpu.sm_count) * 2;
        if blocks as f32 >= 0.8 * sms as f32 {
            return 1;
        }
        let most = 128.min(sms).min(key_blocks);
        let eligible = |n: u64| n == 1 || key_blocks.div_ceil(n) != key_blocks.div_ceil(n - 1);
        let efficiency = |n: u64| {
            let waves = (blocks * n) as f32 / sms as f32;
            waves / waves.ceil()
        };
        let best = (1..=most).filter(|&n| eligible(n)).map(efficiency).fold(0.0, f32::max);
        (1..=most).find(|&n| eligible(n) && efficiency(n) >= 0.85 * best).unwrap_or(1)
    }

    /// Gradients of query, key and value.
    pub fn flash_backward(&mut self, s: &FlashShape, grad: &Tensor, saved: &[Tensor]) -> Grads {
        let (q, k, v) = (&saved[0], &saved[1], &saved[2]);
        let grad = (!like_layout_is_dense(grad)).then(|| self.turned_copy(grad));
        let out = &saved[3];
        let out = (!like_layout_is_dense(out)).then(|| self.turned_copy(out));
        let dq = self.empty_strided(q.sizes, like_layout(q), q.dtype);
        let dk = self.empty_strided(k.sizes, like_layout(k), k.dtype);
        let dv = self.empty_strided(v.sizes, like_layout(v), v.dtype);
        let rounded_queries = s.queries.next_multiple_of(128);
        let rounded_dim = self.rounded_in_kernels(s.head_dim);
        let delta = self.hold(4 * s.batch * s.heads * rounded_queries);
        let dq_sum = self.hold(4 * s.batch * rounded_queries * s.heads * rounded_dim);
        let expanded = (s.heads != s.kv_heads).then(|| {
            let sizes = Dims::new(&[s.batch, s.keys, s.heads, s.head_dim]);
            (self.empty(sizes, q.dtype), self.empty(sizes, q.dtype))
        });
        drop((grad, out, delta, dq_sum, expanded));
        Grads::from_iter([Some(dq), Some(dk), Some(dv)])
    }

    /// The size of a head that the accumulators of PyTorch's own flash attention have.
    ///
    /// Source: `flash_api.cpp` (`head_size_rounded`).
    fn rounded_in_kernels(&self, head_dim: u64) -> u64 {
        match head_dim {
            _ if self.setup.torch >= HEADS_BY_64 => rounded_head(head_dim),
            ..=192 => head_dim.next_multiple_of(32),
            _ => 256,
        }
    }

    /// A copy that is contiguous as (batch, seq_len, heads, head_dim).
    fn turned_copy(&self, x: &Tensor) -> Tensor {
        self.empty_strided(x.sizes, turned_strides(&x.sizes), x.dtype)
    }

    fn efficient(
        &mut self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        mask: Option<&Tensor>,
        s: FlashShape,
        call: &SdpaCall,
    ) -> Tensor {
        let mask = mask.map(|mask| self.additive_mask(mask, q.dtype, &s));
        let dropout = call.dropout > 0.0;
        let bias = mask.as_ref().filter(|mask| self.needs_grad(&[mask]));
        let op = EfficientShape { shape: s, dropout, learned_bias: bias.is_some() };
        let inputs: SmallVec<[&Tensor; 4]> = [q, k, v].into_iter().chain(bias).collect();
        let meta = [(q.sizes, q.dtype)];
        let edge = self.record(Backward::Efficient(op), &inputs, &[q, k, v], &meta);
        let seed = (!dropout && self.setup.torch >= SEEDS_ON_DEVICE).then(|| {
            let scalar = Dims::new(&[]);
            (self.empty(scalar, DType::I64), self.empty(scalar, DType::I64))
        });
        let out = self.result(q.sizes, turned_strides(&q.sizes), q.dtype, edge);
        // `compute_logsumexp`: only where a gradient is asked for.
        let lse_rows = edge.map_or(0, |_| s.queries.next_multiple_of(32));
        let lse = self.empty(Dims::new(&[s.batch, s.heads, lse_rows]), DType::F32);
        // Wide heads do not fit in registers: they are summed in float32 in memory.
        let accumulator = (q.dtype.is_half() && s.head_dim > 128)
            .then(|| self.hold(4 * s.batch * s.queries * s.heads * s.head_dim));
        self.save_result(edge, &out);
        self.save_result(edge, &lse);
        if let Some((seed, offset)) = seed {
            self.save_result(edge, &seed);
            self.save_result(edge, &offset);
        }
        if let Some(mask) = &mask {
            self.save_result(edge, mask);
        }
        drop(accumulator);
        out
    }

    /// A boolean mask becomes one that is added: minus infinity where it is false.
    ///
    /// Source: `convert_boolean_attn_mask`, `preprocess_mask` and `pad_bias` in PyTorch's `attention.cpp`.
    fn additive_mask(&mut self, mask: &Tensor, dtype: DType, s: &FlashShape) -> Tensor {
        let mut out = mask.clone();
        if mask.dtype == DType::Bool {
            let scalar = Dims::new(&[]);
            let numbers = (self.empty(scalar, dtype), self.empty(scalar, dtype));
            out = self.empty(mask.sizes, dtype);
            drop(numbers);
        }
        let last = out.sizes.len() - 1;
        let keys = out.sizes.as_slice()[last];
        if !is_aligned(&out) {
            let mut sizes = out.sizes;
            sizes.as_mut_slice()[last] = (keys / MASK_ALIGNMENT + 1) * MASK_ALIGNMENT;
            let edge =
                self.record(Backward::Narrow(out.sizes), &[&out], &[], &[(sizes, out.dtype)]);
            let padded = self.result(sizes, sizes.contiguous_strides(), out.dtype, edge);
            out = self.slice(&padded, last, 0, keys);
        }
        self.expand(&out, Dims::new(&[s.batch, s.heads, s.queries, s.keys]))
    }

    /// Gradients of query, key and value; keys and values of grouped heads are summed at the end.
    pub fn efficient_backward(
        &mut self,
        e: &EfficientShape,
        grad: &Tensor,
        saved: &[Tensor],
    ) -> Grads {
        let s = &e.shape;
        let q = &saved[0];
        let dense = if like_layout_is_dense(grad) { None } else { Some(self.turned_copy(grad)) };
        let turned = |x: &Tensor| self.empty_strided(x.sizes, turned_strides(&x.sizes), x.dtype);
        let (dq, dk, dv) = (turned(q), turned(&saved[1]), turned(&saved[2]));
        let bias = e.learned_bias.then(|| self.mask_gradient(s, q.dtype));
        let expanded = (s.heads != s.kv_heads).then(|| {
            let sizes = Dims::new(&[s.batch, s.keys, s.heads, s.head_dim]);
            (self.empty(sizes, q.dtype), self.empty(sizes, q.dtype))
        });
        let delta_bytes = 4 * s.batch * s.heads * s.queries;
        let delta = if q.dtype.is_half() {
            self.hold(delta_bytes)
        } else {
            let product = self.hold(4 * s.batch * s.queries * s.heads * s.head_dim);
            let sum = self.hold(delta_bytes);
            let delta = self.hold(delta_bytes);
            drop((product, sum));
            delta
        };
        let workspace = self.hold(self.efficient_workspace_bytes(e, q.dtype));
        drop((dense, expanded, delta, workspace));
        let grads = [Some(dq), Some(dk), Some(dv)].into_iter().chain(bias.map(Some));
        grads.collect()
    }

    /// Room for the gradient of a learned bias, whose rows are aligned.
    ///
    /// Source: PyTorch `attention_backward.cu` (`_efficient_attention_backward`: `alignTo`).
    fn mask_gradient(&mut self, s: &FlashShape, dtype: DType) -> Tensor {
        let sizes = Dims::new(&[s.batch, s.heads, s.queries, s.keys]);
        let mut padded = sizes;
        padded.as_mut_slice()[3] = s.keys.next_multiple_of(BIAS_GRADIENT_ALIGNMENT);
        let whole = self.empty(padded, dtype);
        self.alias(&whole, sizes, whole.strides, None)
    }

    /// Returns the bytes in which the backward kernel sums the gradient of queries (and, for heads
    /// that do not fit in registers, of keys and values).
    ///
    /// Source: `kernel_backward.h` (`workspace_size`), `attention_backward.cu` (`num_splits_key`),
    /// `generate_kernels.py` (block sizes).
    fn efficient_workspace_bytes(&self, e: &EfficientShape, dtype: DType) -> u64 {
        let s = &e.shape;
        let block = self.backward_block(s.head_dim, dtype, e.dropout);
        let tile = block.queries * block.keys + 4;
        let dq = s.queries.div_ceil(block.queries) * s.head_dim.div_ceil(block.keys) * tile;
        let mut elements = dq;
        if dtype.is_half() && !block.in_registers {
            let most = 200 / (s.batch * s.heads).max(1);
            let splits = s.keys.div_ceil(block.keys).min(most);
            let columns = s.head_dim.next_multiple_of(block.queries);
            elements += 2 * splits.max(1) * block.keys * columns;
        }
        4 * s.batch * s.heads * elements.next_multiple_of(4)
    }

    fn backward_block(&self, head_dim: u64, dtype: DType, dropout: bool) -> Block {
        let (major, minor) = self.setup.gpu.compute_capability;
        let wide_smem = matches!((major, minor), (8, 0) | (9 | 10, _));
        let half = dtype.is_half();
        if head_dim <= 64 {
            return Block { queries: 64, keys: 64, in_registers: half };
        }
        if half && !dropout && head_dim <= 96 && matches!((major, minor), (8, 6 | 9)) {
            return Block { queries: 128, keys: 64, in_registers: true };
        }
        let queries = if wide_smem { 128 } else { 64 };
        let in_registers = half && head_dim <= 128 && queries == 128;
        Block { queries, keys: if in_registers { 128 } else { 64 }, in_registers }
    }

    /// Attention written out: products, a causal mask of its own, softmax.
    fn math(
        &mut self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        mask: Option<&Tensor>,
        s: FlashShape,
        call: &SdpaCall,
    ) -> Tensor {
        let dtype = q.dtype;
        let widened = self.setup.torch >= MATH_IN_FLOAT32 && dtype.is_half();
        let inner = if widened { DType::F32 } else { dtype };
        let (q, k, v) = (&self.to(q, inner), &self.to(k, inner), &self.to(v, inner));
        let scaled_q = self.scale(q);
        let causal = call.causal.then(|| self.causal_bias(&s, q.dtype));
        let bias = causal.as_ref().or(mask);
        let wide = |tape: &mut Self, x: &Tensor| match s.heads == s.kv_heads {
            true => x.clone(),
            false => tape.repeat_interleave(x, s.heads / s.kv_heads),
        };
        let (k, v) = (wide(self, k), wide(self, v));
        let scores = {
            let turned = self.transpose(&k, 2, 3);
            let scaled_k = self.scale(&turned);
            drop(turned);
            self.matmul(&scaled_q, &scaled_k)
        };
        let scores = match bias {
            Some(bias) => {
                let biased = self.add_in_place_of(&scores, bias);
                drop(scores);
                biased
            }
            None => scores,
        };
        let soft = self.safe_softmax(&scores);
        drop(scores);
        let probabilities = self.dropout(&soft, call.dropout);
        drop(soft);
        // The second of the two results, which is made first and read by nobody.
        let unread = widened.then(|| self.cast(&probabilities, dtype, None));
        let out = self.matmul(&probabilities, &v);
        let out = self.to(&out, dtype);
        drop((scaled_q, causal, k, v, unread));
        out
    }

    /// `_safe_softmax`: softmax, then zeros in rows that are masked as a whole.
    fn safe_softmax(&mut self, scores: &Tensor) -> Tensor {
        let scalar = Dims::new(&[]);
        let copies = self.setup.torch < MATH_IN_PLACE;
        let (soft, minimum) = if copies {
            let soft = self.empty(scores.sizes, scores.dtype);
            (soft, Some(self.empty(scalar, scores.dtype)))
        } else {
            (self.softmax(scores, false), None)
        };
        let masked = self.empty(scores.sizes, DType::Bool);
        let mut rows = scores.sizes;
        rows.as_mut_slice()[3] = 1;
        let masked_rows = self.empty(rows, DType::Bool);
        let zero = self.empty(scalar, scores.dtype);
        let out = if copies { self.softmax(scores, false) } else { Rc::clone(&soft) };
        drop((soft, minimum, masked, masked_rows, zero));
        out
    }

    /// A lower triangle of ones, made into what is added to scores.
    fn causal_bias(&self, s: &FlashShape, dtype: DType) -> Tensor {
        let square = Dims::new(&[s.queries, s.keys]);
        let ones = self.empty(square, DType::Bool);
        let lower = self.empty(square, DType::Bool);
        drop(ones);
        let zero = self.empty(Dims::new(&[]), dtype);
        let upper = (self.setup.torch < MATH_IN_PLACE).then(|| self.empty(square, DType::Bool));
        let minimum = self.empty(Dims::new(&[]), dtype);
        let out = self.empty(square, dtype);
        drop((lower, zero, upper, minimum));
        out
    }

    /// `x.repeat_interleave(repeats, dim=-3)`
    fn repeat_interleave(&mut self, x: &Tensor, repeats: u64) -> Tensor {
        let [batch, heads, seq, dim] = std::array::from_fn(|i| x.sizes.as_slice()[i]);
        let wide = self.unsqueeze(x, 2);
        let expanded = self.expand(&wide, Dims::new(&[batch, heads, repeats, seq, dim]));
        drop(wide);
        let copy = self.clone_contiguous(&expanded);
        self.view(&copy, Dims::new(&[batch, heads * repeats, seq, dim]))
    }
}

/// The size of a head that accumulators have in flash-attn, and in PyTorch's newest copy of it.
const fn rounded_head(head_dim: u64) -> u64 {
    head_dim.next_multiple_of(if head_dim <= 128 { 32 } else { 64 })
}

struct Block {
    queries: u64,
    keys: u64,
    in_registers: bool,
}

/// Strides of (batch, heads, seq_len, head_dim) that lies in memory as (batch, seq_len, heads, ..).
fn turned_strides(sizes: &Dims) -> Dims {
    let s = sizes.as_slice();
    Dims::new(&[s[1] * s[2] * s[3], s[3], s[1] * s[3], 1])
}

/// Strides of `empty_like(x)`: x's own where it is dense, else dense in x's order of dimensions.
fn like_layout(x: &Tensor) -> Dims {
    if x.is_dense() {
        return x.strides;
    }
    crate::step::layout::elementwise_strides(&[x], &x.sizes)
}

fn like_layout_is_dense(x: &Tensor) -> bool {
    x.strides == turned_strides(&x.sizes) || {
        let mut turned = crate::step::tensor::TensorData {
            sizes: x.sizes,
            strides: x.strides,
            dtype: x.dtype,
            storage: None,
            edge: None,
            is_view: false,
        };
        turned.sizes.as_mut_slice().swap(1, 2);
        turned.strides.as_mut_slice().swap(1, 2);
        turned.is_contiguous()
    }
}
