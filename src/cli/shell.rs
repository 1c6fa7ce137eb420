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
    let page = page(command).map_err(|error| {
        CliError::new(exit::BROKEN, "cannot render the page").cause(error.to_string())
    })?;
    Ok(answer(&page))
}

/// Renders a command's page, with the exit codes that it has.
fn page(command: Command) -> std::io::Result<Vec<u8>> {
    let (codes, closing) = (exit_status(command.get_name()), examples(&command));
    let has_commands = command.get_subcommands().next().is_some();
    let man = clap_mangen::Man::new(command).source(concat!("oomph ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_commands {
        man.render_subcommands_section(&mut page)?;
    }
    page.extend(codes.bytes().chain(closing.bytes()));
    Ok(page)
}

/// Returns the section with a command's exit codes.
fn exit_status(command: &str) -> String {
    let items = exit::of(command).into_iter();
    let items = items.map(|(code, says)| format!(".TP\n\\fB{code}\\fR\n{}\n", plain(says)));
    format!(".SH \"EXIT STATUS\"\n{}", items.collect::<String>())
}

/// Returns the sections of what stands below a command's help: notes, if any, and examples, whose lines
/// are kept as they are.
fn examples(command: &Command) -> String {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (notes, examples) = text.split_once("Examples:\n").unwrap_or((&text, ""));
    let section = |(name, text): (&str, &str)| {
        let lines: String = text.trim_end().lines().map(|line| plain(line) + "\n").collect();
        if lines.is_empty() { lines } else { format!(".SH {name}\n.nf\n{lines}.fi\n") }
    };
    [("NOTES", notes), ("EXAMPLES", examples)].map(section).concat()
}

/// Escapes what roff would take for its own: backslashes, hyphens, and a dot or quote that begins a line.
fn plain(line: &str) -> String {
    let escaped = line.replace('\\', "\\e").replace('-', "\\-");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
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
