//! The keys that each framework knows, where a list of all of them is at hand.

use crate::ingest::framework::claims::UnknownKey;
use crate::ingest::framework::dialect::Dialect;
use crate::ingest::framework::document::{Document, Entry};
use crate::profile::names::nearest;

/// Keys at the top of DeepSpeed's configuration.
///
/// Source: every key that deepspeed 0.19.8 looks up in `_param_dict`, found in its sources.
const DEEPSPEED: &str = include_str!("known/deepspeed.txt");
/// Fields of transformers' `TrainingArguments`, of 4.56.2 and 5.23.0 together.
const HF: &str = include_str!("known/hf.txt");
/// Fields of Accelerate 1.15's `ClusterConfig` and its base.
const ACCELERATE: &str = include_str!("known/accelerate.txt");

/// The keys of the batch that a mistyped one is compared with, where no list is complete: a file
/// of Axolotl's or LLaMA-Factory's may hold hundreds of others.
const AXOLOTL: &str =
    "micro_batch_size gradient_accumulation_steps sequence_len gradient_checkpointing batch_size";
const LLAMA_FACTORY: &str = "per_device_train_batch_size gradient_accumulation_steps cutoff_len \
                             disable_gradient_checkpointing finetuning_type";
const TORCHTITAN: &str = "training.local_batch_size training.global_batch_size training.seq_len training.max_context_length \
                          training.num_tokens_per_microbatch_per_dp_rank \
                          training.num_tokens_per_train_step";
const MEGATRON: &str = "micro_batch_size global_batch_size seq_length \
                        tensor_model_parallel_size pipeline_model_parallel_size \
                        context_parallel_size";

/// Returns the keys that a framework does not know, each with the one that was probably meant.
///
/// Where the list is complete every key that is not on it is returned; elsewhere those that differ
/// from a known one by a typing error.
pub fn unknown(dialect: Dialect, document: &Document) -> Vec<UnknownKey> {
    let (list, complete, fate) = match dialect {
        Dialect::DeepSpeed => (DEEPSPEED, true, "DeepSpeed ignores it without a word"),
        Dialect::Hf => (HF, false, "transformers refuses a file with it"),
        Dialect::Accelerate => (ACCELERATE, true, "Accelerate refuses the file"),
        Dialect::Axolotl => (AXOLOTL, false, "Axolotl does not know it"),
        Dialect::LlamaFactory => (LLAMA_FACTORY, false, "LLaMA-Factory refuses it"),
        Dialect::TorchtitanSamples | Dialect::TorchtitanTokens => {
            (TORCHTITAN, false, "torchtitan does not know it")
        }
        Dialect::Megatron => (MEGATRON, false, "Megatron refuses it"),
    };
    let known: Vec<&'static str> = list.split_whitespace().collect();
    // Only torchtitan's keys are looked for below the top.
    let depth = usize::from(list == TORCHTITAN);
    let at_top = |entry: &&Entry| entry.path.matches('.').count() == depth;
    document
        .entries
        .iter()
        .filter(at_top)
        // `_comment` and the like: JSON has no other way to say something.
        .filter(|entry| !entry.path.starts_with('_'))
        .filter(|entry| !known.contains(&entry.path.as_str()))
        .filter_map(|entry| {
            let near = nearest(&entry.path, known.iter().copied())
                .filter(|near| complete || typing_error(&entry.path, near));
            let told = complete || near.is_some();
            told.then(|| UnknownKey {
                key: entry.path.clone(),
                at: entry.key_at,
                near,
                sure: near.is_some_and(|near| typing_error(&entry.path, near)),
                fate,
            })
        })
        .collect()
}

/// Whether two names differ by little: by two letters at most, or by how words are joined.
fn typing_error(typed: &str, known: &str) -> bool {
    let letters = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
    let (typed, known) = (letters(typed), letters(known));
    let same = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let front = same(&typed, &known);
    let reversed = |name: &str| name.chars().rev().collect::<String>();
    let back = same(&reversed(&typed), &reversed(&known));
    let shorter = typed.len().min(known.len());
    let longer = typed.len().max(known.len());
    longer - shorter <= 2 && longer <= (front + back).min(shorter) + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_two_letters_at_most() {
        assert!(typing_error("micro_batch_siz", "micro_batch_size"));
        assert!(typing_error("train_micro_batch_size_per_gpuu", "train_micro_batch_size_per_gpu"));
        assert!(typing_error("micro-batch-size", "micro_batch_size"));
        assert!(typing_error("gradient_acumulation_steps", "gradient_accumulation_steps"));
        assert!(!typing_error("eval_batch_size", "batch_size"));
        assert!(!typing_error("gradient_accumulation_kwargs", "gradient_accumulation_steps"));
    }
}
