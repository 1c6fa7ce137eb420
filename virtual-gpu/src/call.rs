//! One driver call: its number, its faults, its line in the log. Every exported name comes by here.

use std::cell::OnceCell;
use std::fmt::{Display, Write as _};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::c::NullPointer;
use crate::cuda::{self, Cuda};
use crate::machine::{Fault, Locked, Machine, Scenario};
use crate::nvml::{self, Nvml};
use crate::{aground, fork, nccl, runtime};

/// What a call comes to: nothing, or the code that it returns.
pub type Outcome = Result<(), Code>;

/// A code that a driver call returns, other than success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

/// `CUDA_ERROR_INVALID_VALUE` is 1, `NVML_ERROR_INVALID_ARGUMENT` is 2: a null pointer is told
/// apart from other failures until [`dispatch`] knows which interface was called.
impl From<NullPointer> for Code {
    fn from(NullPointer: NullPointer) -> Code {
        NULL_POINTER
    }
}

const NULL_POINTER: Code = Code(u32::MAX);

/// A library of NVIDIA's, with its own codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// libcuda.so.1 and libcudart.so, whose codes are the same where both have them.
    Cuda,
    /// libnvidia-ml.so.1
    Nvml,
    /// libnccl.so.2
    Nccl,
}

impl Interface {
    fn of(name: &str) -> Interface {
        match &name[..4.min(name.len())] {
            "nvml" => Interface::Nvml,
            "nccl" => Interface::Nccl,
            _ => Interface::Cuda,
        }
    }

    /// What real libraries answer on a machine without the kernel's driver.
    fn no_driver(self) -> u32 {
        match self {
            Interface::Cuda => cuda::error::NO_DEVICE.0,
            Interface::Nvml => nvml::error::DRIVER_NOT_LOADED.0,
            Interface::Nccl => nccl::error::UNHANDLED_CUDA_ERROR.0,
        }
    }

    fn null_pointer(self) -> Code {
        match self {
            Interface::Cuda => cuda::error::INVALID_VALUE,
            Interface::Nvml => nvml::error::INVALID_ARGUMENT,
            Interface::Nccl => nccl::error::INVALID_ARGUMENT,
        }
    }
}

/// Names a path of the scenario file.
pub const SCENARIO: &str = "OOMPH_VIRTUAL_GPU";

/// What this process knows of the machine.
struct Driver {
    machine: Machine,
    log: Option<File>,
    cuda: Cuda,
    nvml: Nvml,
}

static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

/// Whether calls are counted, logged or may fail: [`UNKNOWN`], [`UNWATCHED`] or [`WATCHED`].
static WATCH: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const UNWATCHED: u8 = 1;
const WATCHED: u8 = 2;

/// The machine's shared state, locked when it is first looked at within a call.
pub struct Ledger<'a> {
    machine: &'a Machine,
    locked: OnceCell<Locked<'a>>,
}

impl<'a> Deref for Ledger<'a> {
    type Target = Locked<'a>;

    fn deref(&self) -> &Locked<'a> {
        self.locked.get_or_init(|| self.machine.lock().unwrap_or_else(|e| give_up(&e.to_string())))
    }
}

/// What the body of a call works on.
pub struct Call<'a> {
    /// The exported name.
    pub name: &'static str,
    /// What the scenario says.
    pub scenario: &'a Scenario,
    /// Memory and neighbours.
    pub machine: Ledger<'a>,
    /// This process' CUDA.
    pub cuda: &'a mut Cuda,
    /// This process' NVML.
    pub nvml: &'a mut Nvml,
    /// The log's `key=value` pairs, where there is a log.
    notes: Option<String>,
}

impl Call<'_> {
    /// Fails as the scenario says for this place: a call by its name, or `cuda` or `nvml` as such.
    pub fn works_at(&self, place: usize) -> Outcome {
        let all = match Interface::of(self.name) {
            Interface::Cuda => "cuda",
            Interface::Nvml => "nvml",
            Interface::Nccl => "nccl",
        };
        let failing = self.scenario.failing(place).iter();
        match failing.into_iter().find(|(name, _)| name == self.name || name == all) {
            Some((_, code)) => Err(Code(*code)),
            None => Ok(()),
        }
    }

    /// Adds `key=value` to the call's line in the log.
    pub fn note(&mut self, key: &str, value: impl Display) {
        if let Some(notes) = &mut self.notes {
            // Writing to a String cannot fail.
            let _ = write!(notes, " {key}={value}");
        }
    }

    /// Adds an address to the call's line in the log.
    pub fn note_address(&mut self, address: u64) {
        self.note("address", format_args!("{address:#x}"));
    }
}

