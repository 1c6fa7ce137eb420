//! The simulated GPU's memory pools (`cudaMallocAsync`).

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use support::{Scenario, child};

const MIB: u64 = 1 << 20;
/// Numbers of `cudaMemPoolAttr`.
const THRESHOLD: u32 = 4;
const RESERVED: u32 = 5;
const RESERVED_HIGH: u32 = 6;
const USED: u32 = 7;
const USED_HIGH: u32 = 8;

fn pool() -> u64 {
    let mut pool = 0;
    assert_eq!(cuda!(cudaDeviceGetDefaultMemPool(&mut pool => *mut u64, 0 => i32)), 0);
    pool
}

fn get(attribute: u32) -> u64 {
    let mut value = 0u64;
    let code = cuda!(cudaMemPoolGetAttribute(
        pool() => u64, attribute => u32, &mut value => *mut u64
    ));
    assert_eq!(code, 0);
    value
}

fn set(attribute: u32, mut value: u64) -> u32 {
    cuda!(cudaMemPoolSetAttribute(pool() => u64, attribute => u32, &mut value => *mut u64))
}

fn allocate(bytes: u64) -> Result<u64, u32> {
    let mut address = 0;
    let code = cuda!(cudaMallocAsync(&mut address => *mut u64, bytes as usize => usize, 0 => u64));
    if code == 0 { Ok(address) } else { Err(code) }
}

fn free(address: u64) -> u32 {
    cuda!(cudaFreeAsync(address => u64, 0 => u64))
}

fn free_bytes() -> u64 {
    let (mut free, mut total) = (0usize, 0usize);
    assert_eq!(cuda!(cudaMemGetInfo(&mut free => *mut usize, &mut total => *mut usize)), 0);
    free as u64
}

#[test]
fn a_pool_grows_by_chunks_and_uses_its_gaps_again() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        assert_eq!(set(THRESHOLD, u64::MAX), 0);
        let one = allocate(1).expect("fits");
        let two = allocate(10 * MIB).expect("fits");
        assert_eq!((get(RESERVED), get(USED)), (32 * MIB, 10 * MIB + 512));
        let large = allocate(50 * MIB).expect("fits");
        assert_eq!((get(RESERVED), free_bytes()), (82 * MIB, 942 * MIB));
        assert_eq!((free(two), free(large)), (0, 0));
        assert_eq!((get(RESERVED), get(USED)), (82 * MIB, 512));
        // The smallest gap that fits, which begins where the other ended.
        assert_eq!(allocate(20 * MIB), Ok(two));
        assert_eq!(allocate(40 * MIB), Ok(large));
        assert_eq!((get(RESERVED_HIGH), get(USED_HIGH)), (82 * MIB, 60 * MIB + 512));
        assert_eq!((free(one), free(one)), (0, 1));
        assert_eq!((set(USED_HIGH, 0), get(USED_HIGH)), (0, 60 * MIB));
        assert_eq!(set(USED, 5), 1);
    });
}

#[test]
fn what_is_unused_beyond_the_threshold_is_given_back() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let one = allocate(10 * MIB).expect("fits");
        assert_eq!(free_bytes(), 992 * MIB);
        assert_eq!((free(one), get(RESERVED), free_bytes()), (0, 0, 1024 * MIB));
        assert_eq!(set(THRESHOLD, u64::MAX), 0);
        let (one, two) = (allocate(64 * MIB).expect("fits"), allocate(64 * MIB).expect("fits"));
        assert_eq!((free(one), free(two), get(RESERVED)), (0, 0, 128 * MIB));
        assert_eq!(cuda!(cudaMemPoolTrimTo(pool() => u64, 64 << 20 => usize)), 0);
        assert_eq!((get(RESERVED), free_bytes()), (64 * MIB, 960 * MIB));
    });
}

#[test]
fn a_pool_takes_the_last_byte_and_then_is_out_of_memory() {
    let machine = Scenario::unlogged("gpu total=64MiB");
    child::run(&machine, || {
        assert_eq!(set(THRESHOLD, u64::MAX), 0);
        let first = allocate(33 * MIB).expect("fits");
        // Less than a chunk is left: what is asked for, in granules.
        let second = allocate(30 * MIB).expect("fits");
        assert_eq!((get(RESERVED), allocate(1)), (64 * MIB, Ok(first + 33 * MIB)));
        assert_eq!(allocate(2 * MIB), Err(2));
        // What the pool itself holds unused makes room.
        assert_eq!((free(first + 33 * MIB), free(first), free(second)), (0, 0, 0));
        allocate(64 * MIB).expect("all of it");
    });
}

#[test]
fn a_pool_of_ones_own_can_be_a_devices_and_ends_with_its_memory() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let properties: [u32; 22] = std::array::from_fn(|at| u32::from(at == 0 || at == 2));
        let mut own = 0;
        let code = cuda!(cudaMemPoolCreate(
            &mut own => *mut u64, properties.as_ptr() => *const u32
        ));
        assert_eq!(code, 0);
        assert_eq!(cuda!(cudaDeviceSetMemPool(0 => i32, own => u64)), 0);
        allocate(MIB).expect("fits");
        assert_eq!((get(RESERVED), free_bytes()), (0, 992 * MIB));
        assert_eq!(cuda!(cudaMemPoolDestroy(own => u64)), 0);
        assert_eq!(free_bytes(), 1024 * MIB);
        allocate(MIB).expect("from the device's own again");
        assert_eq!(get(RESERVED), 32 * MIB);
    });
}
