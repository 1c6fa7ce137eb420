//! `oomph completions` and `oomph man`: what a shell and `man` are given, made from the arguments.

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::cli::args::Cli;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::output::Answer;

/// Arguments of `oomph completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  oomph completions bash > ~/.local/share/bash-completion/completions/oomph
  oomph completions zsh > \"${fpath[1]}/_oomph\"
  oomph completions fish > ~/.config/fish/completions/oomph.fish")]
pub struct CompletionsArgs {
    /// The shell to complete in
    pub shell: Shell,
}

/// Arguments of `oomph man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  oomph man | man -l -
  oomph man plan > ~/.local/share/man/man1/oomph-plan.1")]
pub struct ManArgs {
    /// The command to describe; oomph itself where none is named
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}

/// Runs `oomph completions`.
pub fn completions(args: &CompletionsArgs) -> Answer {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut offered(), "oomph", &mut script);
    answer(&script)
}

/// Runs `oomph man`.
///
/// # Errors
/// When there is no command of that name.
pub fn man(args: &ManArgs) -> Result<Answer, CliError> {
    let mut oomph = offered();
    oomph.build();
    let command = match args.command.as_deref() {
        None => oomph,
        Some(name) => {
            let known: Vec<&str> = oomph.get_subcommands().map(Command::get_name).collect();
            let unknown = || {
                CliError::usage(format!("there is no command `{name}`"))
                    .hint(format!("known: {}", known.join(" ")))
            };
            oomph.find_subcommand(name).ok_or_else(unknown)?.clone()
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(|error| {
        CliError::new(exit::BROKEN, "cannot render the page").cause(error.to_string())
    })?;
    Ok(answer(&page))
}

/// Returns the command line without the commands that are not there yet.
///
/// A subcommand cannot be taken out of a clap command, so it is made again from those that stay.
fn offered() -> Command {
    let all = Cli::command();
    let mut offered = Command::new("oomph").version(env!("CARGO_PKG_VERSION"));
    if let Some(about) = all.get_about() {
        offered = offered.about(about.clone());
    }
    if let Some(long) = all.get_long_about() {
        offered = offered.long_about(long.clone());
    }
    if let Some(examples) = all.get_after_help() {
        offered = offered.after_help(examples.clone());
    }
    let subcommands = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    offered.args(all.get_arguments().cloned()).subcommands(subcommands)
}

/// What clap writes is UTF-8: it is made of our own help texts.
fn answer(text: &[u8]) -> Answer {
    Answer { text: String::from_utf8_lossy(text).into_owned(), code: exit::OK }
}
