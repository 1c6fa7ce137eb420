//! The real binary: exit codes, messages, JSON, help, pipes and colours. No GPU, no network.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Runs in an empty folder with an environment that holds nothing of the developer's.
fn oomph_in(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oomph"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).env_clear();
    command
}

fn oomph(line: &str) -> Output {
    let folder = TempDir::new().unwrap();
    oomph_in(folder.path(), &words(line))
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

const PLAN: &str = "plan gpt2 --precision bf16 --effective-batch 64 --gpu sim:t4";

/// What a user types wrong, the exit code, and what the message must name.
const MISTAKES: &[(&str, i32, &[&str])] = &[
    ("paln gpt2", 2, &["no command `paln`", "plan"]),
    ("plan", 2, &["missing", "MODEL"]),
    ("estimate gpt2 --precison bf16", 2, &["--precison", "--precision"]),
    ("estimate gpt2 --precision bf17", 2, &["bf17", "bf16"]),
    ("estimate gpt2 --seq-len", 2, &["--seq-len", "needs a value"]),
    ("estimate gpt2 --seq-len 0", 2, &["--seq-len", "`0`", "at least 1"]),
    ("estimate gpt2 --seq-len -5", 2, &["--seq-len", "`-5`", "not negative"]),
    ("estimate gpt2 --seq-len 1.5", 2, &["`1.5`", "whole number"]),
    ("estimate gpt2 --seq-len 99999999999999999999", 2, &["at most 1000000000"]),
    ("estimate gpt2 --precision bf16 --seq-len 4096", 2, &["4096", "1024", "learned"]),
    ("estimate llama-3.2-1b --precision bf16 --seq-len 900000000", 2, &["out of range"]),
    ("estimate gpt2 --precision bf16 --micro-batch 999999999", 2, &["out of range", "999999999"]),
    ("estimate gpt2 --micro-batch 0", 2, &["--micro-batch", "`auto`"]),
    ("estimate gpt2 --micro-batch lots", 2, &["`lots`", "`auto`"]),
    ("estimate gpt2 --seq-len 5 --seq-len 6", 2, &["more than once"]),
    ("estimate gp2", 2, &["no model `gp2`", "gpt2"]),
    ("estimate somebody/Llama-3.2-1B", 2, &["hub id", "llama-3.2-1b"]),
    ("estimate ./nowhere/config.json", 2, &["nowhere"]),
    ("estimate gpt2 --capacity 40", 2, &["--capacity", "unit", "40GiB"]),
    ("estimate gpt2 --capacity -4GiB", 2, &["--capacity", "-4GiB"]),
    ("estimate gpt2 --headroom 100%", 2, &["below 100%"]),
    ("estimate gpt2 --precision bf16 --micro-batch auto", 2, &["--capacity 40GiB", "--gpu"]),
    ("estimate gpt2 --checkpointing every=0", 2, &["every=0", "at least 1"]),
    ("estimate gpt2 --checkpointing some", 2, &["`some`", "every=N"]),
    ("estimate gpt2 --torch two", 2, &["--torch", "2.8"]),
    ("estimate gpt2 --config nowhere.toml", 2, &["nowhere.toml"]),
    ("estimate gpt2 --gpu sim:h1000", 2, &["sim:h1000", "known"]),
    ("estimate gpt2 --gpu sim:t4*0", 2, &["*0"]),
    ("estimate gpt2 --gpu t4", 2, &["`t4` is no GPU", "sim:"]),
    ("estimate gpt2 --gpu 0,0", 2, &["named twice"]),
    ("estimate gpt2 --lora 16", 2, &["--lora", "r=16"]),
    ("estimate gpt2 --lora r=16,targets=q_proj", 2, &["target", "c_attn, c_fc, c_proj, lm_head"]),
    ("estimate gpt2 --freeze wte*", 2, &["no parameter", "`wte*`", "transformer.wte.weight"]),
    ("estimate gpt2 --freeze *", 2, &["nothing is left to train"]),
    ("estimate gpt2 --lora r=8 --freeze h.0.*", 2, &["base_model.model.transformer.wte.weight"]),
    ("estimate gpt2 --lora r=8 --freeze *lora_*", 2, &["nothing is left to train"]),
    ("estimate gpt2 --freeze [", 2, &["`["]),
    ("estimate gpt2 --loss fused", 2, &["Liger has no fused loss for gpt2", "--loss standard"]),
    (
        "estimate qwen2.5-0.5b --loss fused --lora r=8,targets=q_proj+lm_head",
        2,
        &["lm_head", "--loss standard"],
    ),
    ("estimate llama-3.2-1b --quantize nf4", 2, &["cannot be trained", "--lora r=16"]),
    ("estimate gpt2 --quantize nf4 --lora r=8", 2, &["not yet", "quantize nf4 of gpt2"]),
    ("estimate gpt2 --parallel fsdp", 2, &["not yet", "--parallel fsdp", "a whole replica"]),
    ("advise gpt2 --gpu sim:l4*2 --parallel zero2", 2, &["not yet", "--parallel zero2"]),
    ("estimate gpt2 --tensor-parallel 2", 2, &["not yet", "--tensor-parallel 2"]),
    ("estimate gpt2 --optimizer adam", 2, &["`adam`", "did you mean `adamw`"]),
    ("estimate gpt2 --clip 0 --precision bf16", 2, &["--clip", "above 0"]),
    ("estimate gpt2 --clip -1 --precision bf16", 2, &["--clip", "above 0"]),
    ("estimate gpt2 --attention flash --precision bf16", 2, &["not yet", "flash on gpt2", "sdpa"]),
    ("estimate llama-3.2-1b --attention flash --precision fp32", 2, &["float32", "sdpa"]),
    (
        "estimate llama-3.2-1b --attention flash --attention-mask padded --transformers 5.23",
        2,
        &["not yet", "another mask than ones", "--attention sdpa"],
    ),
    ("estimate gpt2 --image-size 224", 2, &["takes no images", "leave --image-size out"]),
    ("estimate resnet-18 --image-size 99999", 2, &["out of range", "--image-size 224"]),
    ("estimate vit-base-patch16-224 --image-size 8", 2, &["16 to 16384 pixels"]),
    ("estimate resnet-18 --seq-len 64", 2, &["--seq-len", "--image-size"]),
    ("estimate resnet-18 --effective-tokens 64", 2, &["--effective-tokens", "model of images"]),
    ("estimate resnet-18 --checkpointing full", 2, &["refuses", "--checkpointing none"]),
    ("estimate resnet-18 --attention sdpa", 2, &["refuses sdpa", "--attention eager"]),
    ("estimate resnet-18 --task causal-lm", 2, &["--task image-classification", "causal-lm"]),
    ("estimate gpt2 --task masked-lm", 2, &["--task causal-lm", "masked-lm"]),
    ("estimate gpt2 --task sequence-classification", 2, &["--task causal-lm"]),
    (
        "estimate llama-3.2-1b --task sequence-classification --lora r=8 --freeze *layers.0.*",
        2,
        &["not yet", "lora on a classifier", "leave --lora out"],
    ),
    (
        "estimate qwen3-30b-a3b --lora r=8,targets=all-linear",
        2,
        &["router", "targets=q_proj+k_proj"],
    ),
    ("estimate gpt2 --gpu sim:4090", 2, &["no built-in GPU `4090`", "sim:rtx-4090"]),
    ("estimate convnext-tiny-224 --precision bf16", 2, &["bfloat16", "--precision amp-fp16"]),
    ("estimate convnext-tiny-224 --image-size 31 --precision fp32", 2, &["32 to 16384 pixels"]),
    ("estimate gpt2 --task seq2seq-lm", 2, &["--task causal-lm", "seq2seq-lm"]),
    ("estimate gpt2 --task speech-seq2seq", 2, &["--task causal-lm", "speech-seq2seq"]),
    ("estimate whisper-tiny --seq-len 128", 2, &["model of audio", "--label-len"]),
    ("estimate whisper-tiny --attention-mask ones", 2, &["--attention-mask", "model of audio"]),
    ("estimate whisper-tiny --label-len 449", 2, &["449 is more than", "--label-len 448"]),
    ("estimate gpt2 --label-len 64", 2, &["no encoder-decoder", "leave --label-len out"]),
    ("estimate resnet-18 --label-len 64", 2, &["--label-len", "model of images"]),
    ("estimate t5-small --label-len 5000000", 2, &["--label-len 5000000 is out of range"]),
    ("estimate t5-small --precision fp16", 2, &["float32", "--precision bf16"]),
    ("estimate t5-small --transformers 4.56 --attention sdpa", 2, &["refuses sdpa"]),
    ("wait --min-free 101%", 2, &["--min-free", "at most 100%"]),
    ("wait", 2, &["--min-free"]),
    ("check job.yaml", 2, &["cannot read `job.yaml`", "FILE"]),
    ("capture model.py:make", 2, &["not yet"]),
    ("schema plan", 2, &["not yet"]),
    ("man nope", 2, &["no command `nope`", "plan"]),
    ("man advice", 2, &["no command `advice`"]),
    ("completions tcsh", 2, &["tcsh", "bash"]),
    ("profiles show nope", 2, &["nope", "profiles list"]),
    (
        "plan gpt2 --precision bf16 --effective-batch 4 --gpu sim:t4*8",
        2,
        &["effective batch of 4", "8 devices", "--effective-batch 8"],
    ),
    (
        "plan gpt2 --precision bf16 --effective-batch 4 --effective-tokens 4096 --gpu sim:t4",
        2,
        &["--effective-batch and --effective-tokens"],
    ),
    (
        "plan gpt2 --precision bf16 --effective-tokens 100 --gpu sim:t4",
        2,
        &["--effective-tokens 100", "1024"],
    ),
    (
        "plan gpt2 --precision bf16 --micro-batch 2 --accumulation 3 --effective-batch 7 --gpu sim:t4",
        6,
        &["2 x accumulation 3", "is 6, not 7"],
    ),
    ("plan gpt2 --precision bf16 --effective-batch 8", 4, &["--gpu sim:"]),
    ("plan gpt2 --precision bf16 --effective-batch 8 --gpu 0", 4, &["--gpu sim:"]),
    (
        "plan gpt2 --precision fp32 --effective-batch 8 --gpu sim:v100-32gb --torch 2.15",
        3,
        &["no kernels", "7.0", "--torch 2.14"],
    ),
];

#[test]
fn a_mistake_gets_its_exit_code_the_value_and_the_cure() {
    for (line, code, parts) in MISTAKES {
        let output = oomph(line);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{line}: {stderr}");
        assert!(output.stdout.is_empty(), "{line}: stdout is for answers");
        assert!(stderr.starts_with("error: ") && stderr.contains("\nhint: "), "{line}: {stderr}");
        for part in *parts {
            assert!(stderr.contains(part), "{line}: no `{part}` in\n{stderr}");
        }
    }
}

#[test]
fn with_json_a_mistake_is_an_object_on_stdout_as_well() {
    for (line, code, _) in MISTAKES {
        let (before, after) = line.split_once(" -- ").unwrap_or((line, ""));
        let output = oomph(&format!("--json {before} -- {after}").replace(" -- \n", ""));
        let error = json(&output);
        assert_eq!(error["schema"], "oomph.error/1", "{line}");
        assert_eq!(error["exit_code"], output.status.code().unwrap(), "{line}");
        // `--` at the end may itself be what is wrong; the code is then that of usage.
        assert!([*code, 2].contains(&output.status.code().unwrap()), "{line}");
        assert!(error["error"].is_string() && error["hint"].is_string(), "{line}: {error}");
    }
}

#[test]
fn the_readmes_command_prints_a_plan() {
    let output = oomph(
        "plan llama-3.2-1b --seq-len 2048 --precision bf16 --effective-batch 256 --gpu sim:h100-80gb",
    );
    let text = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("micro-batch ") && first.contains("= effective batch 256"), "{text}");
    for part in ["(simulated)", "estimated", "why ", "activations", "Assumptions", "--optimizer"] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(!text.contains('\x1b'), "no colours in a pipe");
}

