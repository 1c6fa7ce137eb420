//! `oomph plan` on the stand-in driver: when it probes, when it does not, and that it says so.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::Scenario;

const CONFIG: &str = r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"],
    "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 32000,
    "max_position_embeddings": 4096, "hidden_act": "silu", "tie_word_embeddings": false}"#;

fn run(machine: &Scenario, command: &str, more: &[&str]) -> (i32, Value) {
    let model = machine.folder().join("config.json");
    std::fs::write(&model, CONFIG).unwrap();
    let output = machine
        .command(env!("CARGO_BIN_EXE_oomph"))
        .args([command, model.to_str().unwrap(), "--json", "--precision", "bf16"])
        .args(["--seq-len", "512", "--torch", "2.8", "--transformers", "5.12"])
        .args(more)
        .env("XDG_RUNTIME_DIR", machine.folder())
        .env_remove("CUDA_VISIBLE_DEVICES")
        .output()
        .unwrap();
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error} in {output:?}"));
    (output.status.code().unwrap(), json)
}

fn notes(json: &Value) -> String {
    json["notes"].to_string()
}

#[test]
fn an_unused_gpu_is_probed_and_its_answer_is_the_probe_commands() {
    for scenario in ["gpu total=4GiB context=100MiB", "gpu total=8GiB context=1200MiB"] {
        let machine = Scenario::new(scenario);
        let (code, plan) = run(&machine, "plan", &["--effective-batch", "240"]);
        assert_eq!(code, 0, "{plan}");
        assert_eq!(plan["method"], "probed");
        assert_eq!(plan["gpus"][0]["simulated"], false);
        assert_eq!(plan["exact"], true);
        machine.assert_balanced();
        assert_eq!(machine.held(0), 0);
        let (_, probe) = run(&machine, "probe", &["--accumulation", "2"]);
        assert_eq!(plan["largest_micro_batch"], probe["largest_micro_batch"]);
        assert_eq!(plan["estimate"]["fits"], true, "{plan}");
    }
}

#[test]
fn an_answer_that_never_ran_as_a_neighbour_grew_is_a_range_and_an_estimate() {
    let mut lines = "gpu total=8GiB context=400MiB\n process pid=4190001 bytes=1MiB".to_owned();
    for after in (20..420).step_by(20) {
        lines += &format!("\nsteal cuMemAlloc_v2 after={after} pid=4190001 take=160MiB");
    }
    let machine = Scenario::new(&lines);
    let (code, probe) = run(&machine, "probe", &["--accumulation", "2"]);
    let (gpu, largest) = (&probe["gpus"][0], probe["largest_micro_batch"].as_u64());
    assert_eq!((code, gpu["contended"]["smallest_micro_batch"].as_u64()), (0, largest), "{probe}");
    let attempts = gpu["attempts"].as_array().unwrap();
    assert!(attempts.len() == 6 && attempts.iter().all(|attempt| attempt["fits"] == false));
    assert_eq!((&probe["method"], &gpu["method"]), (&"estimated".into(), &"estimated".into()));
    let machine = Scenario::new(&lines);
    let (code, plan) = run(&machine, "plan", &["--probe", "always", "--effective-batch", "512"]);
    assert_eq!((code, &plan["method"]), (0, &"estimated".into()), "{plan}");
    assert!(notes(&plan).contains("contended: memory came and went"), "{plan}");
}

#[test]
fn a_batch_that_one_micro_step_takes_is_probed_at_one_micro_step() {
    let machine = Scenario::new("gpu total=4GiB context=100MiB");
    let (code, plan) = run(&machine, "plan", &["--effective-batch", "2"]);
    assert_eq!((code, &plan["accumulation_steps"]), (0, &1.into()));
    let (_, probe) = run(&machine, "probe", &["--accumulation", "1"]);
    assert_eq!(plan["largest_micro_batch"], probe["largest_micro_batch"]);
    assert_eq!(plan["bound_by"], "effective_batch");
}

#[test]
fn a_gpu_in_use_is_planned_on_the_estimate_and_the_plan_says_why() {
    let machine =
        Scenario::new("gpu total=8GiB context=100MiB\n process gpu=0 pid=4190001 bytes=3GiB");
    let (code, plan) = run(&machine, "plan", &["--effective-batch", "240"]);
    assert_eq!((code, &plan["method"]), (0, &"estimated".into()));
    assert!(notes(&plan).contains("was not probed: it is in use"), "{plan}");
    assert!(machine.calls_of("cuMemAlloc_v2").is_empty());
    let free = plan["gpus"][0]["free_bytes"].as_u64().unwrap();
    assert!(free <= 5 << 30, "what is free counts, not the total: {plan}");
    let (code, plan) = run(&machine, "plan", &["--effective-batch", "240", "--probe", "always"]);
    assert_eq!((code, &plan["method"]), (0, &"probed".into()), "{plan}");
    machine.assert_balanced();
}

#[test]
fn probe_never_makes_no_allocation() {
    let machine = Scenario::new("gpu total=4GiB context=100MiB");
    let (code, plan) = run(&machine, "plan", &["--effective-batch", "240", "--probe", "never"]);
    assert_eq!((code, &plan["method"]), (0, &"estimated".into()));
    assert!(machine.calls_of("cuMemAlloc_v2").is_empty());
}

#[test]
fn the_weakest_of_several_gpus_bounds_the_plan() {
    let machine = Scenario::new("gpu total=8GiB context=100MiB\n gpu total=4GiB context=100MiB");
    let (code, both) = run(&machine, "plan", &["--effective-batch", "240"]);
    assert_eq!(code, 0, "{both}");
    assert_eq!((&both["method"], &both["data_parallel_size"]), (&"probed".into(), &2.into()));
    let largest = both["largest_micro_batch"].as_u64().unwrap();
    let bounds = &both["unequal"]["largest_micro_batch"][1];
    assert_eq!((&bounds["gpu"], &bounds["largest_micro_batch"]), (&1.into(), &largest.into()));
    let (_, large) = run(&machine, "plan", &["--effective-batch", "240", "--gpu", "0"]);
    assert!(largest < large["largest_micro_batch"].as_u64().unwrap());
    machine.assert_balanced();
}

#[test]
fn a_driver_that_breaks_under_the_probe_is_exit_code_5_and_no_plan() {
    let machine =
        Scenario::new("gpu total=4GiB context=100MiB\n fault cuMemAlloc_v2 at=5 code=999");
    let (code, error) = run(&machine, "plan", &["--effective-batch", "240"]);
    assert_eq!((code, &error["schema"]), (5, &"oomph.error/1".into()), "{error}");
    assert!(error["error"].as_str().unwrap().contains("could not be probed"));
}

#[test]
fn nothing_fits_is_exit_code_3_with_what_to_try() {
    let machine = Scenario::new("gpu total=1000MiB context=100MiB");
    let (code, plan) = run(&machine, "plan", &["--effective-batch", "240"]);
    assert_eq!((code, &plan["fits"]), (3, &false.into()), "{plan}");
    assert_eq!((&plan["micro_batch"], &plan["largest_micro_batch"]), (&Value::Null, &0.into()));
    assert!(!plan["hints"].as_array().unwrap().is_empty());
}
