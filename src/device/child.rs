//! The probe's child: the only process that touches CUDA.
//!
//! It makes the allocations of a step and gives all of them back: when it is told to, when its
//! input ends, on SIGTERM and SIGINT. A hang or a crash in here is the parent's to notice; when the
//! parent dies without a word, the kernel kills this process and the driver takes everything back.

use std::ffi::OsString;
use std::io::{self, BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::cuda::{CudaError, Driver, Entered};
use super::cuda_mapping::Mapping;
use super::held::{DeviceMemory, Terms};
use super::wire::{Received, Reply, line, read_request};
use crate::memory::allocator::{GRANULE, SMALL_SEGMENT, replay};
use crate::memory::trace::{AllocatorMode, Trace};
use crate::probe::{Attempt, Capacities};
use crate::trial::tree;
use crate::units::Bytes;

/// The hidden first argument that makes this program a probe's child.
pub const ARGUMENT: &str = "__probe-child";

/// A granule above this is a neighbour's doing, not the driver's.
///
/// Source: the largest page that NVIDIA's driver maps is 512 MiB (Hopper's GMMU, open-gpu-kernel-
/// modules, `GMMU_FMT_MAX_LEVELS` page sizes 4K, 64K, 2M, 512M).
const LARGEST_GRANULE: u64 = 512 << 20;

/// Set once the parent no longer listens.
static UNHEARD: AtomicBool = AtomicBool::new(false);

/// Returns what follows the hidden argument, if this process was started as a probe's child.
pub fn arguments(command_line: &[OsString]) -> Option<Vec<String>> {
    let (first, rest) = command_line.get(1..)?.split_first()?;
    let rest = || rest.iter().map(|argument| argument.to_string_lossy().into_owned());
    (first == ARGUMENT).then(|| rest().collect())
}

/// Runs the child: `arguments` are the UUID, the headroom in bytes, and the parent's process id.
/// Returns the exit code.
pub fn main(arguments: &[String]) -> u8 {
    let [uuid, headroom, parent] = arguments else { return 2 };
    let Ok(headroom) = headroom.parse() else { return 2 };
    // A parent that died before this call left nobody to be told about.
    let bound = tree::die_with_parent();
    let orphan =
        rustix::process::getppid().is_none_or(|pid| pid.as_raw_nonzero().to_string() != *parent);
    if bound.is_err() || orphan {
        return 1;
    }
    let told_to_stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        if signal_hook::flag::register(signal, Arc::clone(&told_to_stop)).is_err() {
            return 1;
        }
    }
    let last = match serve(uuid, headroom, &told_to_stop) {
        Ok(()) | Err(Halt::Stopped) => Reply::Bye,
        Err(Halt::Cuda(error)) => Reply::Failed(error),
    };
    say(&last);
    0
}

/// Why the child stops.
#[derive(Debug)]
pub(super) enum Halt {
    /// It was told to, or nobody listens any more.
    Stopped,
    /// The driver broke.
    Cuda(CudaError),
}

impl From<CudaError> for Halt {
    fn from(error: CudaError) -> Halt {
        Halt::Cuda(error)
    }
}

/// Writes one line; a parent that is gone is noticed at the next allocation.
fn say(reply: &Reply) {
    let mut stdout = io::stdout().lock();
    if stdout.write_all(&line(reply)).and_then(|()| stdout.flush()).is_err() {
        UNHEARD.store(true, Ordering::SeqCst);
    }
}

fn announce(call: &'static str) {
    say(&Reply::Calling(call.to_owned()));
}

