//! Probing one GPU from lock to release: what `oomph probe` and `oomph plan` call.

use std::path::PathBuf;
use std::time::Duration;

use super::cuda::CudaError;
use super::failure::{Limits, ProbeFailure};
use super::interrupt::Interrupt;
use super::lock::GpuLock;
use super::nvml::{held_by, list_gpus_within};
use super::nvml_failure::NvmlFailure;
use super::prober::CudaProber;
use super::sim::SimProber;
use super::wsl;
use crate::memory::allocator::GRANULE;
use crate::memory::fit::{min_capacity, runs};
use crate::memory::trace::Trace;
use crate::plan::capacity::OutsideAllocator;
use crate::probe::Room;
use crate::probe::run::{Found, Progress, RunError, Terms, Traces, largest_micro_batch};
use crate::probe::target::{Obstacle, Sharing, Target};
use crate::units::{Bytes, MicroBatch};

/// What a probe of one GPU is to find out, and what it must not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeRequest {
    /// Bytes to leave free at all times.
    pub headroom: Bytes,
    /// What the training process will take outside the caching allocator: its context with
    /// PyTorch's kernels loaded, NCCL and the like. The probe's own context counts towards the
    /// context's part; what is missing is left free on top of the headroom.
    pub outside: OutsideAllocator,
    /// What the caching allocator may take at most, where that is less than what is free.
    pub cap: Option<Bytes>,
    /// No larger micro-batch is tried.
    pub limit: MicroBatch,
    /// Whether others may be using the GPU.
    pub sharing: Sharing,
    /// How long it may take.
    pub limits: Limits,
    /// How long to wait for another probe of the same GPU.
    pub lock_timeout: Duration,
    /// Where lock files are: [`super::lock::default_folder`].
    pub lock_folder: PathBuf,
    /// The oomph binary that makes the driver calls: [`super::prober::SELF`], unless this library
    /// is in another program.
    pub program: PathBuf,
}

/// What a probe has found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The search's answer.
    pub found: Found,
    /// What the context took: the probing process's own, or the simulated GPU's allowance.
    pub context: Bytes,
    /// What is taken to lie outside the caching allocator, with that context.
    pub outside: OutsideAllocator,
    /// What was left free in all: headroom, and the part of `outside` beyond the context.
    pub kept_free: Bytes,
    /// What the driver takes for a segment of 2 MiB.
    pub granule: Bytes,
    /// Driver calls made; none on a simulated GPU.
    pub driver_calls: u64,
    /// What went wrong after the answer was there.
    pub warning: Option<String>,
    /// Why nothing was allocated, if so: then the answer is arithmetic.
    pub untouched: Option<String>,
}

/// Why a GPU was not probed to the end.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError<T> {
    /// The driver has nothing to say about any GPU.
    #[error(transparent)]
    Inventory(#[from] NvmlFailure),
    /// The GPU was there a moment ago.
    #[error("{uuid} is no longer there{}", because(reasons))]
    Gone {
        /// The GPU.
        uuid: String,
        /// Why GPUs do not answer: one of them is this one, as far as can be told.
        reasons: Vec<String>,
    },
    /// It had better not be probed.
    #[error("{0}")]
    Obstacle(Obstacle),
    /// The probe broke.
    #[error(transparent)]
    Failed(#[from] ProbeFailure),
    /// The step of a micro-batch could not be worked out.
    #[error("the step cannot be worked out")]
    Trace(T),
}

fn because(reasons: &[String]) -> String {
    if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) }
}

