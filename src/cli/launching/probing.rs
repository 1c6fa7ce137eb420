//! The largest micro-batch, tried on the chosen GPUs, for `oomph plan`.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::fits::OnDevice;
use crate::cli::job::Job;
use crate::cli::launching::probe::Watch;
use crate::cli::launching::probe_failure::explain;
use crate::cli::on_all::OnAll;
use crate::cli::target::ChosenGpu;
use crate::cli::values::Headroom;
use crate::device::failure::{Limits, ProbeFailure};
use crate::device::interrupt::Interrupt;
use crate::device::lock;
use crate::device::prober::SELF;
use crate::device::session::{ProbeError, ProbeRequest, Probed, probe_gpu};
use crate::plan::capacity::{Capacity, Outside};
use crate::plan::result::Method;
use crate::probe::target::Sharing;
use crate::step::StepError;
use crate::units::{AccumulationSteps, Bytes, MicroBatch};

/// The chosen GPUs, each probed when its largest micro-batch is asked for.
#[derive(Debug)]
pub struct Probing<'a> {
    job: &'a Job,
    sharing: Sharing,
    interrupt: Interrupt,
    /// Why the answers are estimates after all; set by the first GPU that could not be probed.
    given_up: Option<String>,
    /// Whether any GPU was probed.
    probed: bool,
    /// Whether one was whose answer did not run on it, as others never held still.
    unconfirmed: bool,
    /// What to keep in mind of answers.
    warnings: Vec<String>,
}

/// A GPU, what was asked of it, and what came of that.
type ProbedGpu<'a> = (&'a ChosenGpu, ProbeRequest, Result<Probed, ProbeError<StepError>>);

