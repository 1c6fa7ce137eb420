//! `oomph check`: what it finds, where, how it says so, and that no open question is exit 0.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const BROKEN: &str = "{\n  // hjson\n  \"train_batch_size\": 256,\n  \
                      \"train_micro_batch_size_per_gpu\": 6,\n}\n";

/// A folder with the files that most tests read.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in [
        ("broken.json", BROKEN),
        ("good.json", "{\"train_batch_size\": 264, \"train_micro_batch_size_per_gpu\": 6}"),
        ("typo.json", "{\"train_micro_batch_size_per_gpuu\": 4, \"train_batch_size\": 16}"),
        ("string.json", "{\"train_batch_size\": \"16\"}"),
        ("twice.json", "{\"train_batch_size\": 16, \"train_batch_size\": 8}"),
        ("zero.json", "{\"train_batch_size\": 8, \"zero_optimization\": {\"stage\": 2}}"),
        ("half.json", "{\"train_batch_size\": \"${N}\", \"train_micro_batch_size_per_gpu\": 2}"),
        ("hf.yaml", "per_device_train_batch_size: 6  # six\nbf16: true\n"),
        ("comma.json", "{\"per_device_train_batch_size\": 6,}"),
        ("noacc.json", "{\"per_device_train_batch_size\": 6, \"gradient_accumulation_steps\": 0}"),
        ("unknown.yaml", "foo: 1\n"),
        ("mark.json", "\u{feff}{\"train_batch_size\": 8}"),
        (
            "accelerate.yaml",
            "distributed_type: MULTI_GPU\nnum_processes: 4\ngradient_accumulation_steps: 4\n",
        ),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn command(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oomph"));
    command.arg("check").args(line.split_whitespace()).current_dir(folder);
    command.stdin(Stdio::null()).env_clear();
    command
}

