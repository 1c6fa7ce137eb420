//! How long the advisor takes: `cargo bench --bench advise`.
//!
//! One row a question: the setups of its lattice, how they fared, and the time until all are decided
//! (by the clock, and of all cores together, which others on the machine do not change); behind it the
//! time of the whole command as a user waits for it, and how many times that of `oomph estimate` it is.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Parser;
use oomph::cli::advising::Bench;
use oomph::cli::args::{Cli, Command as Asked};
use oomph::cli::error::CliError;
use oomph::cli::fits::OnDevice;
use oomph::cli::job::{Job, WithoutGpu};
use oomph::plan::advise::search::{Found, search};
use oomph::units::{AccumulationSteps, MicroBatch};

const ROUNDS: usize = 3;

const QUESTIONS: [&str; 12] = [
    "llama-3.1-8b --gpu sim:24GiB",
    "llama-3.1-8b --gpu sim:24GiB --precision bf16",
    "llama-3.1-8b --gpu sim:t4",
    "llama-3.1-8b --gpu sim:a100-80gb --precision bf16 --micro-batch 4",
    "llama-3.1-8b --gpu sim:h100-80gb --micro-batch 8",
    "llama-3.1-8b --gpu sim:h100-80gb*8 --micro-batch 4",
    "llama-3.1-70b --gpu sim:h100-80gb",
    "llama-3.2-1b --gpu sim:rtx-3060-12gb --micro-batch 8 --accumulation 8",
    "mixtral-8x7b-v0.1 --gpu sim:h200",
    "vit-base-patch16-224 --gpu sim:t4 --micro-batch 256",
    "gpt2 --gpu sim:l4 --micro-batch 64",
    "llama-3.1-8b --gpu sim:24GiB --all-gpus",
];

fn main() {
    println!(
        "{:<70} {:>6} {:>4} {:>6} {:>7} {:>8} {:>8} {:>8} {:>9}",
        "oomph advise",
        "setups",
        "fit",
        "looked",
        "refused",
        "search",
        "cores",
        "command",
        "estimates"
    );
    for question in QUESTIONS {
        if let Err(error) = row(question) {
            println!("{question}: {}", error.fact);
        }
    }
}

fn row(question: &str) -> Result<(), CliError> {
    let arguments = ["oomph", "advise"].into_iter().chain(question.split(' '));
    let Asked::Advise(args) = Cli::parse_from(arguments.map(OsString::from)).command else {
        return Ok(());
    };
    let job = Job::prepare(&args.model, WithoutGpu::AskDriver)?;
    let device = OnDevice::new(&job, job.gpus.first())?;
    let micro_batch = job.settings.micro_batch.unwrap_or(MicroBatch::ONE);
    let steps = job.settings.accumulation.unwrap_or(AccumulationSteps::ONE);
    let bench = Bench::new(&device, (micro_batch, steps));
    let lattice = bench.lattice();
    let mut found = Found::default();
    let before = cpu_seconds();
    let searched = median(|| {
        found = search(&lattice, |way| Ok::<_, CliError>(bench.look(way))).unwrap_or_default();
    });
    let cores = (cpu_seconds() - before) / ROUNDS as f64;
    let command = |name: &str, words: &[&str]| {
        median(|| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_oomph"));
            let ran = command.arg(name).args(words).stdout(Stdio::null()).status();
            assert!(ran.is_ok_and(|status| matches!(status.code(), Some(0 | 3))), "{question}");
        })
    };
    let words: Vec<&str> = question.split(' ').collect();
    let whole = command("advise", &words);
    let of_one: Vec<&str> = words.into_iter().filter(|word| *word != "--all-gpus").collect();
    let estimate = command("estimate", &of_one);
    let tally = found.tally;
    let looked = tally.fit + tally.too_much + tally.refused;
    println!(
        "{question:<70} {:>6} {:>4} {looked:>6} {:>7} {:>5.0} ms {:>5.0} ms {:>5.0} ms {:>9.1}",
        tally.setups,
        tally.fit,
        tally.refused,
        searched * 1e3,
        cores * 1e3,
        whole * 1e3,
        whole / estimate,
    );
    Ok(())
}

/// Returns the median time in seconds.
fn median(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

/// Returns what this process has computed so far, in hundredths of a second (`proc(5)`, `stat`).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}
