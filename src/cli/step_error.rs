//! What a step refuses, as the command line says it: the fact, the cause, one thing to type.

use std::collections::BTreeSet;

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::memory::fit::BeyondAnyDevice;
use crate::step::StepError;

impl From<StepError> for CliError {
    fn from(error: StepError) -> CliError {
        match error {
            StepError::NotYet(what) if what.starts_with("lora") => {
                CliError::not_yet(what).hint("leave --lora out")
            }
            StepError::NotYet(what) if what.starts_with("attention flash") => {
                CliError::not_yet(what).hint("--attention sdpa")
            }
            StepError::FlashRefuses(_) => {
                CliError::usage(error.to_string()).hint("--attention sdpa")
            }
            StepError::NotYet(what) if what.starts_with("quantize") => {
                CliError::not_yet(what).hint("leave --quantize out")
            }
            StepError::NotYet(what) if what.starts_with("checkpointing") => {
                CliError::not_yet(what).hint("--checkpointing full")
            }
            StepError::NotYet(what) => CliError::not_yet(what),
            StepError::SdpaRefused(_) => {
                CliError::usage(error.to_string()).hint("--attention eager")
            }
            StepError::CheckpointingRefused(_) => {
                CliError::usage(error.to_string()).hint("--checkpointing none")
            }
            StepError::NothingTrained => CliError::usage(error.to_string())
                .hint("--freeze with a pattern that leaves some, such as *embed*"),
            StepError::NothingFrozen { ref names, .. } => {
                let some: Vec<&str> = names.iter().take(4).map(String::as_str).collect();
                CliError::usage(format!("--freeze: {error}"))
                    .cause(format!("its {} parameters begin with {}", names.len(), some.join(", ")))
                    .hint("a pattern of whole names, such as *embed* or model.layers.0.*")
            }
            StepError::NoTarget(ref names) => {
                let last = |name: &String| name.rsplit('.').next().unwrap_or(name).to_owned();
                let names: BTreeSet<_> = names.iter().map(last).collect();
                let names: Vec<_> = names.into_iter().collect();
                CliError::usage(error.to_string())
                    .cause(format!("its linear layers are named {}", names.join(", ")))
                    .hint("--lora r=16,targets=all-linear")
            }
            StepError::NoClass(..) => CliError::usage(error.to_string())
                .hint("--transformers 5.23, if that is what trains it"),
            StepError::NoFusedLoss(_) => CliError::usage(error.to_string()).hint("--loss standard"),
            StepError::LoraOnExperts => CliError::usage(error.to_string()).hint(
                "name layers of the attention: --lora r=16,targets=q_proj+k_proj+v_proj+o_proj",
            ),
            StepError::NothingOnQuantized(_) => {
                CliError::usage(error.to_string()).hint("--lora r=16, or leave --quantize out")
            }
            StepError::AdapterOnHead(_) => CliError::usage(error.to_string())
                .hint("--lora targets without it, or targets=all-linear"),
            StepError::PatchesWantNoGradient => {
                CliError::usage(error.to_string()).hint("--checkpointing none")
            }
            StepError::HeadIsFused => CliError::usage(error.to_string())
                .hint("--loss standard, or --lora targets without lm_head"),
            StepError::NoBfloat16(_) => {
                CliError::usage(error.to_string()).hint("--precision amp-fp16")
            }
            StepError::FillsTooWide(_) => {
                CliError::usage(error.to_string()).hint("--precision bf16")
            }
            StepError::HalfRegression => {
                CliError::usage(error.to_string()).hint("--precision amp-bf16 or amp-fp16")
            }
        }
    }
}

impl From<BeyondAnyDevice> for CliError {
    fn from(error: BeyondAnyDevice) -> CliError {
        CliError::new(exit::DOES_NOT_FIT, format!("does not fit: {error}"))
            .hint("a smaller --micro-batch or --seq-len")
    }
}