fn check(folder: &TempDir, line: &str) -> Output {
    command(folder.path(), line).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What comes out, blanks and lines joined, whichever stream it is on.
fn words(output: &Output) -> String {
    let both = [output.stdout.clone(), output.stderr.clone()].concat();
    let text = String::from_utf8(both).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A line, its exit code, and what it must say.
const CASES: &[(&str, i32, &[&str])] = &[
    ("good.json --only batch --world-size 4", 0, &["passes", "6 x accumulation 11 x 4"]),
    (
        "broken.json --only batch --world-size 4",
        6,
        &["broken.json:3:23: error [equation]", "repair: train_micro_batch_size_per_gpu = 4"],
    ),
    ("good.json --only batch --world-size 8", 6, &["264 is no multiple of 6 x 8 devices"]),
    (
        "typo.json --only batch --world-size 4",
        0,
        &["typo.json:1:2: warning [unknown-key]", "ignores it", "`train_micro_batch_size_per_gpu`"],
    ),
    ("typo.json --only batch --world-size 4 --fail-on warning", 6, &["fails", "warning"]),
    (
        "string.json --only batch --world-size 4",
        2,
        &["string.json:1:22: error [invalid]", "repair: train_batch_size = 16"],
    ),
    ("twice.json --only batch --world-size 4", 2, &["twice.json:1:26", "stands twice"]),
    (
        "half.json --only batch --world-size 4",
        2,
        &["not answered", "train_batch_size", "unresolved"],
    ),
    ("good.json --only batch", 4, &["how many devices", "--world-size N"]),
    ("good.json --world-size 4 --gpu sim:t4", 2, &["names no model", "--only batch"]),
    ("zero.json gpt2 --gpu sim:t4", 2, &["not yet: --parallel zero2"]),
    ("hf.yaml gpt2 --gpu sim:t4 --seq-len 256", 0, &["gpt2 fits", "6 x accumulation 1 x 1"]),
    ("hf.yaml gpt2 --seq-len 256", 4, &["driver"]),
    ("hf.yaml gpt2 --seq-len 256 --no-gpu skip", 0, &["skipped"]),
    ("hf.yaml llama-3.1-8b --gpu sim:t4", 3, &["error [does-not-fit]", "does not fit"]),
    ("hf.yaml llama-3.1-8b --gpu sim:t4 --exit-zero", 0, &["does not fit"]),
    (
        "hf.yaml gpt2 --gpu sim:t4*4 --seq-len 512 --effective-batch 264",
        6,
        &["24, not 264", "repair: gradient_accumulation_steps = 11"],
    ),
    ("hf.yaml gpt2 --gpu sim:t4 --micro-batch 7", 2, &["file says 6, and a flag says 7"]),
    (
        "hf.yaml gpt2 --gpu sim:t4 --seq-len 256 --min-headroom 90%",
        3,
        &["less than --min-headroom"],
    ),
    ("hf.yaml nothing --gpu sim:t4", 2, &["there is no model `nothing`"]),
    ("noacc.json --only batch --world-size 2", 6, &["must be at least 1", "steps = 1"]),
    ("comma.json --only batch --world-size 2", 2, &["comma.json:1:35", "read as JSON"]),
    ("unknown.yaml --only batch --world-size 2", 2, &["no framework is known", "--framework"]),
    ("mark.json --only batch --world-size 2", 2, &["byte order mark"]),
    ("missing.json --only batch", 2, &["cannot read `missing.json`"]),
    (
        "accelerate.yaml --only batch --micro-batch 2",
        0,
        &["accelerate.yaml:3:1: warning", "refuses the file"],
    ),
    ("accelerate.yaml --only batch --micro-batch 2 --fail-on warning", 6, &["refuses the file"]),
    ("--only batch", 2, &["no FILE"]),
    ("", 2, &["nothing to check"]),
    ("gpt2 llama-3.2-1b", 2, &["two models"]),
    ("good.json broken.json", 2, &["one thing is checked at a time"]),
    ("gpt2 --gpu sim:t4", 2, &["check judges one micro-batch", "--micro-batch"]),
    ("gpt2 --gpu sim:t4 --micro-batch 2 --json --format junit", 2, &["--json", "--format"]),
    (
        "--only batch --world-size 4 -- --micro-batch-size 6 --global-batch-size 264",
        0,
        &["megatron"],
    ),
    (
        "--only batch --world-size 8 -- --micro-batch-size 6 --global-batch-size 264 \
         --tensor-model-parallel-size 2",
        0,
        &["x 4 devices = 264", "4 replicas"],
    ),
    (
        "--only batch --world-size 4 -- --training.num_tokens_per_microbatch_per_dp_rank 4096 \
         --training.num_tokens_per_train_step 32768 --training.max_context_length 2048",
        0,
        &["micro-batch 2 x accumulation 2 x 4 devices = 16"],
    ),
    (
        "--only batch --world-size 4 --seq-len 2048 -- \
         --training.num_tokens_per_microbatch_per_dp_rank 4096 \
         --parallelism.pipeline_parallel_degree 2",
        2,
        &["not answered", "parallelism.pipeline_parallel_degree"],
    ),
];

#[test]
fn every_question_gets_its_exit_code_and_its_words() {
    let folder = folder();
    for (line, code, parts) in CASES {
        let output = check(&folder, line);
        let words = words(&output);
        assert_eq!(output.status.code(), Some(*code), "{line}: {words}");
        for part in *parts {
            assert!(words.contains(part), "{line}: no `{part}` in {words}");
        }
        let long = stdout(&output).lines().any(|line| line.chars().count() > 80);
        assert!(!long, "{line}: wider than 80 columns: {}", stdout(&output));
    }
}

#[test]
fn a_diff_mends_what_is_broken_and_writing_it_passes() {
    let folder = folder();
    let line = "broken.json --only batch --world-size 4";
    let diff = stdout(&check(&folder, &format!("{line} --fix")));
    assert!(diff.contains("-  \"train_micro_batch_size_per_gpu\": 6,\n"), "{diff}");
    assert!(diff.contains("+  \"train_micro_batch_size_per_gpu\": 4,\n"), "{diff}");
    let file = folder.path().join("broken.json");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), BROKEN, "--fix changes nothing");
    check(&folder, &format!("{line} --write"));
    let mended = std::fs::read_to_string(&file).unwrap();
    assert_eq!(mended, BROKEN.replace("gpu\": 6", "gpu\": 4"), "comments stay");
    assert_eq!(check(&folder, line).status.code(), Some(0));
}