fn serve(uuid: &str, headroom: u64, told_to_stop: &AtomicBool) -> Result<(), Halt> {
    let driver = Driver::load(announce)?;
    let device = driver.device(uuid)?;
    if driver.is_integrated(device)? {
        return Err(CudaError::UnifiedMemory.into());
    }
    let sm_count = driver.sm_count(device)?;
    let context = driver.enter(device)?;
    let granule = measure_granule(&context, headroom)?;
    let info = context.mem_info()?;
    let (free, total) = (Bytes::new(info.free), Bytes::new(info.total));
    say(&Reply::Ready { free, total, granule, sm_count });
    let mut input = BufReader::new(io::stdin().lock());
    let mut mapping = None;
    loop {
        let request = read_request(&mut input);
        if told_to_stop.load(Ordering::SeqCst) {
            break;
        }
        match request {
            Ok(Received::Free) => say(&Reply::Free(Bytes::new(context.mem_info()?.free))),
            Ok(Received::Attempt(trace, room)) => {
                if trace.allocator != AllocatorMode::Default && mapping.is_none() {
                    mapping = Some(Mapping::load(&driver, device, SMALL_SEGMENT.get())?);
                }
                let terms = Terms {
                    headroom: room.kept_free.get(),
                    cap: room.cap.map_or(u64::MAX, Bytes::get),
                    granule: granule.get(),
                    told_to_stop,
                };
                let free = context.mem_info()?.free;
                let memory = DeviceMemory::new(&context, mapping.as_ref(), terms, free);
                say(&attempt(memory, &trace)?);
            }
            // A request that breaks off is a parent that died while it wrote.
            Ok(Received::End) | Err(_) => break,
        }
    }
    context.leave()?;
    Ok(())
}

/// Learns what the driver takes for a segment of 2 MiB.
///
/// The first allocation also pays for the driver's own tables, so the second one is measured, as it
/// comes and as it goes: where the two differ a neighbour has moved. What cannot be a granule counts
/// as PyTorch's own 2 MiB.
fn measure_granule(context: &Entered<'_>, headroom: u64) -> Result<Bytes, CudaError> {
    if context.mem_info()?.free < headroom.saturating_add(2 * GRANULE.get()) {
        return Ok(GRANULE);
    }
    let Some(first) = context.alloc(GRANULE.get())? else { return Ok(GRANULE) };
    let measured = measure_second(context);
    // Whatever went wrong, both are given back first.
    context.free(first)?;
    let Some([before, held, after]) = measured? else { return Ok(GRANULE) };
    let taken = before.saturating_sub(held);
    let believable = taken == after.saturating_sub(held)
        && taken > GRANULE.get()
        && taken <= LARGEST_GRANULE
        && taken.is_multiple_of(GRANULE.get());
    Ok(if believable { Bytes::new(taken) } else { GRANULE })
}

/// Returns what is free before, during and after an allocation of 2 MiB, if it is granted.
fn measure_second(context: &Entered<'_>) -> Result<Option<[u64; 3]>, CudaError> {
    let before = context.mem_info()?.free;
    let Some(second) = context.alloc(GRANULE.get())? else { return Ok(None) };
    let held = context.mem_info();
    context.free(second)?;
    Ok(Some([before, held?.free, context.mem_info()?.free]))
}

/// Replays one step, and gives everything back however it ends.
fn attempt(mut memory: DeviceMemory<'_>, trace: &Trace) -> Result<Reply, Halt> {
    let free_before = Bytes::new(memory.free);
    let result = replay(trace, &mut memory);
    let cleaned = memory.give_back_all();
    let replayed = result?;
    cleaned?;
    Ok(Reply::Attempted(Attempt {
        fits: replayed.ran(),
        peak_reserved: Bytes::new(memory.peak_held),
        free_before,
        free_at_peak: Bytes::new(memory.free_at_peak),
        same_on: Capacities {
            from: Bytes::new(memory.largest_granted),
            below: memory.smallest_refused.map(Bytes::new),
        },
    }))
}

/// Whether the parent has closed its end: it died, or wants this to stop.
pub(super) fn nobody_listens() -> bool {
    if UNHEARD.load(Ordering::SeqCst) {
        return true;
    }
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}
