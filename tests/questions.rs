//! docs/questions.md: questions that people asked, each with the command that answers it and what that
//! prints. `UPDATE=1 cargo test --test questions` writes the page anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A question, where it was asked, and what answers it.
struct Question {
    asked: &'static str,
    thread: &'static str,
    /// Files that lie in the working folder: name, text.
    files: &'static [(&'static str, &'static str)],
    /// Variables of the environment: name, value.
    environment: &'static [(&'static str, &'static str)],
    /// Commands of which the first line is shown before.
    before: &'static [&'static str],
    command: &'static str,
    /// What to see in it.
    answer: &'static str,
    /// A part of the output that is the answer.
    shows: &'static str,
    code: i32,
}

const DEEPSPEED_8: (&str, &str) = (
    "ds_config.json",
    "{\"train_batch_size\": 8, \"train_micro_batch_size_per_gpu\": 2,\n \
     \"gradient_accumulation_steps\": 1}\n",
);
const DEEPSPEED_256: (&str, &str) = (
    "ds_config.json",
    "{\"train_batch_size\": 256, \"train_micro_batch_size_per_gpu\": 2,\n \
     \"gradient_accumulation_steps\": 18}\n",
);
const DEEPSPEED_16: (&str, &str) = (
    "ds_config.json",
    "{\"train_batch_size\": 16, \"train_micro_batch_size_per_gpu\": 1,\n \
     \"gradient_accumulation_steps\": 1}\n",
);

