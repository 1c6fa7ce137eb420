//! A command on simulated GPUs: the launcher, and the ledger as the source of the peak.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use regex::bytes::Regex;

use crate::profile::simulated::SimulatedGpus;
use crate::trial::environment::{self, Change};
use crate::trial::folder::RunFolder;
use crate::trial::installed::{InstallError, Installed};
use crate::trial::judge::judge;
use crate::trial::launch::{self, Ended, How, Interrupts, Launch, LaunchError, Sink};
use crate::trial::outcome::{GpuPeak, Outcome, PeakSource};
use crate::trial::reports::{self, Report};
use crate::trial::{ledger, scenario};
use crate::units::{Bytes, counted};

/// Why a run gives no outcome.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The command could not be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// There are no simulated GPUs here.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The run's folder could not be made.
    #[error("no folder for the run: {0}")]
    Folder(std::io::Error),
    /// The simulated machine's state could not be read.
    #[error("the simulated machine's state cannot be read: {0}")]
    State(String),
    /// A GPU cannot be read.
    #[error("the memory of a GPU cannot be read")]
    Unreadable(String),
    /// A signal came, and all was ended.
    #[error("interrupted by signal {0}, and everything of the command was ended")]
    Interrupted(i32),
}

/// A command that is to run once.
#[derive(Debug)]
pub struct Request {
    /// The program, then its arguments.
    pub command: Vec<OsString>,
    /// More changes of its environment.
    pub environment: Vec<Change>,
    /// Ends it once a line matches.
    pub until: Option<Regex>,
    /// Ends it after that long.
    pub timeout: Option<Duration>,
    /// Whether it reads what oomph could read.
    pub interactive: bool,
    /// Where its standard output goes.
    pub stdout: Sink,
    /// Where its standard error goes.
    pub stderr: Sink,
    /// What keeps a copy of both.
    pub log: Option<File>,
    /// Where PyTorch's memory history goes.
    pub record: Option<PathBuf>,
}

/// Simulated GPUs of one kind, for commands.
#[derive(Debug)]
pub struct SimulatedMachine {
    gpus: SimulatedGpus,
    headroom: Bytes,
    installed: Installed,
    interrupts: Interrupts,
}

impl SimulatedMachine {
    /// Prepares the machine; `headroom` bytes of each GPU are not for the command.
    ///
    /// # Errors
    /// When this is not a system for it.
    pub fn new(gpus: SimulatedGpus, headroom: Bytes) -> Result<SimulatedMachine, RunError> {
        let installed = Installed::prepare()?;
        let interrupts = Interrupts::watch().map_err(RunError::Folder)?;
        Ok(SimulatedMachine { gpus, headroom, installed, interrupts })
    }

    /// Returns what the command may take of each GPU.
    pub fn free(&self) -> Bytes {
        self.gpus.free_each().saturating_sub(self.headroom)
    }

    /// Runs a command to its end and judges it.
    ///
    /// # Errors
    /// When it could not be started or was interrupted. Failures of the command are outcomes.
    pub fn run(&self, request: Request) -> Result<Outcome, RunError> {
        let text = scenario::text(&self.gpus, self.headroom);
        let folder = RunFolder::new(&text).map_err(RunError::Folder)?;
        let outer = |name: &str| std::env::var_os(name);
        let mut changes = environment::simulated(&self.installed, &folder, outer);
        changes.extend(request.record.iter().map(|path| Change::set("OOMPH_RUN_RECORD", path)));
        changes.extend(request.environment);
        let launch = Launch {
            command: &request.command,
            environment: &changes,
            folder: folder.path(),
            until: request.until,
            timeout: request.timeout,
            interactive: request.interactive,
            stdout: request.stdout,
            stderr: request.stderr,
            log: request.log,
        };
        let ended = launch::run(launch, &self.interrupts)?;
        if let Some(signal) = self.interrupts.caught().or(match ended.how {
            How::Interrupted(signal) => Some(signal),
            _ => None,
        }) {
            return Err(RunError::Interrupted(signal));
        }
        self.outcome(&request.command, &folder, ended, request.record.is_some())
    }

