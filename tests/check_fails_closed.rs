//! `oomph check` fails closed: what could not be answered is never exit code 0, and nothing that a
//! file may hold makes it panic.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod random;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use oomph::ingest::framework::judge::{Given, judge};
use oomph::ingest::framework::{read, read_words};
use random::Random;
use tempfile::TempDir;

fn check(folder: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oomph"));
    command.arg("check").args(line.split_whitespace()).current_dir(folder);
    command.stdin(Stdio::null()).env_clear().output().unwrap()
}

/// Asserts that a question was not answered, with one of the documented codes and a word about it.
fn refused(folder: &Path, line: &str) -> Option<i32> {
    let output = check(folder, line);
    let said = String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat())
        .into_owned();
    let code = output.status.code();
    assert!(matches!(code, Some(2..=6)), "{line}: {code:?} {said}");
    assert!(!said.contains("panicked"), "{line}: {said}");
    assert!(!said.trim().is_empty(), "{line}: not a word");
    code
}

const GOOD: &str = "{\"train_batch_size\": 264, \"train_micro_batch_size_per_gpu\": 6}";

#[test]
fn a_file_that_cannot_be_read_is_never_a_pass() {
    let folder = TempDir::new().unwrap();
    let bytes: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("blank", b" \n\t\n".to_vec()),
        ("nul", vec![0; 64]),
        ("binary", (0..=255).cycle().take(5000).collect()),
        ("utf16", GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("half", GOOD.as_bytes()[..40].to_vec()),
        ("list", b"[1, 2]".to_vec()),
        ("number", b"7".to_vec()),
        ("text", b"\"train_batch_size\"".to_vec()),
        ("nothing", b"null".to_vec()),
        ("foreign", b"{\"name\": \"left-pad\", \"version\": \"1.0.0\"}".to_vec()),
        ("deep", [b"{\"a\": ".repeat(5000), b"1".to_vec(), b"}".repeat(5000)].concat()),
        ("lists", b"[".repeat(100_000)),
        ("huge", [GOOD.as_bytes(), &b" ".repeat(17 << 20)].concat()),
    ];
    for (name, bytes) in bytes {
        for extension in ["json", "yaml", "toml", "hjson"] {
            let file = format!("{name}.{extension}");
            std::fs::write(folder.path().join(&file), &bytes).unwrap();
            refused(folder.path(), &format!("{file} --only batch --world-size 4"));
            refused(folder.path(), &format!("{file} gpt2 --gpu sim:t4*4"));
            for framework in ["deepspeed", "hf", "accelerate", "axolotl", "torchtitan@0.3"] {
                // An empty map says nothing, and is no batch that could be checked.
                let line = format!("{file} --framework {framework} --only batch --world-size 4");
                if name == "foreign" && ["hf", "torchtitan@0.3"].contains(&framework) {
                    // Keys that no list knows, and the framework's own defaults: an answer.
                    continue;
                }
                refused(folder.path(), &line);
            }
        }
    }
    std::fs::create_dir(folder.path().join("folder.json")).unwrap();
    for file in ["folder.json", "missing.json", "missing/too.yaml", "/dev/null", "."] {
        refused(folder.path(), &format!("{file} --only batch --world-size 4"));
    }
}