#[test]
fn the_plan_as_json_has_every_key_and_its_numbers_agree() {
    let output = oomph(&format!("{PLAN} --json"));
    let plan = json(&output);
    assert_eq!(output.status.code(), Some(0));
    for key in [
        "schema",
        "gpus",
        "micro_batch",
        "accumulation_steps",
        "data_parallel_size",
        "effective_batch",
        "exact",
        "largest_micro_batch",
        "bound_by",
        "method",
        "alternatives",
        "notes",
        "estimate",
    ] {
        assert!(!plan[key].is_null(), "{key} in {plan}");
    }
    assert_eq!(plan["schema"], "oomph.plan/1");
    assert_eq!(plan["method"], "estimated");
    assert_eq!(plan["gpus"][0]["simulated"], true);
    let number = |key: &str| plan[key].as_u64().unwrap();
    let product =
        number("micro_batch") * number("accumulation_steps") * number("data_parallel_size");
    assert_eq!((product, number("effective_batch")), (64, 64));
    assert!(number("micro_batch") <= number("largest_micro_batch"));
    estimate_agrees(&plan["estimate"]);
    let capacity = &plan["gpus"][0]["capacity"];
    let bytes = |key: &str| capacity[key].as_u64().unwrap();
    assert_eq!(
        bytes("capacity_bytes") + bytes("outside_allocator_bytes") + bytes("headroom_bytes"),
        bytes("free_bytes")
    );
}