impl<'a> Probing<'a> {
    /// Gets ready; nothing is allocated before an answer is asked for.
    ///
    /// # Errors
    /// When signals cannot be watched for.
    pub fn new(job: &'a Job, sharing: Sharing) -> Result<Probing<'a>, CliError> {
        let interrupt = Interrupt::watch().map_err(|error| {
            CliError::new(exit::BROKEN, "cannot watch for Ctrl-C").cause(error.to_string())
        })?;
        let (probed, unconfirmed) = (false, false);
        let (given_up, warnings) = (None, Vec::new());
        Ok(Probing { job, sharing, interrupt, given_up, probed, unconfirmed, warnings })
    }

    /// Returns how the answers are known, and what to keep in mind.
    pub fn finish(self) -> (Method, Vec<String>) {
        let Probing { given_up, probed, unconfirmed, warnings, .. } = self;
        let known = probed && !unconfirmed && given_up.is_none();
        let method = if known { Method::Probed } else { Method::Estimated };
        (method, given_up.into_iter().chain(warnings).collect())
    }

    /// Probes every GPU at the same time: each has a thread, since a child ends with the thread that
    /// started it.
    fn probe_all(&self, gradients: Bytes, accumulation: AccumulationSteps) -> Vec<ProbedGpu<'a>> {
        let (job, interrupt) = (self.job, &self.interrupt);
        let probe = |gpu: &ChosenGpu, request: &ProbeRequest| {
            let traces = |micro_batch: MicroBatch| {
                job.trace(&job.setup_on(Some(gpu), micro_batch, accumulation))
            };
            let mut watch = Watch::new(gpu.index);
            let result = probe_gpu(&gpu.uuid, request, interrupt, &traces, &mut |p| watch.see(p));
            watch.clear();
            result
        };
        let requests = job.gpus.iter().map(|gpu| (gpu, request(job, self.sharing, gpu, gradients)));
        std::thread::scope(|scope| {
            let started: Vec<_> = requests
                .map(|(gpu, request)| {
                    scope.spawn(move || {
                        let result = probe(gpu, &request);
                        (gpu, request, result)
                    })
                })
                .collect();
            let ended = started.into_iter().map(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            ended.collect()
        })
    }

    /// Returns what a probe has found; `None` when the GPU is in use and that is no error
    /// (`--probe auto`).
    fn judge(
        &mut self,
        gpu: &ChosenGpu,
        result: Result<Probed, ProbeError<StepError>>,
    ) -> Result<Option<Probed>, CliError> {
        match result {
            Ok(probed) => {
                self.probed |= probed.untouched.is_none();
                self.unconfirmed |= !probed.found.is_confirmed();
                let contended = probed.found.contended.map(|(low, high)| {
                    format!(
                        "contended: memory came and went while it was probed; answers from {low} to \
                         {high}, of which the smallest counts"
                    )
                });
                for said in [&contended, &probed.warning, &probed.untouched].into_iter().flatten() {
                    let line = format!("GPU {}: {said}", gpu.index);
                    if !self.warnings.contains(&line) {
                        self.warnings.push(line);
                    }
                }
                Ok(Some(probed))
            }
            Err(error) if self.sharing == Sharing::Refused && is_in_use(&error) => {
                self.given_up = Some(format!("GPU {} was not probed: {error}", gpu.index));
                Ok(None)
            }
            Err(error) => {
                let (fact, hint, code) = explain(error)?;
                let hint = hint.unwrap_or_else(|| "--probe never plans on the estimate".to_owned());
                let fact = format!("GPU {} could not be probed: {fact}", gpu.index);
                Err(CliError::new(code, fact).hint(hint))
            }
        }
    }

    /// Probes the largest micro-batch that runs on every GPU, and takes over into the estimate what
    /// the worst of them showed; `None` where they were given up, and the estimate answers.
    ///
    /// # Errors
    /// When a GPU cannot be probed.
    pub fn largest(
        &mut self,
        estimated: &mut OnAll<OnDevice>,
        accumulation: AccumulationSteps,
    ) -> Result<Option<u64>, CliError> {
        if self.given_up.is_some() {
            return Ok(None);
        }
        let gradients = estimated.kinds.first().map_or(Bytes::ZERO, |kind| kind.gradients);
        let mut smallest: Option<u64> = None;
        for (gpu, request, result) in self.probe_all(gradients, accumulation) {
            let Some(probed) = self.judge(gpu, result)? else { return Ok(None) };
            let largest = probed.found.largest.map_or(0, MicroBatch::get);
            if smallest.is_none_or(|smallest| largest < smallest) {
                smallest = Some(largest);
                learn(estimated, gpu, &request, &probed);
            }
        }
        Ok(smallest)
    }
}

/// Takes over what a probe saw: what was free, and a context that takes more than its allowance.
fn learn(
    estimated: &mut OnAll<OnDevice>,
    gpu: &ChosenGpu,
    request: &ProbeRequest,
    probed: &Probed,
) {
    let alike = |device: &&mut OnDevice| {
        device.gpu.is_some_and(|kind| (kind.arch, kind.total) == (gpu.arch, gpu.total))
    };
    for device in estimated.kinds.iter_mut().filter(alike) {
        for (kind, bytes) in &mut device.outside.terms {
            if *kind == Outside::CudaContext {
                *bytes = probed.outside.context();
            }
        }
        let free = probed.found.free_before + probed.context;
        device.capacity = Some(Capacity::of_device(free, &device.outside, request.headroom));
    }
}

fn request(job: &Job, sharing: Sharing, gpu: &ChosenGpu, gradients: Bytes) -> ProbeRequest {
    let settings = &job.settings;
    ProbeRequest {
        headroom: settings.headroom.unwrap_or(Headroom::DEFAULT).of(gpu.total),
        outside: job.outside(Some(gpu), gradients),
        cap: None,
        limit: settings.search_limit(),
        sharing,
        limits: Limits::default(),
        lock_timeout: std::time::Duration::ZERO,
        lock_folder: lock::default_folder(),
        program: SELF.into(),
    }
}

/// Whether somebody else has the GPU: no failure, but no moment for a probe.
fn is_in_use(error: &ProbeError<StepError>) -> bool {
    match error {
        ProbeError::Obstacle(obstacle) => obstacle.is_passing(),
        ProbeError::Failed(ProbeFailure::Lock(_)) => true,
        _ => false,
    }
}