#[test]
fn a_model_or_an_estimate_that_is_not_there_is_never_a_pass() {
    let folder = TempDir::new().unwrap();
    for (name, text) in [
        ("good.json", GOOD),
        ("strange.json", "{\"model_type\": \"strange\"}"),
        ("bare.json", "{\"model_type\": \"llama\"}"),
        (
            "zero.json",
            "{\"model_type\": \"llama\", \"hidden_size\": 0, \"num_attention_heads\": 0}",
        ),
        ("stage.json", "{\"train_batch_size\": 8, \"zero_optimization\": {\"stage\": 3}}"),
        ("half.json", "{\"train_batch_size\": 8, \"fp16\": {\"enabled\": true}}"),
        ("galore.yaml", "cutoff_len: 64\nstage: sft\nuse_galore: true\n"),
        (
            "dpo.yaml",
            "base_model: gpt2\nmicro_batch_size: 1\ngradient_accumulation_steps: 1\nrl: dpo\n",
        ),
        (
            "split.yaml",
            "base_model: gpt2\nmicro_batch_size: 1\ngradient_accumulation_steps: 1\n\
                        tensor_parallel_size: 2\n",
        ),
        (
            "layers.yaml",
            "base_model: gpt2\nmicro_batch_size: 1\ngradient_accumulation_steps: 1\n\
                         adapter: lora\nlora_target_modules: c_.*\n",
        ),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let sized = "--micro-batch 1 --gpu sim:t4";
    for line in [
        "no-such-model --micro-batch 1 --gpu sim:t4",
        "org/name --micro-batch 1 --gpu sim:t4",
        &format!("strange.json {sized}"),
        &format!("bare.json {sized}"),
        &format!("zero.json {sized}"),
        &format!("good.json no-such-model {sized}"),
        &format!("stage.json gpt2 {sized}"),
        &format!("half.json gpt2 {sized}"),
        "galore.yaml gpt2 --gpu sim:t4",
        "dpo.yaml --gpu sim:t4",
        "split.yaml --gpu sim:t4*2",
        "layers.yaml --gpu sim:t4",
        "good.json gpt2 --gpu sim:t4*4 --parallel fsdp",
        "good.json gpt2 --gpu sim:t4*4 --tensor-parallel 2",
        "gpt2 --micro-batch 1 --gpu sim:t4 --seq-len 999999999",
        "gpt2 --micro-batch 999999999 --gpu sim:t4",
        "gpt2 --micro-batch 1 --gpu sim:v100-16gb",
        "gpt2 --gpu sim:t4",
        "",
    ] {
        refused(folder.path(), line);
    }
}

#[test]
fn a_gpu_that_cannot_be_asked_is_never_a_pass() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("good.json"), GOOD).unwrap();
    for (line, code) in [
        ("gpt2 --micro-batch 1", 4),
        ("gpt2 --micro-batch 1 --gpu all", 4),
        ("gpt2 --micro-batch 1 --gpu 0,7", 4),
        ("gpt2 --micro-batch 1 --gpu GPU-00000000-0000-0000-0000-000000000000", 4),
        ("good.json gpt2", 4),
        ("good.json gpt2 --world-size 4", 4),
        ("good.json --only batch", 4),
        ("gpt2 --micro-batch 1 --gpu sim:no-such-card", 2),
        ("gpt2 --micro-batch 1 --gpu sim:t4*0", 2),
        ("gpt2 --micro-batch 1 --gpu sim:0GiB", 2),
        ("gpt2 --micro-batch 1 --capacity 0B", 3),
    ] {
        assert_eq!(refused(folder.path(), line), Some(code), "{line}");
    }
    // Only where it is asked for is a missing GPU let pass, and then it says so.
    let skipped = check(folder.path(), "gpt2 --micro-batch 1 --no-gpu skip");
    assert_eq!(skipped.status.code(), Some(0), "{skipped:?}");
    assert!(String::from_utf8_lossy(&skipped.stdout).contains("skipped"), "{skipped:?}");
}