fn estimate_agrees(estimate: &Value) {
    for key in [
        "schema",
        "micro_batch",
        "peak_allocated_bytes",
        "peak_reserved_bytes",
        "min_capacity_bytes",
        "peak_phase",
        "at_peak",
        "outside_allocator",
        "versions",
        "assumptions",
    ] {
        assert!(!estimate[key].is_null(), "{key} in {estimate}");
    }
    assert_eq!(estimate["schema"], "oomph.estimate/1");
    let at_peak = estimate["at_peak"].as_object().unwrap();
    let sum: u64 = at_peak.values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert_eq!(sum, estimate["peak_allocated_bytes"].as_u64().unwrap());
    for category in [
        "parameters",
        "gradients",
        "optimizer_state",
        "activations",
        "logits_loss",
        "optimizer_temp",
        "temporaries",
        "inputs",
        "workspace",
    ] {
        assert!(at_peak.contains_key(category), "{category}");
    }
    assert!(estimate["outside_allocator"]["cuda_context"].as_u64().unwrap() > 0);
    let bytes = |key: &str| estimate[key].as_u64().unwrap();
    assert!(bytes("peak_allocated_bytes") <= bytes("min_capacity_bytes"));
    assert!(bytes("min_capacity_bytes") <= bytes("peak_reserved_bytes"));
}

