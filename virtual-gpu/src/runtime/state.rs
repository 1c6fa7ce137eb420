//! What each thread of a process is at: its device, its last error, whether its context is made.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::call::{self, Call, Code, Outcome};
use crate::cuda;

/// What a thread needs to know to launch and copy on its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The device's ordinal.
    pub device: i32,
    /// Index of its place.
    pub place: usize,
    /// Ten times the card's compute capability.
    pub architecture: u32,
    /// What [`EPOCH`] was when the context was made or met.
    epoch: u64,
}

impl Ready {
    /// What is known within a call of the driver.
    pub fn new(device: i32, place: usize, architecture: u32) -> Ready {
        Ready { device, place, architecture, epoch: 0 }
    }
}

/// Counts what makes contexts go away: resets, forks.
static EPOCH: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static DEVICE: Cell<i32> = const { Cell::new(0) };
    static LAST_ERROR: Cell<u32> = const { Cell::new(0) };
    static READY: Cell<Ready> =
        const { Cell::new(Ready { device: -1, place: 0, architecture: 0, epoch: 0 }) };
}

/// Returns the thread's device.
pub fn device() -> i32 {
    DEVICE.get()
}

/// Sets the thread's device, with no look at whether there is one.
pub fn set_device(ordinal: i32) {
    DEVICE.set(ordinal);
}

/// Keeps a failure for `cudaGetLastError`; returns the code.
pub fn remember(code: u32) -> u32 {
    // cudaErrorNotReady (600) is an answer, and is not kept.
    if code != 0 && code != 600 {
        LAST_ERROR.set(code);
    }
    code
}

/// Returns the last failure, and forgets it.
pub fn take_last_error() -> u32 {
    LAST_ERROR.replace(0)
}

/// Returns the last failure.
pub fn last_error() -> u32 {
    LAST_ERROR.get()
}

/// Makes every thread look for its context anew.
pub fn forget_contexts() {
    EPOCH.fetch_add(1, Relaxed);
}

/// Returns the thread's device with its context made; the code when that fails.
pub fn ready() -> Result<Ready, u32> {
    let ready = READY.get();
    if ready.epoch == EPOCH.load(Relaxed) && ready.device == DEVICE.get() {
        return Ok(ready);
    }
    match call::enter("cudaFree", |call| call.runtime_context().map(drop)) {
        0 => Ok(READY.get()),
        code => Err(code),
    }
}

impl Call<'_> {
    /// Initializes CUDA if it is not yet.
    pub fn runtime_init(&mut self) -> Outcome {
        match self.initialized() {
            Ok(_) => Ok(()),
            Err(_) => cuda::device::init(self, 0),
        }
    }

    /// Returns context and place of the thread's device; makes the context if need be.
    pub fn runtime_context(&mut self) -> Result<(u64, usize), Code> {
        self.runtime_init()?;
        let device = DEVICE.get();
        let wanted = self.device(device)?;
        let (context, place) = match self.current_context() {
            Ok((context, place)) if place == wanted => (context, place),
            _ => self.enter_primary(device)?,
        };
        // Said in the notes, whatever the program asks for.
        super::version();
        let (major, minor) = self.scenario.gpu_at(place).capability;
        let architecture = major * 10 + minor;
        let epoch = EPOCH.load(Relaxed);
        READY.set(Ready { device, place, architecture, epoch });
        Ok((context, place))
    }
}

/// Makes one exported function of the runtime a line: as [`call::exports`], and a failure is kept
/// for `cudaGetLastError`.
macro_rules! runtime {
    ($($name:ident($($argument:ident: $type:ty),*) => $implementation:path;)*) => {
        $(
            /// Answers as the runtime's header says.
            ///
            /// # Safety
            ///
            /// Pointers are null or good for what the header says.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
                $crate::runtime::state::remember($crate::call::dispatch(
                    stringify!($name),
                    |call| $implementation(call $(, $argument)*),
                ))
            }
        )*

        $crate::exports::listed!($($name),*);
    };
}
pub(crate) use runtime;

/// Makes one exported function a line that runs without a lock, once its thread's context is made:
/// `fn(Ready, arguments...) -> u32`. Where calls are watched it is dispatched as all others.
macro_rules! quick {
    ($($name:ident($($argument:ident: $type:ty),*) => $implementation:path;)*) => {
        $(
            /// Answers as the runtime's header says.
            ///
            /// # Safety
            ///
            /// Pointers are null or good for what the header says.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
                use $crate::runtime::state;
                let ready = match state::ready() {
                    Ok(ready) => ready,
                    Err(code) => return state::remember(code),
                };
                state::remember($crate::runtime::quick::run(stringify!($name), ready, || {
                    $implementation(ready $(, $argument)*)
                }))
            }
        )*

        $crate::exports::listed!($($name),*);
    };
}
pub(crate) use quick;
