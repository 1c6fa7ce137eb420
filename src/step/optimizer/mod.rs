//! What lies between two backwards: clipping, the optimizer's step, and zero-grad.
//!
//! An optimizer's step is what it makes for good in the first, and its temporaries in each. All
//! else it does in place.

mod adafactor;
mod adamw;
mod clip;
mod eight_bit;
mod sgd;

use std::rc::Rc;

use eight_bit::EightBit;

use crate::step::setup::{Optimizer, ZeroGrad};
use crate::step::tape::Tape;
use crate::step::tensor::Tensor;

/// What an optimizer keeps between steps.
#[derive(Debug, Default)]
pub struct OptimizerState {
    /// Whether the first step is done.
    begun: bool,
    /// What is made once, in order of making.
    kept: Vec<Tensor>,
    /// What every step makes anew, one for each parameter.
    renewed: Vec<Tensor>,
}

impl Tape<'_> {
    /// Runs one step.
    pub fn optimizer_step(&mut self, state: &mut OptimizerState) {
        let trained = self.trained();
        match self.setup.optimizer {
            Optimizer::AdamW => self.adamw_foreach(&trained, state),
            Optimizer::AdamWFused => self.adamw_fused(&trained, state),
            Optimizer::AdamWLoop => self.adamw_loop(&trained, state),
            Optimizer::AdamW8Bit => self.adamw_8bit(state, EightBit::PLAIN),
            Optimizer::PagedAdamW8Bit => self.adamw_8bit(state, EightBit::PLAIN.paged()),
            Optimizer::AdamW8BitHf => self.adamw_8bit(state, EightBit::OF_TRAINER),
            Optimizer::PagedAdamW8BitHf => self.adamw_8bit(state, EightBit::OF_TRAINER.paged()),
            // The update is added to the weights in place.
            Optimizer::Sgd => {}
            Optimizer::SgdMomentum => self.sgd_momentum(&trained, state),
            Optimizer::Adafactor => self.adafactor(&trained, state),
        }
        state.begun = true;
    }

    /// Drops every gradient, or zeroes it where it is.
    pub fn zero_grad(&mut self) {
        if self.setup.zero_grad == ZeroGrad::None {
            for parameter in &mut self.parameters {
                parameter.grad = None;
            }
        }
    }

    /// Returns the parameters that have a gradient.
    fn trained(&self) -> Vec<Tensor> {
        let with_gradient = self.parameters.iter().filter(|p| p.grad.is_some());
        with_gradient.map(|p| Rc::clone(&p.tensor)).collect()
    }
}

