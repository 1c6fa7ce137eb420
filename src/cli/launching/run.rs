//! `oomph run`: starting the command, and judging it.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::gpu_select::GpuSelector;
use crate::cli::output::{Answer, Style};
use crate::cli::run::Args;
use crate::profile::simulated::SimulatedGpus;
use crate::report;
use crate::report::text::Paint;
use crate::trial::installed::InstallError;
use crate::trial::launch::{LaunchError, Sink};
use crate::trial::outcome::Verdict;
use crate::trial::program::find_program;
use crate::trial::simulated::{Request, RunError, SimulatedMachine};
use crate::units::Bytes;

/// Runs `oomph run`.
///
/// # Errors
/// When the command cannot be started, there are no simulated GPUs here, or a signal came.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    let gpus = simulated(&args.gpu, "run")?;
    check_command(&args.command)?;
    let record = args.record.as_deref().map(absolute).transpose()?;
    let machine = SimulatedMachine::new(gpus, Bytes::ZERO)?;
    let mut outcome = machine.run(Request {
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
    if args.end.until.is_some() && outcome.verdict == Verdict::Ran {
        outcome.warnings.push(
            "with --until let the command do two optimizer steps at least, as the first one \
             makes the optimizer's state"
                .to_owned(),
        );
    }
    let text = if style.json {
        report::run::json(&outcome)
    } else {
        report::run::render(&outcome, Paint { on: style.color })
    };
    let code = match outcome.verdict {
        // What used no GPU says nothing about its memory, and may not pass for a success.
        Verdict::Ran if outcome.left_gpus_alone() => exit::NOT_MEASURED,
        Verdict::Ran if args.strict && outcome.met_out_of_memory => exit::DOES_NOT_FIT,
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
            LaunchError::Refused { program, code, reason } => {
                let hint = if code == rustix::io::Errno::ACCESS.raw_os_error() {
                    format!("a script may need its interpreter: -- python {program}")
                } else {
                    "write the program's path, or activate the environment that it lives in"
                        .to_owned()
                };
                CliError::usage(format!("`{program}` cannot be run")).cause(reason).hint(hint)
            }
            error @ LaunchError::Io(_) => CliError::new(exit::BROKEN, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_are_no_simulated_gpus_it_says_so_and_what_works() {
        let error = CliError::from(RunError::Install(InstallError::NotHere));
        assert_eq!(error.code, exit::USAGE);
        let text = error.text(false);
        for part in ["no simulated GPUs for programs here", "Linux with glibc", "oomph estimate"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
