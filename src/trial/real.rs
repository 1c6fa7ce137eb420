//! A command on real GPUs: the launcher, and the driver's readings as the source of the peak.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use crate::probe::meter::{Meter, Reading};
use crate::trial::environment::{self, Change};
use crate::trial::folder::RunFolder;
use crate::trial::installed::{InstallError, Installed};
use crate::trial::judge::judge;
use crate::trial::launch::{self, Ended, How, Interrupts, Launch};
use crate::trial::outcome::{GpuPeak, Outcome, PeakSource, ProcessPeak};
use crate::trial::reports::{self, Report};
use crate::trial::sampled::Folded;
use crate::trial::sampler::Sampler;
use crate::trial::simulated::{Request, RunError, versions};
use crate::units::Bytes;

/// A real GPU, as it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealGpu {
    /// NVML's index.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// UUID, of the MIG instance where one was chosen.
    pub uuid: String,
    /// All of its memory.
    pub total: Bytes,
    /// What is left free on purpose.
    pub headroom: Bytes,
}

/// Real GPUs for commands; without a meter, verdicts are all that is known of a run.
pub struct RealMachine {
    gpus: Vec<RealGpu>,
    meter: Option<Arc<dyn Meter>>,
    /// What each GPU had in use when it was chosen.
    at_first: Vec<Reading>,
    /// The value of CUDA_VISIBLE_DEVICES, where the user has named GPUs.
    visible: Option<String>,
    installed: Option<Installed>,
    interrupts: Interrupts,
}

impl RealMachine {
    /// Prepares the machine, and reads each GPU once.
    ///
    /// # Errors
    /// When a GPU cannot be read, or there is no place for the run's files.
    pub fn new(
        gpus: Vec<RealGpu>,
        meter: Option<Arc<dyn Meter>>,
        visible: Option<String>,
    ) -> Result<RealMachine, RunError> {
        let installed = match Installed::prepare() {
            Ok(installed) => Some(installed),
            // PyTorch's own counters are missed, and nothing else.
            Err(InstallError::NotHere) => None,
            Err(error) => return Err(error.into()),
        };
        let at_first = match &meter {
            Some(meter) => {
                let (sampler, before) = Sampler::start(Arc::clone(meter), vec![None; gpus.len()])
                    .map_err(RunError::Unreadable)?;
                sampler.stop();
                before
            }
            None => Vec::new(),
        };
        let interrupts = Interrupts::watch().map_err(RunError::Folder)?;
        Ok(RealMachine { gpus, meter, at_first, visible, installed, interrupts })
    }

    /// Returns what the command may take of each GPU: the least of them.
    pub fn free(&self) -> Bytes {
        let each = self.gpus.iter().zip(&self.at_first);
        let free = each.map(|(gpu, reading)| reading.free.saturating_sub(gpu.headroom));
        free.min().unwrap_or_default()
    }

    /// Returns what each GPU had free when it was chosen.
    pub fn free_at_first(&self) -> impl Iterator<Item = (&RealGpu, Bytes)> {
        self.gpus.iter().zip(self.at_first.iter().map(|reading| reading.free))
    }

    /// Returns whether peaks are known at all.
    pub fn is_metered(&self) -> bool {
        self.meter.is_some()
    }

    /// Returns an outcome that was kept, as it stands with what is free now; `None` where it would
    /// have to be run again.
    pub fn as_of_now(&self, mut kept: Outcome) -> Option<Outcome> {
        let refused = !matches!(kept.verdict, crate::trial::outcome::Verdict::Ran);
        if kept.contended || kept.gpus.len() != self.gpus.len() {
            return None;
        }
        for ((gpu, free), then) in self.free_at_first().zip(&mut kept.gpus) {
            let now = free.saturating_sub(gpu.headroom);
            // What ran out of memory with less may run with more.
            if refused && now > then.free_bytes {
                return None;
            }
            then.free_bytes = now;
        }
        Some(kept)
    }

    /// Runs a command to its end and judges it.
    ///
    /// # Errors
    /// When it could not be started or was interrupted. Failures of the command are outcomes.
    pub fn run(&self, request: Request) -> Result<Outcome, RunError> {
        let folder = RunFolder::new("").map_err(RunError::Folder)?;
        let outer = |name: &str| std::env::var_os(name);
        let mut changes = Vec::new();
        if let Some(installed) = &self.installed {
            changes.extend(environment::reporting(installed, &folder, outer));
        }
        changes.extend(self.visible.iter().map(|uuids| Change::set("CUDA_VISIBLE_DEVICES", uuids)));
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
        let sampler = self.sampler()?;
        let ended = launch::run(launch, &self.interrupts)?;
        let folded = sampler.map_or(Some(Vec::new()), Sampler::stop);
        if let Some(signal) = self.interrupts.caught().or(match ended.how {
            How::Interrupted(signal) => Some(signal),
            _ => None,
        }) {
            return Err(RunError::Interrupted(signal));
        }
        let reports = reports::read(&folder.reports());
        Ok(self.outcome(&request.command, ended, &reports, folded))
    }

    fn sampler(&self) -> Result<Option<Sampler>, RunError> {
        let Some(meter) = &self.meter else { return Ok(None) };
        let expected = self.at_first.iter().cloned().map(Some).collect();
        let (sampler, _) =
            Sampler::start(Arc::clone(meter), expected).map_err(RunError::Unreadable)?;
        Ok(Some(sampler))
    }

