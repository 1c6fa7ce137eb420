//! One thing to change about a setup: the flag that asks for it, and what it does to the numbers.

use crate::model::adapters::Lora;
use crate::model::quantize::Quantize;
use crate::model::tuning::Tuning;
use crate::step::setup::{
    Allocator, Attention, Checkpointing, Loss, Optimizer, Precision, Setup, ZeroGrad,
};
use crate::units::{AccumulationSteps, MicroBatch};

/// How a model is trained: all that a change may touch.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// The setup.
    pub setup: Setup,
    /// What is trained.
    pub tuning: Tuning,
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Fewer samples in a micro-step, and more micro-steps.
    MicroBatch(MicroBatch, AccumulationSteps),
    /// More samples in a micro-step, and in a step.
    LargerBatch(MicroBatch),
    /// What is recomputed.
    Checkpointing(Checkpointing),
    /// Number formats.
    Precision(Precision),
    /// The optimizer.
    Optimizer(Optimizer),
    /// The loss.
    Loss(Loss),
    /// The attention.
    Attention(Attention),
    /// Gradients after the step.
    ZeroGrad(ZeroGrad),
    /// Adapters in place of the weights, or the weights themselves.
    Lora(Option<Lora>),
    /// The format of frozen weights.
    Quantize(Option<Quantize>),
    /// Tokens a sample.
    SeqLen(u64),
    /// How PyTorch's allocator is set.
    Allocator(Allocator),
}

impl Change {
    /// Returns the setup with this changed.
    pub fn applied(&self, way: &Way) -> Way {
        let mut way = way.clone();
        let setup = &mut way.setup;
        match self {
            Change::MicroBatch(size, steps) => {
                (setup.micro_batch, setup.accumulation) = (*size, *steps);
            }
            Change::LargerBatch(size) => setup.micro_batch = *size,
            Change::Checkpointing(value) => setup.checkpointing = *value,
            Change::Precision(value) => setup.precision = *value,
            Change::Optimizer(value) => setup.optimizer = *value,
            Change::Loss(value) => setup.loss = *value,
            Change::Attention(value) => setup.attention = *value,
            Change::ZeroGrad(value) => setup.zero_grad = *value,
            Change::Lora(value) => way.tuning.lora.clone_from(value),
            Change::Quantize(value) => way.tuning.quantized = *value,
            Change::SeqLen(value) => setup.seq_len = *value,
            Change::Allocator(value) => setup.allocator = *value,
        }
        way
    }

    /// Returns the flags that ask for it, each with its value; without one, it is to be left out.
    pub fn flags(&self) -> Vec<(&'static str, Option<String>)> {
        let one = |flag, value: &str| vec![(flag, Some(value.to_owned()))];
        match self {
            Change::MicroBatch(size, steps) => vec![
                ("--micro-batch", Some(size.to_string())),
                ("--accumulation", Some(steps.to_string())),
            ],
            Change::LargerBatch(size) => one("--micro-batch", &size.to_string()),
            Change::Checkpointing(value) => one("--checkpointing", &value.to_string()),
            Change::Precision(value) => one("--precision", value.name()),
            Change::Optimizer(value) => one("--optimizer", value.name()),
            Change::Loss(value) => one("--loss", value.name()),
            Change::Attention(value) => one("--attention", value.name()),
            Change::ZeroGrad(value) => one("--zero-grad", value.name()),
            Change::Lora(None) => vec![("--lora", None)],
            Change::Lora(Some(lora)) => {
                let dropout = match lora.dropout {
                    0.0 => String::new(),
                    probability => format!(",dropout={probability}"),
                };
                one("--lora", &format!("r={},targets={}{dropout}", lora.rank, lora.targets))
            }
            Change::Quantize(value) => one("--quantize", value.map_or("none", Quantize::name)),
            Change::SeqLen(value) => one("--seq-len", &value.to_string()),
            Change::Allocator(value) => one("--allocator", value.name()),
        }
    }

