//! The solver at the command line: who says how many devices there are, what is near, what unequal
//! GPUs cost, and the plan as other programs' configurations.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;

use std::process::Output;

use answers::{command, json, words};
use oomph::export::format::Format;
use serde_json::Value;
use tempfile::TempDir;

fn oomph(line: &str, environment: &[(&str, &str)]) -> Output {
    let folder = TempDir::new().unwrap();
    let mut command = command(folder.path(), &words(line));
    command.envs(environment.iter().copied()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

const PLAN: &str = "plan gpt2 --precision bf16 --seq-len 256 --effective-batch";

#[test]
fn the_launchers_world_is_taken_and_named() {
    let torchrun = [("WORLD_SIZE", "4"), ("RANK", "0")];
    let line = format!("{PLAN} 64 --gpu sim:t4");
    let plan = json(&oomph(&format!("{line} --json"), &torchrun));
    assert_eq!(
        (&plan["data_parallel_size"], &plan["world_from"]),
        (&4.into(), &"WORLD_SIZE".into())
    );
    let shown = stdout(&oomph(&line, &torchrun));
    assert!(shown.contains("4 devices, from WORLD_SIZE of torchrun"), "{shown}");
    let flag = oomph(&format!("{line} --world-size 2 --json"), &torchrun);
    assert_eq!(json(&flag)["data_parallel_size"], 2);
    assert!(json(&flag)["notes"].to_string().contains("WORLD_SIZE of torchrun says 4"), "{flag:?}");
    let broken = oomph(&line, &[("WORLD_SIZE", "four"), ("RANK", "0")]);
    assert_eq!(broken.status.code(), Some(2), "{broken:?}");
}

#[test]
fn what_is_near_says_how_far_and_what_becomes_of_the_learning_rate() {
    let output = oomph(&format!("{PLAN} 256 --gpu sim:t4*7"), &[]);
    let shown = stdout(&output);
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "effective batch 252, not 256 ",
        "18 comes nearest",
        "256 is no multiple of 7 devices: 4 or 8 would do",
        "252 instead of 256 (-1.56 %), by rules of thumb: x 0.9844 in proportion",
        "x 0.9922 by the square root",
    ] {
        assert!(words.contains(part), "{part}: {shown}");
    }
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let plan = json(&oomph(&format!("{PLAN} 256 --gpu sim:t4*7 --json"), &[]));
    assert_eq!((&plan["exact"], &plan["error_percent"]), (&false.into(), &(-1.5625).into()));
    let other = &plan["alternatives"][0];
    assert_eq!(other["kind"], "nearest_above");
    let ratio = other["effective_batch"].as_f64().unwrap() / 256.0;
    assert_eq!(other["learning_rate_factor"]["linear"], ratio, "{other}");
}

/// Two micro-steps take more than one: what fits once may not be named for twice.
#[test]
fn what_a_fixed_number_rules_out_fits() {
    let setup = "gpt2 --precision fp32 --seq-len 256 --capacity 12GiB";
    let said = stdout(&oomph(&format!("plan {setup} --micro-batch 25 --effective-batch 48"), &[]));
    let free = stdout(&oomph(&format!("plan {setup} --effective-batch 48"), &[]));
    assert!(free.starts_with("micro-batch 16 x accumulation 3 "), "{free}");
    assert!(said.contains("micro-batch 16 x accumulation 3 would be 48, exactly"), "{said}");
}

#[test]
fn tokens_that_are_no_whole_samples_are_not_exact() {
    let line = "plan gpt2 --precision bf16 --seq-len 256 --gpu sim:t4 --exact --effective-tokens";
    assert_eq!(oomph(&format!("{line} 16384"), &[]).status.code(), Some(0));
    let off = oomph(&format!("{line} 16385"), &[]);
    assert_eq!(off.status.code(), Some(6));
    assert!(stdout(&off).contains("effective batch 64, not 16,385 tokens"), "{off:?}");
}

#[test]
fn the_weakest_gpu_is_named_with_what_it_costs() {
    let line = format!("{PLAN} 2000 --gpu sim:h100-80gb*3,sim:t4");
    let shown = stdout(&oomph(&line, &[]));
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("GPU 3 (Tesla T4) holds 3 others at"), "{shown}");
    assert!(words.contains("weigh each GPU's mean loss by"), "{shown}");
    let plan = json(&oomph(&format!("{line} --json"), &[]));
    let own = &plan["unequal"];
    let sizes: Vec<u64> =
        own["micro_batches"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    let steps = own["accumulation_steps"].as_u64().unwrap();
    assert_eq!(sizes.iter().sum::<u64>() * steps, 2000, "{own}");
    assert!(steps < plan["accumulation_steps"].as_u64().unwrap(), "{plan}");
    let weights: f64 =
        own["loss_weights"].as_array().unwrap().iter().filter_map(Value::as_f64).sum();
    assert!((weights - 4.0).abs() < 1e-9, "{own}");
}

#[test]
fn every_format_is_emitted_alone_on_stdout() {
    for format in Format::ALL {
        let output = oomph(&format!("{PLAN} 64 --gpu sim:t4*2 --emit {}", format.name()), &[]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        let text = stdout(&output);
        assert!(text.ends_with('\n') && !text.contains("  on "), "{text}");
    }
}

#[test]
fn what_cannot_be_emitted_leaves_stdout_empty() {
    let unfit = oomph("plan llama-3.1-8b --effective-batch 8 --gpu sim:t4 --emit axolotl", &[]);
    assert_eq!((unfit.status.code(), unfit.stdout.len()), (Some(3), 0), "{unfit:?}");
    let both = oomph(&format!("{PLAN} 64 --gpu sim:t4 --emit axolotl --json"), &[]);
    assert_eq!(both.status.code(), Some(2));
    let images =
        oomph("plan resnet-18 --effective-batch 8 --gpu sim:t4 --emit torchtitan@tokens", &[]);
    assert_eq!((images.status.code(), images.stdout.len()), (Some(2), 0), "{images:?}");
    let near = oomph(&format!("{PLAN} 255 --gpu sim:t4*2 --emit deepspeed"), &[]);
    assert_eq!(near.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&near.stderr).contains("no exact plan"), "{near:?}");
    assert!(json(&near)["train_batch_size"].as_u64().unwrap().is_multiple_of(2));
}

#[test]
fn composer_is_told_the_uneven_plan_that_it_makes_by_itself() {
    let line = format!("{PLAN} 254 --gpu sim:t4*2 --emit");
    let output = oomph(&format!("{line} composer"), &[]);
    let text = stdout(&output);
    assert!(text.contains("x accumulation 5 (the last 23) x 2 devices = 254\n"), "{text}");
    assert!(text.contains("device_train_microbatch_size: 26\n"), "{text}");
    assert!(text.contains("global_train_batch_size: 254\n"), "{text}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("composer shortens the last micro-batch by itself"), "{said}");
    // Others would floor it, or stop.
    assert!(stdout(&oomph(&format!("{line} axolotl"), &[])).contains("micro_batch_size: 1\n"));
}

#[test]
fn gradient_synchronisation_is_counted_with_and_without_no_sync() {
    let plan = json(&oomph(&format!("{PLAN} 2000 --gpu sim:t4*4 --json"), &[]));
    let steps = plan["accumulation_steps"].as_u64().unwrap();
    let sent = |no_sync: bool| {
        let all = plan["gradient_sync"].as_array().unwrap();
        let one = all.iter().find(|one| one["sharing"] == "ddp" && one["no_sync"] == no_sync);
        one.unwrap()["sent_bytes"].as_u64().unwrap()
    };
    // GPT-2's 124,439,808 parameters, two bytes each: a ring of four sends 2 x 3/4 of them.
    assert_eq!(sent(true), 124_439_808 * 2 * 2 * 3 / 4);
    assert_eq!(sent(false), sent(true) * steps);
    let one = json(&oomph(&format!("{PLAN} 64 --gpu sim:t4 --json"), &[]));
    assert_eq!(one["gradient_sync"], Value::Array(Vec::new()));
}

#[test]
fn when_gradients_are_summed_is_an_input_and_the_better_way_an_advice() {
    let line = format!("{PLAN} 2000 --gpu sim:t4*4");
    let words = |flags: &str| {
        let shown = stdout(&oomph(&format!("{line} {flags}"), &[]));
        shown.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let default = words("");
    assert!(default.contains("sends 356.0 MiB an optimizer step"), "{default}");
    assert!(default.contains("under no_sync() (default); in every micro-step it"), "{default}");
    let every = words("--grad-sync every");
    assert!(every.contains("--grad-sync last would send 356.0 MiB, and takes no more"), "{every}");
    let [last, every] = ["last", "every"]
        .map(|when| json(&oomph(&format!("{line} --grad-sync {when} --json"), &[])));
    // DDP makes its buckets with itself: they are there under either policy.
    for key in ["micro_batch", "largest_micro_batch"] {
        assert_eq!(last[key], every[key]);
    }
    for (plan, no_sync) in [(&last, true), (&every, false)] {
        for one in plan["gradient_sync"].as_array().unwrap() {
            assert_eq!(one["chosen"] == true, one["no_sync"] == no_sync, "{one}");
        }
    }
    let wrong = oomph(&format!("{line} --grad-sync first"), &[]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

#[test]
fn mixtral_on_eight_a100_has_no_room_for_fsdps_no_sync() {
    // Accelerate's guide: 69 GB in every micro-step, out of memory under no_sync.
    let line = "plan mixtral-8x7b-v0.1 --precision bf16 --seq-len 512 --accumulation 4 \
                --checkpointing full --gpu sim:a100-80gb*8";
    let output = oomph(&format!("{line} --json"), &[]);
    assert_eq!(output.status.code(), Some(3), "whole, it fits nowhere: {output:?}");
    let plan = json(&output);
    let all = plan["gradient_sync"].as_array().unwrap();
    let fsdp = all.iter().find(|one| one["sharing"] == "fsdp" && one["no_sync"] == true).unwrap();
    // 46,702,792,704 weights of two bytes, of which a device would hold an eighth.
    assert_eq!(fsdp["kept_bytes"], 46_702_792_704_u64 * 2 / 8 * 7);
    assert_eq!(fsdp["best"], false);
    let words = stdout(&oomph(line, &[]));
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("FSDP keeps gradients whole under no_sync(): 76.1 GiB more"), "{words}");
}
