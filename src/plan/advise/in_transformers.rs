//! A change as Hugging Face's libraries have it: arguments of `TrainingArguments`, or the call beside
//! them.
//!
//! Source: transformers 4.46, 4.56 and 5.23 `training_args.py`, `modeling_utils.py` and
//! `integrations/liger.py`, peft `LoraConfig`, trl `SFTConfig`; tests/frameworks/advise_keys.py asks
//! the classes themselves.

use crate::model::adapters::{Lora, Targets, copies_head};
use crate::model::config::Task;
use crate::model::quantize::Quantize;
use crate::plan::advise::change::Change;
use crate::step::setup::{Attention, Checkpointing, Loss, Optimizer, Precision, Version};

/// What Liger patches beside the loss, where it is not told otherwise: all but the loss is not counted.
const FUSED_LOSS: &str = "use_liger_kernel=True, liger_kernel_config={\"fused_linear_cross_entropy\": True, \
                          \"cross_entropy\": False, \"rope\": False, \"rms_norm\": False, \
                          \"layer_norm\": False, \"swiglu\": False, \"geglu\": False}";

/// Returns a change as it is written in Python; `None` where there is no such argument.
pub fn written(change: &Change, task: Task, transformers: Version) -> Option<String> {
    Some(match change {
        Change::MicroBatch(size, steps) => {
            format!("per_device_train_batch_size={size}, gradient_accumulation_steps={steps}")
        }
        Change::LargerBatch(size) => format!("per_device_train_batch_size={size}"),
        Change::Checkpointing(value) => checkpointing(*value, transformers)?,
        Change::ZeroGrad(_) => return None,
        Change::Precision(value) => precision(*value, transformers),
        Change::Optimizer(value) => {
            let name = match value {
                Optimizer::AdamW => "adamw_torch",
                Optimizer::AdamWFused => "adamw_torch_fused",
                Optimizer::AdamW8BitHf => "adamw_bnb_8bit",
                Optimizer::PagedAdamW8BitHf => "paged_adamw_8bit",
                Optimizer::Adafactor => "adafactor",
                Optimizer::Sgd => "sgd",
                Optimizer::SgdMomentum if transformers >= Version::new(5, 23) => {
                    return Some("optim=\"sgd\", optim_args=\"momentum=0.9\"".to_owned());
                }
                // The Trainer keeps embeddings in 32 bits: as bitsandbytes does by itself, it cannot.
                Optimizer::AdamW8Bit
                | Optimizer::PagedAdamW8Bit
                | Optimizer::AdamWLoop
                | Optimizer::SgdMomentum => return None,
            };
            format!("optim=\"{name}\"")
        }
        Change::Loss(Loss::Standard) => "use_liger_kernel=False".to_owned(),
        Change::Loss(Loss::Fused) if transformers >= Version::new(4, 56) => FUSED_LOSS.to_owned(),
        Change::Loss(Loss::Fused) => "use_liger_kernel=True".to_owned(),
        Change::Attention(value) => {
            let name = match value {
                Attention::Sdpa => "sdpa",
                Attention::Eager => "eager",
                Attention::Flash => "flash_attention_2",
            };
            format!("from_pretrained(..., attn_implementation=\"{name}\")")
        }
        Change::Lora(None) | Change::Quantize(None) => return None,
        Change::Lora(Some(lora)) => lora_config(lora, task),
        Change::Quantize(Some(value)) => {
            let how = match value {
                Quantize::Int8 => "load_in_8bit=True",
                Quantize::Nf4 => {
                    "load_in_4bit=True, bnb_4bit_quant_type=\"nf4\", \
                     bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16"
                }
            };
            format!("from_pretrained(..., quantization_config=BitsAndBytesConfig({how}))")
        }
        Change::SeqLen(tokens) => format!("trl.SFTConfig(max_length={tokens})"),
        // It is no argument: a variable of the environment, which the words beside it name.
        Change::Allocator(_) => return None,
    })
}