    /// Returns it as it is typed.
    pub fn typed(&self) -> String {
        let flags = self.flags().into_iter().map(|(flag, value)| match value {
            Some(value) => format!("{flag} {value}"),
            None => format!("no {flag}"),
        });
        flags.collect::<Vec<_>>().join(" ")
    }

    /// Returns what it does to the numbers, where `batch_norm` says whether the model normalises
    /// over the samples of a micro-batch.
    pub fn departure(&self, batch_norm: bool) -> Departure {
        match self {
            Change::MicroBatch(..) if batch_norm => Departure::STATISTICS,
            Change::MicroBatch(..) | Change::Loss(_) | Change::Attention(_) => Departure::ROUNDING,
            Change::Optimizer(optimizer) => match optimizer {
                Optimizer::AdamW | Optimizer::AdamWFused | Optimizer::AdamWLoop => {
                    Departure::ROUNDING
                }
                Optimizer::AdamW8Bit
                | Optimizer::PagedAdamW8Bit
                | Optimizer::AdamW8BitHf
                | Optimizer::PagedAdamW8BitHf => Departure::STATE,
                Optimizer::Sgd | Optimizer::SgdMomentum | Optimizer::Adafactor => {
                    Departure::OPTIMIZER
                }
            },
            Change::Checkpointing(_) | Change::ZeroGrad(_) | Change::Allocator(_) => {
                Departure::NONE
            }
            Change::Precision(_) => Departure::FORMAT,
            Change::Lora(_) => Departure::ADAPTERS,
            Change::Quantize(_) => Departure::QUANTIZED,
            Change::SeqLen(_) => Departure::LENGTH,
            Change::LargerBatch(_) => Departure::BATCH,
        }
    }

    /// Says in words what it does to a training as it is set up, and what it asks of the machine.
    pub fn meaning(&self, base: &Setup) -> &'static str {
        match self {
            Change::MicroBatch(size, _) if *size > base.micro_batch => {
                "the same effective batch in fewer, larger micro-steps"
            }
            Change::MicroBatch(..) => {
                "the same effective batch in more, smaller micro-steps: each uses the GPU less well"
            }
            Change::LargerBatch(_) => {
                "a larger effective batch, so fewer steps an epoch: tune the learning rate anew"
            }
            Change::Checkpointing(Checkpointing::None) => "nothing is computed twice",
            Change::Checkpointing(_) => {
                "the same numbers: backward computes again what forward did not keep"
            }
            Change::Precision(Precision::Bf16) => {
                "weights, gradients and moments in bfloat16: an update below about 1/256 of a \
                 weight is lost"
            }
            Change::Precision(Precision::Fp32) => "everything in float32",
            Change::Precision(Precision::Fp16) => "weights, gradients and moments in float16",
            Change::Precision(Precision::AmpBf16) => {
                "weights in float32, products in bfloat16 (autocast)"
            }
            Change::Precision(Precision::AmpFp16) => {
                "weights in float32, products in float16 (autocast, with loss scaling)"
            }
            Change::Optimizer(Optimizer::AdamWFused) => {
                "AdamW as one kernel: the same but for rounding, and faster"
            }
            Change::Optimizer(Optimizer::AdamW | Optimizer::AdamWLoop) => "AdamW, in full",
            Change::Optimizer(Optimizer::AdamW8Bit) => {
                "moments in 8 bits (bitsandbytes), block by block"
            }
            Change::Optimizer(Optimizer::AdamW8BitHf) => {
                "moments in 8 bits (bitsandbytes) but for embeddings, as the Trainer does"
            }
            Change::Optimizer(Optimizer::PagedAdamW8Bit | Optimizer::PagedAdamW8BitHf) => {
                "moments in 8 bits, and moved to the host when the GPU is full (bitsandbytes)"
            }
            Change::Optimizer(Optimizer::Adafactor) => {
                "another optimizer: second moments by rows and columns; tune the learning rate anew"
            }
            Change::Optimizer(Optimizer::Sgd | Optimizer::SgdMomentum) => {
                "another optimizer, often worse for transformers; tune the learning rate anew"
            }
            Change::Loss(_) => {
                "the same but for rounding: logits a few rows at a time (liger-kernel)"
            }
            Change::Attention(_) => "the same but for rounding: scores are not kept",
            Change::ZeroGrad(_) => "the same numbers: gradients are dropped after each step",
            Change::Lora(Some(_)) => "trains adapters beside frozen weights, not the model",
            Change::Lora(None) => "trains the model itself",
            Change::Quantize(None) => "frozen weights as they are",
            Change::Quantize(Some(Quantize::Int8)) => {
                "frozen weights in 8 bits (bitsandbytes), decoded at each product"
            }
            Change::Quantize(Some(Quantize::Nf4)) => {
                "frozen weights in 4 bits (bitsandbytes), decoded at each product"
            }
            Change::SeqLen(_) => "longer samples are cut, or packed anew",
            Change::Allocator(Allocator::Expandable) => {
                "the same numbers: PyTorch maps memory page by page, and wastes less of it \
                 (PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True)"
            }
            Change::Allocator(Allocator::Default) => "the same numbers, PyTorch's own segments",
        }
    }
}

