//! The one place that writes to stdout and stderr, and that decides on colour.

use std::fs::{Metadata, OpenOptions};
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

/// Returns whether stdout is a terminal.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Returns whether stdout was sent to a file (`oomph ... > FILE`), where that can be told.
pub fn stdout_is_file() -> bool {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        let copy = io::stdout().as_fd().try_clone_to_owned();
        copy.and_then(|stdout| std::fs::File::from(stdout).metadata())
            .is_ok_and(|found| found.is_file())
    }
    #[cfg(not(unix))]
    false
}

/// Returns the terminal's height in lines, where stdout is one that says.
pub fn stdout_rows() -> Option<usize> {
    let (_, height) = terminal_size::terminal_size_of(io::stdout())?;
    Some(usize::from(height.0)).filter(|rows| *rows > 0)
}

/// Writes to stdout; returns whether anybody reads it. A reader that has gone away
/// (`oomph ... | head -1`) is no error.
///
/// # Errors
/// When stdout cannot be written for another reason (a full disk).
pub fn write_stdout(text: &str) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}

/// Writes an answer to a file, whole: who reads it meanwhile finds the old text or the new one.
///
/// # Errors
/// When the file cannot be written; then it is as it was.
pub fn write_file(path: &Path, text: &str) -> Result<(), CliError> {
    replace(path, text).map_err(|error| {
        CliError::usage(format!("cannot write `{}`", path.display()))
            .cause(error.to_string())
            .hint("--out FILE names another file; without it the answer goes to stdout")
    })
}

/// Writes beside the file and renames. A pipe or a device is written as it is: a rename would put a
/// file in its place (as root even in that of /dev/null).
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // A link stays one: what it leads to is replaced.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let found = std::fs::metadata(&path).ok();
    if found.as_ref().is_some_and(|found| !found.is_file()) {
        return std::fs::write(&path, text);
    }
    if found.is_some() {
        // A rename would not ask whether this file may be written.
        OpenOptions::new().write(true).open(&path)?;
    }
    match aside(&path, found.as_ref(), text) {
        // A file alone may be ours, or mounted on its own: then nothing can be put in its place.
        Err(error) if found.is_some() && is_of_the_folder(&error) => std::fs::write(&path, text),
        result => result,
    }
}

fn is_of_the_folder(error: &io::Error) -> bool {
    use ErrorKind::{PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | ResourceBusy)
}

fn aside(path: &Path, found: Option<&Metadata>, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(ErrorKind::InvalidFilename)?;
    // node_exporter reads `*.prom`: not this one.
    let aside = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&aside)?;
        if let Some(found) = found {
            file.set_permissions(found.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        std::fs::rename(&aside, path)
    })();
    if written.is_err() {
        // It may not even be there.
        let _ = std::fs::remove_file(&aside);
    }
    written
}

/// Writes to stderr; when that fails nobody is left to tell.
pub fn write_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_a_link_to_it_stays_one() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("gpus.prom"), folder.path().join("link"));
        std::os::unix::fs::symlink("gpus.prom", &link).unwrap();
        std::fs::write(&file, "old and longer").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let before = std::fs::File::open(&file).unwrap();
        write_file(&link, "new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(io::read_to_string(before).unwrap(), "old and longer", "who reads, reads on");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside");
        write_file(Path::new("/dev/null"), "gone").unwrap();
        assert!(!Path::new("/dev/null").is_file());
        assert!(write_file(&folder.path().join("no/such"), "x").is_err());
        assert!(write_file(folder.path(), "x").is_err());
    }

    #[test]
    fn the_flag_wins_over_no_color_and_no_color_over_the_terminal() {
        assert!(use_color(ColorChoice::Always, Some("1"), false));
        assert!(!use_color(ColorChoice::Never, None, true));
        assert!(!use_color(ColorChoice::Auto, Some("1"), true));
        assert!(use_color(ColorChoice::Auto, Some(""), true));
        assert!(!use_color(ColorChoice::Auto, None, false));
    }
}
