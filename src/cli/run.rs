//! `oomph run`: any command once, on simulated GPUs.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};

use crate::cli::gpu_select::GpuSelector;

/// The longest `--timeout`: a year, which no clock overflows.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Arguments of `oomph run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  oomph run --gpu sim:rtx-4090 -- python train.py --batch-size 8
  oomph run --gpu sim:a100-40gb*4 --json -- torchrun --nproc-per-node 4 train.py
  oomph run --gpu sim:t4 --until 'step 3' --timeout 10m -- python train.py")]
pub struct Args {
    /// The simulated GPUs: sim:NAME, sim:NAME*8, sim:24GiB
    #[arg(long, value_name = "GPU", required = true, help_heading = "Device")]
    pub gpu: GpuSelector,
    /// When the command is ended before it ends by itself.
    #[command(flatten)]
    pub end: EndArgs,
    /// Exit with 3 also where the command met out of memory and went on (with half the batch, say)
    #[arg(long)]
    pub strict: bool,
    /// Keep PyTorch's memory history in FILE (of several processes: their ranks in its name), for
    /// pytorch.org/memory_viz
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// When a command is ended before it ends by itself.
#[derive(Debug, Clone, clap::Args)]
pub struct EndArgs {
    /// End the command, as having run, once a line of its output matches REGEX
    /// [default: it ends by itself]
    #[arg(long, value_name = "REGEX", value_parser = regex, help_heading = "End")]
    pub until: Option<Regex>,
    /// End the command after this long (90s, 10m, 2h): no verdict then [default: never]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "End")]
    #[arg(allow_hyphen_values = true)]
    pub timeout: Option<Duration>,
}

/// Parses `--until`.
///
/// # Errors
/// Says what is wrong with the expression.
pub fn regex(text: &str) -> Result<Regex, String> {
    if text.is_empty() {
        return Err("an empty expression matches every line".to_owned());
    }
    RegexBuilder::new(text).size_limit(1 << 20).build().map_err(|error| {
        let error = error.to_string();
        let last = error.lines().last().unwrap_or_default();
        format!("not a regular expression: {}", last.trim_start_matches("error: "))
    })
}

/// Parses a time with its unit: `90s`, `10m`, `2h`, `1h30m`.
///
/// # Errors
/// For a number without a unit, nothing, and more than a year.
pub fn duration(text: &str) -> Result<Duration, String> {
    let form = || format!("`{text}` is not a time: write a number and a unit, as in 90s, 10m, 2h");
    let (mut seconds, mut rest) = (0.0, text.trim());
    if rest.is_empty() {
        return Err(form());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(form)?;
        let number: f64 = rest[..digits].parse().map_err(|_| form())?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let scale = match &rest[digits..digits + unit] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(form()),
        };
        seconds += number * scale;
        rest = &rest[digits + unit..];
    }
    let time = Duration::try_from_secs_f64(seconds).map_err(|_| form())?;
    match time {
        Duration::ZERO => Err("must be longer than no time at all".to_owned()),
        time if time > LONGEST => Err("more than a year".to_owned()),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("0.5s"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        for bad in ["", "10", "0s", "0m", "s", "ten", "-5s", "5x", "1e9s", "400d", "1..2s", "5 s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_expression_that_is_none_says_why() {
        assert!(regex("step [0-9]+").is_ok());
        assert!(regex("(").is_err_and(|e| e.contains("unclosed group")));
        assert!(regex("").is_err());
        assert!(regex("(a{1000}){1000}").is_err(), "too large");
    }
}
