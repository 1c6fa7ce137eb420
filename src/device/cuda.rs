//! The CUDA driver calls that a probe makes, each one's answer a plain number.
//!
//! cudarc finds and holds the library; the signatures are ours, because its `CUresult` is an enum
//! and a code newer than the bindings would be undefined behaviour. Every symbol is looked up
//! before the first call, so that none can panic later. Only the probe's child process uses this.

use std::ffi::c_int;

use serde::{Deserialize, Serialize};

use super::cuda_codes;

/// Why the driver could not be used, or what one call answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum CudaError {
    /// No library.
    #[error("libcuda was not found, although NVML answers")]
    NoLibrary,
    /// The library lacks a call.
    #[error("the driver lacks {symbol}")]
    MissingSymbol {
        /// The call.
        symbol: String,
    },
    /// A call failed.
    #[error("{call} failed: {}", cuda_codes::describe(*.code))]
    Call {
        /// The call.
        call: String,
        /// `CUresult`, as a number.
        code: u32,
    },
    /// There is no memory for a context.
    #[error(
        "{RETAIN} failed: {}: not even a context fits",
        cuda_codes::describe(cuda_codes::OUT_OF_MEMORY)
    )]
    NoContext,
    /// CUDA gave another GPU than the one that was asked for.
    #[error("asked for {asked}, and CUDA gave {got}")]
    WrongGpu {
        /// The UUID that was asked for.
        asked: String,
        /// The UUID that the device has.
        got: String,
    },
    /// The GPU has no memory of its own.
    #[error("the GPU shares the host's memory: a probe could take the whole machine down")]
    UnifiedMemory,
    /// The driver or the GPU cannot map memory.
    #[error(
        "the driver has no virtual memory calls for this GPU: expandable segments cannot work on it"
    )]
    NoVirtualMemory,
    /// The driver maps larger pages than PyTorch does.
    #[error(
        "the driver maps pages of {granularity} bytes, and PyTorch's expandable segments ones of 2 MiB"
    )]
    LargerPages {
        /// What each page is a multiple of.
        granularity: u64,
    },
}

