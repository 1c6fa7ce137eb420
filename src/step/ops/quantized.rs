//! Linear layers of bitsandbytes: how their weights are quantized when they are loaded, and what they
//! allocate in forward and backward.
//!
//! Source: bitsandbytes 0.50.2, `functional.py`, `autograd/_functions.py` (`MatMul4Bit`,
//! `MatMul8bitLt`), `backends/cuda/ops.py`.

use crate::step::ops::Backward;
use crate::step::setup::GpuArch;
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor, TensorData};

/// What quantized weights leave on the device besides themselves.
#[derive(Debug, Default)]
pub struct Quantized {
    /// Scales, offsets and codes, for good.
    kept: Vec<Tensor>,
    /// Whether the code of 8 bits is there, which all weights share.
    has_code: bool,
    /// The dtype that weights of 4 bits had.
    source: Option<DType>,
}

/// Elements that share a scale (`blocksize`), and scales that share one of theirs.
const BLOCK: u64 = 64;
const SCALES: u64 = 256;
/// Values of a code of 4 bits and of one of 8.
const CODE_4BIT: u64 = 16;
const CODE_8BIT: u64 = 256;
/// With more rows the weight is always made anew (`_gemm_4bit_custom_max_m`); with as few never.
const MOST_CUSTOM_ROWS: u64 = 1536;
const FEWEST_ROWS: u64 = 4;
/// What CUB takes to count a mask's true elements and to list them, where there are none.
///
/// Source: the memory oracle's trace of `argwhere`, torch 2.15.
const COUNT_SCRATCH: u64 = 1;
const LIST_SCRATCH: u64 = 1023;