#[test]
fn a_key_that_is_missing_or_mistyped_is_written() {
    let folder = folder();
    check(&folder, "typo.json --only batch --world-size 4 --write");
    let typo = std::fs::read_to_string(folder.path().join("typo.json")).unwrap();
    assert_eq!(typo, "{\"train_micro_batch_size_per_gpu\": 4, \"train_batch_size\": 16}");
    check(&folder, "hf.yaml --only batch --world-size 4 --effective-batch 264 --write");
    let yaml = std::fs::read_to_string(folder.path().join("hf.yaml")).unwrap();
    let wanted =
        "per_device_train_batch_size: 6  # six\ngradient_accumulation_steps: 11\nbf16: true\n";
    assert_eq!(yaml, wanted);
    check(&folder, "string.json --only batch --world-size 4 --write");
    let number = std::fs::read_to_string(folder.path().join("string.json")).unwrap();
    assert_eq!(number, "{\"train_batch_size\": 16}");
}

#[test]
fn json_names_the_file_the_line_and_the_repair() {
    let folder = folder();
    let output = check(&folder, "broken.json --only batch --world-size 4 --json");
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&value["schema"], &value["exit_code"]), (&"oomph.check/1".into(), &6.into()));
    let finding = &value["findings"][0];
    let at = (&finding["file"], &finding["line"], &finding["column"]);
    assert_eq!(at, (&"broken.json".into(), &3.into(), &23.into()));
    assert_eq!(finding["repaired"]["train_micro_batch_size_per_gpu"], "4");
}

#[test]
fn a_job_in_oomph_toml_is_checked_and_fills_what_a_file_leaves_open() {
    let folder = folder();
    let job = "model = \"gpt2\"\nmicro-batch = 4\nseq-len = 256\ngpu = \"sim:t4\"\n";
    std::fs::write(folder.path().join("oomph.toml"), job).unwrap();
    assert!(words(&check(&folder, "")).contains("gpt2 fits: micro-batch 4"));
    let said = words(&check(&folder, "hf.yaml"));
    assert!(said.contains("gpt2 fits: micro-batch 6"), "{said}");
}

fn planned(folder: &TempDir, line: &str) {
    let mut plan = Command::new(env!("CARGO_BIN_EXE_oomph"));
    plan.args(line.split_whitespace()).current_dir(folder.path()).env_clear();
    let output = plan.output().unwrap();
    std::fs::write(folder.path().join("plan.json"), output.stdout).unwrap();
}

#[test]
fn an_earlier_plan_is_held_against_the_gpu_of_now() {
    let folder = folder();
    planned(&folder, "plan gpt2 --precision bf16 --effective-batch 256 --gpu sim:l4 --json");
    assert_eq!(check(&folder, "plan.json --gpu sim:l4").status.code(), Some(0));
    let smaller = check(&folder, "plan.json --gpu sim:4GiB");
    assert_eq!(smaller.status.code(), Some(3), "{smaller:?}");
    assert!(words(&smaller).contains("when the plan was made it was"), "{smaller:?}");
    let kernels = check(&folder, "plan.json --gpu sim:b200");
    assert_eq!(
        kernels.status.code(),
        Some(0),
        "another kind of GPU is no other setup: {kernels:?}"
    );
    assert_eq!(check(&folder, "plan.json").status.code(), Some(4), "the machine has no GPU");
    let world = check(&folder, "plan.json --gpu sim:l4*2 --world-size 2");
    assert_eq!(world.status.code(), Some(6), "{world:?}");
    let lora = "plan llama-3.2-1b --lora r=8 --seq-len 256 --effective-batch 8 --gpu sim:l4 --json";
    planned(&folder, lora);
    assert_eq!(check(&folder, "plan.json --gpu sim:l4").status.code(), Some(0));
    for line in [
        "bert-base-uncased --task sequence-classification --seq-len 128",
        "vit-base-patch16-224 --image-size 384",
        "resnet-50",
        "whisper-small --label-len 64",
        "t5-small --seq-len 128 --label-len 32",
    ] {
        planned(&folder, &format!("plan {line} --effective-batch 8 --gpu sim:l4 --json"));
        let said = check(&folder, "plan.json --gpu sim:l4");
        assert_eq!(said.status.code(), Some(0), "{line}: {said:?}");
    }
    let written = std::fs::read_to_string(folder.path().join("plan.json")).unwrap();
    let other = written.replace("\"seq_len\": 128", "\"seq_len\": 256");
    std::fs::write(folder.path().join("plan.json"), other).unwrap();
    let other = check(&folder, "plan.json --gpu sim:l4");
    assert_eq!(other.status.code(), Some(2), "its estimate is of another setup: {other:?}");
}