    /// Puts together what the readings, the reports and the command's own output say; `None` for
    /// readings that the driver never came back from.
    fn outcome(
        &self,
        command: &[OsString],
        ended: Ended,
        reports: &[Report],
        folded: Option<Vec<Folded>>,
    ) -> Outcome {
        let hung = folded.is_none();
        let folded = folded.unwrap_or_default();
        let mut processes = Vec::new();
        for (gpu, folded) in self.gpus.iter().zip(&folded) {
            processes.extend(self.processes(gpu, folded, reports));
        }
        let judged = judge(&ended, reports, &[]);
        let gpus: Vec<GpuPeak> = self.peaks(&folded, &processes);
        let mut warnings = judged.warnings;
        warnings.extend(self.warnings(&folded, &gpus));
        if hung {
            warnings.push("the driver hangs: no peak is known".to_owned());
        }
        for report in reports {
            let of = |problem| format!("process {}: {problem}", report.pid);
            warnings.extend(report.problems.iter().map(of));
        }
        Outcome {
            command: command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            ending: ended.ending,
            verdict: judged.verdict,
            reason: judged.reason,
            seconds: (ended.elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            gpus,
            processes,
            versions: versions(reports, BTreeMap::new()),
            warnings,
            met_out_of_memory: judged.met_out_of_memory,
            contended: self.others(&folded).next().is_some(),
            tail: ended.seen.tail.into(),
        }
    }

    /// The command's processes on a GPU, with what PyTorch says of itself.
    fn processes(
        &self,
        gpu: &RealGpu,
        folded: &Folded,
        reports: &[Report],
    ) -> impl Iterator<Item = ProcessPeak> {
        let one = |(pid, most): (&u32, &Bytes)| {
            let report = reports.iter().find(|report| report.pid == *pid);
            let device = report.and_then(|report| self.device(report, gpu));
            let reserved = device.map(|device| Bytes::new(device.reserved));
            ProcessPeak {
                pid: *pid,
                rank: report.and_then(|report| report.rank),
                gpu: gpu.index,
                // PyTorch counts what it holds; a look now and then can miss a moment.
                peak_device_bytes: (*most).max(reserved.unwrap_or_default()),
                peak_allocated_bytes: device.map(|device| Bytes::new(device.allocated)),
                peak_reserved_bytes: reserved,
                allocation_retries: device.map(|device| device.retries),
                refused: None,
            }
        };
        folded.processes.iter().map(one).collect::<Vec<_>>().into_iter()
    }

    /// Finds a GPU among the devices of a process, which may number them in its own way: by UUID,
    /// or as the only one that it used.
    fn device<'a>(&self, report: &'a Report, gpu: &RealGpu) -> Option<&'a reports::Device> {
        let devices = report.devices.as_deref().unwrap_or_default();
        let named = devices.iter().find(|device| {
            device.gpu.as_str().is_some_and(|name| !name.is_empty() && gpu.uuid.starts_with(name))
        });
        match devices {
            [only] if self.gpus.len() == 1 || self.visible.is_none() => Some(only),
            _ => named,
        }
    }

    fn peaks(&self, folded: &[Folded], processes: &[ProcessPeak]) -> Vec<GpuPeak> {
        let one = |(at, gpu): (usize, &RealGpu)| {
            let folded = folded.get(at);
            let free =
                folded.map(|folded| folded.before.free).or(self.at_first.get(at).map(|r| r.free));
            let (sampled, source) = folded.map_or((Bytes::ZERO, PeakSource::Unknown), Folded::peak);
            let on_it = processes.iter().filter(|process| process.gpu == gpu.index);
            let counted = on_it.map(|process| process.peak_device_bytes).max();
            GpuPeak {
                index: gpu.index,
                name: gpu.name.clone(),
                uuid: gpu.uuid.clone(),
                simulated: false,
                total_bytes: gpu.total,
                free_bytes: free.unwrap_or_default().saturating_sub(gpu.headroom),
                peak_bytes: sampled.max(counted.unwrap_or_default()),
                source,
            }
        };
        self.gpus.iter().enumerate().map(one).collect()
    }

    /// GPUs of which others took memory, and how much: during the run, or since the trial began.
    fn others(&self, folded: &[Folded]) -> impl Iterator<Item = (u32, Bytes)> {
        let gpus = self.gpus.iter().zip(&self.at_first).zip(folded);
        gpus.filter_map(|((gpu, first), folded)| {
            let since = folded.before.used.saturating_sub(first.used);
            let since = (since > Bytes::mib(64)).then_some(since);
            Some((gpu.index, folded.taken_by_others().max(since)?))
        })
    }

    fn warnings(&self, folded: &[Folded], gpus: &[GpuPeak]) -> Vec<String> {
        let mut warnings: Vec<String> = self
            .others(folded)
            .map(|(index, taken)| {
                format!("others took {taken} of GPU {index} meanwhile: alone, more may fit")
            })
            .collect();
        for (gpu, folded) in self.gpus.iter().zip(folded) {
            if let Some(failure) = &folded.failure {
                warnings.push(format!("GPU {} could not always be read: {failure}", gpu.index));
            }
        }
        let used = |gpu: &&GpuPeak| gpu.peak_bytes > Bytes::ZERO;
        let idle: Vec<String> =
            gpus.iter().filter(|gpu| !used(gpu)).map(|gpu| gpu.index.to_string()).collect();
        match (gpus.iter().any(|gpu| used(&gpu)), idle.as_slice()) {
            (_, []) => {}
            (false, _) if folded.iter().all(|folded| folded.readings == 0) => {}
            (false, _) => warnings.push("the command never used a GPU".to_owned()),
            (true, idle) => warnings.push(format!(
                "the command left GPU {} alone: name those that it uses (--gpu 0)",
                idle.join(", ")
            )),
        }
        warnings
    }
}