#[test]
fn every_optimizer_keeps_the_state_that_it_is_known_for() {
    // The micro-batch is so small that each peaks in its step, or with its state there.
    let state = |optimizer: &str| {
        let line = "estimate gpt2 --precision fp32 --seq-len 8 --json";
        let estimate = json(&oomph(&format!("{line} --optimizer {optimizer}")));
        estimate_agrees(&estimate);
        assert_eq!(estimate["setup"]["optimizer"], optimizer);
        let at_peak = &estimate["at_peak"];
        let parameters = at_peak["parameters"].as_u64().unwrap() as f64;
        at_peak["optimizer_state"].as_u64().unwrap() as f64 / parameters
    };
    // Times the weights; what the allocator cannot split off counts as well.
    for (optimizer, least, most) in [
        ("adamw", 2.0, 2.01),
        ("adamw-fused", 2.0, 2.01),
        ("adamw-loop", 2.0, 2.01),
        ("adamw-8bit", 0.5 + 2.0 / 256.0, 0.53),
        ("paged-adamw-8bit", 2.0 / 256.0, 0.02),
        ("sgd", 0.0, 0.0),
        ("sgd-momentum", 1.0, 1.01),
        ("adafactor", 0.001, 0.01),
    ] {
        let state = state(optimizer);
        assert!((least..=most).contains(&state), "{optimizer}: {state} times the weights");
    }
}

#[test]
fn images_are_as_large_as_the_flag_says_and_cudnn_is_not_counted() {
    let needs = |line: &str| {
        let output = oomph(line);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let value = json(&output);
        let said = value["assumptions"].to_string();
        (value["min_capacity_bytes"].as_u64().unwrap(), said)
    };
    let vit = "estimate vit-base-patch16-224 --micro-batch 4 --json";
    let (small, said) = needs(vit);
    assert!(said.contains("--image-size 224 (default)") && said.contains("cuDNN"), "{said}");
    let (large, said) = needs(&format!("{vit} --image-size 384 --task image-classification"));
    assert!(large > small, "{large} and {small}");
    assert!(!said.contains("--image-size") && !said.contains("--seq-len"), "{said}");
}

#[test]
fn adapters_are_named_and_hold_the_only_gradients() {
    let line = "estimate gpt2 --precision bf16 --seq-len 64 --lora r=8,dropout=0.1";
    let said = text(&oomph(line).stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("adapters of rank 8 on c_attn with dropout 0.1, AdamW"), "{said}");
    assert!(said.contains("--lora targets=c_attn (default)"), "{said}");
    let estimate = json(&oomph(&format!("{line} --json")));
    assert_eq!(estimate["setup"]["lora"]["targets"], "c_attn");
    // A is 8 x 768, B is 2304 x 8, in float32, in each of 12 layers, with two moments each.
    let trained = 12 * 4 * (8 * 768 + 2304 * 8);
    let state = estimate["at_peak"]["optimizer_state"].as_u64().unwrap();
    assert!((2 * trained..2 * trained + 12 * 2 * 2 * 512).contains(&state), "{state}");
}

#[test]
fn targets_of_an_encoder_decoder_have_a_length_of_their_own() {
    let needs = |flags: &str| {
        let output = oomph(&format!("estimate t5-small --micro-batch 8 --json {flags}"));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let value = json(&output);
        let said = value["assumptions"].to_string();
        (value["peak_allocated_bytes"].as_u64().unwrap(), value["setup"]["label_len"].clone(), said)
    };
    let (as_long, length, said) = needs("--seq-len 256");
    assert_eq!(length, 256);
    assert!(said.contains("--label-len 256 (default)"), "{said}");
    let (short, length, said) = needs("--seq-len 256 --label-len 32");
    assert_eq!(length, 32);
    assert!(short < as_long, "{short} and {as_long}");
    assert!(!said.contains("--label-len"), "{said}");
}

#[test]
fn audio_is_of_one_length_and_what_is_written_is_asked_for() {
    let needs = |flags: &str| {
        let output = oomph(&format!("estimate whisper-tiny --micro-batch 2 --json {flags}"));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let value = json(&output);
        let said = value["assumptions"].to_string();
        (value["peak_allocated_bytes"].as_u64().unwrap(), value["setup"]["label_len"].clone(), said)
    };
    let (most, length, said) = needs("");
    assert_eq!(length, 448);
    assert!(said.contains("audio of 3000 frames") && said.contains("cuDNN"), "{said}");
    assert!(!said.contains("--seq-len") && !said.contains("--attention-mask"), "{said}");
    let (short, length, _) = needs("--label-len 16 --task speech-seq2seq");
    assert_eq!(length, 16);
    assert!(short < most, "{short} and {most}");
}

