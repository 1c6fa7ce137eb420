//! The CUDA driver's virtual memory calls, which expandable segments are made of.
//!
//! As those of `cuda`, each answer is a plain number, and every symbol is looked up before the first
//! call; a driver that lacks them still serves a probe by segments.

use std::ffi::c_int;

use super::cuda::{Code, CudaError, Device, Driver, check, symbol};
use super::cuda_codes;

/// `CUmemLocation`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Location {
    kind: c_int,
    id: c_int,
}

/// `CUmemAllocationProp`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct AllocationProperties {
    kind: c_int,
    handle_types: c_int,
    location: Location,
    win32_metadata: usize,
    flags: [u8; 8],
}

/// `CUmemAccessDesc`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct AccessDescription {
    location: Location,
    flags: c_int,
}

const _: () = assert!(size_of::<AllocationProperties>() == 32);
const _: () = assert!(size_of::<AccessDescription>() == 12);

/// `CU_MEM_ALLOCATION_TYPE_PINNED`.
const PINNED: c_int = 1;
/// `CU_MEM_LOCATION_TYPE_DEVICE`.
const DEVICE: c_int = 1;
/// `CU_MEM_ACCESS_FLAGS_PROT_READWRITE`.
const READ_AND_WRITE: c_int = 3;
/// `CU_MEM_ALLOC_GRANULARITY_MINIMUM`.
const MINIMUM: c_int = 0;
/// `CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED`.
const ATTRIBUTE_VIRTUAL_MEMORY: c_int = 102;

/// Source of each signature: cuda.h, where `size_t`, `CUdeviceptr` and
/// `CUmemGenericAllocationHandle` are 64 bits.
struct Symbols {
    granularity: unsafe extern "C" fn(*mut usize, *const AllocationProperties, c_int) -> Code,
    reserve: unsafe extern "C" fn(*mut u64, usize, usize, u64, u64) -> Code,
    create: unsafe extern "C" fn(*mut u64, usize, *const AllocationProperties, u64) -> Code,
    map: unsafe extern "C" fn(u64, usize, usize, u64, u64) -> Code,
    set_access: unsafe extern "C" fn(u64, usize, *const AccessDescription, usize) -> Code,
    unmap: unsafe extern "C" fn(u64, usize) -> Code,
    release: unsafe extern "C" fn(u64) -> Code,
    free_addresses: unsafe extern "C" fn(u64, usize) -> Code,
}

/// The virtual memory calls, for one device.
pub struct Mapping<'a> {
    driver: &'a Driver,
    symbols: Symbols,
    device: Device,
}