#[test]
fn a_baseline_says_what_a_change_costs() {
    let folder = folder();
    let line = "gpt2 --precision bf16 --gpu sim:l4 --seq-len 256 --micro-batch";
    let base = check(&folder, &format!("{line} 4 --json"));
    std::fs::write(folder.path().join("base.json"), &base.stdout).unwrap();
    let more = words(&check(&folder, &format!("{line} 8 --baseline base.json")));
    assert!(more.contains("peak allocated") && more.contains("%) against"), "{more}");
    let same = words(&check(&folder, &format!("{line} 4 --baseline base.json")));
    assert!(same.contains("as before"), "{same}");
    let none = check(&folder, &format!("{line} 4 --baseline good.json"));
    assert_eq!(none.status.code(), Some(2), "{none:?}");
}

#[test]
fn github_gets_annotations_a_summary_and_outputs() {
    let folder = folder();
    let (summary, outputs) = (folder.path().join("summary.md"), folder.path().join("outputs"));
    let mut step = command(folder.path(), "broken.json --only batch --world-size 4");
    step.env("GITHUB_ACTIONS", "true");
    step.env("GITHUB_STEP_SUMMARY", &summary).env("GITHUB_OUTPUT", &outputs);
    let output = step.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let annotation = "::error file=broken.json,line=3,col=23,title=oomph%3A equation::";
    assert!(stderr.contains(annotation), "{stderr}");
    let summary = std::fs::read_to_string(summary).unwrap();
    assert!(summary.contains("| error | `broken.json:3:23` |"), "{summary}");
    let outputs = std::fs::read_to_string(outputs).unwrap();
    assert!(outputs.contains("exit_code=6\n") && outputs.contains("passes=false\n"), "{outputs}");
}

#[test]
fn the_log_of_a_step_is_folded_and_a_configuration_commands_nothing() {
    let folder = folder();
    let text = "{\"train_batch_size\": \"::stop-commands::x ##[error]\"}";
    std::fs::write(folder.path().join("evil.json"), text).unwrap();
    let line = "evil.json --only batch --world-size 4";
    let mut step = command(folder.path(), line);
    let in_a_step = stdout(&step.env("GITHUB_ACTIONS", "true").output().unwrap());
    let commands: Vec<&str> =
        in_a_step.lines().filter(|line| line.trim_start().starts_with("::")).collect();
    assert_eq!(commands, ["::group::oomph check in full", "::endgroup::"], "{in_a_step}");
    assert!(!in_a_step.contains("##["), "{in_a_step}");
    assert!(in_a_step.starts_with("evil.json (deepspeed) fails"), "{in_a_step}");
    let path = folder.path().join("answer.txt");
    let file = std::fs::File::create(&path).unwrap();
    command(folder.path(), line).env("GITHUB_ACTIONS", "true").stdout(file).status().unwrap();
    let in_a_file = std::fs::read_to_string(path).unwrap();
    assert!(in_a_file.starts_with("evil.json") && !in_a_file.contains("::group::"), "{in_a_file}");
    let chosen = format!("{line} --format text");
    let chosen =
        stdout(&command(folder.path(), &chosen).env("GITHUB_ACTIONS", "true").output().unwrap());
    assert!(!chosen.contains("::group::"), "{chosen}");
    let github = stdout(&check(&folder, &format!("{line} --format github")));
    assert!(github.contains("::error") && github.contains("::group::"), "{github}");
}

#[test]
fn annotations_stay_within_githubs_limit() {
    let folder = TempDir::new().unwrap();
    let keys: String = (0..40).map(|n| format!("\"key{n}\": 1, ")).collect();
    let text = format!("{{{keys}\"train_batch_size\": 4}}");
    std::fs::write(folder.path().join("many.json"), text).unwrap();
    let line = "many.json --only batch --world-size 4 --format github";
    let warnings = stdout(&check(&folder, line));
    assert_eq!(warnings.lines().filter(|line| line.starts_with("::warning")).count(), 10);
    assert!(warnings.contains("and 31 more"), "{warnings}");
}

