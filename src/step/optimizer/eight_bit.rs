//! AdamW with its moments in 8 bits, and a scale for each block of them.
//!
//! Source: bitsandbytes `optim/optimizer.py` (`Optimizer2State.init_state`, `get_state_buffer`),
//! read at 0.50.2. Its kernels take no memory while they run.

use crate::step::optimizer::OptimizerState;
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims, Tensor};

/// Parameters with fewer elements keep moments in float32 (`min_8bit_size`).
const MIN_8_BIT_SIZE: u64 = 4096;
/// Elements that share a scale (`blocksize`).
const BLOCK: u64 = 256;
/// Values of a code of 8 bits (`create_dynamic_map`).
const CODE: u64 = 256;
/// From this many elements on, the moments of a paged optimizer are managed memory, outside
/// PyTorch's allocator (`get_state_buffer`).
const MIN_PAGED_SIZE: u64 = 100_000;

impl Tape<'_> {
    /// The first step makes the state, parameter by parameter; all else is done in place.
    pub(super) fn adamw_8bit(&self, trained: &[Tensor], state: &mut OptimizerState, paged: bool) {
        if state.begun {
            return;
        }
        let mut has_codes = false;
        for parameter in trained {
            let count = parameter.numel();
            let moment = |dtype| self.empty_strided(parameter.sizes, parameter.strides, dtype);
            if count < MIN_8_BIT_SIZE {
                state.kept.extend([moment(DType::F32), moment(DType::F32)]);
                continue;
            }
            let floats = |n| self.empty(Dims::new(&[n]), DType::F32);
            if !has_codes {
                // One code with a sign and one without, copied to the device once for all.
                state.kept.extend([floats(CODE), floats(CODE)]);
                has_codes = true;
            }
            if !(paged && count >= MIN_PAGED_SIZE) {
                state.kept.extend([moment(DType::U8), moment(DType::U8)]);
            }
            let blocks = count.div_ceil(BLOCK);
            state.kept.extend([floats(blocks), floats(blocks)]);
        }
    }
}