#[test]
fn a_paged_optimizer_says_where_its_state_is() {
    let line = "estimate gpt2 --precision bf16 --optimizer paged-adamw-8bit --json";
    let assumptions = json(&oomph(line))["assumptions"].to_string();
    assert!(assumptions.contains("managed memory"), "{assumptions}");
    assert!(assumptions.contains("embeddings in 32 bits"), "{assumptions}");
}

#[test]
fn gradients_that_are_zeroed_outlive_the_step() {
    let line = "estimate gpt2 --precision bf16 --micro-batch 4 --seq-len 512 --json";
    let dropped = json(&oomph(line));
    let zeroed = json(&oomph(&format!("{line} --zero-grad zero --clip 1.0")));
    let assumed = |estimate: &Value| estimate["assumptions"].to_string();
    assert!(assumed(&dropped).contains("--zero-grad none (default)"));
    assert!(assumed(&dropped).contains("no --clip (default)"));
    assert!(!assumed(&zeroed).contains("--zero-grad") && !assumed(&zeroed).contains("--clip"));
    let setup = &zeroed["setup"];
    assert_eq!((&setup["zero_grad"], &setup["clip"]), (&"zero".into(), &1.0.into()));
    let bytes = |estimate: &Value| estimate["peak_allocated_bytes"].as_u64().unwrap();
    let gradients = zeroed["at_peak"]["gradients"].as_u64().unwrap();
    assert!(bytes(&zeroed) > bytes(&dropped) + gradients / 2, "{gradients}");
}

#[test]
fn an_estimate_judges_a_capacity_exactly_at_its_least() {
    let line = "estimate gpt2 --precision bf16 --micro-batch 2 --json";
    let least = json(&oomph(line))["min_capacity_bytes"].as_u64().unwrap();
    let at = oomph(&format!("{line} --capacity {least}B"));
    assert_eq!((at.status.code(), &json(&at)["fits"]), (Some(0), &true.into()));
    let below = oomph(&format!("{line} --capacity {}B", least - (2 << 20)));
    assert_eq!((below.status.code(), &json(&below)["fits"]), (Some(3), &false.into()));
    assert!(!json(&below)["hints"].as_array().unwrap().is_empty());
}

#[test]
fn the_largest_micro_batch_fits_and_the_next_does_not() {
    let line = "estimate gpt2 --precision bf16 --capacity 12GiB --json";
    let auto = json(&oomph(&format!("{line} --micro-batch auto")));
    estimate_agrees(&auto);
    let largest = auto["largest_micro_batch"].as_u64().unwrap();
    assert_eq!(auto["micro_batch"], largest);
    let fits = |size: u64| json(&oomph(&format!("{line} --micro-batch {size}")))["fits"].clone();
    assert_eq!((fits(largest), fits(largest + 1)), (true.into(), false.into()));
}

#[test]
fn every_size_of_a_plan_is_the_one_that_was_asked_for() {
    let fixed = json(&oomph(&format!("{PLAN} --micro-batch 2 --json")));
    assert_eq!((&fixed["micro_batch"], &fixed["accumulation_steps"]), (&2.into(), &32.into()));
    assert_eq!(fixed["bound_by"], "micro_batch");
    let fixed = json(&oomph(&format!("{PLAN} --accumulation 32 --json")));
    assert_eq!((&fixed["micro_batch"], &fixed["bound_by"]), (&2.into(), &"accumulation".into()));
    let too_large = oomph(&format!("{PLAN} --accumulation 1 --json"));
    assert_eq!(too_large.status.code(), Some(3));
    assert_eq!(json(&too_large)["fits"], false);
}

#[test]
fn a_tight_plan_runs_at_its_own_accumulation_and_not_at_two_alone() {
    // Fragments gather: at 2 micro-steps 10,220 MiB are enough, from 3 on only 10,496 MiB.
    let line = "--precision fp32 --seq-len 512 --torch 2.15 --transformers 5.12 --json";
    let least = |steps: u64| {
        let line = format!("estimate qwen2.5-0.5b {line} --micro-batch 1 --accumulation {steps}");
        json(&oomph(&line))["min_capacity_bytes"].as_u64().unwrap()
    };
    assert!(least(2) < least(6) && least(6) == least(32), "{} {}", least(2), least(6));
    let plan = |steps: u64| {
        let capacity = least(2).midpoint(least(6));
        let line = format!(
            "plan qwen2.5-0.5b {line} --micro-batch 1 --effective-batch {steps} --capacity {capacity}B"
        );
        oomph(&line).status.code()
    };
    assert_eq!((plan(2), plan(32)), (Some(0), Some(3)));
}