#[test]
fn junit_and_dotenv_say_the_same() {
    let folder = folder();
    let line = "broken.json --only batch --world-size 4 --format";
    let junit = stdout(&check(&folder, &format!("{line} junit")));
    assert!(junit.contains("tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"1\""), "{junit}");
    assert!(junit.contains("repair: train_micro_batch_size_per_gpu = 4"), "{junit}");
    let warned = "typo.json --only batch --world-size 4 --fail-on warning --format junit";
    let warned = stdout(&check(&folder, warned));
    assert!(warned.contains("failures=\"1\" errors=\"0\""), "what fails the gate fails: {warned}");
    let job = "gpt2 --micro-batch 1 --seq-len 64 --gpu sim:t4 --format junit";
    let job = stdout(&check(&folder, job));
    assert!(job.contains("name=\"ok\">") && job.contains("name=\"ok 2\">"), "{job}");
    let good = "good.json --only batch --world-size 4 --format dotenv";
    let variables = stdout(&check(&folder, good));
    assert!(
        variables.contains("OOMPH_MICRO_BATCH=6\nOOMPH_ACCUMULATION_STEPS=11\n"),
        "{variables}"
    );
    check(&folder, &format!("{good} --out job.env"));
    assert_eq!(std::fs::read_to_string(folder.path().join("job.env")).unwrap(), variables);
}

/// What public configurations brought to light, in files of our own: keys, exit code, words.
#[test]
fn what_public_configurations_say_is_understood() {
    let folder = TempDir::new().unwrap();
    let batch = "--only batch --world-size 8";
    for (name, text, line, code, part) in [
        // torchtitan until 2025-03: degrees under [training] and [experimental].
        (
            "old.toml",
            "[training]\nbatch_size = 2\ntensor_parallel_degree = 4\n\n[experimental]\n\
             pipeline_parallel_degree = 2\n",
            batch,
            0,
            "micro-batch 2 x accumulation 1 x 1 device = 2",
        ),
        // LLaMA-Factory on Megatron divides the devices, and holds parts of the model.
        (
            "mca.yaml",
            "cutoff_len: 64\nper_device_train_batch_size: 1\ngradient_accumulation_steps: 8\n\
             pipeline_model_parallel_size: 4\n",
            batch,
            0,
            "micro-batch 1 x accumulation 8 x 2 devices = 16",
        ),
        // It steps as soon as a gradient is there: transformers refuses it, and LOMO would not sum.
        (
            "layerwise.yaml",
            "output_dir: x\nper_device_train_batch_size: 1\ngradient_accumulation_steps: 4\n\
             optim: galore_adamw_layerwise\n",
            batch,
            6,
            "cannot accumulate repair: optim = galore_adamw",
        ),
        (
            "lomo.yaml",
            "output_dir: x\nper_device_train_batch_size: 1\ngradient_accumulation_steps: 4\n\
             optim: lomo\n",
            batch,
            6,
            "lomo.yaml:4:8: error [equation] optim = lomo: it steps in the backward pass",
        ),
        (
            "one.yaml",
            "output_dir: x\nper_device_train_batch_size: 1\noptim: galore_adamw_layerwise\n",
            batch,
            0,
            "passes",
        ),
        ("comment.json", "{\"_comment\": \"x\", \"train_batch_size\": 8}", batch, 0, "passes"),
        (
            "removed.json",
            "{\"train_batch_size\": 8, \"compression_training\": {}}",
            batch,
            0,
            "DeepSpeed 0.19 removed it",
        ),
        (
            "auto.json",
            "{\"train_batch_size\": 8, \"tensor_parallel\": {\"autotp_size\": 2}}",
            batch,
            0,
            "2 devices share a replica",
        ),
        (
            "qlora.yaml",
            "base_model: gpt2\nmicro_batch_size: 1\ngradient_accumulation_steps: 1\nsequence_len: 64\n\
             adapter: lora\nlora_r: 8\nlora_target_linear: true\nlora_dropout: 0.05\nbf16: auto\n\
             optimizer: adamw_torch\nattn_implementation: eager\n",
            "--gpu sim:l4",
            0,
            "gpt2 fits",
        ),
        (
            "kernels.yaml",
            "base_model: gpt2\nmicro_batch_size: 1\ngradient_accumulation_steps: 1\n\
             attn_implementation: xformers\n",
            "--gpu sim:l4",
            2,
            "attention by xformers is not worked out",
        ),
        (
            "dpo.yaml",
            "model_name_or_path: gpt2\nstage: dpo\ncutoff_len: 64\nfinetuning_type: full\n",
            "--gpu sim:l4",
            2,
            "not yet: `stage` at dpo.yaml:2",
        ),
        (
            "peft.yaml",
            "model_name_or_path: gpt2\noutput_dir: x\nuse_peft: true\nlora_r: 8\nmax_length: 64\n\
             per_device_train_batch_size: 1\n",
            "--gpu sim:l4",
            0,
            "gpt2 fits",
        ),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
        let output = check(&folder, &format!("{name} {line}"));
        let said = words(&output);
        assert_eq!(output.status.code(), Some(code), "{name}: {said}");
        assert!(said.contains(part), "{name}: {part}: {said}");
    }
    assert!(!words(&check(&folder, &format!("comment.json {batch}"))).contains("warning"));
}

