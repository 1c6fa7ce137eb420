//! Keys that change a step's memory in a way that no flag says: a gate that passed over them would
//! answer for another job.

use crate::ingest::framework::claims::{Claims, said, word};
use crate::ingest::framework::dialect::Dialect;
use crate::ingest::framework::document::Document;

/// A key, the values of it that change nothing, and what it changes otherwise.
type Beyond = (&'static str, &'static [&'static str], &'static str);

/// What is off, in whichever words.
const OFF: [&str; 7] = ["false", "False", "0", "0.0", "", "no", "none"];

const TWICE: &str = "the model runs more than once a step, or a second one beside it";
const LOSS: &str = "another loss takes other memory";
const OPTIMIZER: &str = "another optimizer takes other memory";
const PARTS: &str = "which weights are trained is not worked out";
const ADAPTERS: &str = "adapters of this kind are not worked out";
const KERNELS: &str = "kernels that keep other tensors are not worked out";
const LOADED: &str = "weights in this format are not worked out";
const MEGATRON: &str = "what Megatron's back end keeps is not worked out";
const HOST: &str = "what is kept on the host is not worked out";

/// Source: the fields of transformers' `TrainingArguments` (5.23), and of TRL's `SFTConfig` and
/// `ModelConfig` (1.16), which stand in the same file.
const HF: &[Beyond] = &[
    ("label_smoothing_factor", &[], LOSS),
    ("activation_offloading", &[], HOST),
    ("use_dora", &[], ADAPTERS),
    ("lora_modules_to_save", &[], PARTS),
];

/// Source: LLaMA-Factory, `hparams/finetuning_args.py` and `hparams/model_args.py`, 2026-08.
const LLAMA_FACTORY: &[Beyond] = &[
    ("stage", &["sft", "pt"], TWICE),
    ("do_train", &["true", "True"], "it does not train"),
    ("do_predict", &[], "it does not train"),
    ("use_galore", &[], OPTIMIZER),
    ("use_apollo", &[], OPTIMIZER),
    ("use_badam", &[], OPTIMIZER),
    ("use_adam_mini", &[], OPTIMIZER),
    ("use_muon", &[], OPTIMIZER),
    ("use_dora", &[], ADAPTERS),
    ("pissa_init", &[], ADAPTERS),
    ("additional_target", &[], PARTS),
    ("use_llama_pro", &[], PARTS),
    ("use_unsloth", &[], KERNELS),
    ("use_kt", &[], HOST),
    ("use_v1_kernels", &[], KERNELS),
    ("use_distributed_optimizer", &[], MEGATRON),
    ("recompute_granularity", &[], MEGATRON),
    ("shift_attn", &[], KERNELS),
    ("fp8", &[], LOADED),
    ("use_dft_loss", &[], LOSS),
    ("use_asft_loss", &[], LOSS),
    ("use_eaft_loss", &[], LOSS),
    ("label_smoothing_factor", &[], LOSS),
];

/// Source: Axolotl, `utils/schemas/` of 2026-08.
const AXOLOTL: &[Beyond] = &[
    ("rl", &[], TWICE),
    ("reward_model", &[], TWICE),
    ("process_reward_model", &[], TWICE),
    ("ebft", &[], TWICE),
    ("lora_modules_to_save", &[], PARTS),
    ("unfrozen_parameters", &[], PARTS),
    ("lisa_n_layers", &[], PARTS),
    ("relora", &[], ADAPTERS),
    ("relora_steps", &[], ADAPTERS),
    ("peft_use_dora", &[], ADAPTERS),
    ("activation_offloading", &[], HOST),
    ("cut_cross_entropy", &[], LOSS),
    ("chunked_cross_entropy", &[], LOSS),
    ("unsloth_cross_entropy_loss", &[], LOSS),
    ("lora_mlp_kernel", &[], KERNELS),
    ("lora_qkv_kernel", &[], KERNELS),
    ("lora_o_kernel", &[], KERNELS),
    ("fp8", &[], LOADED),
    ("qat", &[], LOADED),
    ("quantize_moe_experts", &[], LOADED),
    ("gptq", &[], LOADED),
    ("processor_type", &[], "models of text and images are not worked out"),
];

/// Notes the keys of a configuration whose memory is not worked out.
pub fn note(claims: &mut Claims, document: &Document) {
    let table = match claims.dialect {
        Dialect::Hf => HF,
        Dialect::LlamaFactory => LLAMA_FACTORY,
        Dialect::Axolotl => AXOLOTL,
        _ => &[],
    };
    for (key, harmless, why) in table {
        let Some(entry) = document.get(key) else { continue };
        let value = word(document, key).map(|(value, _)| value);
        // Nothing is no value, and a list or a map is one.
        let set = match (&value, &entry.scalar) {
            (Some(value), _) if harmless.is_empty() => !OFF.contains(&value.as_str()),
            (Some(value), _) => !harmless.contains(&value.as_str()),
            (None, scalar) => scalar.is_none(),
        };
        if set {
            claims.beyond.push(said(entry, *why));
        }
    }
}