const QUESTIONS: &[Question] = &[
    Question {
        asked: "How much GPU memory do I need before I launch?",
        thread: "activetigger#166",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph estimate bert-base-uncased --task sequence-classification --seq-len 512 \
                  --micro-batch 16",
        answer: "The peak, by category, without a GPU.",
        shows: "peak reserved",
        code: 0,
    },
    Question {
        asked: "Will this fit on that device, and what takes the memory?",
        thread: "pytorch/rfcs#108",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph estimate llama-3.2-1b --precision bf16 --seq-len 2048 --micro-batch 4 \
                  --gpu sim:l4",
        answer: "A verdict (exit code 3 where it does not), the bar, and what to try.",
        shows: "does not fit",
        code: 3,
    },
    Question {
        asked: "What does each optimizer take?",
        thread: "pytorch#114934",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph advise gpt2 --precision fp32 --seq-len 512 --gpu sim:l4",
        answer: "\"One change at a time\" has the optimizers among the changes.",
        shows: "--optimizer adafactor",
        code: 0,
    },
    Question {
        asked: "Which hardware do I need to fine-tune it?",
        thread: "bigcode/starcoder#77",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph advise starcoder2-3b --seq-len 2048 --gpu sim:rtx-4090",
        answer: "The smallest card for the setup as it is, what fits on this one, and the smallest \
                 card for that.",
        shows: "is the smallest of",
        code: 3,
    },
    Question {
        asked: "What is the largest batch, other than by running until it runs out?",
        thread: "fairseq#76",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph estimate gpt2 --precision fp32 --micro-batch auto --gpu sim:rtx-3060-12gb",
        answer: "The largest micro-batch that fits, it and all smaller ones.",
        shows: "largest",
        code: 0,
    },
    Question {
        asked: "Can the batch size be found on one GPU before DDP runs on several?",
        thread: "Lightning#20994",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph plan gpt2 --seq-len 1024 --gpu sim:l4*4",
        answer: "Without an effective batch, the plan is the largest micro-batch that fits each GPU, \
                 with NCCL and DDP's buckets taken off.",
        shows: "x 4 GPUs",
        code: 0,
    },
    Question {
        asked: "Batch 8 was tuned for a 4090; how much of the A100 does it leave idle?",
        thread: "a portfolio page",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph advise llama-3.2-1b --precision bf16 --checkpointing full --micro-batch 8 \
                  --accumulation 8 --gpu sim:a100-80gb",
        answer: "What is left, and what it would do for: larger micro-batches, nothing recomputed.",
        shows: "The room that is left would do for",
        code: 0,
    },
    Question {
        asked: "I need a lot of quick math to get an effective batch",
        thread: "ludwig#3533",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph plan gpt2 --seq-len 1024 --effective-batch 480 --gpu sim:l4",
        answer: "Micro-batch and accumulation, exactly, and the other ways.",
        shows: "= effective batch 480, exactly",
        code: 0,
    },
    Question {
        asked: "Can the effective batch be kept when the micro-batch shrinks?",
        thread: "transformers#33281",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph plan gpt2 --seq-len 1024 --micro-batch 2 --effective-batch 64 --gpu sim:t4 \
                  --emit hf-args",
        answer: "The accumulation follows, as arguments of the Trainer.",
        shows: "--gradient_accumulation_steps 32",
        code: 0,
    },
    Question {
        asked: "What is the global batch size on two 3090s?",
        thread: "alignment-handbook#50",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph plan gpt2 --micro-batch 4 --accumulation 8 --gpu sim:rtx-3090*2",
        answer: "Micro-batch x accumulation x devices.",
        shows: "= effective batch 64",
        code: 0,
    },
    Question {
        asked: "Three GPUs, and the accumulation comes to 42.67",
        thread: "InternVL#532",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph plan vit-base-patch16-224 --effective-batch 128 --micro-batch 1 \
                  --gpu sim:a100-40gb*3",
        answer: "The nearest effective batches, and numbers of devices that would do.",
        shows: "128 is no multiple of 3 devices",
        code: 0,
    },
    Question {
        asked: "Is the batch per device, per machine or global?",
        thread: "litgpt#496, #1474",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph plan gpt2 --seq-len 1024 --effective-batch 512 --gpu sim:a10*4 --emit litgpt",
        answer: "litgpt's micro-batch is a device's, its global batch that of all.",
        shows: "--train.global_batch_size 512",
        code: 0,
    },
    Question {
        asked: "16 // 32 = 0: ZeroDivisionError",
        thread: "inductive-bias-probes#12",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph plan gpt2 --micro-batch 32 --effective-batch 16 --gpu sim:a100-80gb",
        answer: "No plan is rounded to nothing: the nearest one is named, with its distance, and the \
                 micro-batch that would do.",
        shows: "micro-batch 16 x accumulation 1 would be 16, exactly",
        code: 0,
    },
    Question {
        asked: "Half the memory: half the micro-batch and double the accumulation?",
        thread: "F5-TTS#632, OLMo#672",
        files: &[],
        environment: &[],
        before: &[
            "oomph plan llama-3.2-1b --precision bf16 --effective-batch 72 --gpu sim:a100-80gb",
        ],
        command: "oomph plan llama-3.2-1b --precision bf16 --effective-batch 72 --gpu sim:a100-40gb",
        answer: "What fits decides: weights, gradients and optimizer state do not halve with the \
                 memory.",
        shows: "micro-batch 4 x accumulation 18",
        code: 0,
    },
    Question {
        asked: "DeepSpeed says 8 != 2 * 1 * 1",
        thread: "DeepSpeed#6914",
        files: &[DEEPSPEED_8],
        environment: &[],
        before: &[],
        command: "oomph check ds_config.json --only batch --world-size 1",
        answer: "The broken equation, with the value that repairs it. Exit code 6.",
        shows: "train_batch_size",
        code: 6,
    },
    Question {
        asked: "256 != 2 * 18 * 7, on seven GPUs",
        thread: "OpenRLHF#346",
        files: &[DEEPSPEED_256],
        environment: &[],
        before: &[],
        command: "oomph check ds_config.json --only batch --world-size 7",
        answer: "The same, for seven devices.",
        shows: "252",
        code: 6,
    },
    Question {
        asked: "16 != 1 * 1 * 1 under mpirun",
        thread: "LLaMA-Factory#2574",
        files: &[DEEPSPEED_16],
        environment: &[
            ("WORLD_SIZE", "1"),
            ("RANK", "0"),
            ("OMPI_COMM_WORLD_SIZE", "16"),
            ("OMPI_COMM_WORLD_RANK", "0"),
        ],
        before: &["oomph check ds_config.json --only batch --world-size 16"],
        command: "oomph check ds_config.json --only batch",
        answer: "With the 16 devices that were meant the equation holds. Run by mpirun beside a world of \
                 one, as DeepSpeed saw it, the answer names both.",
        shows: "OMPI_COMM_WORLD_SIZE of Open MPI says 16 devices",
        code: 6,
    },
    Question {
        asked: "Memory is constant, then it runs out at the sample of 1,079 tokens",
        thread: "litgpt#159",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph estimate pythia-160m --seq-len 1079 --micro-batch 8 --gpu sim:rtx-3060-12gb",
        answer: "The longest sample decides, so its length is the one to ask for.",
        shows: "sequence length 1,079",
        code: 3,
    },
    Question {
        asked: "Batch 8 fits on one GPU and runs out of memory on several",
        thread: "determined#5418",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph estimate gpt2 --seq-len 1024 --micro-batch 8 --gpu sim:l4*2",
        answer: "Several devices need NCCL's buffers and DDP's buckets beside the step.",
        shows: "ddp buckets",
        code: 0,
    },
    Question {
        asked: "Is accumulation the same as a large batch?",
        thread: "trl#2175, transformers#34191, torchtune#1875, nanochat#59",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph plan gpt2 --precision amp-fp16 --seq-len 1024 --effective-batch 128 \
                  --gpu sim:t4",
        answer: "The notes say where not, with the reason; see also accumulation.md.",
        shows: "only if the loss is",
        code: 0,
    },
    Question {
        asked: "Two different GPUs: what is the batch?",
        thread: "kohya#1208, pytorch#35118",
        files: &[],
        environment: &[],
        before: &[],
        command: "oomph plan gpt2 --seq-len 1024 --effective-batch 96 \
                  --gpu sim:rtx-3060-12gb,sim:rtx-3090",
        answer: "The weaker one rules; what that costs is said.",
        shows: "unequal",
        code: 0,
    },
];