impl Tape<'_> {
    /// `Params4bit._quantize`: packed values; scales of blocks in 8 bits with scales of their own.
    pub fn load_nf4(&mut self, sizes: Dims, source: DType) -> Tensor {
        self.quantized.source = Some(source);
        let floats = |tape: &Self, n: u64| tape.empty(Dims::new(&[n]), DType::F32);
        let count = sizes.product();
        let blocks = count.div_ceil(BLOCK);
        let weight = self.empty(sizes, source);
        let scales = floats(self, blocks);
        let packed = self.empty(Dims::new(&[count.div_ceil(2)]), DType::U8);
        let code = floats(self, CODE_4BIT);
        // data.div_(data.abs().max())
        drop((floats(self, CODE_4BIT), self.scalar(DType::F32)));
        let offset = self.scalar(DType::F32);
        self.reduction(&scales, 1);
        let shifted = floats(self, blocks);
        if !self.quantized.has_code {
            self.quantized.has_code = true;
            let shared = floats(self, CODE_8BIT);
            self.quantized.kept.push(shared);
        }
        let their_scales = floats(self, blocks.div_ceil(SCALES));
        let quantized = self.empty(Dims::new(&[blocks]), DType::U8);
        let their_code = floats(self, CODE_8BIT);
        drop((weight, scales, shifted));
        self.quantized.kept.extend([code, offset, their_scales, quantized, their_code]);
        self.as_weight(&packed, sizes)
    }

    /// `Int8Params._quantize`: from a float16 copy, a scale for each row.
    pub fn load_int8(&mut self, sizes: Dims) -> Tensor {
        let weight = self.empty(sizes, DType::F16);
        let scales = self.empty(Dims::new(&sizes.as_slice()[..1]), DType::F32);
        let bytes = self.empty(sizes, DType::U8);
        drop(weight);
        self.quantized.kept.push(scales);
        bytes
    }

    /// Packed values as a tensor of the weight's sizes.
    fn as_weight(&self, packed: &Tensor, sizes: Dims) -> Tensor {
        let (strides, storage) = (sizes.contiguous_strides(), packed.storage.clone());
        TensorData { sizes, strides, dtype: DType::U8, storage, edge: None, is_view: false }.into()
    }

    /// `Linear4bit`: computed in bfloat16 (`narrow`), and cast back to what x was in.
    pub fn linear_4bit(
        &mut self,
        [x, narrow]: [&Tensor; 2],
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> Tensor {
        let records = std::mem::replace(&mut self.grad_enabled, false);
        let [outputs, inputs] = [0, 1].map(|i| weight.sizes.as_slice()[i]);
        let rows = x.numel() / inputs.max(1);
        let product = if is_custom(self.setup.gpu, [rows, outputs, inputs]) {
            self.empty(with_last(x.sizes, outputs), DType::Bf16)
        } else {
            self.dequantized_linear(narrow, weight, bias)
        };
        self.grad_enabled = records;
        let op = Backward::Linear4bit([outputs, inputs]);
        let edge = self.record(op, &[narrow], &[], &[(product.sizes, product.dtype)]);
        let TensorData { sizes, strides, dtype, .. } = *product;
        let storage = product.storage.clone();
        drop(product);
        let made = TensorData { sizes, strides, dtype, storage, edge, is_view: false }.into();
        self.to(&made, x.dtype)
    }

    /// `_dequant_linear_fallback`: scales, then the weight, then an ordinary product.
    fn dequantized_linear(&mut self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let blocks = weight.numel().div_ceil(BLOCK);
        let floats = |tape: &Self| tape.empty(Dims::new(&[blocks]), DType::F32);
        let (scales, shifted) = (floats(self), floats(self));
        let whole = self.empty(weight.sizes, x.dtype);
        let out = match self.autocast.dtype {
            None => self.linear(x, &whole, bias),
            Some(dtype) => {
                let bias = bias.map(|bias| self.cached_cast(bias, dtype));
                let whole = self.cached_cast(&whole, dtype);
                let x = self.cached_cast(x, dtype);
                self.linear(&x, &whole, bias.as_ref())
            }
        };
        drop((scales, shifted, whole));
        out
    }

    /// `grad @ dequantize_4bit(weight).to(grad.dtype)`
    pub fn linear_4bit_backward(&mut self, grad: &Tensor, [outputs, inputs]: [u64; 2]) -> Tensor {
        let blocks = (outputs * inputs).div_ceil(BLOCK);
        let scales = self.empty(Dims::new(&[blocks]), DType::F32);
        let source = self.quantized.source.unwrap_or(DType::Bf16);
        let whole = self.empty(Dims::new(&[outputs, inputs]), source);
        drop(scales);
        let narrow = self.to(&whole, grad.dtype);
        drop(whole);
        self.folded_product(grad, &narrow)
    }

    /// `matmul` of a tensor of any dimensions with a matrix, outside autograd.
    fn folded_product(&mut self, x: &Tensor, matrix: &Tensor) -> Tensor {
        let [inner, columns] = [0, 1].map(|i| matrix.sizes.as_slice()[i]);
        let flat = self.reshape_data(x, Dims::new(&[x.numel() / inner.max(1), inner]));
        let out = self.product(&flat, matrix);
        let sizes = with_last(x.sizes, columns);
        self.reshape_data(&out, sizes)
    }

    /// `Linear8bitLt` with a threshold for outliers, of which it looks for columns; what it would do
    /// with those it found is not counted. A bias is added in place. x stays until the whole graph goes.
    pub fn linear_8bit(&mut self, x: &Tensor, weight: &Tensor) -> Tensor {
        let [outputs, inputs] = [0, 1].map(|i| weight.sizes.as_slice()[i]);
        let rows = x.numel() / inputs.max(1);
        let records = std::mem::replace(&mut self.grad_enabled, false);
        let flat = self.reshape_data(x, Dims::new(&[rows, inputs]));
        let half = self.to(&flat, DType::F16);
        let scales = self.empty(Dims::new(&[rows]), DType::F32);
        let bytes = self.empty(flat.sizes, DType::U8);
        self.outlier_columns(&half);
        drop(half);
        let product = Dims::new(&[rows, outputs]);
        let wide = self.empty(product, DType::I32);
        if inputs % 4 != 0 {
            self.product_in_floats(&bytes, weight);
        }
        let narrow = self.empty(product, DType::F16);
        let out = self.to(&narrow, x.dtype);
        drop((wide, narrow, bytes, scales));
        self.grad_enabled = records;
        let sizes = with_last(x.sizes, outputs);
        let op = Backward::Linear8bit { sizes: [outputs, inputs], dtype: x.dtype };
        let edge = self.record(op, &[x], &[], &[(sizes, out.dtype)]);
        if let Some(edge) = edge {
            self.held.push((edge.node, flat));
        }
        let (strides, storage) = (sizes.contiguous_strides(), out.storage.clone());
        TensorData { sizes, strides, dtype: out.dtype, storage, edge, is_view: false }.into()
    }

    /// `torch.matmul(x.float(), weight.float().t()).to(torch.int32)`
    ///
    /// Source: bitsandbytes 0.50.2, `backends/cuda/ops.py`: cuBLASLt has no product of bytes whose
    /// inner dimension four does not divide.
    fn product_in_floats(&mut self, x: &Tensor, weight: &Tensor) {
        let mut x = self.to(x, DType::F32);
        let mut weight = self.to(weight, DType::F32);
        // Autocast takes both down again, while the wide ones are there.
        let _wide = self.autocast.dtype.map(|narrow| {
            let weight_in = self.to(&weight, narrow);
            let x_in = self.to(&x, narrow);
            (std::mem::replace(&mut x, x_in), std::mem::replace(&mut weight, weight_in))
        });
        let product = self.product(&x, &self.transposed(&weight, 0, 1, None));
        drop((x, weight));
        drop(self.to(&product, DType::I32));
    }

    /// `argwhere((x.abs() >= threshold).any(dim=0))`
    fn outlier_columns(&mut self, x: &Tensor) {
        let absolute = self.empty(x.sizes, DType::F16);
        let is_outlier = self.empty(x.sizes, DType::Bool);
        drop(absolute);
        drop(self.all_true(&is_outlier));
        let _columns = self.empty(Dims::new(&x.sizes.as_slice()[1..]), DType::Bool);
        self.reduction(&is_outlier, 1);
        let _count = self.scalar(DType::I32);
        self.transient(COUNT_SCRATCH);
        self.transient(LIST_SCRATCH);
    }

    /// `grad @ (bytes.to(dtype) * scales)`
    pub fn linear_8bit_backward(
        &mut self,
        grad: &Tensor,
        [outputs, inputs]: [u64; 2],
        dtype: DType,
    ) -> Tensor {
        let rows = grad.numel() / outputs.max(1);
        let flat = self.reshape_data(grad, Dims::new(&[rows, outputs]));
        let whole = self.empty(Dims::new(&[outputs, inputs]), dtype);
        drop(self.empty(Dims::new(&[outputs, 1]), DType::F32));
        let flat = self.to(&flat, dtype);
        let out = self.product(&flat, &whole);
        self.reshape_data(&out, with_last(grad.sizes, inputs))
    }
}