    /// Puts together what the ledger, the reports and the command's own output say.
    fn outcome(
        &self,
        command: &[OsString],
        folder: &RunFolder,
        ended: Ended,
        recorded: bool,
    ) -> Result<Outcome, RunError> {
        let reports = reports::read(&folder.reports());
        let path = folder.scenario();
        let peaks = ledger::peaks(&path, &reports).map_err(RunError::State)?;
        let noted = ledger::notes(&path);
        let judged = judge(&ended, &reports, &peaks.processes);
        let mut warnings = judged.warnings;
        warnings.extend(too_few(&self.gpus, &reports));
        warnings.extend(noted.warnings);
        if peaks.unrecorded > 0 {
            warnings.push(format!("{} more processes are not listed", peaks.unrecorded));
        }
        let records: Vec<&str> = reports.iter().filter_map(|r| r.record.as_deref()).collect();
        if recorded && records.is_empty() {
            warnings.push("no memory history was recorded: no process used PyTorch's".to_owned());
        } else if recorded {
            let files = records.join(", ");
            warnings.push(format!("PyTorch's memory history, for pytorch.org/memory_viz: {files}"));
        }
        for report in &reports {
            let of = |problem| format!("process {}: {problem}", report.pid);
            warnings.extend(report.problems.iter().map(of));
        }
        let held = scenario::held(&self.gpus, self.headroom);
        let used =
            |index: u32| peaks.gpus.get(index as usize).map(|peak| peak.saturating_sub(held));
        let gpus = (0..self.gpus.count).map(|index| self.gpu(index, used(index)));
        let mut outcome = Outcome {
            command: command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            ending: ended.ending,
            verdict: judged.verdict,
            reason: judged.reason,
            seconds: (ended.elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            gpus: gpus.collect(),
            processes: peaks.processes,
            versions: versions(&reports, noted.versions),
            warnings,
            met_out_of_memory: judged.met_out_of_memory,
            contended: false,
            tail: ended.seen.tail.into(),
        };
        if outcome.left_gpus_alone() {
            let why = outcome.unused_because();
            outcome.warnings.insert(0, format!("the command never used a GPU: {why}"));
        }
        Ok(outcome)
    }

    fn gpu(&self, index: u32, used: Option<Bytes>) -> GpuPeak {
        let profile = &self.gpus.profile;
        GpuPeak {
            index,
            name: profile.product_name.clone(),
            uuid: format!("SIM-{}-{index}", profile.name.replace(' ', "")),
            simulated: true,
            total_bytes: profile.total,
            free_bytes: self.free(),
            peak_bytes: used.unwrap_or_default(),
            source: PeakSource::Allocations,
        }
    }
}

/// Says so where a rank ended for want of a GPU of its own, as more ranks ran than there are GPUs.
fn too_few(gpus: &SimulatedGpus, reports: &[Report]) -> Option<String> {
    // cudaErrorInvalidDevice's words, and those of NCCL's (init.cc) about two ranks on one GPU.
    const WORDS: [&str; 2] = ["invalid device ordinal", "Duplicate GPU detected"];
    let ranks = reports.iter().filter_map(|report| report.rank).max()?.checked_add(1)?;
    let count = u32::try_from(ranks).ok().filter(|ranks| *ranks > gpus.count)?;
    let ended = reports.iter().filter_map(|report| report.exception.as_ref());
    let mut texts = ended.map(|exception| exception.text.as_str());
    let said = texts.find_map(|text| WORDS.into_iter().find(|words| text.contains(words)))?;
    let there = counted(u64::from(gpus.count), "GPU");
    let enough = SimulatedGpus { count, ..gpus.clone() };
    Some(format!("{ranks} ranks had {there} (`{said}`): --gpu '{enough}' gives each its own"))
}

/// Returns the versions that any process has met; ranks have the same ones.
pub(super) fn versions(
    reports: &[Report],
    mut versions: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    for report in reports {
        for (package, version) in &report.versions {
            versions.entry(package.clone()).or_insert_with(|| version.clone());
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::reports::Exception;

    #[test]
    fn more_ranks_than_gpus_are_told_how_many_to_ask_for() {
        let gpus = |spec| SimulatedGpus::parse(spec).expect("a simulated GPU");
        let rank = |rank, text: &str| Report {
            rank: Some(rank),
            exception: Some(Exception { text: text.to_owned(), ..Exception::default() }),
            ..Report::default()
        };
        let ordinal = [rank(0, ""), rank(3, "CUDA error: invalid device ordinal\nmore")];
        assert_eq!(
            too_few(&gpus("sim:rtx-4090"), &ordinal).as_deref(),
            Some(
                "4 ranks had 1 GPU (`invalid device ordinal`): --gpu 'sim:rtx-4090*4' gives each its own"
            )
        );
        let nccl = [rank(1, "ncclInvalidUsage: Duplicate GPU detected : rank 1 and rank 0")];
        let said = too_few(&gpus("sim:24GiB,free=20GiB"), &nccl).expect("a hint");
        let typed = said.split('\'').nth(1).expect("in quotes");
        assert_eq!(SimulatedGpus::parse(typed), SimulatedGpus::parse("sim:24GiB*2,free=20GiB"));
        // Enough of them, another error, and no ranks.
        assert_eq!(too_few(&gpus("sim:t4*4"), &ordinal), None);
        assert_eq!(too_few(&gpus("sim:t4"), &[rank(1, "ValueError")]), None);
        assert_eq!(too_few(&gpus("sim:t4"), &[]), None);
    }
}