impl<'a> Mapping<'a> {
    /// Looks the calls up, and asks whether pages of `page` bytes can be mapped on the device.
    ///
    /// # Errors
    ///
    /// [`CudaError::NoVirtualMemory`] and [`CudaError::LargerPages`] where expandable segments cannot
    /// work.
    pub fn load(driver: &'a Driver, device: Device, page: u64) -> Result<Mapping<'a>, CudaError> {
        if driver.attribute(device, ATTRIBUTE_VIRTUAL_MEMORY)? == 0 {
            return Err(CudaError::NoVirtualMemory);
        }
        let symbols = Symbols {
            granularity: mapping_symbol("cuMemGetAllocationGranularity")?,
            reserve: mapping_symbol("cuMemAddressReserve")?,
            create: mapping_symbol("cuMemCreate")?,
            map: mapping_symbol("cuMemMap")?,
            set_access: mapping_symbol("cuMemSetAccess")?,
            unmap: mapping_symbol("cuMemUnmap")?,
            release: mapping_symbol("cuMemRelease")?,
            free_addresses: mapping_symbol("cuMemAddressFree")?,
        };
        let mapping = Mapping { driver, symbols, device };
        let granularity = mapping.granularity()?;
        match page.checked_rem(granularity) {
            Some(0) => Ok(mapping),
            _ => Err(CudaError::LargerPages { granularity }),
        }
    }

    /// Returns what a page must be a multiple of.
    fn granularity(&self) -> Result<u64, CudaError> {
        let mut granularity = 0;
        let properties = self.properties();
        let call = "cuMemGetAllocationGranularity";
        (self.driver.before_call)(call);
        // SAFETY: both pointers are to live values of the types that cuda.h names.
        let code = unsafe { (self.symbols.granularity)(&mut granularity, &properties, MINIMUM) };
        check(call, code)?;
        Ok(granularity as u64)
    }

    /// Reserves addresses with no memory behind them.
    pub fn reserve(&self, bytes: u64) -> Result<u64, CudaError> {
        let mut address = 0;
        let call = "cuMemAddressReserve";
        (self.driver.before_call)(call);
        // SAFETY: the pointer is to a live integer; no alignment and no address are wished for.
        let code = unsafe { (self.symbols.reserve)(&mut address, bytes as usize, 0, 0, 0) };
        check(call, code)?;
        Ok(address)
    }

    /// Takes memory, which no address shows yet; `None` is out of memory.
    pub fn create(&self, bytes: u64) -> Result<Option<u64>, CudaError> {
        let mut handle = 0;
        let properties = self.properties();
        let call = "cuMemCreate";
        (self.driver.before_call)(call);
        // SAFETY: both pointers are to live values of the types that cuda.h names.
        let code = unsafe { (self.symbols.create)(&mut handle, bytes as usize, &properties, 0) };
        if code == cuda_codes::OUT_OF_MEMORY {
            return Ok(None);
        }
        check(call, code)?;
        Ok(Some(handle))
    }

    /// Puts memory behind reserved addresses.
    pub fn map(&self, address: u64, bytes: u64, handle: u64) -> Result<(), CudaError> {
        let call = "cuMemMap";
        (self.driver.before_call)(call);
        // SAFETY: the callers map what `create` returned where `reserve` did, once.
        check(call, unsafe { (self.symbols.map)(address, bytes as usize, 0, handle, 0) })
    }

    /// Lets the device read and write mapped addresses.
    pub fn set_access(&self, address: u64, bytes: u64) -> Result<(), CudaError> {
        let location = Location { kind: DEVICE, id: self.device };
        let description = AccessDescription { location, flags: READ_AND_WRITE };
        let call = "cuMemSetAccess";
        (self.driver.before_call)(call);
        // SAFETY: the pointer is to one live description.
        let code = unsafe { (self.symbols.set_access)(address, bytes as usize, &description, 1) };
        check(call, code)
    }

    /// Takes the memory behind addresses away; it is given back once its handle is released too.
    pub fn unmap(&self, address: u64, bytes: u64) -> Result<(), CudaError> {
        let call = "cuMemUnmap";
        (self.driver.before_call)(call);
        // SAFETY: the callers unmap only what `map` mapped, as a whole and once.
        check(call, unsafe { (self.symbols.unmap)(address, bytes as usize) })
    }

    /// Releases a handle.
    pub fn release(&self, handle: u64) -> Result<(), CudaError> {
        let call = "cuMemRelease";
        (self.driver.before_call)(call);
        // SAFETY: the callers release only what `create` returned, once.
        check(call, unsafe { (self.symbols.release)(handle) })
    }

    /// Gives reserved addresses back, all of a reservation.
    pub fn free_addresses(&self, address: u64, bytes: u64) -> Result<(), CudaError> {
        let call = "cuMemAddressFree";
        (self.driver.before_call)(call);
        // SAFETY: the callers give back only what `reserve` returned, as a whole and once.
        check(call, unsafe { (self.symbols.free_addresses)(address, bytes as usize) })
    }

    /// Returns the kind of memory that PyTorch maps, without a handle that other processes could
    /// open.
    fn properties(&self) -> AllocationProperties {
        AllocationProperties {
            kind: PINNED,
            handle_types: 0,
            location: Location { kind: DEVICE, id: self.device },
            win32_metadata: 0,
            flags: [0; 8],
        }
    }
}

/// Looks a call up; drivers older than CUDA 10.2 have none of them.
fn mapping_symbol<T: Copy>(name: &'static str) -> Result<T, CudaError> {
    symbol(name).map_err(|_| CudaError::NoVirtualMemory)
}