#[test]
fn exact_is_exit_code_6_when_the_devices_do_not_divide_the_batch() {
    let line = "plan gpt2 --precision bf16 --effective-batch 100 --gpu sim:t4*3 --json";
    let loose = oomph(line);
    assert_eq!((loose.status.code(), &json(&loose)["exact"]), (Some(0), &false.into()));
    let strict = oomph(&format!("{line} --exact"));
    assert_eq!((strict.status.code(), &json(&strict)["exact"]), (Some(6), &false.into()));
    let even = oomph(&format!("{} --exact", line.replace("100", "99")));
    assert_eq!(even.status.code(), Some(0));
}

#[test]
fn tokens_are_turned_into_the_nearest_number_of_samples() {
    let line = "plan gpt2 --precision bf16 --seq-len 1024 --gpu sim:t4 --json --effective-tokens";
    assert_eq!(json(&oomph(&format!("{line} 65536")))["effective_batch"], 64);
    let plan = json(&oomph(&format!("{line} 65000")));
    assert_eq!(plan["target_effective_batch"], 63);
    assert!(plan["notes"].to_string().contains("nearest is 63 samples"), "{plan}");
}

#[test]
fn several_devices_take_off_what_replicas_add() {
    let one = json(&oomph(&format!("{PLAN} --json")));
    let four = json(&oomph(&format!("{PLAN}*4 --json")));
    assert_eq!((&one["data_parallel_size"], &four["data_parallel_size"]), (&1.into(), &4.into()));
    let outside = &four["estimate"]["outside_allocator"];
    assert!(one["estimate"]["outside_allocator"]["nccl"].is_null());
    assert_eq!(outside["nccl"], 1u64 << 30);
    // GPT-2's 124,439,808 parameters, two bytes each.
    assert_eq!(outside["ddp_buckets"], 248_879_616u64);
}

#[test]
fn oomph_toml_holds_the_flags_and_flags_win() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("oomph.toml"), "precision = \"bf16\"\nseq-len = 128\n")
        .unwrap();
    let setup = |arguments: &[&str]| {
        json(&oomph_in(folder.path(), &[&["estimate", "gpt2", "--json"], arguments].concat()))
    };
    assert_eq!(setup(&[])["setup"]["seq_len"], 128);
    assert_eq!(setup(&["--seq-len", "64"])["setup"]["seq_len"], 64);
    std::fs::write(folder.path().join("other.toml"), "seq_len = 9\n").unwrap();
    let wrong = oomph_in(folder.path(), &["estimate", "gpt2", "--config", "other.toml"]);
    let stderr = text(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr.contains("`other.toml` line 1: no key `seq_len`"), "{stderr}");
    assert!(stderr.contains("`seq-len`"), "{stderr}");
}

#[test]
fn a_broken_config_json_is_named_with_its_cure() {
    let folder = TempDir::new().unwrap();
    for (name, content, part) in [
        ("empty.json", "", "empty"),
        ("cut.json", "{\"model_type\": \"llama\", \"hidden", "cut.json"),
        ("other.json", "{\"a\": 1}", "model_type"),
        ("pegasus.json", "{\"model_type\": \"pegasus\"}", "pegasus"),
    ] {
        std::fs::write(folder.path().join(name), content).unwrap();
        let output = oomph_in(folder.path(), &["estimate", name, "--precision", "bf16"]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {stderr}");
        assert!(stderr.contains(part) && stderr.contains("hint: "), "{name}: {stderr}");
    }
}

#[test]
fn an_allocator_setting_in_the_environment_is_named_as_not_honoured() {
    let folder = TempDir::new().unwrap();
    let output = command(folder.path(), &words("estimate gpt2 --precision bf16 --json"))
        .env("PYTORCH_ALLOC_CONF", "max_split_size_mb:128")
        .output()
        .unwrap();
    let notes = json(&output)["notes"].to_string();
    assert!(notes.contains("PYTORCH_ALLOC_CONF=max_split_size_mb:128"), "{notes}");
}

/// A step of fragments: pages do with less than segments.
#[test]
fn expandable_segments_are_estimated_by_flag_key_and_environment() {
    let folder = TempDir::new().unwrap();
    let asked = "estimate gpt2 --precision fp32 --micro-batch 4 --seq-len 512 --gpu sim:l4 --json";
    let with = |more: &str, variable: &str| {
        let line = format!("{asked} {more}");
        let mut command = command(folder.path(), &words(line.trim()));
        command.env("PYTORCH_CUDA_ALLOC_CONF", variable).env_remove("PYTORCH_ALLOC_CONF");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        json(&output)
    };
    let default = with("", "");
    let flag = with("--allocator expandable", "");
    let variable = with("", "expandable_segments:True");
    std::fs::write(folder.path().join("oomph.toml"), "allocator = \"expandable\"\n").unwrap();
    let key = with("", "");
    let reserved = |answer: &Value| answer["peak_reserved_bytes"].as_u64().unwrap();
    assert_eq!(default["setup"]["allocator"], "default");
    assert!(reserved(&flag) < reserved(&default), "{} {}", reserved(&flag), reserved(&default));
    for one in [&flag, &variable, &key] {
        assert_eq!(one["setup"]["allocator"], "expandable");
        assert_eq!(reserved(one), reserved(&flag));
        assert_eq!(one["min_capacity_bytes"], flag["min_capacity_bytes"]);
        assert_eq!(one["fits"], true);
    }
    let said = |answer: &Value, key: &str| answer[key].to_string();
    let assumed = "--allocator expandable (PYTORCH_CUDA_ALLOC_CONF)";
    assert!(said(&variable, "assumptions").contains(assumed), "{variable}");
    let needed = "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True in its environment";
    assert!(said(&flag, "notes").contains(needed) && said(&key, "notes").contains(needed));
    // The flag comes before file and environment.
    let overruled = with("--allocator default", "expandable_segments:True");
    assert_eq!(reserved(&overruled), reserved(&default));
}

/// Where fragments are all that is too much, the variable to set is the hint.
#[test]
fn expandable_segments_are_a_hint_where_they_help() {
    let asked = "estimate gpt2 --precision fp32 --micro-batch 4 --seq-len 512 --json";
    let needs = |more: &str| {
        let output = oomph(&format!("{asked} --gpu sim:l4 {more}"));
        json(&output)["min_capacity_bytes"].as_u64().unwrap()
    };
    let (default, expandable) = (needs(""), needs("--allocator expandable"));
    assert!(expandable + (8 << 20) < default, "{expandable} {default}");
    let hints = |capacity: u64| {
        let output = oomph(&format!("{asked} --capacity {capacity}B"));
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stdout));
        json(&output)["hints"].to_string()
    };
    let named = "--allocator expandable (PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True): takes";
    let near = hints((expandable + default) / 2);
    assert!(near.contains(named), "{near}");
    let far = hints(expandable / 2);
    assert!(!far.contains("expandable"), "{far}");
}

