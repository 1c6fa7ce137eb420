//! The command line: every command and the flags that all of them share.

use clap::{ColorChoice, CommandFactory, Parser, Subcommand};

use crate::cli::{
    advise, check, estimate, exit, gpus, later, plan, probe, profiles, run, shell, trial, wait,
};

/// Plan GPU memory before a training job starts
///
/// Works out what one training step allocates, finds the largest micro-batch that fits, and solves
/// for the gradient accumulation that reaches the effective batch.
#[derive(Debug, Parser)]
#[command(name = "oomph", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    /// Print JSON on stdout
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
    /// Colour the output (NO_COLOR is obeyed)
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Output"
    )]
    pub color: ColorChoice,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Returns the command line as it is parsed: each command's `--help` says its exit codes too.
pub fn command_line() -> clap::Command {
    Cli::command().mut_subcommands(|command| {
        let codes = exit::help(command.get_name());
        let examples = command.get_after_help().map(|examples| format!("\n{examples}"));
        command.after_long_help(codes + &examples.unwrap_or_default())
    })
}

const EXAMPLES: &str = "Examples:
  oomph plan llama-3.2-1b --seq-len 2048 --precision bf16 --effective-batch 256 --gpu sim:h100-80gb
  oomph estimate gpt2 --precision fp32 --seq-len 1024 --micro-batch 4
  oomph profiles list";

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what each GPU has free, and who holds the rest
    Gpus(gpus::Args),
    /// Estimate the memory of one training step
    Estimate(estimate::Args),
    /// Find the largest micro-batch that fits, by allocations on the device
    Probe(probe::Args),
    /// Plan micro-batch and accumulation for an effective batch
    Plan(plan::Args),
    /// Advise what to change when it does not fit, or could fit better
    Advise(Box<advise::Args>),
    /// Gate a job: does it fit, and is its batch what it says? Reads frameworks' configurations
    Check(Box<check::Args>),
    /// Plan with the training command itself as the judge, on real or simulated GPUs
    Trial(trial::Args),
    /// Run any command once on simulated GPUs: its peak, and whether it runs out of memory
    Run(run::Args),
    /// List or show what is built in: models and GPUs
    Profiles(profiles::Args),
    /// Wait until GPU memory is free; when time is up, name who holds it
    Wait(wait::Args),
    /// Print the completion script of a shell
    Completions(shell::CompletionsArgs),
    /// Print the manual page of oomph, or of one of its commands
    Man(shell::ManArgs),
    /// (not yet) Capture the trace of a PyTorch model
    #[command(hide = true, disable_help_flag = true)]
    Capture(later::Args),
    /// (not yet) Print the JSON Schema of an output
    #[command(hide = true, disable_help_flag = true)]
    Schema(later::Args),
}
