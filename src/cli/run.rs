//! `oomph run`: any command once, on simulated GPUs.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::gpu_select::GpuSelector;
use crate::cli::output::{Answer, Style};
use crate::profile::simulated::SimulatedGpus;
use crate::report;
use crate::report::text::Paint;
use crate::trial::installed::InstallError;
use crate::trial::launch::{LaunchError, Sink};
use crate::trial::outcome::Verdict;
use crate::trial::program::find_program;
use crate::trial::simulated::{Request, RunError, SimulatedMachine};
use crate::units::Bytes;

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
    /// Keep PyTorch's memory history in FILE (of several processes: their ranks
    /// in its name), for
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
    #[arg(long, value_name = "REGEX", value_parser = regex, help_heading = "End")]
    pub until: Option<Regex>,
    /// End the command after this long (90s, 10m, 2h): no verdict then
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "End")]
    pub timeout: Option<Duration>,
}

/// Runs `oomph run`.
///
/// # Errors
/// When the command cannot be started, there are no simulated GPUs here, or a signal came.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    let gpus = simulated(&args.gpu, "run")?;
    check_command(&args.command)?;
    let record = args.record.as_deref().map(absolute).transpose()?;
    let machine = SimulatedMachine::new(gpus, Bytes::ZERO)?;
    let outcome = machine.run(Request {
        command: args.command.clone(),
        environment: Vec::new(),
        until: args.end.until.clone(),
        timeout: args.end.timeout,
        interactive: true,
        stdout: if style.json { Sink::Stderr } else { Sink::Stdout },
        stderr: Sink::Stderr,
        log: None,
        record,
    })?;
    let text = if style.json {
        report::run::json(&outcome)
    } else {
        report::run::render(&outcome, Paint { on: style.color })
    };
    let code = match outcome.verdict {
        Verdict::Ran => exit::OK,
        Verdict::OutOfMemory => exit::DOES_NOT_FIT,
        Verdict::Failed | Verdict::TimedOut => exit::NOT_MEASURED,
    };
    Ok(Answer { text, code })
}

/// Returns the simulated GPUs that a selector names; real ones come later.
///
/// # Errors
/// For real GPUs, and for a specification that cannot be read.
pub fn simulated(selector: &GpuSelector, command: &str) -> Result<SimulatedGpus, CliError> {
    let GpuSelector::Simulated(spec) = selector else {
        return Err(CliError::not_yet(format!("`oomph {command}` on a real GPU")).hint(
            "use --gpu sim:NAME, such as sim:h100-80gb (`oomph profiles list` names them); \
             `oomph trial` runs on real GPUs",
        ));
    };
    SimulatedGpus::parse(spec)
        .map_err(|error| CliError::usage(format!("--gpu {spec}: {error}")).hint(error.hint()))
}

/// Refuses a command that cannot be run, before anything is prepared.
///
/// # Errors
/// When the program is not there or may not be run.
pub fn check_command(command: &[OsString]) -> Result<(), CliError> {
    let program = command.first().ok_or_else(|| {
        CliError::usage("no command is given").hint("write it after `--`: -- python train.py")
    })?;
    find_program(program).map_err(CliError::from)
}

/// A program may change its folder: the path is the one that the user means now.
fn absolute(path: &std::path::Path) -> Result<PathBuf, CliError> {
    let shown = path.display();
    let unusable = |cause: String| {
        CliError::usage(format!("--record {shown} cannot be written"))
            .cause(cause)
            .hint("--record FILE names a file in a folder that is there")
    };
    let path = std::path::absolute(path).map_err(|error| unusable(error.to_string()))?;
    match path.parent() {
        Some(folder) if folder.is_dir() => Ok(path),
        _ => Err(unusable("there is no such folder".to_owned())),
    }
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

impl From<RunError> for CliError {
    fn from(error: RunError) -> CliError {
        match error {
            RunError::Launch(error) => error.into(),
            RunError::Install(error @ InstallError::NotHere) => CliError::usage(error.to_string())
                .cause("they need Linux with glibc, where a library can be loaded first")
                .hint("oomph plan and oomph estimate work everywhere"),
            RunError::Install(InstallError::NoPlace(why)) => {
                CliError::new(exit::BROKEN, "the simulated GPU's library cannot be unpacked")
                    .cause(why)
                    .hint("XDG_CACHE_HOME=/a/folder/of/yours, one with mode 0700 inside")
            }
            RunError::Unreadable(why) => {
                CliError::new(exit::NOT_MEASURED, "the memory of a GPU cannot be read")
                    .cause(why)
                    .hint("see what `nvidia-smi` says, and `dmesg | grep -i xid`")
            }
            RunError::Interrupted(signal) => {
                let code = u8::try_from(128 + signal).unwrap_or(exit::INTERRUPTED);
                CliError::new(code, "interrupted: everything of the command was ended")
            }
            error @ RunError::Folder(_) => {
                CliError::new(exit::BROKEN, error.to_string()).hint("TMPDIR=/a/folder/of/yours")
            }
            error @ RunError::State(_) => CliError::new(exit::BROKEN, error.to_string()),
        }
    }
}

impl From<LaunchError> for CliError {
    fn from(error: LaunchError) -> CliError {
        match error {
            LaunchError::Refused { program, reason, .. } => {
                CliError::usage(format!("`{program}` cannot be run"))
                    .cause(reason)
                    .hint("write the program's path, or activate the environment that it lives in")
            }
            error @ LaunchError::Io(_) => CliError::new(exit::BROKEN, error.to_string()),
        }
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
    fn where_there_are_no_simulated_gpus_it_says_so_and_what_works() {
        let error = CliError::from(RunError::Install(InstallError::NotHere));
        assert_eq!(error.code, exit::USAGE);
        let text = error.text(false);
        for part in ["no simulated GPUs for programs here", "Linux with glibc", "oomph estimate"] {
            assert!(text.contains(part), "{part} in {text}");
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
