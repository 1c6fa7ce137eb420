//! Arguments, exit codes, and the only place that prints.
//!
//! Each command is a file with `Args` and `run(&Args, Style) -> Result<Answer, CliError>`.

pub mod advise;
pub mod advise_cards;
pub mod advising;
pub mod allocator;
pub mod args;
pub mod check;
pub mod check_framework;
pub mod check_memory;
pub mod check_output;
pub mod check_plan;
pub mod check_subject;
pub mod composing;
pub mod config_file;
pub mod error;
pub mod estimate;
pub mod exit;
pub mod fits;
pub mod gpu_select;
pub mod gpus;
pub mod gpus_pick;
pub mod gpus_watch;
pub mod hints;
pub mod job;
pub mod later;
#[cfg_attr(not(unix), path = "not_here.rs")]
mod launching;
mod lengths;
pub mod lora;
pub mod on_all;
pub mod output;
pub mod pasted;
pub mod plan;
pub mod probe;
pub mod profiles;
pub mod run;
pub mod schedule_args;
pub mod scheduling;
pub mod settings;
pub mod setup;
pub mod shell;
pub mod step_error;
pub mod support;
pub mod target;
pub mod trial;
pub mod usage;
pub mod values;
pub mod versions;
pub mod wait;

use std::ffi::OsString;
use std::panic;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ColorChoice, FromArgMatches};

use crate::cli::args::{Cli, Command};
use crate::cli::error::CliError;
use crate::cli::output::{Answer, Style};

/// Runs the command line and returns its exit code.
pub fn main() -> ExitCode {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map_or(String::new(), |at| format!(" at {at}"));
        output::write_stderr(&format!(
            "error: something broke in oomph{place}\n  cause: {}\nhint: please report it, with \
             the command line\n",
            panic_message(info.payload())
        ));
    }));
    let code = panic::catch_unwind(|| {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        launching::helper(&arguments).unwrap_or_else(|| run(arguments))
    });
    ExitCode::from(code.unwrap_or(exit::BROKEN))
}

/// Returns what a panic says; a payload is a `&str` or a `String` unless a library is odd.
fn panic_message(payload: &(dyn std::any::Any + Send)) -> &str {
    let literal = payload.downcast_ref::<&str>().copied();
    literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown")
}

/// Parses, dispatches and prints.
fn run(arguments: Vec<OsString>) -> u8 {
    let early = EarlyFlags::find(&arguments);
    let parsed = args::command_line()
        .color(early.color)
        .try_get_matches_from(&arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let result = match parsed {
        Ok(cli) => {
            let style = Style { json: cli.json, color: output::stdout_color(cli.color) };
            dispatch(&cli.command, style)
        }
        Err(help) if matches!(help.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            let ansi = output::stdout_color(early.color);
            let text = help.render();
            let text = if ansi { text.ansi().to_string() } else { text.to_string() };
            Ok(Answer { text, code: exit::OK })
        }
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::write_stderr(&error.render().to_string());
            return exit::USAGE;
        }
        Err(error) => Err(usage::from_clap(&error)),
    };
    match result {
        Ok(answer) => print(&answer.text, answer.code, early),
        Err(error) => {
            output::write_stderr(&error.text(output::stderr_color(early.color)));
            let text = if early.json { error.json() } else { String::new() };
            print(&text, error.code, early)
        }
    }
}

fn print(text: &str, code: u8, early: EarlyFlags) -> u8 {
    match output::write_stdout(text) {
        Ok(_) => code,
        Err(error) => {
            let error = CliError::new(exit::BROKEN, "cannot write the answer to stdout")
                .cause(error.to_string());
            output::write_stderr(&error.text(output::stderr_color(early.color)));
            exit::BROKEN
        }
    }
}

fn dispatch(command: &Command, style: Style) -> Result<Answer, CliError> {
    match command {
        Command::Gpus(args) => gpus::run(args, style),
        Command::Estimate(args) => estimate::run(args, style),
        Command::Probe(args) => launching::probe(args, style),
        Command::Plan(args) => plan::run(args, style),
        Command::Profiles(args) => profiles::run(args, style),
        Command::Run(args) => launching::run(args, style),
        Command::Wait(args) => wait::run(args, style),
        Command::Completions(args) => Ok(shell::completions(args)),
        Command::Man(args) => shell::man(args),
        Command::Advise(args) => advise::run(args, style),
        Command::Check(args) => check::run(args, style),
        Command::Trial(args) => launching::trial(args, style),
        Command::Capture(_) => {
            Err(later::not_yet("capture", "MODEL may be a config.json of a known architecture"))
        }
        Command::Schema(_) => {
            Err(later::not_yet("schema", "every JSON answer carries its `schema` name"))
        }
    }
}

/// The flags that say how an error is shown, found even where the command line does not parse.
#[derive(Debug, Clone, Copy)]
struct EarlyFlags {
    json: bool,
    color: ColorChoice,
}

impl EarlyFlags {
    fn find(arguments: &[OsString]) -> EarlyFlags {
        let mut early = EarlyFlags { json: false, color: ColorChoice::Auto };
        let mut previous = "";
        for argument in arguments.iter().filter_map(|a| a.to_str()).take_while(|a| *a != "--") {
            let when = match argument.strip_prefix("--color=") {
                Some(when) => when,
                None if previous == "--color" => argument,
                None => "",
            };
            match when {
                "always" => early.color = ColorChoice::Always,
                "never" => early.color = ColorChoice::Never,
                _ => {}
            }
            early.json |= argument == "--json";
            previous = argument;
        }
        early
    }
}