#[test]
fn an_earlier_answer_that_is_damaged_is_never_a_pass() {
    let folder = TempDir::new().unwrap();
    let mut plan = Command::new(env!("CARGO_BIN_EXE_oomph"));
    let line = "plan gpt2 --precision bf16 --seq-len 64 --effective-batch 8 --gpu sim:t4 --json";
    plan.args(line.split_whitespace()).current_dir(folder.path()).env_clear();
    let whole = String::from_utf8(plan.output().unwrap().stdout).unwrap();
    let path = folder.path().join("plan.json");
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(check(folder.path(), "plan.json --gpu sim:t4").status.code(), Some(0));
    let keys = [
        "micro_batch",
        "accumulation_steps",
        "data_parallel_size",
        "effective_batch",
        "model",
        "estimate",
        "schema",
    ];
    let value: serde_json::Value = serde_json::from_str(&whole).unwrap();
    for key in keys {
        for broken in [
            serde_json::Value::Null,
            serde_json::json!("four"),
            serde_json::json!(-4),
            serde_json::json!(0),
            serde_json::json!(1.5),
            serde_json::json!(u64::MAX),
            serde_json::json!([]),
        ] {
            let mut plan = value.clone();
            plan[key] = broken;
            std::fs::write(&path, plan.to_string()).unwrap();
            refused(folder.path(), "plan.json --gpu sim:t4");
        }
        let mut plan = value.clone();
        plan.as_object_mut().unwrap().remove(key);
        std::fs::write(&path, plan.to_string()).unwrap();
        refused(folder.path(), "plan.json --gpu sim:t4");
    }
    let mut unfit = value;
    unfit["fits"] = serde_json::json!(false);
    std::fs::write(&path, unfit.to_string()).unwrap();
    assert_eq!(refused(folder.path(), "plan.json --gpu sim:t4"), Some(3));
    for baseline in ["missing.json", "oomph.toml", "."] {
        std::fs::write(folder.path().join("oomph.toml"), "").unwrap();
        let line = format!("gpt2 --micro-batch 1 --gpu sim:t4 --baseline {baseline}");
        assert_eq!(refused(folder.path(), &line), Some(2), "{line}");
    }
    std::fs::write(folder.path().join("oomph.toml"), "seq-len = [").unwrap();
    refused(folder.path(), "gpt2 --micro-batch 1 --gpu sim:t4");
}

#[test]
fn no_mutation_of_a_configuration_makes_a_reader_panic() {
    let texts = [
        (
            "a.json",
            "{\n  // hjson\n  \"train_batch_size\": 256,\n  \"bf16\": {\"enabled\": true},\n}\n",
        ),
        (
            "a.yaml",
            "base_model: &b x\nmicro_batch_size: 2\nlist:\n  - {a: *b}\nadapter: lora # é\n",
        ),
        ("a.yaml", "per_device_train_batch_size: 1_0\noptim: adamw_torch\nfsdp: \"full_shard\"\n"),
        ("a.toml", "[training]\nbatch_size = 8\nseq_len = 2048\n[experimental]\nx = [1, 2]\n"),
        (
            "words",
            "torchrun --nproc_per_node 8 x.py --micro-batch-size 4 --rampup-batch-size 16 8 99",
        ),
        ("words", "--micro-batch-size 4 --step-batch-size-schedule 0:16,2.4B:320 --bf16"),
    ];
    let mut random = Random(3);
    let mut below = |end: usize| random.below(end as u64) as usize;
    let pieces = [
        "{",
        "}",
        "[",
        ":",
        "\"",
        "'",
        "\n",
        "\t",
        "-",
        "0",
        "99999999999999999999",
        "é",
        "#",
        "-1",
        "auto",
        "${x}",
        "&a",
        "*a",
        "<<",
        "null",
        "1e400",
        "\u{0}",
        "=",
    ];
    let mut answered = 0;
    for _ in 0..20_000 {
        let (name, text) = texts[below(texts.len())];
        let mut letters: Vec<char> = text.chars().collect();
        for _ in 0..1 + below(4) {
            let at = below(letters.len().max(1));
            match below(3) {
                0 if letters.len() > 1 => drop(letters.remove(at)),
                1 => drop(letters.splice(at..at, pieces[below(pieces.len())].chars())),
                _ => letters.truncate(at + 1),
            }
        }
        let text: String = letters.into_iter().collect();
        let configuration = match name {
            "words" => {
                let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
                read_words(&words, None)
            }
            name => read(name, &text, None),
        };
        let Ok(configuration) = configuration else { continue };
        let judged = judge(&configuration, 1 + below(8) as u64, &Given::default());
        answered += u64::from(judged.batch.is_some());
    }
    assert!(answered > 1000, "{answered} mutations still have a batch");
}
