//! `oomph gpus --watch`: reading after reading, on a terminal in place, in a pipe one by one.
//!
//! Ctrl-C and SIGTERM end it as they end any program: nothing is held that would have to be given
//! back, and a file of `--out` is whole at every moment.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::gpus::{Args, GpusFormat, chosen, code};
use crate::cli::output::{self, Answer, Style};
use crate::probe::GpuList;
use crate::report;
use crate::report::wait::time;

/// How often the GPUs are read unless the user says otherwise.
const INTERVAL: Duration = Duration::from_secs(2);

/// Watches until it is interrupted, or nobody reads any more.
///
/// # Errors
/// When there is no driver, no such GPU, or the file cannot be written; also later on: what shows
/// no more news had better end than look alive.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    let start = Instant::now();
    let interval = args.interval.unwrap_or(INTERVAL);
    let format = args.format(style);
    let screen = format == GpusFormat::Text && args.out.is_none() && output::stdout_is_terminal();
    let mut first = true;
    loop {
        let list = chosen(args.gpu.as_ref())?;
        let text = match format {
            GpusFormat::Prometheus => report::prometheus::metrics(&list),
            GpusFormat::Json => report::gpus::json_line(&list, unix_seconds()),
            GpusFormat::Text if screen => drawn(&list, interval, first),
            GpusFormat::Text => one_by_one(&list, start.elapsed(), first),
        };
        let heard = match &args.out {
            Some(path) => output::write_file(path, &text).map(|()| true)?,
            None => output::write_stdout(&text).map_err(|error| {
                CliError::new(exit::BROKEN, "cannot write to stdout").cause(error.to_string())
            })?,
        };
        if !heard {
            return Ok(Answer { text: String::new(), code: code(&list) });
        }
        first = false;
        std::thread::sleep(interval);
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

/// Draws a reading over the one before, cut to the terminal's height: what scrolled away could not
/// be drawn over.
fn drawn(list: &GpuList, interval: Duration, first: bool) -> String {
    let clock = unix_seconds() % 86_400;
    let (hours, minutes, seconds) = (clock / 3600, clock / 60 % 60, clock % 60);
    let table = report::gpus::table(list);
    let lines: Vec<&str> = table.lines().collect();
    let height = output::stdout_rows().unwrap_or(usize::MAX).max(4);
    // The line with the time, and the one that the cursor waits on.
    let room = height - 2;
    let mut text = String::from(if first { "\x1b[2J\x1b[H" } else { "\x1b[H" });
    text.push_str(&format!(
        "{hours:02}:{minutes:02}:{seconds:02} UTC, every {interval:?}, Ctrl-C ends\x1b[K\n"
    ));
    let shown = if lines.len() > room { room - 1 } else { lines.len() };
    for line in &lines[..shown] {
        text.push_str(&format!("{line}\x1b[K\n"));
    }
    if shown < lines.len() {
        text.push_str(&format!("and {} lines more\x1b[K\n", lines.len() - shown));
    }
    text.push_str("\x1b[J");
    text
}

fn one_by_one(list: &GpuList, elapsed: Duration, first: bool) -> String {
    let gap = if first { "" } else { "\n" };
    format!("{gap}After {}:\n{}", time(elapsed), report::gpus::table(list))
}
