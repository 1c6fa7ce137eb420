//! The stand-in driver's memory, under the crates that oomph uses.

mod support;

use std::mem::MaybeUninit;

use cudarc::driver::{result, sys};
use support::{Scenario, child};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Makes the primary context of device 0 and makes it current.
fn context() {
    result::init().expect("cuInit");
    let device = result::device::get(0).expect("a device");
    // SAFETY: the device came from cuDeviceGet, the context from the driver.
    unsafe {
        let context = result::primary_ctx::retain(device).expect("a context");
        result::ctx::set_current(context).expect("it becomes current");
    }
}

/// `cuMemAlloc_v2`, with the code as a number.
fn allocate(bytes: u64) -> Result<u64, u32> {
    let mut address = MaybeUninit::uninit();
    // SAFETY: room for one address.
    let code = unsafe { sys::cuMemAlloc_v2(address.as_mut_ptr(), bytes as usize) } as u32;
    // SAFETY: written on success.
    if code == 0 { Ok(unsafe { address.assume_init() }) } else { Err(code) }
}

fn free(address: u64) -> u32 {
    // SAFETY: the driver checks the address.
    unsafe { sys::cuMemFree_v2(address) as u32 }
}

fn release() {
    // SAFETY: device 0 exists.
    unsafe { result::primary_ctx::release(0).expect("the context is released") };
}

fn cuda_free() -> u64 {
    result::mem_get_info().expect("memory info").0 as u64
}

#[test]
fn memory_is_granted_in_granules_to_the_last_byte() {
    let machine = Scenario::new("gpu total=8GiB reserved=512MiB context=300MiB");
    child::run(&machine, || {
        context();
        let free_bytes = 8 * GIB - 512 * MIB - 300 * MIB;
        assert_eq!(cuda_free(), free_bytes);
        let one = allocate(1).expect("fits");
        assert_eq!(cuda_free(), free_bytes - 2 * MIB);
        assert_eq!(allocate(free_bytes - 2 * MIB + 1), Err(2));
        let rest = allocate(free_bytes - 2 * MIB).expect("the rest fits");
        assert_eq!(cuda_free(), 0);
        assert_eq!(allocate(1), Err(2));
        assert_eq!((free(one), free(rest)), (0, 0));
        assert_eq!(cuda_free(), free_bytes);
        release();
    });
    machine.assert_balanced();
    assert_eq!(machine.held(0), 0);
    assert_eq!(machine.peak_bytes(), 8 * GIB - 812 * MIB);
}
