//! The other way: what of a setup that saves memory could be left out.

use crate::plan::advise::change::{Change, Way};
use crate::step::setup::{Attention, Checkpointing, Optimizer, Precision};
use crate::units::{AccumulationSteps, MicroBatch};

/// Returns single changes that cost memory and give back time or exactness.
pub fn undone(base: &Way) -> Vec<Vec<Change>> {
    let (setup, tuning) = (&base.setup, &base.tuning);
    let mut all = Vec::new();
    match setup.checkpointing {
        Checkpointing::None => {}
        Checkpointing::Full => {
            all.push(vec![Change::Checkpointing(Checkpointing::None)]);
            all.push(vec![Change::Checkpointing(Checkpointing::Every(2))]);
        }
        Checkpointing::Attention | Checkpointing::Every(_) => {
            all.push(vec![Change::Checkpointing(Checkpointing::None)]);
        }
    }
    match setup.precision {
        Precision::Bf16 => all.push(vec![Change::Precision(Precision::AmpBf16)]),
        Precision::Fp16 => all.push(vec![Change::Precision(Precision::AmpFp16)]),
        Precision::Fp32 | Precision::AmpBf16 | Precision::AmpFp16 => {}
    }
    match setup.optimizer {
        Optimizer::PagedAdamW8Bit => {
            all.push(vec![Change::Optimizer(Optimizer::AdamW8Bit)]);
            all.push(vec![Change::Optimizer(Optimizer::AdamWFused)]);
        }
        Optimizer::PagedAdamW8BitHf => {
            all.push(vec![Change::Optimizer(Optimizer::AdamW8BitHf)]);
            all.push(vec![Change::Optimizer(Optimizer::AdamWFused)]);
        }
        Optimizer::AdamW8Bit | Optimizer::AdamW8BitHf | Optimizer::Adafactor => {
            all.push(vec![Change::Optimizer(Optimizer::AdamWFused)]);
        }
        Optimizer::AdamW
        | Optimizer::AdamWFused
        | Optimizer::AdamWLoop
        | Optimizer::Sgd
        | Optimizer::SgdMomentum => {}
    }
    if setup.attention == Attention::Eager {
        all.push(vec![Change::Attention(Attention::Sdpa)]);
    }
    if tuning.quantized.is_some() {
        all.push(vec![Change::Quantize(None)]);
    }
    if tuning.lora.is_some() {
        let quantized = tuning.quantized.map(|_| Change::Quantize(None));
        all.push(quantized.into_iter().chain([Change::Lora(None)]).collect());
    }
    all
}

/// Returns the fewest micro-steps for the same samples in micro-batches of `largest` at most; nothing
/// where they are as few already.
pub fn fewer_micro_steps(base: &Way, largest: u64) -> Option<Change> {
    let (size, steps) = (base.setup.micro_batch.get(), base.setup.accumulation.get());
    let samples = size.checked_mul(steps)?;
    let larger = (size + 1..=largest.min(samples)).rev().find(|&n| samples.is_multiple_of(n))?;
    let steps = AccumulationSteps::new(samples / larger)?;
    Some(Change::MicroBatch(MicroBatch::new(larger)?, steps))
}

/// Returns larger micro-batches where a step has only one, the largest first: of each a larger effective
/// batch.
pub fn larger_batches(base: &Way, largest: u64) -> Vec<Change> {
    if base.setup.accumulation != AccumulationSteps::ONE {
        return Vec::new();
    }
    let larger = base.setup.micro_batch.get() + 1..=largest;
    larger.rev().filter_map(MicroBatch::new).map(Change::LargerBatch).collect()
}