#[test]
fn colour_obeys_the_flag_then_no_color() {
    let folder = TempDir::new().unwrap();
    let escapes = |arguments: &str, no_color: &str| {
        let line = format!("profiles list {arguments}");
        let mut command = command(folder.path(), &words(&line));
        command.env("NO_COLOR", no_color);
        text(&command.output().unwrap().stdout).contains('\x1b')
    };
    assert!(escapes("--color always", ""));
    assert!(escapes("--color=always", "1"), "the flag wins");
    assert!(!escapes("--color never", ""));
    assert!(!escapes("", ""), "a pipe is no terminal");
    let error = oomph("--color always estimate nope");
    assert!(text(&error.stderr).contains("\x1b[1;31merror:"));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let folder = TempDir::new().unwrap();
    let mut child = command(folder.path(), &["profiles", "list", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_an_error() {
    let folder = TempDir::new().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command(folder.path(), &["profiles", "list"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot write the answer"));
}

/// Every example in every help text, without the `oomph` in front.
fn examples() -> Vec<String> {
    let commands = [
        "",
        "gpus",
        "wait",
        "estimate",
        "probe",
        "plan",
        "profiles",
        "profiles list",
        "profiles show",
        "completions",
        "man",
    ];
    let mut found = Vec::new();
    for command in commands {
        let output = oomph(&format!("{command} --help"));
        assert_eq!(output.status.code(), Some(0), "{command}");
        let help = text(&output.stdout);
        let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{command}"));
        let lines: Vec<&str> =
            examples.lines().filter_map(|line| line.trim().strip_prefix("oomph ")).collect();
        assert!((2..=3).contains(&lines.len()), "{command}: {lines:?}");
        found.extend(lines.into_iter().map(str::to_owned));
    }
    found
}

#[test]
fn the_examples_of_every_help_text_run() {
    // Without a driver, also where there is one: a busy GPU would be waited for.
    let folder = TempDir::new().unwrap();
    for name in oomph::device::virtual_library::DRIVER_NAMES {
        std::fs::write(folder.path().join(name), "not a library").unwrap();
    }
    for example in examples() {
        // What a shell would make of the answer is not oomph's.
        let example = example.split(['>', '|']).next().unwrap();
        let output =
            command(folder.path(), &words(example)).env("LD_LIBRARY_PATH", folder.path()).output();
        let output = output.unwrap();
        let code = output.status.code().unwrap();
        let no_gpu_here = code == 4 && !example.contains("sim:");
        assert!(code == 0 || no_gpu_here, "{example}: {code} {}", text(&output.stderr));
    }
}

#[test]
fn version_and_help_go_to_stdout() {
    let version = oomph("--version");
    assert_eq!(text(&version.stdout), format!("oomph {}\n", env!("CARGO_PKG_VERSION")));
    let nothing = oomph("");
    assert_eq!(nothing.status.code(), Some(2));
    assert!(text(&nothing.stderr).contains("Usage: oomph"));
}

#[test]
fn where_no_single_change_helps_the_hints_name_what_looks_at_several() {
    let line = "plan llama-3.1-8b --precision bf16 --effective-batch 64 --gpu";
    let far = text(&oomph(&format!("{line} sim:rtx-4090")).stdout);
    assert!(far.contains("too much as well") && far.contains("oomph advise"), "{far}");
    let near = text(&oomph(&format!("{line} sim:h100-80gb")).stdout);
    assert!(near.contains(", fits") && !near.contains("oomph advise"), "{near}");
}

#[test]
fn an_estimate_explains_who_holds_the_bytes_at_the_peak_and_when() {
    let line = "estimate gpt2 --precision fp32 --seq-len 512 --timeline --by";
    for by in ["layer", "module", "phase", "tensor"] {
        let value = json(&oomph(&format!("{line} {by} --json")));
        let peak = value["peak_allocated_bytes"].as_u64().unwrap();
        assert_eq!(value["at_peak_by"]["by"], by);
        let parts = value["at_peak_by"]["parts"].as_array().unwrap();
        let bytes = |part: &Value| part["bytes"].as_u64().unwrap();
        assert_eq!(parts.iter().map(bytes).sum::<u64>(), peak, "{by}");
        assert!(parts.is_sorted_by_key(|part| std::cmp::Reverse(bytes(part))), "{by}");
        let timeline = &value["timeline"];
        let curve = timeline["allocated_bytes"].as_array().unwrap();
        assert_eq!(curve.iter().filter_map(Value::as_u64).max(), Some(peak));
        let phases = timeline["phases"].as_array().unwrap();
        let peaks = phases.iter().map(|span| span["peak_allocated_bytes"].as_u64().unwrap());
        assert_eq!(peaks.max(), Some(peak));
        assert_eq!((&phases[0]["phase"], phases.len()), (&"load".into(), 11));
        let last = phases.last().unwrap();
        assert_eq!(last["reserved_bytes"], value["peak_reserved_bytes"]);
        let text = text(&oomph(&format!("{line} {by}")).stdout);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains(&format!("Alive at the peak, by {by}")), "{text}");
    }
    let layers = text(&oomph(&format!("{line} layer")).stdout);
    for part in ["(the optimizer)", "transformer.h.11 ", "transformer.wte ", "llfff", "bbbooo"] {
        assert!(layers.contains(part), "no `{part}` in\n{layers}");
    }
    let plain = json(&oomph("estimate gpt2 --precision fp32 --seq-len 512 --json"));
    assert!(plain.get("timeline").is_none() && plain.get("at_peak_by").is_none());
}

#[test]
fn every_shell_completes_every_command_and_the_manual_has_a_page_for_each() {
    let help = text(&oomph("--help").stdout);
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let commands: Vec<&str> = commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty())
        .collect();
    assert!(commands.contains(&"plan") && commands.contains(&"man"), "{commands:?}");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = text(&oomph(&format!("completions {shell}")).stdout);
        for part in commands.iter().chain(&["effective-batch"]) {
            assert!(script.contains(part), "{shell}: no `{part}`");
        }
        // clap_complete knows no values there.
        let names_values = !["elvish", "powershell"].contains(&shell);
        assert_eq!(script.contains("deepspeed"), names_values, "{shell}");
    }
    for command in commands.iter().filter(|command| **command != "help") {
        let page = text(&oomph(&format!("man {command}")).stdout);
        assert!(page.contains(&format!(".TH oomph-{command} 1")), "{page}");
        assert!(page.contains("Examples:"), "{command}");
    }
    assert!(text(&oomph("man").stdout).contains(".TH oomph 1"));
}

#[test]
fn profiles_name_models_and_gpus_with_their_sources() {
    let list = json(&oomph("profiles list --json"));
    assert_eq!(list["schema"], "oomph.profiles/1");
    for kind in ["models", "gpus"] {
        let all = list[kind].as_array().unwrap();
        assert!(all.iter().all(|one| one["source"].as_str().is_some_and(|s| !s.trim().is_empty())));
    }
    let one = json(&oomph("profiles show sim:h100-80gb --json"));
    assert_eq!((&one["schema"], &one["name"]), (&"oomph.gpu/1".into(), &"h100-80gb".into()));
}

#[test]
fn a_transformers_older_than_those_compared_is_an_assumption() {
    let said = |version: &str| {
        let output = oomph(&format!("estimate gpt2 --torch 2.8 --transformers {version}"));
        text(&output.stdout).replace("\n    ", " ")
    };
    assert!(said("4.50").contains("computes as 4.56 does"), "{}", said("4.50"));
    assert!(!said("4.56").contains("computes as 4.56 does"));
}
