//! How long the advisor takes: `cargo bench --bench advise`.
//!
//! One row a question: the setups of its lattice, how they fared, and the time until all are decided
//! (by the clock, and of both cores together, which others on the machine do not change); behind it
//! the time of the whole command as a user waits for it.

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

const QUESTIONS: [&str; 7] = [
    "llama-3.1-8b --gpu sim:rtx-4090",
    "llama-3.1-8b --gpu sim:24GiB --precision bf16",
    "llama-3.1-8b --gpu sim:h100-80gb --micro-batch 8",
    "llama-3.1-8b --gpu sim:8GiB --micro-batch 8",
    "llama-3.2-1b --gpu sim:rtx-3060-12gb --micro-batch 8 --accumulation 8",
    "gpt2 --gpu sim:l4 --micro-batch 64",
    "gpt2 --gpu sim:2GiB --micro-batch 64",
];

fn main() {
    println!(
        "{:<66} {:>6} {:>6} {:>6} {:>7} {:>9} {:>9} {:>9}",
        "oomph advise", "setups", "fit", "looked", "refused", "search", "of cores", "command"
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
    let whole = median(|| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oomph"));
        command.arg("advise").args(question.split(' '));
        let ran = command.stdout(Stdio::null()).status();
        assert!(ran.is_ok_and(|status| matches!(status.code(), Some(0 | 3))), "{question}");
    });
    let tally = found.tally;
    let looked = tally.fit + tally.too_much + tally.refused;
    println!(
        "{question:<66} {:>6} {:>6} {looked:>6} {:>7} {:>6.0} ms {:>6.0} ms {:>6.0} ms",
        tally.setups,
        tally.fit,
        tally.refused,
        searched * 1e3,
        cores * 1e3,
        whole * 1e3,
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