impl CudaError {
    /// Whether there is no driver or GPU to speak of, rather than one that broke: it was looked for in
    /// vain, or driver and library do not match, which some drivers say later than `cuInit`.
    pub fn is_absent(&self) -> bool {
        match self {
            CudaError::NoLibrary
            | CudaError::MissingSymbol { .. }
            | CudaError::WrongGpu { .. }
            | CudaError::UnifiedMemory => true,
            CudaError::Call { call, code } => {
                LOOK_UP.contains(&call.as_str()) || matches!(code, 34 | 100 | 803 | 804)
            }
            CudaError::NoContext | CudaError::NoVirtualMemory | CudaError::LargerPages { .. } => {
                false
            }
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        match self {
            CudaError::NoLibrary => "install the driver's compute package (libcuda1, or \
                 NVIDIA_DRIVER_CAPABILITIES=compute,utility in a container), or --probe never"
                .to_owned(),
            CudaError::MissingSymbol { .. } => {
                "update the NVIDIA driver, or plan on the estimate with --probe never".to_owned()
            }
            CudaError::NoContext => cuda_codes::cure(cuda_codes::OUT_OF_MEMORY).to_owned(),
            CudaError::Call { call, code: 801 } if MAPPING.contains(&call.as_str()) => {
                WITHOUT_MAPPING.to_owned()
            }
            CudaError::Call { code, .. } => cuda_codes::cure(*code).to_owned(),
            CudaError::WrongGpu { .. } => {
                "name the GPU by its UUID (`nvidia-smi -L`), or plan with --probe never".to_owned()
            }
            CudaError::UnifiedMemory => "plan on the estimate with --probe never".to_owned(),
            CudaError::NoVirtualMemory | CudaError::LargerPages { .. } => {
                WITHOUT_MAPPING.to_owned()
            }
        }
    }
}

/// Device memory as CUDA sees it from inside a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemInfo {
    /// Left, for this process.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// `CUresult`, as a number.
pub(super) type Code = u32;
/// `CUdevice`.
pub(super) type Device = c_int;
type Context = *mut std::ffi::c_void;

/// Source of each signature: cuda.h, where `size_t` is 64 bits and `CUdeviceptr` too.
struct Symbols {
    init: unsafe extern "C" fn(u32) -> Code,
    device_count: unsafe extern "C" fn(*mut c_int) -> Code,
    device_get: unsafe extern "C" fn(*mut Device, c_int) -> Code,
    device_uuid: unsafe extern "C" fn(*mut [u8; 16], Device) -> Code,
    attribute: unsafe extern "C" fn(*mut c_int, c_int, Device) -> Code,
    retain: unsafe extern "C" fn(*mut Context, Device) -> Code,
    release: unsafe extern "C" fn(Device) -> Code,
    set_current: unsafe extern "C" fn(Context) -> Code,
    mem_info: unsafe extern "C" fn(*mut usize, *mut usize) -> Code,
    alloc: unsafe extern "C" fn(*mut u64, usize) -> Code,
    free: unsafe extern "C" fn(u64) -> Code,
}

/// The loaded driver, started.
pub struct Driver {
    symbols: Symbols,
    /// Hears each call's name before it is made.
    pub(super) before_call: fn(&'static str),
}

/// The calls of expandable segments.
const MAPPING: [&str; 8] = [
    "cuMemGetAllocationGranularity",
    "cuMemAddressReserve",
    "cuMemCreate",
    "cuMemMap",
    "cuMemSetAccess",
    "cuMemUnmap",
    "cuMemRelease",
    "cuMemAddressFree",
];
/// What to do where they do not work.
const WITHOUT_MAPPING: &str =
    "--allocator default, and leave expandable_segments out of PYTORCH_CUDA_ALLOC_CONF";
const RETAIN: &str = "cuDevicePrimaryCtxRetain";
/// The calls that look for the driver and the GPU.
const LOOK_UP: [&str; 4] = ["cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetUuid"];

/// `CU_DEVICE_ATTRIBUTE_INTEGRATED`: the GPU shares the host's memory.
const ATTRIBUTE_INTEGRATED: c_int = 18;
/// `CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT`.
const ATTRIBUTE_SM_COUNT: c_int = 16;

pub(super) fn symbol<T: Copy>(name: &'static str) -> Result<T, CudaError> {
    // SAFETY: `Driver::load` has seen that the library is there, so `culib` does not panic; each
    // caller names the type that cuda.h gives the symbol.
    let found = unsafe { cudarc::driver::sys::culib().get::<T>(name.as_bytes()) };
    found.map(|f| *f).map_err(|_| CudaError::MissingSymbol { symbol: name.to_owned() })
}

pub(super) fn check(call: &'static str, code: Code) -> Result<(), CudaError> {
    match code {
        0 => Ok(()),
        code => Err(CudaError::Call { call: call.to_owned(), code }),
    }
}

impl Driver {
    /// Loads the library, looks every call up, and starts the driver.
    ///
    /// `before_call` hears each call's name before it is made: what a watching process knows of a
    /// call that never comes back.
    pub fn load(before_call: fn(&'static str)) -> Result<Driver, CudaError> {
        // SAFETY: loads a library by its well-known names, whose initialisers are the driver's own.
        if !unsafe { cudarc::driver::sys::is_culib_present() } {
            return Err(CudaError::NoLibrary);
        }
        let symbols = Symbols {
            init: symbol("cuInit")?,
            device_count: symbol("cuDeviceGetCount")?,
            device_get: symbol("cuDeviceGet")?,
            device_uuid: symbol("cuDeviceGetUuid_v2").or_else(|_| symbol("cuDeviceGetUuid"))?,
            attribute: symbol("cuDeviceGetAttribute")?,
            retain: symbol("cuDevicePrimaryCtxRetain")?,
            release: symbol("cuDevicePrimaryCtxRelease_v2")?,
            set_current: symbol("cuCtxSetCurrent")?,
            mem_info: symbol("cuMemGetInfo_v2")?,
            alloc: symbol("cuMemAlloc_v2")?,
            free: symbol("cuMemFree_v2")?,
        };
        let driver = Driver { symbols, before_call };
        (driver.before_call)("cuInit");
        // SAFETY: flags must be 0.
        check("cuInit", unsafe { (driver.symbols.init)(0) })?;
        Ok(driver)
    }

    /// Returns the only device that CUDA_VISIBLE_DEVICES left, if it has this UUID.
    pub fn device(&self, uuid: &str) -> Result<Device, CudaError> {
        let mut count = 0;
        (self.before_call)("cuDeviceGetCount");
        // SAFETY: the pointer is to a live integer.
        check("cuDeviceGetCount", unsafe { (self.symbols.device_count)(&mut count) })?;
        if count < 1 {
            return Err(CudaError::WrongGpu { asked: uuid.to_owned(), got: "none".to_owned() });
        }
        let mut device = 0;
        (self.before_call)("cuDeviceGet");
        // SAFETY: as above; 0 is below the count.
        check("cuDeviceGet", unsafe { (self.symbols.device_get)(&mut device, 0) })?;
        let mut bytes = [0; 16];
        (self.before_call)("cuDeviceGetUuid");
        // SAFETY: CUuuid is 16 bytes; the device was handed out by the driver.
        check("cuDeviceGetUuid", unsafe { (self.symbols.device_uuid)(&mut bytes, device) })?;
        if !same_uuid(uuid, &bytes) {
            return Err(CudaError::WrongGpu {
                asked: uuid.to_owned(),
                got: format!("GPU-{}", hyphenated(&bytes)),
            });
        }
        Ok(device)
    }

    /// Says whether the device shares the host's memory.
    pub fn is_integrated(&self, device: Device) -> Result<bool, CudaError> {
        Ok(self.attribute(device, ATTRIBUTE_INTEGRATED)? != 0)
    }

    /// Returns the number of streaming multiprocessors.
    pub fn sm_count(&self, device: Device) -> Result<u32, CudaError> {
        Ok(self.attribute(device, ATTRIBUTE_SM_COUNT)?.try_into().unwrap_or(0))
    }

    /// Returns an attribute of the device.
    pub(super) fn attribute(&self, device: Device, attribute: c_int) -> Result<c_int, CudaError> {
        let mut value = 0;
        (self.before_call)("cuDeviceGetAttribute");
        // SAFETY: the pointer is to a live integer; the device was handed out by the driver.
        let code = unsafe { (self.symbols.attribute)(&mut value, attribute, device) };
        check("cuDeviceGetAttribute", code)?;
        Ok(value)
    }

    /// Makes the device's primary context current on this thread.
    pub fn enter(&self, device: Device) -> Result<Entered<'_>, CudaError> {
        let mut context = std::ptr::null_mut();
        (self.before_call)(RETAIN);
        // SAFETY: the pointer is to a live pointer; the device was handed out by the driver.
        let code = unsafe { (self.symbols.retain)(&mut context, device) };
        if code == cuda_codes::OUT_OF_MEMORY {
            return Err(CudaError::NoContext);
        }
        check(RETAIN, code)?;
        let entered = Entered { driver: self, device, retained: true };
        (self.before_call)("cuCtxSetCurrent");
        // SAFETY: the context was retained above.
        check("cuCtxSetCurrent", unsafe { (self.symbols.set_current)(context) })?;
        Ok(entered)
    }
}

/// A primary context that is current on this thread; released when dropped.
pub struct Entered<'a> {
    driver: &'a Driver,
    device: Device,
    retained: bool,
}

impl Entered<'_> {
    /// Returns what is free and what there is.
    pub fn mem_info(&self) -> Result<MemInfo, CudaError> {
        let (mut free, mut total) = (0, 0);
        (self.driver.before_call)("cuMemGetInfo_v2");
        // SAFETY: both pointers are to live integers; a context is current.
        let code = unsafe { (self.driver.symbols.mem_info)(&mut free, &mut total) };
        check("cuMemGetInfo_v2", code)?;
        Ok(MemInfo { free: free as u64, total: total as u64 })
    }