/// Sections that are the same everywhere, and long.
const LEFT_OUT: [&str; 3] = ["Assumptions", "What they mean", "Not covered"];

/// Runs a question's command, or one before it.
fn run(question: &Question, command: &str) -> (String, i32) {
    let folder = TempDir::new().unwrap();
    for (name, text) in question.files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let mut oomph = Command::new(env!("CARGO_BIN_EXE_oomph"));
    oomph.args(command.split_whitespace().skip(1)).current_dir(folder.path()).env_clear();
    if command == question.command {
        oomph.envs(question.environment.iter().copied());
    }
    let output = oomph.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    (text + &errors, output.status.code().unwrap())
}

fn without_closing(text: &str) -> String {
    let mut kept = true;
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        if !line.is_empty() && !line.starts_with(' ') {
            kept = !LEFT_OUT.contains(&line);
        }
        if kept {
            lines.push(line.trim_end());
        }
    }
    lines.join("\n").trim_end().to_owned()
}

fn page() -> String {
    let mut page = String::from(
        "# Questions that people asked\n\n\
         Each with the command that answers it and what it prints, on simulated GPUs: all of it is \
         estimated, and nothing ran\non a card. The sections on assumptions, on what is not covered and \
         on what changes mean are left out here.\nWritten by `UPDATE=1 cargo test --test questions`.\n",
    );
    for (number, question) in (1..).zip(QUESTIONS) {
        let (text, code) = run(question, question.command);
        assert_eq!(code, question.code, "{}: {text}", question.command);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(question.shows), "{}: {text}", question.command);
        page.push_str(&format!("\n## {number}. {}\n\n", question.asked));
        page.push_str(&format!("{} ({})\n\n", question.answer, question.thread));
        page.push_str("```console\n");
        for (name, text) in question.files {
            page.push_str(&format!("$ cat {name}\n{text}"));
        }
        for before in question.before {
            let (text, _) = run(question, before);
            let first = text.lines().next().unwrap_or_default();
            page.push_str(&format!("$ {} | head -1\n{first}\n", quoted(before)));
        }
        if !question.environment.is_empty() {
            let pairs: Vec<String> = question
                .environment
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            page.push_str(&format!("$ export {}\n", pairs.join(" ")));
        }
        let command = question.command.split_whitespace().collect::<Vec<_>>().join(" ");
        page.push_str(&format!("$ {}\n", quoted(&command)));
        page.push_str(&without_closing(&text));
        page.push_str(&format!("\n$ echo $?\n{code}\n```\n"));
    }
    page
}

/// Quotes what a shell would take for a pattern.
fn quoted(command: &str) -> String {
    let words = command.split(' ').map(|word| match word.contains('*') {
        true => format!("'{word}'"),
        false => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_page_is_what_the_commands_print() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/questions.md");
    let page = page();
    assert!(QUESTIONS.len() >= 20);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    for (ours, theirs) in page.lines().zip(written.lines()) {
        assert_eq!(ours, theirs, "UPDATE=1 cargo test --test questions writes it anew");
    }
    assert_eq!(page, written);
}
