//! AdamW with its moments in 8 bits, and a scale for each block of them.
//!
//! Source: bitsandbytes `optim/optimizer.py` (`Optimizer2State.init_state`, `get_state_buffer`),
//! read at 0.50.2. Its kernels take no memory while they run.

use crate::step::optimizer::OptimizerState;
use crate::step::tape::Tape;
use crate::step::tensor::{DType, Dims};

/// Parameters with fewer elements keep moments in float32 (`min_8bit_size`).
const MIN_8_BIT_SIZE: u64 = 4096;
/// Elements that share a scale (`blocksize`).
const BLOCK: u64 = 256;
/// Values of a code of 8 bits (`create_dynamic_map`).
const CODE: u64 = 256;
/// From this many elements on, the moments of a paged optimizer are managed memory, outside
/// PyTorch's allocator (`get_state_buffer`).
const MIN_PAGED_SIZE: u64 = 100_000;

/// How its moments are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct EightBit {
    /// Large ones in managed memory.
    paged: bool,
    /// Those of `nn.Embedding` in 32 bits.
    whole_embeddings: bool,
}

impl EightBit {
    /// As bitsandbytes does by itself.
    pub const PLAIN: EightBit = EightBit { paged: false, whole_embeddings: false };
    /// As the Hugging Face Trainer has it do.
    ///
    /// Source: transformers 4.44 to 5.24 `trainer.py` (`create_optimizer`: `register_module_override`).
    pub const OF_TRAINER: EightBit = EightBit { paged: false, whole_embeddings: true };

    /// Returns the same, paged.
    pub const fn paged(self) -> EightBit {
        EightBit { paged: true, ..self }
    }
}

impl Tape<'_> {
    /// The first step makes the state, parameter by parameter; all else is done in place.
    pub(super) fn adamw_8bit(&self, state: &mut OptimizerState, how: EightBit) {
        if state.begun {
            return;
        }
        let mut has_codes = false;
        for parameter in self.parameters.iter().filter(|p| p.grad.is_some()) {
            let whole = how.whole_embeddings && parameter.is_embedding;
            let parameter = &parameter.tensor;
            let count = parameter.numel();
            let moment = |dtype| self.empty_strided(parameter.sizes, parameter.strides, dtype);
            let is_paged = how.paged && count >= MIN_PAGED_SIZE;
            if count < MIN_8_BIT_SIZE || whole {
                if !is_paged {
                    state.kept.extend([moment(DType::F32), moment(DType::F32)]);
                }
                continue;
            }
            let floats = |n| self.empty(Dims::new(&[n]), DType::F32);
            if !has_codes {
                // One code with a sign and one without, copied to the device once for all.
                state.kept.extend([floats(CODE), floats(CODE)]);
                has_codes = true;
            }
            if !is_paged {
                state.kept.extend([moment(DType::U8), moment(DType::U8)]);
            }
            let blocks = count.div_ceil(BLOCK);
            state.kept.extend([floats(blocks), floats(blocks)]);
        }
    }
}