    /// Allocates; `None` is out of memory.
    pub fn alloc(&self, bytes: u64) -> Result<Option<u64>, CudaError> {
        let mut address = 0;
        (self.driver.before_call)("cuMemAlloc_v2");
        // SAFETY: the pointer is to a live integer; a context is current. 64-bit targets only, so
        // the size fits.
        let code = unsafe { (self.driver.symbols.alloc)(&mut address, bytes as usize) };
        if code == cuda_codes::OUT_OF_MEMORY {
            return Ok(None);
        }
        check("cuMemAlloc_v2", code)?;
        Ok(Some(address))
    }

    /// Gives an allocation back.
    pub fn free(&self, address: u64) -> Result<(), CudaError> {
        (self.driver.before_call)("cuMemFree_v2");
        // SAFETY: the callers free only what `alloc` returned, once.
        check("cuMemFree_v2", unsafe { (self.driver.symbols.free)(address) })
    }

    /// Releases the context and says whether that worked, which a drop cannot.
    pub fn leave(mut self) -> Result<(), CudaError> {
        self.release()
    }

    fn release(&mut self) -> Result<(), CudaError> {
        if !std::mem::take(&mut self.retained) {
            return Ok(());
        }
        (self.driver.before_call)("cuDevicePrimaryCtxRelease_v2");
        // SAFETY: retained once, released once.
        let code = unsafe { (self.driver.symbols.release)(self.device) };
        check("cuDevicePrimaryCtxRelease_v2", code)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // An error was on its way already: it says more than this one would.
        let _ = self.release();
    }
}

/// Compares `GPU-...` or `MIG-...` with the 16 bytes that CUDA reports.
fn same_uuid(text: &str, bytes: &[u8; 16]) -> bool {
    let digits = text.split_once('-').map_or(text, |(_, digits)| digits);
    digits.eq_ignore_ascii_case(&hyphenated(bytes))
}

fn hyphenated(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_compared_without_its_prefix() {
        let bytes: [u8; 16] = std::array::from_fn(|at| at as u8 * 17);
        assert!(same_uuid("GPU-00112233-4455-6677-8899-aabbccddeeff", &bytes));
        assert!(same_uuid("MIG-00112233-4455-6677-8899-AABBCCDDEEFF", &bytes));
        assert!(!same_uuid("GPU-00112233-4455-6677-8899-aabbccddeef0", &bytes));
    }

    #[test]
    fn an_unknown_code_reads_as_its_number() {
        let error = CudaError::Call { call: "cuMemAlloc_v2".to_owned(), code: 4711 };
        assert_eq!(
            error.to_string(),
            "cuMemAlloc_v2 failed: CUDA code 4711, which has no name here"
        );
    }
}
