//! The one place that writes to stdout and stderr, and that decides on colour.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;

use clap::ColorChoice;

use crate::cli::error::CliError;

/// What a command has to say, and the exit code that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For stdout.
    pub text: String,
    /// One of [`crate::cli::exit`].
    pub code: u8,
}

/// How a command should answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// JSON instead of text.
    pub json: bool,
    /// ANSI colours in the text.
    pub color: bool,
}

/// Decides on colour: the flag, then NO_COLOR (no-color.org: any value but an empty one), then
/// whether `terminal` is one.
pub fn use_color(choice: ColorChoice, no_color: Option<&str>, terminal: bool) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => terminal && no_color.is_none_or(str::is_empty),
    }
}

/// Returns whether stdout gets colours.
pub fn stdout_color(choice: ColorChoice) -> bool {
    use_color(choice, std::env::var("NO_COLOR").ok().as_deref(), io::stdout().is_terminal())
}

/// Returns whether stderr gets colours.
pub fn stderr_color(choice: ColorChoice) -> bool {
    use_color(choice, std::env::var("NO_COLOR").ok().as_deref(), io::stderr().is_terminal())
}

/// Writes to stdout. A reader that has gone away (`oomph ... | head -1`) is no error.
///
/// # Errors
/// When stdout cannot be written for another reason (a full disk).
pub fn write_stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes an answer to a file.
///
/// # Errors
/// When the file cannot be written.
pub fn write_file(path: &Path, text: &str) -> Result<(), CliError> {
    std::fs::write(path, text).map_err(|error| {
        CliError::usage(format!("cannot write `{}`", path.display()))
            .cause(error.to_string())
            .hint("--out FILE names another file; without it the answer goes to stdout")
    })
}

/// Writes to stderr; when that fails nobody is left to tell.
pub fn write_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_over_no_color_and_no_color_over_the_terminal() {
        assert!(use_color(ColorChoice::Always, Some("1"), false));
        assert!(!use_color(ColorChoice::Never, None, true));
        assert!(!use_color(ColorChoice::Auto, Some("1"), true));
        assert!(use_color(ColorChoice::Auto, Some(""), true));
        assert!(!use_color(ColorChoice::Auto, None, false));
    }
}
