//! `oomph plan` as the real binary: the answer as text and JSON. No GPU, no network.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;

use answers::{estimate_agrees, json, oomph, text};

const PLAN: &str = "plan gpt2 --precision bf16 --effective-batch 64 --gpu sim:t4";

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
fn where_no_single_change_helps_the_hints_name_what_looks_at_several() {
    let line = "plan llama-3.1-8b --precision bf16 --effective-batch 64 --gpu";
    let far = text(&oomph(&format!("{line} sim:rtx-4090")).stdout);
    assert!(far.contains("too much as well") && far.contains("oomph advise"), "{far}");
    let near = text(&oomph(&format!("{line} sim:h100-80gb")).stdout);
    assert!(near.contains(", fits") && !near.contains("oomph advise"), "{near}");
}