/// What a change does to the numbers that are trained: a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Departure(u16);

impl Departure {
    /// Not a bit differs.
    pub const NONE: Departure = Departure(0);
    /// The same formula, summed in another order.
    pub const ROUNDING: Departure = Departure(1);
    /// Weights or arithmetic in fewer bits.
    pub const FORMAT: Departure = Departure(2);
    /// Moments in fewer bits.
    pub const STATE: Departure = Departure(4);
    /// Another optimizer.
    pub const OPTIMIZER: Departure = Departure(8);
    /// Adapters are trained, not the model.
    pub const ADAPTERS: Departure = Departure(16);
    /// Frozen weights in fewer bits.
    pub const QUANTIZED: Departure = Departure(32);
    /// Samples are cut.
    pub const LENGTH: Departure = Departure(64);
    /// Batch normalisation sees fewer samples.
    pub const STATISTICS: Departure = Departure(128);
    /// A step has more samples.
    pub const BATCH: Departure = Departure(256);

    /// Those after which something else is trained.
    const ANOTHER: u16 = Departure::OPTIMIZER.0
        | Departure::ADAPTERS.0
        | Departure::LENGTH.0
        | Departure::STATISTICS.0
        | Departure::BATCH.0;

    /// Returns both.
    pub const fn and(self, other: Departure) -> Departure {
        Departure(self.0 | other.0)
    }

    /// Whether nothing of this is not also in the other.
    pub const fn is_within(self, other: Departure) -> bool {
        self.0 & !other.0 == 0
    }

    /// Returns how far it goes.
    pub const fn reach(self) -> Reach {
        let fewer = Departure::FORMAT.0 | Departure::STATE.0 | Departure::QUANTIZED.0;
        match self.0 {
            0 => Reach::Same,
            all if all & Departure::ANOTHER != 0 => Reach::AnotherTraining,
            all if all & fewer != 0 => Reach::FewerBits,
            _ => Reach::Rounding,
        }
    }

    /// Returns how many departures make it another training, and how many there are.
    pub const fn count(self) -> (u32, u32) {
        ((self.0 & Departure::ANOTHER).count_ones(), self.0.count_ones())
    }
}

/// How far a change goes from what was to be trained, from the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Bit for bit the same.
    Same,
    /// The same but for the order of sums.
    Rounding,
    /// The same with numbers of fewer bits.
    FewerBits,
    /// Something else is trained.
    AnotherTraining,
}

impl Reach {
    /// Returns the word of the table, and of JSON with `_` for spaces.
    pub const fn words(self) -> &'static str {
        match self {
            Reach::Same => "same",
            Reach::Rounding => "rounding",
            Reach::FewerBits => "fewer bits",
            Reach::AnotherTraining => "another training",
        }
    }
}