/// Finds the largest micro-batch that fits on a real GPU, or on a MIG instance, by its UUID.
///
/// Takes the GPU's lock first and asks NVML then, so that an earlier probe's memory is not taken
/// for a neighbour's. Everything that it allocates is in a child process and given back before this
/// returns, whether it succeeds, fails, is interrupted or runs out of time. Call it from a thread
/// that outlives it: the child dies with the thread.
///
/// `traces` makes the step of a micro-batch at the plan's accumulation. `interrupt` is shared by
/// all probes of one command.
///
/// ```no_run
/// # use oomph::device::{interrupt::Interrupt, failure::Limits, lock, prober::SELF, session::*};
/// # use oomph::{memory::trace::Trace, plan::capacity::OutsideAllocator, probe::target::Sharing};
/// # use oomph::units::{Bytes, DataParallelSize, MicroBatch};
/// # fn step(_: MicroBatch) -> Result<Trace, std::convert::Infallible> { Ok(Trace::default()) }
/// let request = ProbeRequest {
///     headroom: Bytes::gib(2),
///     outside: OutsideAllocator::new(Bytes::mib(600), DataParallelSize::ONE, Bytes::ZERO),
///     cap: None,
///     limit: MicroBatch::new(4096).expect("not zero"),
///     sharing: Sharing::Refused,
///     limits: Limits::default(),
///     lock_timeout: std::time::Duration::ZERO,
///     lock_folder: lock::default_folder(),
///     program: SELF.into(),
/// };
/// let interrupt = Interrupt::watch()?;
/// let probed = probe_gpu("GPU-...", &request, &interrupt, &mut step, &mut |_| {});
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// See [`ProbeError`]. "Not even micro-batch 1 fits" is an answer.
pub fn probe_gpu<T>(
    uuid: &str,
    request: &ProbeRequest,
    interrupt: &Interrupt,
    traces: &Traces<T>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Probed, ProbeError<T>> {
    let stop = || interrupt.caught().is_some();
    let locked = GpuLock::take(&request.lock_folder, uuid, request.lock_timeout, stop);
    if let Some(signal) = interrupt.caught() {
        return Err(ProbeFailure::Interrupted { signal }.into());
    }
    let lock = locked.map_err(ProbeFailure::from)?;
    let list = list_gpus_within(request.limits.total, stop);
    if let Some(signal) = interrupt.caught() {
        return Err(ProbeFailure::Interrupted { signal }.into());
    }
    let list = list?;
    let Some(target) = Target::find(&list, uuid) else {
        let reasons = list.rows.into_iter().filter_map(|row| row.gpu.err()).collect();
        return Err(ProbeError::Gone { uuid: uuid.to_owned(), reasons });
    };
    if let Some(obstacle) = target.obstacle(request.sharing) {
        return Err(ProbeError::Obstacle(obstacle));
    }
    let idle_free = target.memory().map(|memory| memory.free).unwrap_or_default();
    if wsl::is_here() {
        let probed = probe_simulated(idle_free, request, traces, progress);
        let untouched = Some(wsl::WHY_NOT.to_owned());
        return Ok(Probed { untouched, ..probed.map_err(ProbeError::Trace)? });
    }
    if let Some(why) = too_little(idle_free, request, traces).map_err(ProbeError::Trace)? {
        let untouched = Some(why);
        return Ok(Probed { untouched, ..nothing_fits(idle_free, request) });
    }
    let started = CudaProber::start(
        &request.program,
        uuid,
        request.headroom,
        request.limits,
        lock,
        interrupt,
    );
    let mut prober = match started {
        Err(ProbeFailure::NoContext { calls }) => {
            let warning = Some(CudaError::NoContext.to_string());
            let nothing = nothing_fits(idle_free, request);
            return Ok(Probed { driver_calls: calls, warning, ..nothing });
        }
        started => started?,
    };
    let ready = prober.ready();
    let ask = |pid| held_by(pid, uuid, request.limits.call, stop);
    let context = context_of(&prober, &target, idle_free, ask);
    let outside = request.outside.clone().with_bare_context(context);
    let kept_free = request.headroom + outside.total().saturating_sub(context);
    let room = Room { kept_free, cap: request.cap };
    let terms = Terms { room, granule: ready.granule, limit: request.limit };
    // What CUDA itself says of the device's size, as PyTorch would ask it.
    let of_device = |micro_batch| {
        let trace = traces(micro_batch)?;
        Ok(Trace { allocator: trace.allocator.on_device_of(ready.total), ..trace })
    };
    let found = largest_micro_batch(&mut prober, &terms, &of_device, progress).map_err(
        |error| match error {
            RunError::Prober(failure) => ProbeError::Failed(failure),
            RunError::Trace(error) => ProbeError::Trace(error),
        },
    )?;
    let driver_calls = prober.calls();
    let warning = prober.finish().err().map(|failure| failure.to_string());
    Ok(Probed {
        found,
        context,
        outside,
        kept_free,
        granule: ready.granule,
        driver_calls,
        warning,
        untouched: None,
    })
}

/// Says what is missing where not even one sample fits by arithmetic: then nothing is to be touched.
fn too_little<T>(
    free: Bytes,
    request: &ProbeRequest,
    traces: &Traces<T>,
) -> Result<Option<String>, T> {
    let trace = traces(MicroBatch::ONE)?;
    let (headroom, outside) = (request.headroom, request.outside.total());
    let room = Room { kept_free: headroom + outside, cap: request.cap };
    let capacity = room.of(free);
    if runs(&trace, capacity) {
        return Ok(None);
    }
    let needs = match min_capacity(&trace) {
        Ok(least) => least.to_string(),
        Err(error) => error.to_string(),
    };
    if let Some(cap) = request.cap.filter(|cap| *cap == capacity) {
        return Ok(Some(format!("one sample needs {needs}, and {cap} may be taken at most")));
    }
    Ok(Some(format!(
        "one sample needs {needs} beside {outside} outside the allocator and {headroom} headroom, and \
         {free} is free"
    )))
}

/// Says that nothing fits, before any replay.
fn nothing_fits(free: Bytes, request: &ProbeRequest) -> Probed {
    let found = Found {
        largest: None,
        simulated: None,
        at_limit: false,
        contended: None,
        free_before: free,
        free_after: free,
        tried: Vec::new(),
    };
    Probed {
        found,
        context: Bytes::ZERO,
        outside: request.outside.clone(),
        kept_free: request.headroom + request.outside.total(),
        granule: GRANULE,
        driver_calls: 0,
        warning: None,
        untouched: None,
    }
}

/// Returns what the child's context takes: what NVML says that the child holds, or else how much less
/// is free with it, to which neighbours and an MPS client's limit add.
///
/// `ask` asks NVML for what a process holds. In a container NVML's process ids are the host's; one
/// that was there before is not the child.
fn context_of(
    prober: &CudaProber<'_>,
    before: &Target,
    free_before: Bytes,
    ask: impl Fn(u32) -> Option<Bytes>,
) -> Bytes {
    let pid = prober.pid();
    let known = before.gpu.processes.iter().any(|process| process.pid == pid);
    let held = if known { None } else { ask(pid) };
    held.unwrap_or_else(|| free_before.saturating_sub(prober.ready().free))
}

/// Runs the same search on a simulated GPU of which `free` bytes are free.
///
/// Nothing is allocated: the answer rests on the estimate.
///
/// # Errors
///
/// When the step of a micro-batch cannot be worked out.
pub fn probe_simulated<T>(
    free: Bytes,
    request: &ProbeRequest,
    traces: &Traces<T>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Probed, T> {
    let context = request.outside.context();
    let mut prober = SimProber::new(free, context);
    let kept_free = request.headroom + request.outside.total().saturating_sub(context);
    let room = Room { kept_free, cap: request.cap };
    let terms = Terms { room, granule: GRANULE, limit: request.limit };
    let found = match largest_micro_batch(&mut prober, &terms, traces, progress) {
        Ok(found) => found,
        Err(RunError::Trace(error)) => return Err(error),
        Err(RunError::Prober(never)) => match never {},
    };
    Ok(Probed {
        found,
        context,
        outside: request.outside.clone(),
        kept_free,
        granule: GRANULE,
        driver_calls: 0,
        warning: None,
        untouched: None,
    })
}