/// Runs one exported call: counts it, lets it fail where a rule says so, runs `body`, logs it.
pub fn dispatch(name: &'static str, body: impl FnOnce(&mut Call) -> Outcome) -> u32 {
    let interface = Interface::of(name);
    let mut guard = DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(driver) = opened(&mut guard) else {
        return interface.no_driver();
    };
    let Driver { machine, log, cuda, nvml } = driver;
    let ledger = Ledger { machine, locked: OnceCell::new() };
    let watched = WATCH.load(Ordering::Relaxed) == WATCHED;
    let number = if watched { ledger.count_call() } else { 0 };
    let line = |notes: &str, result: &dyn Display| {
        format!("{number} {} {name}{notes} = {result}\n", std::process::id())
    };
    match if watched { ledger.apply_rules(name) } else { None } {
        Some(Fault::Return(code)) => {
            append(log.as_mut(), || line(" fault", &code));
            code
        }
        fault @ (None | Some(Fault::Signal { .. })) => {
            let scenario = &machine.scenario;
            let notes = watched.then(String::new);
            let mut call = Call { name, scenario, machine: ledger, cuda, nvml, notes };
            if let Some(Fault::Signal { number, to_parent }) = fault {
                call.note("signal", number);
                aground::signal(number, to_parent);
            }
            let code = match body(&mut call) {
                Ok(()) => 0,
                Err(NULL_POINTER) => interface.null_pointer().0,
                Err(Code(code)) => code,
            };
            append(log.as_mut(), || line(call.notes.as_deref().unwrap_or_default(), &code));
            code
        }
        Some(end) => {
            let word = match end {
                Fault::Kill => "kill",
                Fault::Segfault => "segfault",
                _ => "hang",
            };
            append(log.as_mut(), || line(" fault", &word));
            // Nobody else has to wait for a process that hangs or dies here.
            drop(ledger);
            drop(guard);
            aground::run_aground(end)
        }
    }
}

/// Runs `body` as a part of a call that is counted elsewhere, or nowhere.
pub fn enter(name: &'static str, body: impl FnOnce(&mut Call) -> Outcome) -> u32 {
    let mut guard = DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(driver) = opened(&mut guard) else {
        return Interface::of(name).no_driver();
    };
    let Driver { machine, cuda, nvml, .. } = driver;
    let ledger = Ledger { machine, locked: OnceCell::new() };
    let scenario = &machine.scenario;
    let mut call = Call { name, scenario, machine: ledger, cuda, nvml, notes: None };
    match body(&mut call) {
        Ok(()) => 0,
        Err(NULL_POINTER) => Interface::of(name).null_pointer().0,
        Err(Code(code)) => code,
    }
}

/// Whether each call has to come by [`dispatch`]: the scenario logs calls or lets them fail.
pub fn is_watched() -> bool {
    match WATCH.load(Ordering::Relaxed) {
        UNKNOWN => {
            let mut guard = DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
            opened(&mut guard).is_some() && WATCH.load(Ordering::Relaxed) == WATCHED
        }
        watch => watch == WATCHED,
    }
}

/// Waits for the calls of other threads, and keeps them out until the guard drops.
pub fn pause() -> MutexGuard<'static, impl Sized> {
    DRIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the driver, opened at the first call of a process (or of a fork of one).
fn opened<'a>(guard: &'a mut MutexGuard<'_, Option<Driver>>) -> Option<&'a mut Driver> {
    if guard.as_ref().is_none_or(|driver| !driver.machine.is_ours()) {
        let path = std::env::var_os(SCENARIO).filter(|path| !path.is_empty())?;
        let machine = Machine::open(Path::new(&path)).unwrap_or_else(|e| give_up(&e));
        check_names(&machine.scenario);
        cuda::forget_thread();
        fork::stay_whole();
        let watched = machine.scenario.is_watched();
        WATCH.store(if watched { WATCHED } else { UNWATCHED }, Ordering::Relaxed);
        let log = machine.scenario.log.as_ref().map(|path| {
            let opened = OpenOptions::new().append(true).create(true).open(path);
            opened.unwrap_or_else(|e| give_up(&format!("{}: {e}", path.display())))
        });
        **guard = Some(Driver { machine, log, cuda: Cuda::default(), nvml: Nvml::default() });
    }
    guard.as_mut()
}

/// Refuses a scenario that speaks of calls that there are not: its faults would never come.
fn check_names(scenario: &Scenario) {
    let lists =
        [cuda::exports(), nvml::EXPORTS.to_vec(), nccl::EXPORTS.to_vec(), runtime::exports()];
    let exported = || lists.iter().flat_map(|list| list.iter()).map(|(name, _)| *name);
    for name in scenario.names() {
        let known = match name.strip_suffix('*') {
            Some(start) => exported().any(|exported| exported.starts_with(start)),
            None => {
                ["cuda", "nvml", "nccl"].contains(&name)
                    || exported().any(|exported| exported == name)
            }
        };
        if !known {
            give_up(&format!("the scenario speaks of `{name}`, which is not exported"));
        }
    }
}

/// Appends one line by one write, so that no line of another process gets in between.
fn append(log: Option<&mut File>, line: impl FnOnce() -> String) {
    if let Some(file) = log
        && let Err(error) = file.write_all(line().as_bytes())
    {
        give_up(&format!("the call log: {error}"));
    }
}

/// Says why the stand-in cannot go on, and ends the process: any answer would mislead.
pub fn give_up(reason: &str) -> ! {
    eprintln!("oomph virtual GPU: {reason}");
    std::process::abort()
}
