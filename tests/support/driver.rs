//! CUDA calls as tests make them: through cudarc's library, with codes as numbers, because its
//! error enum has undefined behaviour on codes that it does not know.

use std::ptr::null_mut;

use cudarc::driver::{result, sys};

/// Calls an exported CUDA function: `cuda!(cuMemFree_v2(address => u64))` is its code.
#[macro_export]
macro_rules! cuda {
    ($name:ident($($argument:expr => $type:ty),*)) => {{
        let name = concat!(stringify!($name), "\0");
        let function: extern "C" fn($($type),*) -> u32 = $crate::support::driver::exported(name);
        function($($argument),*)
    }};
}

/// Returns an exported function by its name, which ends in NUL.
///
/// `F` is its type in cuda.h, and who calls it passes pointers to live variables.
pub fn exported<F: Copy>(name: &str) -> F {
    // SAFETY: as said above; the stand-in checks every value itself.
    unsafe { *sys::culib().get::<F>(name.as_bytes()).expect("the name is exported") }
}

/// Turns a code and an answer into a result.
fn answer<T>(code: u32, value: T) -> Result<T, u32> {
    if code == 0 { Ok(value) } else { Err(code) }
}

/// `cuInit`
pub fn init() -> Result<(), u32> {
    answer(cuda!(cuInit(0 => u32)), ())
}

/// Retains the primary context of a device and makes it current; returns its handle.
pub fn context(device: i32) -> Result<u64, u32> {
    init()?;
    let mut context = 0;
    let code = cuda!(cuDevicePrimaryCtxRetain(&mut context => *mut u64, device => i32));
    let context = answer(code, context)?;
    answer(cuda!(cuCtxSetCurrent(context => u64)), context)
}

/// Releases the primary context of a device.
pub fn release(device: i32) -> Result<(), u32> {
    answer(cuda!(cuDevicePrimaryCtxRelease_v2(device => i32)), ())
}

/// `cuMemAlloc_v2`: the address.
pub fn allocate(bytes: u64) -> Result<u64, u32> {
    let mut address = 0;
    let code = cuda!(cuMemAlloc_v2(&mut address => *mut u64, bytes as usize => usize));
    answer(code, address)
}

/// `cuMemFree_v2`
pub fn free(address: u64) -> Result<(), u32> {
    answer(cuda!(cuMemFree_v2(address => u64)), ())
}

/// `cuMemGetInfo_v2`: what is free.
pub fn free_bytes() -> Result<u64, u32> {
    let mut free: usize = 0;
    let mut total: usize = 0;
    let code = cuda!(cuMemGetInfo_v2(&mut free => *mut usize, &mut total => *mut usize));
    answer(code, free as u64)
}

/// UUIDs of the devices that CUDA sees, in its order, by cudarc's own functions.
pub fn visible_uuids() -> Vec<String> {
    result::init().expect("cuInit");
    let count = result::device::get_count().expect("a count");
    let uuid = |ordinal| {
        let device = result::device::get(ordinal).expect("a device");
        let bytes = result::device::get_uuid(device).expect("a UUID").bytes;
        bytes.iter().map(|byte| format!("{:02x}", *byte as u8)).collect()
    };
    (0..count).map(uuid).collect()
}

/// Whether the driver's libraries are there at all.
pub fn is_present() -> bool {
    // SAFETY: opens and closes libraries by name.
    unsafe { sys::is_culib_present() }
}

/// No context, for `cuCtxSetCurrent`.
pub fn no_context() -> Result<(), u32> {
    answer(cuda!(cuCtxSetCurrent(null_mut() => *mut ())), ())
}