/// From 5.23 on the argument has another name, and can leave layers out.
fn checkpointing(value: Checkpointing, transformers: Version) -> Option<String> {
    let renamed = transformers >= Version::new(5, 23);
    let name = if renamed { "activation_checkpointing" } else { "gradient_checkpointing" };
    match value {
        Checkpointing::None => Some(format!("{name}=False")),
        Checkpointing::Full => Some(format!("{name}=True")),
        Checkpointing::Every(n) if renamed => {
            Some(format!("{name}=True, {name}_kwargs={{\"every_n_layers\": {n}}}"))
        }
        Checkpointing::Every(_) | Checkpointing::Attention => None,
    }
}

/// Says the format of the weights too: transformers 5 loads them as they were saved unless it is told.
fn precision(value: Precision, transformers: Version) -> String {
    let dtype = if transformers >= Version::new(4, 56) { "dtype" } else { "torch_dtype" };
    let (weights, arguments) = match value {
        Precision::Fp32 => ("float32", "bf16=False, fp16=False"),
        Precision::Bf16 => ("bfloat16", "bf16=False"),
        Precision::Fp16 => ("float16", "fp16=False"),
        Precision::AmpBf16 => ("float32", "bf16=True"),
        Precision::AmpFp16 => ("float32", "fp16=True"),
    };
    format!("from_pretrained(..., {dtype}=torch.{weights}), {arguments}")
}

fn lora_config(lora: &Lora, task: Task) -> String {
    let mut arguments = vec![format!("r={}", lora.rank)];
    let head = copies_head(task);
    match &lora.targets {
        Targets::AllLinear => {
            arguments.push("target_modules=\"all-linear\"".to_owned());
            // Of a classifier of samples peft leaves the head out by itself.
            if head.is_some() && task != Task::SequenceClassification {
                arguments.push("exclude_modules=[\"classifier\"]".to_owned());
            }
        }
        Targets::Named(names) => arguments.push(format!("target_modules={names:?}")),
    }
    if lora.dropout > 0.0 {
        arguments.push(format!("lora_dropout={}", lora.dropout));
    }
    arguments.extend(head.map(str::to_owned));
    format!("peft.LoraConfig({})", arguments.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_version() {
        let full = Change::Checkpointing(Checkpointing::Full);
        let every = Change::Checkpointing(Checkpointing::Every(2));
        let (old, new) = (Version::new(4, 46), Version::new(5, 23));
        let written = |change, transformers| written(change, Task::CausalLm, transformers);
        assert_eq!(written(&full, old).as_deref(), Some("gradient_checkpointing=True"));
        assert_eq!(written(&full, new).as_deref(), Some("activation_checkpointing=True"));
        assert_eq!(written(&every, old), None);
        let bf16 = Change::Precision(Precision::Bf16);
        assert_eq!(
            written(&bf16, old).as_deref(),
            Some("from_pretrained(..., torch_dtype=torch.bfloat16), bf16=False")
        );
    }

    #[test]
    fn adapters_on_a_classifier_train_a_copy_of_its_head() {
        let lora = Lora { rank: 16, dropout: 0.0, targets: Targets::AllLinear };
        let written = |task| written(&Change::Lora(Some(lora.clone())), task, Version::new(5, 23));
        let plain = "peft.LoraConfig(r=16, target_modules=\"all-linear\"";
        for (task, rest) in [
            (Task::CausalLm, ")"),
            (Task::SequenceClassification, ", task_type=\"SEQ_CLS\")"),
            (
                Task::TokenClassification,
                ", exclude_modules=[\"classifier\"], task_type=\"TOKEN_CLS\")",
            ),
            (
                Task::ImageClassification,
                ", exclude_modules=[\"classifier\"], modules_to_save=[\"classifier\"])",
            ),
        ] {
            assert_eq!(written(task), Some(format!("{plain}{rest}")));
        }
    }
}
