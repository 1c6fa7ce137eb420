//! `oomph estimate` as the real binary: what its answers say of a setup. No GPU, no network.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;

use answers::{command, estimate_agrees, json, oomph, text, words};
use serde_json::Value;
use tempfile::TempDir;

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
fn a_capacity_is_the_allocators_share_and_no_more_than_the_gpu_has() {
    let said = |line| {
        let output = oomph(line);
        let (out, err) = (output.stdout, output.stderr);
        let text = String::from_utf8([out, err].concat()).unwrap();
        (output.status.code(), text.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let (_, text) = said("estimate gpt2 --capacity 24GiB");
    assert!(text.contains("--gpu sim:24GiB"), "{text}");
    assert!(!said("estimate gpt2 --capacity 10GiB --gpu sim:t4").1.contains("sim:10GiB"));
    let (code, text) = said("estimate gpt2 --capacity 24GiB --gpu sim:t4");
    assert_eq!(code, Some(2));
    assert!(text.contains("--capacity is more than GPU 0 has"), "{text}");
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
fn a_transformers_older_than_those_compared_is_an_assumption() {
    let said = |version: &str| {
        let output = oomph(&format!("estimate gpt2 --torch 2.8 --transformers {version}"));
        text(&output.stdout).replace("\n    ", " ")
    };
    assert!(said("4.43").contains("was not compared, on 4.44 it was"), "{}", said("4.43"));
    assert!(!said("4.44").contains("was not compared"));
}

#[test]
fn a_quantized_classifier_says_that_its_head_has_to_be_skipped() {
    let line = "estimate bert-base-uncased --seq-len 64 --lora r=8 --quantize nf4 --task";
    let said = |task: &str| text(&oomph(&format!("{line} {task}")).stdout).replace("\n    ", " ");
    let named = "llm_int8_skip_modules";
    assert!(said("sequence-classification").contains(named), "{}", said("sequence-classification"));
    assert!(!said("masked-lm").contains(named));
}

#[test]
fn a_transformers_that_checkpoints_nothing_is_said_to() {
    let said = |version: &str| {
        let model = "estimate starcoder2-3b --checkpointing full --torch 2.8 --transformers";
        let output = oomph(&format!("{model} {version}"));
        text(&output.stdout).replace("\n    ", " ")
    };
    assert!(said("4.51").contains("checkpoints no layer of a starcoder2"), "{}", said("4.51"));
    assert!(!said("4.52").contains("checkpoints no layer"));
}

#[test]
fn weights_that_transformers_loads_in_another_format_are_a_note() {
    let folder = TempDir::new().unwrap();
    let config = r#"{"model_type": "gpt2", "n_embd": 64, "n_layer": 1, "n_head": 2,
        "vocab_size": 100, "dtype": "bfloat16"}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let notes = |arguments: &str| {
        let line = format!("estimate . --json {arguments}");
        json(&command(folder.path(), &words(&line)).output().unwrap())["notes"].to_string()
    };
    let said = notes("--transformers 5.0");
    assert!(
        said.contains("config.json says bfloat16") && said.contains("--precision bf16"),
        "{said}"
    );
    // Transformers 4 loads float32 unless it is told otherwise.
    for silent in ["--transformers 4.56", "--transformers 5.0 --precision bf16"] {
        let said = notes(silent);
        assert!(!said.contains("config.json says"), "{silent}: {said}");
    }
}

#[test]
fn a_headroom_that_leaves_nothing_is_what_to_change() {
    for line in
        ["estimate gpt2 --gpu sim:t4 --headroom 20GiB", "plan gpt2 --gpu sim:t4 --headroom 99%"]
    {
        let output = oomph(&format!("{line} --json"));
        assert_eq!(output.status.code(), Some(3), "{line}");
        let hints = json(&output)["hints"].clone();
        assert_eq!(hints.as_array().unwrap().len(), 1, "{hints}");
        assert!(hints[0].as_str().unwrap().starts_with("a smaller --headroom: "), "{hints}");
    }
    let tight = json(&oomph("estimate gpt2 --gpu sim:t4 --headroom 13GiB --json"));
    assert!(!tight["hints"].to_string().contains("a smaller --headroom"), "{tight:#}");
}

#[test]
fn a_version_that_was_not_compared_is_an_assumption() {
    let said = |versions: &str| {
        let line = format!("estimate gpt2 --seq-len 64 --json {versions}");
        json(&oomph(&line))["assumptions"].to_string()
    };
    for (versions, expected) in [
        ("--torch 3.0", "PyTorch 3.0 was not compared: worked out as 2.15 is"),
        ("--torch 1.13", "PyTorch 1.13 was not compared: worked out as 2.4 is"),
        ("--transformers 5.99", "transformers 5.99 was not compared: worked out as 5.24 is"),
        ("--transformers 4.60", "transformers 4.60 was not compared: worked out as 4.56 is"),
    ] {
        assert!(said(versions).contains(expected), "{versions}: {}", said(versions));
    }
    let known = ["2.4", "2.15"].into_iter().zip(["4.44", "5.24"]);
    for (torch, transformers) in known.chain([("2.8", "4.56"), ("2.14", "5.0")]) {
        let said = said(&format!("--torch {torch} --transformers {transformers}"));
        assert!(!said.contains("worked out as"), "{said}");
    }
}
