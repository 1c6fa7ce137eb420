//! `oomph check` of what decides the memory of adapters, checkpointing and models, in each framework's
//! own words, held against the flags that say the same.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const LORA: &str = "--lora r=8,targets=q_proj+v_proj";

/// A file, the flags that say the same, and whether its arguments stand behind `--`.
const SAME: [(&str, &str, &str); 9] = [
    (
        "axolotl.yaml",
        "base_model: meta-llama/Llama-3.2-1B\nmicro_batch_size: 1\ngradient_accumulation_steps: 2\n\
         sequence_len: 256\nbf16: auto\noptimizer: adamw_torch\nadapter: lora\nlora_r: 8\n\
         lora_target_modules:\n  - q_proj\n  - v_proj\n",
        LORA,
    ),
    (
        "flow.yaml",
        "base_model: meta-llama/Llama-3.2-1B\nmicro_batch_size: 1\ngradient_accumulation_steps: 2\n\
         sequence_len: 256\nbf16: auto\noptimizer: adamw_torch\nadapter: lora\nlora_r: 8\n\
         lora_target_modules: [q_proj, 'v_proj']\n",
        LORA,
    ),
    (
        "every.yaml",
        "base_model: meta-llama/Llama-3.2-1B\nmicro_batch_size: 1\ngradient_accumulation_steps: 2\n\
         sequence_len: 256\nbf16: auto\noptimizer: adamw_torch\nadapter: lora\nlora_r: 8\n\
         lora_target_linear: true\nlora_target_modules:\n  - q_proj\n",
        "--lora r=8,targets=all-linear",
    ),
    (
        "factory.yaml",
        "model_name_or_path: meta-llama/Llama-3.2-1B\ncutoff_len: 256\nfinetuning_type: lora\n\
         lora_rank: 8\nlora_target: q_proj, v_proj\nper_device_train_batch_size: 1\n\
         gradient_accumulation_steps: 2\nbf16: true\noptim: adamw_torch\n",
        "--checkpointing full --lora r=8,targets=q_proj+v_proj",
    ),
    (
        "list.yaml",
        "model_name_or_path: meta-llama/Llama-3.2-1B\ncutoff_len: 256\nfinetuning_type: lora\n\
         lora_rank: 8\nlora_target: [q_proj, v_proj]\nper_device_train_batch_size: 1\n\
         gradient_accumulation_steps: 2\nbf16: true\noptim: adamw_torch\n",
        "--checkpointing full --lora r=8,targets=q_proj+v_proj",
    ),
    (
        "trl.json",
        "{\"model_name_or_path\": \"meta-llama/Llama-3.2-1B\", \"output_dir\": \"x\", \"max_length\": 256,\
         \"use_peft\": true, \"lora_r\": 8, \"lora_target_modules\": [\"q_proj\", \"v_proj\"], \
         \"per_device_train_batch_size\": 1, \"gradient_accumulation_steps\": 2, \"bf16\": true, \
         \"optim\": \"adamw_torch\"}",
        LORA,
    ),
    (
        "--",
        "train.py --model_name_or_path meta-llama/Llama-3.2-1B --max_length 256 --use_peft --lora_r 8 \
         --lora_target_modules q_proj v_proj --per_device_train_batch_size 1 \
         --gradient_accumulation_steps 2 --bf16 --optim adamw_torch",
        LORA,
    ),
    (
        "some.yaml",
        "model_name_or_path: meta-llama/Llama-3.2-1B\nmax_length: 256\nbf16: true\noptim: adamw_torch\n\
         per_device_train_batch_size: 1\ngradient_accumulation_steps: 2\n\
         gradient_checkpointing: true\ngradient_checkpointing_kwargs:\n  every_n_layers: 3\n",
        "--checkpointing every=3",
    ),
    (
        "--",
        "train.py --model_name_or_path meta-llama/Llama-3.2-1B --max_length 256 --bf16 \
         --optim adamw_torch --per_device_train_batch_size 1 --gradient_accumulation_steps 2 \
         --activation_checkpointing true --activation_checkpointing_kwargs {\"every_n_layers\":4}",
        "--checkpointing every=4",
    ),
];

fn oomph(folder: &TempDir, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oomph"));
    command.args(arguments).current_dir(folder.path()).stdin(Stdio::null()).env_clear();
    let output = command.output().unwrap();
    let both = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    // Lines are wrapped wherever 80 columns end.
    (output.status.code().unwrap(), both.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn checked(folder: &TempDir, file: &str, text: &str, more: &[&str]) -> (i32, String) {
    let mut arguments = vec!["check", "--gpu", "sim:h100-80gb"];
    arguments.extend(more);
    if file == "--" {
        arguments.push("--");
        arguments.extend(text.split_whitespace());
    } else {
        std::fs::write(folder.path().join(file), text).unwrap();
        arguments.push(file);
    }
    oomph(folder, &arguments)
}

#[test]
fn a_configuration_needs_what_the_flags_need_that_say_the_same() {
    let folder = TempDir::new().unwrap();
    for (file, text, flags) in SAME {
        let (code, said) = checked(&folder, file, text, &["--json"]);
        assert_eq!(code, 0, "{file}: {said}");
        let theirs: Value = serde_json::from_str(&said).unwrap();
        let fixed = "estimate llama-3.2-1b --gpu sim:h100-80gb --seq-len 256 --clip 1 --micro-batch 1 \
                     --accumulation 2 --json";
        let arguments: Vec<&str> = fixed.split_whitespace().chain(flags.split(' ')).collect();
        let ours: Value = serde_json::from_str(&oomph(&folder, &arguments).1).unwrap();
        for key in ["peak_allocated_bytes", "min_capacity_bytes"] {
            assert!(ours[key].is_u64(), "{file}: {ours}");
            assert_eq!(theirs["estimate"][key], ours[key], "{file}: {key}");
        }
    }
}

#[test]
fn layers_that_are_not_named_plainly_are_no_answer() {
    let folder = TempDir::new().unwrap();
    let axolotl = "base_model: llama-3.2-1b\nmicro_batch_size: 1\ngradient_accumulation_steps: 2\n\
                   sequence_len: 256\nadapter: lora\nlora_target_modules:";
    for (targets, part) in [
        (" q_proj|v_proj", "which layers have adapters"),
        (" q_proj", "which layers have adapters"),
        ("\n  - model.layers.[0-9]+.q_proj", "which layers have adapters"),
        ("\n  - [q_proj]", "which layers have adapters"),
        (" []", "which layers have adapters"),
        ("\n  - qkv_proj", "no linear layer is a target"),
    ] {
        let (code, said) = checked(&folder, "it.yaml", &format!("{axolotl}{targets}\n"), &[]);
        assert_eq!(code, 2, "{targets}: {said}");
        assert!(said.contains(part), "{targets}: {said}");
    }
    let hf = "per_device_train_batch_size: 1\ngradient_checkpointing: true\n\
              gradient_checkpointing_kwargs: {offload: true}\n";
    let (code, said) = checked(&folder, "host.yaml", hf, &["gpt2"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("on the host is not worked out"), "{said}");
}

#[test]
fn a_hub_id_in_a_file_is_the_built_in_model_of_that_id_and_no_other() {
    let folder = TempDir::new().unwrap();
    let text = |id: &str| format!("model_name_or_path: {id}\nper_device_train_batch_size: 1\n");
    let (code, said) = checked(&folder, "it.yaml", &text("openai-community/gpt2"), &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("nothing is downloaded"), "{said}");
    let (code, said) = checked(&folder, "it.yaml", &text("somebody/gpt2"), &[]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("download its config.json"), "{said}");
}
