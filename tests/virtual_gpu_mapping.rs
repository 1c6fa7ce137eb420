//! The stand-in driver's virtual memory calls, which PyTorch's expandable segments use.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use support::driver::{context, free_bytes, release};
use support::{Scenario, child};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// `CUmemAllocationProp`: pinned memory of a device, and the start of `CUmemAccessDesc`.
#[repr(C)]
struct Properties {
    kind: u32,
    handles: u32,
    location: [i32; 2],
    rest: [u64; 2],
}

const OF_DEVICE_0: Properties = Properties { kind: 1, handles: 0, location: [1, 0], rest: [0; 2] };

fn create(bytes: u64) -> Result<u64, u32> {
    let mut handle = 0;
    let code = cuda!(cuMemCreate(
        &mut handle => *mut u64, bytes as usize => usize, &OF_DEVICE_0 => *const Properties, 0 => u64
    ));
    if code == 0 { Ok(handle) } else { Err(code) }
}

fn reserve(bytes: u64) -> u64 {
    let mut address = 0;
    let code = cuda!(cuMemAddressReserve(
        &mut address => *mut u64, bytes as usize => usize, 0 => usize, 0 => u64, 0 => u64
    ));
    assert_eq!(code, 0);
    address
}

fn map(address: u64, bytes: u64, handle: u64) -> u32 {
    cuda!(cuMemMap(address => u64, bytes as usize => usize, 0 => usize, handle => u64, 0 => u64))
}

fn unmap(address: u64, bytes: u64) -> u32 {
    cuda!(cuMemUnmap(address => u64, bytes as usize => usize))
}

fn release_handle(handle: u64) -> u32 {
    cuda!(cuMemRelease(handle => u64))
}

fn free_addresses(address: u64, bytes: u64) -> u32 {
    cuda!(cuMemAddressFree(address => u64, bytes as usize => usize))
}

#[test]
fn virtual_memory_is_charged_until_released_and_unmapped() {
    let machine = Scenario::new("gpu total=1GiB");
    child::run(&machine, || {
        context(0).expect("a context");
        let mut granularity: usize = 0;
        assert_eq!(
            cuda!(cuMemGetAllocationGranularity(
                &mut granularity => *mut usize, &OF_DEVICE_0 => *const Properties, 0 => u32
            )),
            0
        );
        assert_eq!(granularity as u64, 2 * MIB);
        let address = reserve(100 * GIB);
        assert_eq!(free_bytes(), Ok(GIB));
        assert_eq!((create(MIB), create(0), create(2 * GIB)), (Err(1), Err(1), Err(2)));
        let (one, two) = (create(20 * MIB).expect("fits"), create(4 * MIB).expect("fits"));
        assert_eq!(free_bytes(), Ok(GIB - 24 * MIB));
        assert_eq!(map(address, 20 * MIB, one), 0);
        assert_eq!(map(address + 18 * MIB, 4 * MIB, two), 1);
        assert_eq!(map(address + MIB, 4 * MIB, two), 1);
        assert_eq!(map(address + 100 * GIB, 4 * MIB, two), 1);
        assert_eq!(map(address + 20 * MIB, 4 * MIB, two), 0);
        let access: [u32; 3] = [1, 0, 3];
        let set = |bytes: u64| {
            cuda!(cuMemSetAccess(
                address => u64, bytes as usize => usize, &access => *const [u32; 3], 1 => usize
            ))
        };
        assert_eq!((set(24 * MIB), set(21 * MIB)), (0, 1));
        let mut flags = 0;
        let location = OF_DEVICE_0.location;
        assert_eq!(
            cuda!(cuMemGetAccess(
                &mut flags => *mut u64, &location => *const [i32; 2], address + MIB => u64
            )),
            0
        );
        assert_eq!(flags, 3);
        assert_eq!((release_handle(one), release_handle(one)), (0, 1));
        assert_eq!(free_bytes(), Ok(GIB - 24 * MIB));
        assert_eq!(free_addresses(address, 100 * GIB), 1);
        assert_eq!((unmap(address, MIB), unmap(address, 24 * MIB)), (1, 0));
        assert_eq!(free_bytes(), Ok(GIB - 4 * MIB));
        assert_eq!(release_handle(two), 0);
        assert_eq!(free_bytes(), Ok(GIB));
        assert_eq!(free_addresses(address, GIB), 1);
        assert_eq!(free_addresses(address, 100 * GIB), 0);
        assert_eq!(release(0), Ok(()));
    });
    machine.assert_balanced();
}