/// Groups parameters by dtype, the dtype that appears last first.
///
/// Source: PyTorch `aten/src/ATen/native/ForeachUtils.h`
/// (`_group_tensors_by_first_tensors_device_and_dtype`): a hash map, which hands out its newest key
/// first. Seen so for two and three dtypes on 2.8 and 2.15.
fn by_dtype(tensors: &[Tensor]) -> Vec<Vec<&Tensor>> {
    let mut groups: Vec<Vec<&Tensor>> = Vec::new();
    for tensor in tensors {
        match groups.iter_mut().find(|group| group[0].dtype == tensor.dtype) {
            Some(group) => group.push(tensor),
            None => groups.push(vec![tensor]),
        }
    }
    groups.reverse();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::recorder::Recorder;
    use crate::step::setup::Setup;
    use crate::step::tape::Parameter;
    use crate::step::tensor::{DType, Dims};
    use crate::trace::{Event, Phase, Trace};

    /// Two optimizer steps on parameters of these sizes, whose gradients are there.
    fn two_steps(optimizer: Optimizer, parameters: &[(&[u64], DType)]) -> Trace {
        let setup = Setup { optimizer, zero_grad: ZeroGrad::Zero, ..Setup::PLAIN };
        let recorder = Recorder::new();
        let mut tape = Tape::new(&setup, Rc::clone(&recorder));
        tape.begin(Phase::Load);
        for &(sizes, dtype) in parameters {
            let tensor = tape.empty(Dims::new(sizes), dtype);
            let grad = Some(tape.empty(Dims::new(sizes), dtype));
            tape.parameters.push(Parameter {
                tensor,
                is_embedding: false,
                grad,
                accumulator: None,
            });
        }
        let mut state = OptimizerState::default();
        for _ in 0..2 {
            tape.begin(Phase::Optimizer);
            tape.optimizer_step(&mut state);
            tape.zero_grad();
        }
        let trace = recorder.finish();
        drop((tape, state));
        trace
    }

    /// Allocations as their bytes, frees as the same below zero, from the first optimizer step on.
    fn events(trace: &Trace) -> Vec<i64> {
        let begin = trace.phases[1].0;
        let bytes = |id: crate::trace::BlockId| trace.blocks[id.0 as usize].bytes.get() as i64;
        let signed = |event: &Event| match event {
            Event::Alloc(id) => bytes(*id),
            Event::Free(id) => -bytes(*id),
        };
        trace.events[begin..].iter().map(signed).collect()
    }

    #[test]
    fn roots_of_one_dtype_live_until_those_of_the_next_are_there() {
        let trace = two_steps(Optimizer::AdamW, &[(&[8], DType::Bf16), (&[8], DType::F32)]);
        let step = [32, 16, -32, -16];
        let expected: Vec<i64> = [16, 16, 32, 32].into_iter().chain(step).chain(step).collect();
        assert_eq!(events(&trace), expected);
    }

    #[test]
    fn a_loop_holds_the_last_denominator_beside_two_new_tensors() {
        let trace = two_steps(Optimizer::AdamWLoop, &[(&[2], DType::F32), (&[3], DType::F32)]);
        let step = [8, 8, -8, 12, 12, -12, -8, -12];
        let expected: Vec<i64> = [8, 8, 12, 12].into_iter().chain(step).chain(step).collect();
        assert_eq!(events(&trace), expected);
    }

    #[test]
    fn moments_in_8_bits_have_a_scale_for_each_256_of_them() {
        let parameters: &[(&[u64], DType)] = &[(&[4095], DType::Bf16), (&[400, 250], DType::Bf16)];
        let small = [16_380, 16_380];
        let codes = [1024, 1024];
        let scales = [1564, 1564];
        let with = |moments: &[i64]| [&small[..], &codes, moments, &scales].concat();
        let trace = two_steps(Optimizer::AdamW8Bit, parameters);
        assert_eq!(events(&trace), with(&[100_000, 100_000]));
        let trace = two_steps(Optimizer::PagedAdamW8Bit, parameters);
        assert_eq!(events(&trace), with(&[]));
    }

    /// Seen in the oracle's traces: the mean over rows of an embedding of 3.3 GB, on an A100.
    #[test]
    fn adafactor_reduces_what_32_bits_cannot_index_in_halves() {
        let trace = two_steps(Optimizer::Adafactor, &[(&[200_000, 4096], DType::F32)]);
        let scratch: Vec<i64> = events(&trace).into_iter().filter(|n| *n > 100_000_000).collect();
        let step = [
            &[3_276_800_000, 3_276_800_000][..], // squares, and those plus epsilon
            &[205_520_896, 205_520_896, 3_276_800_000, 3_276_800_000],
        ]
        .concat();
        assert_eq!(scratch, [&step[..], &step].concat());
    }

    #[test]
    fn sgd_copies_the_first_gradients_as_momentum_and_does_all_else_in_place() {
        let parameters: &[(&[u64], DType)] = &[(&[2, 3], DType::F32), (&[5], DType::F32)];
        assert!(events(&two_steps(Optimizer::Sgd, parameters)).is_empty());
        assert_eq!(events(&two_steps(Optimizer::SgdMomentum, parameters)), [24, 20]);
    }
}
