//! Which keys each framework has for what a plan decides.

use crate::export::decided::{Decided, DecidedSchedule};
use crate::export::format::Format;
use crate::step::setup::{Checkpointing, Precision};

/// A value of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A count.
    Number(u64),
    /// True or false.
    Flag(bool),
    /// A name.
    Name(&'static str),
    /// Several numbers, as a framework reads them.
    Numbers(String),
}

/// A key and its value.
pub type Key = (&'static str, Value);

/// Returns the keys that a format has for what is decided, in the order in which they are written.
pub fn keys(format: Format, decided: &Decided) -> Vec<Key> {
    let Decided { micro_batch, accumulation, data_parallel, .. } = *decided;
    let mut keys = Keys::default();
    match format {
        Format::HfArgs | Format::HfJson => {
            keys.number("per_device_train_batch_size", micro_batch);
            keys.number("gradient_accumulation_steps", accumulation);
            if decided.checkpointing == Some(Checkpointing::Full) {
                keys.flag("gradient_checkpointing", true);
            }
            keys.autocast(decided.precision);
        }
        Format::Trl => {
            keys.number("per_device_train_batch_size", micro_batch);
            keys.number("gradient_accumulation_steps", accumulation);
            keys.length("max_length", decided.seq_len);
            // Both are on unless they are turned off (SFTConfig of TRL 1.16).
            keys.checkpointing("gradient_checkpointing", decided.checkpointing, true);
            if let Some(precision) = decided.precision {
                keys.flag("bf16", precision == Precision::AmpBf16);
                keys.when("fp16", precision == Precision::AmpFp16);
            }
        }
        Format::Accelerate => {
            keys.number("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", accumulation);
            keys.name("ACCELERATE_MIXED_PRECISION", decided.precision.and_then(mixed));
        }
        Format::DeepSpeed => {
            keys.number("train_batch_size", decided.effective_batch());
            keys.number("train_micro_batch_size_per_gpu", micro_batch);
            keys.number("gradient_accumulation_steps", accumulation);
        }
        Format::Lightning => {
            keys.number("accumulate_grad_batches", accumulation);
            let here = decided.gpus_here.filter(|here| data_parallel.is_multiple_of(*here));
            let devices = here.unwrap_or(data_parallel);
            keys.number("devices", devices);
            if devices != data_parallel {
                keys.number("num_nodes", data_parallel / devices);
            }
            keys.name("precision", decided.precision.map(lightning));
        }
        Format::Axolotl => {
            keys.number("micro_batch_size", micro_batch);
            keys.number("gradient_accumulation_steps", accumulation);
            keys.length("sequence_len", decided.seq_len);
            keys.checkpointing("gradient_checkpointing", decided.checkpointing, true);
            match decided.precision {
                Some(Precision::Bf16) => keys.flag("bfloat16", true),
                Some(Precision::Fp16) => keys.flag("float16", true),
                autocast => keys.autocast(autocast),
            }
        }
        Format::LlamaFactory => {
            keys.number("per_device_train_batch_size", micro_batch);
            keys.number("gradient_accumulation_steps", accumulation);
            keys.length("cutoff_len", decided.seq_len);
            // Named the other way round: it checkpoints unless told not to.
            keys.checkpointing("disable_gradient_checkpointing", decided.checkpointing, false);
            keys.when("pure_bf16", decided.precision == Some(Precision::Bf16));
            keys.autocast(decided.precision);
        }
        Format::Torchtune => {
            keys.number("batch_size", micro_batch);
            keys.number("gradient_accumulation_steps", accumulation);
            keys.length("tokenizer.max_seq_len", decided.seq_len);
            keys.checkpointing("enable_activation_checkpointing", decided.checkpointing, true);
            keys.name("dtype", decided.precision.and_then(torchtune));
        }
        Format::Torchtitan03 => {
            keys.number("training.local_batch_size", micro_batch);
            keys.number("training.global_batch_size", decided.effective_batch());
            keys.length("training.seq_len", decided.seq_len);
        }
        Format::TorchtitanTokens => {
            let tokens = |samples: u64| samples.saturating_mul(decided.seq_len.unwrap_or(1));
            keys.number("training.num_tokens_per_microbatch_per_dp_rank", tokens(micro_batch));
            keys.number("training.num_tokens_per_train_step", tokens(decided.effective_batch()));
        }
        Format::Megatron => {
            keys.number("micro-batch-size", micro_batch);
            match step_schedule(decided) {
                // Beside a schedule it refuses the batch of its end.
                Some(schedule) => keys.numbers("step-batch-size-schedule", schedule),
                None => keys.number("global-batch-size", decided.effective_batch()),
            }
            keys.length("seq-length", decided.seq_len);
        }
        Format::Megatron017 => {
            keys.number("micro-batch-size", micro_batch);
            keys.number("global-batch-size", decided.effective_batch());
            if let Some(ramp) = decided.schedule.as_ref().and_then(DecidedSchedule::ramp) {
                keys.numbers("rampup-batch-size", ramp.map(|n| n.to_string()).join(" "));
            }
            keys.length("seq-length", decided.seq_len);
        }
        Format::Composer => {
            keys.number("device_train_microbatch_size", micro_batch);
            keys.number("global_train_batch_size", decided.effective_batch());
            keys.length("max_seq_len", decided.seq_len);
            keys.name("precision", decided.precision.and_then(composer));
        }
        Format::LitGpt => {
            // It floors both quotients silently, so the number of devices belongs to the equation.
            keys.number("devices", decided.gpus_here.unwrap_or(data_parallel));
            if let Some(here) = decided.gpus_here.filter(|here| *here != data_parallel) {
                keys.number("num_nodes", data_parallel.div_ceil(here));
            }
            keys.number("train.micro_batch_size", micro_batch);
            keys.number("train.global_batch_size", decided.effective_batch());
            keys.length("train.max_seq_length", decided.seq_len);
            keys.name("precision", decided.precision.map(lightning));
        }
        Format::Env => {
            keys.number("OOMPH_MICRO_BATCH", micro_batch);
            keys.number("OOMPH_ACCUMULATION_STEPS", accumulation);
            keys.number("OOMPH_DATA_PARALLEL_SIZE", data_parallel);
            keys.number("OOMPH_EFFECTIVE_BATCH", decided.effective_batch());
            keys.length("OOMPH_SEQ_LEN", decided.seq_len);
        }
    }
    keys.0
}

/// Collects keys.
#[derive(Debug, Default)]
struct Keys(Vec<Key>);

impl Keys {
    fn number(&mut self, key: &'static str, number: u64) {
        self.0.push((key, Value::Number(number)));
    }

    fn numbers(&mut self, key: &'static str, numbers: String) {
        self.0.push((key, Value::Numbers(numbers)));
    }

    fn flag(&mut self, key: &'static str, on: bool) {
        self.0.push((key, Value::Flag(on)));
    }

    fn when(&mut self, key: &'static str, on: bool) {
        if on {
            self.flag(key, true);
        }
    }

    fn length(&mut self, key: &'static str, tokens: Option<u64>) {
        self.0.extend(tokens.map(|tokens| (key, Value::Number(tokens))));
    }

    fn name(&mut self, key: &'static str, name: Option<&'static str>) {
        self.0.extend(name.map(|name| (key, Value::Name(name))));
    }

    /// Writes a switch that says `on` for full checkpointing and its opposite for none.
    fn checkpointing(&mut self, key: &'static str, kind: Option<Checkpointing>, on: bool) {
        let Some(kind) = kind else { return };
        self.flag(key, (kind == Checkpointing::Full) == on);
    }

    /// Writes the switches for autocast that transformers and its descendants share.
    fn autocast(&mut self, precision: Option<Precision>) {
        self.when("bf16", precision == Some(Precision::AmpBf16));
        self.when("fp16", precision == Some(Precision::AmpFp16));
    }
}

/// Writes stages as Megatron-LM reads them: the tokens after which each begins, and its batch.
///
/// Source: `StepBatchsizeNumMicroBatchesCalculator` of core 0.19, which takes commas for blanks.
fn step_schedule(decided: &Decided) -> Option<String> {
    let (schedule, tokens) = (decided.schedule.as_ref()?, decided.seq_len?);
    let entry = |(from, batch): &(u64, u64)| format!("{}:{batch}", from.saturating_mul(tokens));
    let entries: Vec<String> = schedule.batches.iter().map(entry).collect();
    (!entries.is_empty()).then(|| entries.join(","))
}

/// Accelerate's names; weights in 16 bits are the model's own affair.
const fn mixed(precision: Precision) -> Option<&'static str> {
    match precision {
        Precision::AmpBf16 => Some("bf16"),
        Precision::AmpFp16 => Some("fp16"),
        Precision::Fp32 => Some("no"),
        Precision::Bf16 | Precision::Fp16 => None,
    }
}

/// Lightning's names (`Trainer(precision=)`), which litgpt takes as well.
const fn lightning(precision: Precision) -> &'static str {
    match precision {
        Precision::Fp32 => "32-true",
        Precision::Bf16 => "bf16-true",
        Precision::Fp16 => "16-true",
        Precision::AmpBf16 => "bf16-mixed",
        Precision::AmpFp16 => "16-mixed",
    }
}

/// torchtune holds everything in one format, and has no autocast.
const fn torchtune(precision: Precision) -> Option<&'static str> {
    match precision {
        Precision::Fp32 => Some("fp32"),
        Precision::Bf16 => Some("bf16"),
        Precision::Fp16 | Precision::AmpBf16 | Precision::AmpFp16 => None,
    }
}

/// Composer's names.
const fn composer(precision: Precision) -> Option<&'static str> {
    match precision {
        Precision::Fp32 => Some("fp32"),
        Precision::AmpBf16 => Some("amp_bf16"),
        Precision::AmpFp16 => Some("amp_fp16"),
        Precision::Bf16 | Precision::Fp16 => None,
    }
}
