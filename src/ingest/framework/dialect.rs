//! Whose configuration a text is, and how each framework's own reader takes it.

use crate::ingest::framework::document::Document;

/// A framework's configuration; where its keys changed, one of its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// DeepSpeed's JSON.
    DeepSpeed,
    /// transformers' `TrainingArguments`, and TRL's, which descend from them.
    Hf,
    /// The file of `accelerate config`.
    Accelerate,
    /// Axolotl.
    Axolotl,
    /// LLaMA-Factory.
    LlamaFactory,
    /// torchtitan that counts samples: up to 0.3, and the TOML that came before.
    TorchtitanSamples,
    /// torchtitan that counts tokens: since 2026-08-20 (commit 73aed7f6c).
    TorchtitanTokens,
    /// Megatron-LM.
    Megatron,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Dialect; 8] = [
        Dialect::DeepSpeed,
        Dialect::Hf,
        Dialect::Accelerate,
        Dialect::Axolotl,
        Dialect::LlamaFactory,
        Dialect::TorchtitanSamples,
        Dialect::TorchtitanTokens,
        Dialect::Megatron,
    ];

    /// Returns the name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Dialect::DeepSpeed => "deepspeed",
            Dialect::Hf => "hf",
            Dialect::Accelerate => "accelerate",
            Dialect::Axolotl => "axolotl",
            Dialect::LlamaFactory => "llamafactory",
            Dialect::TorchtitanSamples => "torchtitan@0.3",
            Dialect::TorchtitanTokens => "torchtitan@tokens",
            Dialect::Megatron => "megatron",
        }
    }

    /// Tells a dialect by keys that no other has, `words` for arguments of a command; `None` where
    /// nothing tells.
    pub fn detect(document: &Document, words: bool) -> Option<Dialect> {
        // HF's names come last: LLaMA-Factory uses them beside its own.
        const MARKS: [(Dialect, &[&str]); 8] = [
            (
                Dialect::TorchtitanTokens,
                &[
                    "training.num_tokens_per_microbatch_per_dp_rank",
                    "training.num_tokens_per_train_step",
                ],
            ),
            (
                Dialect::TorchtitanSamples,
                &["training.local_batch_size", "training.global_batch_size", "training.batch_size"],
            ),
            (Dialect::Accelerate, &["distributed_type", "compute_environment"]),
            (
                Dialect::LlamaFactory,
                &["cutoff_len", "finetuning_type", "disable_gradient_checkpointing"],
            ),
            (Dialect::Axolotl, &["base_model", "sequence_len", "micro_batch_size"]),
            (Dialect::Megatron, &["micro_batch_size", "tensor_model_parallel_size"]),
            (
                Dialect::DeepSpeed,
                &[
                    "train_batch_size",
                    "train_micro_batch_size_per_gpu",
                    "zero_optimization",
                    "fp16.enabled",
                    "bf16.enabled",
                ],
            ),
            (
                Dialect::Hf,
                &[
                    "per_device_train_batch_size",
                    "gradient_accumulation_steps",
                    "output_dir",
                    "gradient_checkpointing",
                    "num_train_epochs",
                ],
            ),
        ];
        // Megatron's arguments and Axolotl's keys share a name: the one comes as words alone, the
        // other in a file alone.
        let possible = |dialect: Dialect| match dialect {
            Dialect::Megatron => words,
            Dialect::Axolotl => !words,
            _ => true,
        };
        let hit = |(dialect, marks): &&(Dialect, &[&str])| {
            possible(*dialect) && marks.iter().any(|key| document.get(key).is_some())
        };
        MARKS.iter().find(hit).map(|(dialect, _)| *dialect)
    }
}