fn with_last(mut sizes: Dims, last: u64) -> Dims {
    let at = sizes.len() - 1;
    sizes.as_mut_slice()[at] = last;
    sizes
}

/// Whether a product reads the packed weight as it is. Known for an A100; on other GPUs the weight is
/// taken to be made anew, which needs more.
///
/// Source: bitsandbytes 0.50.2 `backends/cuda/ops.py` (`_gemm_4bit_use_custom_cuda`).
fn is_custom(gpu: GpuArch, [rows, outputs, inputs]: [u64; 3]) -> bool {
    if rows > MOST_CUSTOM_ROWS || !inputs.is_multiple_of(BLOCK) {
        return false;
    }
    if rows <= FEWEST_ROWS {
        return true;
    }
    if gpu.compute_capability != (8, 0) {
        return false;
    }
    let (sms, tiles) = (u64::from(gpu.sm_count), outputs.div_ceil(64));
    if outputs * inputs < 4 << 20 {
        return rows <= most_rows_of_a_small_weight(sms, tiles, [outputs, inputs]);
    }
    match rows {
        ..=7 => {
            let waits = rows >= 6 && tiles >= 48;
            let tall = inputs > outputs && tiles * 4 < sms * 3;
            let square = inputs == outputs && tiles * 5 < sms * 3;
            !(waits && (tall || square))
        }
        8..=512 => rows <= most_rows_of_a_large_weight(sms, tiles, [outputs, inputs]),
        _ => false,
    }
}

fn most_rows_of_a_small_weight(sms: u64, tiles: u64, [outputs, inputs]: [u64; 2]) -> u64 {
    if inputs * 2 < outputs {
        return if tiles * 3 < sms { 1536 } else { 512 };
    }
    if tiles * 4 <= sms {
        return match (inputs >= outputs, tiles * 8 <= sms) {
            (false, _) => 384,
            (true, true) => 32,
            (true, false) => 128,
        };
    }
    if tiles * 2 <= sms { 16 } else { 0 }
}

fn most_rows_of_a_large_weight(sms: u64, tiles: u64, [outputs, inputs]: [u64; 2]) -> u64 {
    if tiles >= sms * 3 {
        return 128;
    }
    if tiles >= sms {
        return if inputs < outputs { 64 } else { 32 };
    }
    let tall = inputs >= outputs * 3 && tiles * 4 > sms;
    let square = inputs == outputs && tiles >= 48 && tiles * 5 < sms * 3;
    if tall || square {
        return 0;
    }
    if tiles * 2 < sms {
        if inputs <= outputs {
            return 128;
        }
        if tiles * 3 >= sms {
            return 0;
        }
    }
    if tiles >= sms / 2 && inputs < outputs { 128 } else { 16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand through `_gemm_4bit_use_custom_cuda` on an A100 (108 SMs).
    #[test]
    fn packed_weights_are_read_as_they_are_by_few_rows() {
        let custom = |rows, outputs, inputs| is_custom(GpuArch::A100, [rows, outputs, inputs]);
        assert!(custom(4, 4096, 4096) && !custom(1537, 4096, 512));
        // Of 512 x 256: inputs are not below half of the outputs, 8 tiles are below a quarter wave.
        assert!(custom(384, 512, 256) && !custom(385, 512, 256));
        assert!(custom(32, 256, 256) && !custom(33, 256, 256));
        // Of 14336 x 4096: 224 tiles, two waves.
        assert!(custom(64, 14_336, 4096) && !custom(65, 14_336, 4096));
        // Of 4096 x 4096: 64 tiles, at 0.59 of a wave.
        assert!(!custom(8, 4096, 4096));
    }
}
