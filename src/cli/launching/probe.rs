//! `oomph probe`: probing the chosen GPUs, and what comes of it.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::fits::most_at_once;
use crate::cli::hints::together;
use crate::cli::job::{Job, WithoutGpu};
use crate::cli::launching::probe_failure::{explain, first_of, interrupted};
use crate::cli::output::{Answer, Style, write_stderr};
use crate::cli::probe::Args;
use crate::cli::target::ChosenGpu;
use crate::cli::values::Headroom;
use crate::device::failure::Limits;
use crate::device::interrupt::Interrupt;
use crate::device::lock;
use crate::device::prober::SELF;
use crate::device::session::{ProbeError, ProbeRequest, Probed, probe_gpu, probe_simulated};
use crate::memory::trace::{Category, Trace};
use crate::probe::answer::{GpuAnswer, Measured, NotMeasured, ProbeAnswer};
use crate::probe::run::{Progress, Tried};
use crate::probe::target::Sharing;
use crate::report;
use crate::report::text::Paint;
use crate::step::StepError;
use crate::units::{AccumulationSteps, Bytes, MicroBatch};

/// Runs `oomph probe`.
///
/// # Errors
/// When the setup cannot be worked with, there is no GPU, or the user interrupts. A GPU without an
/// answer is a row that says why.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    let mut job = Job::prepare(&args.model, WithoutGpu::AskDriver)?;
    if job.gpus.is_empty() {
        return Err(CliError::usage("a probe allocates on a GPU: --capacity alone has none").hint(
            "`--gpu all --capacity SIZE` takes no more than that of each; \
                   `oomph estimate MODEL --micro-batch auto --capacity SIZE` works without a GPU",
        ));
    }
    job.check_kernels()?;
    let accumulation = accumulation(&mut job)?;
    let interrupt = Interrupt::watch().map_err(|error| {
        CliError::new(exit::BROKEN, "cannot watch for Ctrl-C").cause(error.to_string())
    })?;
    let (gpus, mut code) = all(args, &job, accumulation, &interrupt)?;
    // An answer that came first is not printed either: whoever interrupts waits for no answer.
    if let Some(signal) = interrupt.caught() {
        return Err(interrupted(signal));
    }
    let Job { model, settings, .. } = job;
    let mut answer = ProbeAnswer {
        model: model.name,
        setup: settings.at(MicroBatch::ONE, accumulation),
        wanted: settings.micro_batch,
        gpus,
        versions: settings.versions,
        assumptions: settings.assumptions,
        notes: settings.notes,
        hints: Vec::new(),
    };
    if answer.fits() == Some(false) {
        answer.hints.push(together());
        code = first_of(code, exit::DOES_NOT_FIT);
    }
    let text = if style.json {
        report::probe::json(&answer)
    } else {
        report::probe::render(&answer, Paint { on: style.color })
    };
    Ok(Answer { text, code })
}

