//! The formats that a plan can be written in.

/// A framework, and where its keys changed, which of its dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Arguments of a script that parses transformers' `TrainingArguments`.
    HfArgs,
    /// The same as a file for `HfArgumentParser.parse_json_file`.
    HfJson,
    /// A YAML file for `trl sft --config` and the like (`SFTConfig`, TRL 1.16).
    Trl,
    /// Variables that `accelerate launch` and `Accelerator()` read (1.15).
    Accelerate,
    /// DeepSpeed's JSON (0.19).
    DeepSpeed,
    /// Arguments of Lightning's `Trainer` (2.6).
    Lightning,
    /// Axolotl's YAML.
    Axolotl,
    /// LLaMA-Factory's YAML.
    LlamaFactory,
    /// `key=value` overrides of `tune run` (torchtune).
    Torchtune,
    /// torchtitan up to 0.3, as on PyPI: batches are counted in samples.
    Torchtitan03,
    /// torchtitan since 2026-08-20 (commit 73aed7f6c): batches are counted in tokens.
    TorchtitanTokens,
    /// Megatron-LM's arguments; a batch that ramps up as since core 0.18 (commit 532ad926b).
    Megatron,
    /// Megatron-LM's arguments up to core 0.17: `--rampup-batch-size`.
    Megatron017,
    /// Composer's and llm-foundry's YAML.
    Composer,
    /// Arguments of `litgpt pretrain` and `finetune`.
    LitGpt,
    /// Variables for a shell: `set -a; eval "$(oomph plan ... --emit env)"`.
    Env,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 16] = [
        Format::HfArgs,
        Format::HfJson,
        Format::Trl,
        Format::Accelerate,
        Format::DeepSpeed,
        Format::Lightning,
        Format::Axolotl,
        Format::LlamaFactory,
        Format::Torchtune,
        Format::Torchtitan03,
        Format::TorchtitanTokens,
        Format::Megatron,
        Format::Megatron017,
        Format::Composer,
        Format::LitGpt,
        Format::Env,
    ];

    /// Returns the name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Format::HfArgs => "hf-args",
            Format::HfJson => "hf-json",
            Format::Trl => "trl",
            Format::Accelerate => "accelerate",
            Format::DeepSpeed => "deepspeed",
            Format::Lightning => "lightning",
            Format::Axolotl => "axolotl",
            Format::LlamaFactory => "llamafactory",
            Format::Torchtune => "torchtune",
            Format::Torchtitan03 => "torchtitan@0.3",
            Format::TorchtitanTokens => "torchtitan@tokens",
            Format::Megatron => "megatron",
            Format::Megatron017 => "megatron@0.17",
            Format::Composer => "composer",
            Format::LitGpt => "litgpt",
            Format::Env => "env",
        }
    }

    /// Whether its framework shortens the last micro-batch by itself, and weighs it by its samples.
    ///
    /// Source: Composer 0.32.1, `trainer/trainer.py`: `microbatch_loss.mul_(microbatch_size /
    /// current_batch_size)`.
    pub const fn takes_uneven(self) -> bool {
        matches!(self, Format::Composer)
    }

    /// Whether it has a key for a batch that changes while the job runs.
    pub const fn ramps(self) -> bool {
        matches!(self, Format::Megatron | Format::Megatron017)
    }

    /// Returns how it is written.
    pub const fn syntax(self) -> Syntax {
        match self {
            Format::HfArgs
            | Format::Torchtitan03
            | Format::TorchtitanTokens
            | Format::Megatron
            | Format::Megatron017
            | Format::LitGpt => Syntax::Arguments,
            Format::HfJson | Format::DeepSpeed => Syntax::Json,
            Format::Trl | Format::Axolotl | Format::LlamaFactory | Format::Composer => Syntax::Yaml,
            Format::Torchtune => Syntax::Overrides,
            Format::Accelerate | Format::Env => Syntax::Variables,
            Format::Lightning => Syntax::Python,
        }
    }
}

/// How keys and values are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// `--key value --key value`, on one line.
    Arguments,
    /// `key=value key=value`, on one line.
    Overrides,
    /// An object; strict, so without comments.
    Json,
    /// `key: value`, a line each.
    Yaml,
    /// `KEY=value`, a line each.
    Variables,
    /// A call with keywords.
    Python,
}
