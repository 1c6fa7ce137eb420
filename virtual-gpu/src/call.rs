//! One driver call: its number, its faults, its line in the log. Every exported name comes by here.

use std::fmt::{Display, Write as _};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::c::NullPointer;
use crate::cuda::{self, Cuda};
use crate::machine::{Fault, Locked, Machine, Scenario};
use crate::nvml::{self, Nvml};

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
    /// libcuda.so.1
    Cuda,
    /// libnvidia-ml.so.1
    Nvml,
}

impl Interface {
    fn of(name: &str) -> Interface {
        if name.starts_with("nvml") { Interface::Nvml } else { Interface::Cuda }
    }

    /// What real libraries answer on a machine without the kernel's driver.
    fn no_driver(self) -> u32 {
        match self {
            Interface::Cuda => cuda::error::NO_DEVICE.0,
            Interface::Nvml => nvml::error::DRIVER_NOT_LOADED.0,
        }
    }

    fn null_pointer(self) -> Code {
        match self {
            Interface::Cuda => cuda::error::INVALID_VALUE,
            Interface::Nvml => nvml::error::INVALID_ARGUMENT,
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

/// What the body of a call works on.
pub struct Call<'a> {
    /// The exported name.
    pub name: &'static str,
    /// What the scenario says.
    pub scenario: &'a Scenario,
    /// Memory and neighbours.
    pub machine: Locked<'a>,
    /// This process' CUDA.
    pub cuda: &'a mut Cuda,
    /// This process' NVML.
    pub nvml: &'a mut Nvml,
    notes: String,
}

impl Call<'_> {
    /// Fails as the scenario says for this place: a call by its name, or `cuda` or `nvml` as such.
    pub fn works_at(&self, place: usize) -> Outcome {
        let all = match Interface::of(self.name) {
            Interface::Cuda => "cuda",
            Interface::Nvml => "nvml",
        };
        let failing = self.scenario.failing(place).iter();
        match failing.into_iter().find(|(name, _)| name == self.name || name == all) {
            Some((_, code)) => Err(Code(*code)),
            None => Ok(()),
        }
    }

    /// Adds `key=value` to the call's line in the log.
    pub fn note(&mut self, key: &str, value: impl Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.notes, " {key}={value}");
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
    let locked = machine.lock().unwrap_or_else(|e| give_up(&e.to_string()));
    let number = locked.count_call();
    let line = |notes: &str, result: &dyn Display| {
        format!("{number} {} {name}{notes} = {result}\n", std::process::id())
    };
    match locked.apply_rules(name) {
        Some(Fault::Return(code)) => {
            append(log.as_mut(), &line(" fault", &code));
            code
        }
        None => {
            let scenario = &machine.scenario;
            let notes = String::new();
            let mut call = Call { name, scenario, machine: locked, cuda, nvml, notes };
            let code = match body(&mut call) {
                Ok(()) => 0,
                Err(NULL_POINTER) => interface.null_pointer().0,
                Err(Code(code)) => code,
            };
            append(log.as_mut(), &line(&call.notes, &code));
            code
        }
        Some(end) => {
            let word = match end {
                Fault::Kill => "kill",
                Fault::Segfault => "segfault",
                _ => "hang",
            };
            append(log.as_mut(), &line(" fault", &word));
            // Nobody else has to wait for a process that hangs or dies here.
            drop(locked);
            drop(guard);
            run_aground(end)
        }
    }
}

/// Returns the driver, opened at the first call of a process (or of a fork of one).
fn opened<'a>(guard: &'a mut MutexGuard<'_, Option<Driver>>) -> Option<&'a mut Driver> {
    if guard.as_ref().is_none_or(|driver| !driver.machine.is_ours()) {
        let path = std::env::var_os(SCENARIO).filter(|path| !path.is_empty())?;
        let machine = Machine::open(Path::new(&path)).unwrap_or_else(|e| give_up(&e));
        check_names(&machine.scenario);
        cuda::forget_thread();
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
    let exported = || cuda::EXPORTS.iter().chain(nvml::EXPORTS).map(|(name, _)| *name);
    for name in scenario.names() {
        let known = match name.strip_suffix('*') {
            Some(start) => exported().any(|exported| exported.starts_with(start)),
            None => ["cuda", "nvml"].contains(&name) || exported().any(|exported| exported == name),
        };
        if !known {
            give_up(&format!("the scenario speaks of `{name}`, which is not exported"));
        }
    }
}

/// Appends one line by one write, so that no line of another process gets in between.
fn append(log: Option<&mut File>, line: &str) {
    if let Some(file) = log
        && let Err(error) = file.write_all(line.as_bytes())
    {
        give_up(&format!("the call log: {error}"));
    }
}

/// Does what the caller does not come back from.
fn run_aground(end: Fault) -> ! {
    unsafe extern "C" {
        fn kill(pid: i32, signal: i32) -> i32;
    }
    const SIGKILL: i32 = 9;
    match end {
        Fault::Kill => {
            // SAFETY: a system call; it ends this process.
            unsafe { kill(std::process::id() as i32, SIGKILL) };
        }
        Fault::Segfault => {
            let nowhere: *mut u8 = std::ptr::without_provenance_mut(std::hint::black_box(8));
            // SAFETY: not sound, and meant so: the page at address zero is never mapped, so this
            // is the invalid access that the scenario asks for.
            unsafe { nowhere.write_volatile(1) };
        }
        _ => {}
    }
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Says why the stand-in cannot go on, and ends the process: any answer would mislead.
pub fn give_up(reason: &str) -> ! {
    eprintln!("oomph virtual GPU: {reason}");
    std::process::abort()
}

/// An exported name and the address of its code.
pub type Export = (&'static str, *const ());

/// Makes one exported C function a line, each going through [`dispatch`] to a function of the
/// form `fn(&mut Call, arguments...) -> Outcome`, and the list of them.
macro_rules! exports {
    ($($name:ident($($argument:ident: $type:ty),*) => $implementation:path;)*) => {
        $(
            /// Answers as the driver's header says.
            ///
            /// # Safety
            ///
            /// Pointers are null or good for what the header says.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
                $crate::call::dispatch(stringify!($name), |call| {
                    $implementation(call $(, $argument)*)
                })
            }
        )*

        /// Every name that this module exports.
        pub const EXPORTS: &[$crate::call::Export] = &[$((stringify!($name), $name as *const ())),*];
    };
}
pub(crate) use exports;