/// Probes every GPU, the real ones at the same time: each has a thread, since a child ends with the
/// thread that started it.
fn all(
    args: &Args,
    job: &Job,
    accumulation: AccumulationSteps,
    interrupt: &Interrupt,
) -> Result<(Vec<GpuAnswer>, u8), CliError> {
    let probe = |gpu| one(args, job, gpu, accumulation, interrupt);
    // Of simulated ones that differ in number alone one is asked.
    let first_alike = |gpu: &ChosenGpu| job.gpus.iter().position(|other| other.is_alike(gpu));
    let asked = |(at, gpu): &(usize, &ChosenGpu)| !gpu.simulated || first_alike(gpu) == Some(*at);
    let results: BTreeMap<usize, _> = std::thread::scope(|scope| {
        let started: Vec<_> = job
            .gpus
            .iter()
            .enumerate()
            .filter(asked)
            .map(|(at, gpu)| (at, scope.spawn(move || probe(gpu))))
            .collect();
        let ended = started.into_iter().map(|(at, thread)| match thread.join() {
            Ok(result) => (at, result),
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.collect()
    });
    let (mut answers, mut code) = (BTreeMap::new(), exit::OK);
    for (at, result) in results {
        let (answer, failed) = result?;
        code = first_of(code, failed);
        answers.insert(at, answer);
    }
    let answer = |(at, gpu): (usize, &ChosenGpu)| {
        let asked = answers.get(&at).or_else(|| answers.get(&first_alike(gpu)?));
        asked.map(|answer| GpuAnswer { index: gpu.index, uuid: gpu.uuid.clone(), ..answer.clone() })
    };
    Ok((job.gpus.iter().enumerate().filter_map(answer).collect(), code))
}

/// Decides on the micro-steps: an effective batch will need at least two of them, and then the
/// gradients stay alive through the forward pass.
fn accumulation(job: &mut Job) -> Result<AccumulationSteps, CliError> {
    if let Some(steps) = job.settings.accumulation {
        return Ok(steps);
    }
    let (steps, why) = match job.settings.effective_batch()? {
        Some(_) => (
            AccumulationSteps::TWO,
            "--accumulation 2: stands for two and more, as the effective batch takes",
        ),
        None => (AccumulationSteps::ONE, "--accumulation 1 (default)"),
    };
    job.settings.assumptions.push(why.to_owned());
    Ok(steps)
}

/// Probes one GPU; the code is of a failure, if there was one.
fn one(
    args: &Args,
    job: &Job,
    gpu: &ChosenGpu,
    accumulation: AccumulationSteps,
    interrupt: &Interrupt,
) -> Result<(GpuAnswer, u8), CliError> {
    let settings = &job.settings;
    let traces = |micro_batch: MicroBatch| -> Result<Trace, StepError> {
        job.trace(&job.setup_on(Some(gpu), micro_batch, accumulation))
    };
    let gradients = match job.data_parallel().get() {
        1 => Bytes::ZERO,
        _ => most_at_once(&traces(MicroBatch::ONE)?, Category::Gradients),
    };
    let defaults = Limits::default();
    let outside = job.outside(Some(gpu), gradients);
    let cap = job.capacity_on(Some(gpu), &outside).filter(|capacity| capacity.given);
    let request = ProbeRequest {
        headroom: settings.headroom.unwrap_or(Headroom::DEFAULT).of(gpu.total),
        outside,
        cap: cap.map(|capacity| capacity.bytes),
        limit: settings.micro_batch.unwrap_or_else(|| settings.search_limit()),
        sharing: if args.shared { Sharing::Allowed } else { Sharing::Refused },
        limits: Limits {
            call: args.call_timeout.unwrap_or(defaults.call),
            total: args.timeout.unwrap_or(defaults.total),
        },
        lock_timeout: args.lock_timeout.unwrap_or_default(),
        lock_folder: lock::default_folder(),
        program: SELF.into(),
    };
    let mut watch = Watch::new(gpu.index);
    let mut progress = |progress| watch.see(progress);
    let probed = if gpu.simulated {
        probe_simulated(gpu.free, &request, &traces, &mut progress).map_err(ProbeError::Trace)
    } else {
        probe_gpu(&gpu.uuid, &request, interrupt, &traces, &mut progress)
    };
    watch.clear();
    let (outcome, code) = match probed {
        Ok(probed) => (Ok(measured(probed)), exit::OK),
        Err(error) => {
            let (fact, hint, code) = explain(error)?;
            (Err(NotMeasured { fact, hint, tried: watch.tried }), code)
        }
    };
    let answer = GpuAnswer {
        index: gpu.index,
        name: gpu.name.clone(),
        uuid: gpu.uuid.clone(),
        simulated: gpu.simulated,
        total: gpu.total,
        headroom: request.headroom,
        cap: request.cap,
        outcome,
    };
    Ok((answer, code))
}

fn measured(probed: Probed) -> Measured {
    let Probed { found, context, kept_free, granule, driver_calls, warning, untouched, .. } =
        probed;
    Measured { found, context, kept_free, granule, driver_calls, warning, untouched }
}

/// Shows on a terminal what is going on, and remembers what is known should it break.
pub(crate) struct Watch {
    gpu: u32,
    shown: bool,
    tried: Vec<Tried>,
}

impl Watch {
    /// Watches the probe of one GPU.
    pub(crate) fn new(gpu: u32) -> Watch {
        Watch { gpu, shown: std::io::stderr().is_terminal(), tried: vec![] }
    }

    /// Takes in what is going on.
    pub(crate) fn see(&mut self, progress: Progress) {
        match progress {
            Progress::Trying { micro_batch, replay } if self.shown => {
                let gpu = self.gpu;
                write_stderr(&format!(
                    "\r\x1b[KGPU {gpu}: trying micro-batch {micro_batch} (replay {replay})"
                ));
            }
            Progress::Trying { .. } => {}
            Progress::Tried(tried) => self.tried.push(tried),
        }
    }

    /// Clears the line on the terminal.
    pub(crate) fn clear(&self) {
        if self.shown {
            write_stderr("\r\x1b[K");
        }
    }
}