#[test]
fn a_launcher_among_the_arguments_says_how_many_devices_there_are() {
    let folder = TempDir::new().unwrap();
    for (line, part) in [
        ("torchrun --nproc_per_node 8 --nnodes 2 run.py", "x 16 devices = 64"),
        ("torchrun --nproc-per-node=8 run.py", "x 8 devices = 32"),
        ("accelerate launch --num_processes 4 run.py", "x 4 devices = 16"),
    ] {
        let line = format!("--only batch -- {line} --per_device_train_batch_size 4");
        let said = words(&check(&folder, &line));
        assert!(said.contains(part), "{line}: {said}");
    }
    // As many as there are GPUs, or an elastic number, is no number.
    for line in
        ["torchrun --nproc_per_node gpu x.py", "torchrun --nproc_per_node 8 --nnodes 1:4 x.py"]
    {
        let line = format!("--only batch -- {line} --per_device_train_batch_size 4");
        assert_eq!(check(&folder, &line).status.code(), Some(4), "{line}");
    }
}

#[test]
fn ci_is_told_in_its_own_way_of_what_could_not_be_read() {
    let folder = folder();
    let line = "missing.json --only batch --world-size 4";
    for (format, part) in [
        ("github", "::error title=oomph::cannot read `missing.json`"),
        ("junit", "<error message=\"cannot read `missing.json`\">"),
        ("dotenv", "OOMPH_EXIT_CODE=2\n"),
        ("markdown", "**Not answered:** cannot read"),
        ("json", "\"answered\": false"),
    ] {
        for exit_zero in ["", "--exit-zero"] {
            let output = check(&folder, &format!("{line} --format {format} {exit_zero}"));
            assert_eq!(output.status.code(), Some(2), "{format}: {output:?}");
            assert!(stdout(&output).contains(part), "{format}: {output:?}");
        }
    }
    check(&folder, &format!("{line} --format junit --out it.xml"));
    assert!(
        std::fs::read_to_string(folder.path().join("it.xml")).unwrap().contains("errors=\"1\"")
    );
    let outputs = folder.path().join("outputs");
    let mut step = command(folder.path(), "twice.json --only batch --world-size 4");
    step.env("GITHUB_ACTIONS", "true").env("GITHUB_OUTPUT", &outputs);
    assert_eq!(step.output().unwrap().status.code(), Some(2));
    let outputs = std::fs::read_to_string(outputs).unwrap();
    assert!(outputs.contains("passes=false\nexit_code=2\n"), "{outputs}");
}

#[test]
fn annotations_name_the_file_from_the_repositorys_root() {
    let folder = TempDir::new().unwrap();
    let inner = folder.path().join("jobs");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("broken.json"), BROKEN).unwrap();
    let annotated = |line: &str| {
        let mut step = command(&inner, &format!("{line} --format github"));
        step.env("GITHUB_ACTIONS", "true").env("GITHUB_WORKSPACE", folder.path());
        stdout(&step.output().unwrap())
    };
    let line = "broken.json --only batch --world-size 4";
    assert!(annotated(line).starts_with("::error file=jobs/broken.json,line=3,col=23,"), "{line}");
    let words = "--only batch --world-size 4 --effective-batch 9 --framework hf --format github -- \
                 --per_device_train_batch_size 2";
    let said = stdout(&command(&inner, words).output().unwrap());
    assert!(said.starts_with("::error title=oomph%3A equation::"), "arguments are no file: {said}");
}
