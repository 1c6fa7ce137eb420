//! The simulated GPU's CUDA runtime: devices, memory, copies, errors.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use support::machine::notes::Kind;
use support::{Scenario, child};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn allocate(bytes: u64) -> Result<u64, u32> {
    let mut address = 0;
    let code = cuda!(cudaMalloc(&mut address => *mut u64, bytes as usize => usize));
    if code == 0 { Ok(address) } else { Err(code) }
}

fn free(address: u64) -> u32 {
    cuda!(cudaFree(address => u64))
}

fn free_bytes() -> u64 {
    let (mut free, mut total) = (0usize, 0usize);
    assert_eq!(cuda!(cudaMemGetInfo(&mut free => *mut usize, &mut total => *mut usize)), 0);
    free as u64
}

fn last_error() -> u32 {
    cuda!(cudaGetLastError())
}

fn copy(to: u64, from: u64, bytes: usize) -> u32 {
    const DEFAULT: u32 = 4;
    cuda!(cudaMemcpy(to => u64, from => u64, bytes => usize, DEFAULT => u32))
}

fn address<T>(value: &T) -> u64 {
    std::ptr::from_ref(value).expose_provenance() as u64
}

fn read<const N: usize>(from: u64) -> [u8; N] {
    let mut bytes = [0xaa; N];
    let at = bytes.as_mut_ptr().expose_provenance() as u64;
    assert_eq!(copy(at, from, N), 0);
    bytes
}

#[test]
fn memory_is_charged_in_granules_and_the_context_at_the_first_call_that_needs_it() {
    let machine = Scenario::unlogged("gpu total=1GiB context=100MiB");
    child::run(&machine, || {
        let mut count = 0;
        assert_eq!(cuda!(cudaGetDeviceCount(&mut count => *mut i32)), 0);
        assert_eq!(count, 1);
        let mut active = 1;
        let mut flags = 0;
        let state = || {
            cuda!(cuDevicePrimaryCtxGetState(
                0 => i32, &mut flags => *mut u32, &mut active => *mut i32
            ))
        };
        let mut state = state;
        assert_eq!(state(), 0);
        assert_eq!(active, 0);
        assert_eq!(free_bytes(), GIB - 100 * MIB);
        let one = allocate(1).expect("fits");
        assert_eq!(free_bytes(), GIB - 102 * MIB);
        assert_eq!(free(one), 0);
        assert_eq!(allocate(0), Ok(0));
        assert_eq!((free(0), free_bytes()), (0, GIB - 100 * MIB));
    });
    assert_eq!(machine.peaks().places[0].peak_bytes, 102 * MIB);
}

#[test]
fn what_meets_the_capacity_passes_and_a_granule_more_is_out_of_memory() {
    let machine = Scenario::unlogged("gpu total=1GiB context=100MiB");
    child::run(&machine, || {
        assert_eq!(allocate(GIB - 100 * MIB + 1), Err(2));
        assert_eq!((last_error(), last_error()), (2, 0));
        let all = allocate(GIB - 100 * MIB).expect("meets the capacity");
        assert_eq!(free_bytes(), 0);
        assert_eq!(allocate(1), Err(2));
        assert_eq!(cuda!(cudaPeekAtLastError()), 2);
        assert_eq!((free(all), last_error()), (0, 2));
        assert_eq!(free(all), 1);
        assert_eq!(last_error(), 1);
    });
}

#[test]
fn a_reset_gives_everything_back() {
    let machine = Scenario::unlogged("gpu total=1GiB context=100MiB");
    child::run(&machine, || {
        allocate(10 * MIB).expect("fits");
        assert_eq!(cuda!(cudaDeviceReset()), 0);
        assert_eq!(free_bytes(), GIB - 100 * MIB);
    });
}

#[test]
fn small_copies_are_real_and_what_a_kernel_would_have_written_is_not_known() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let device = allocate(8 * MIB).expect("fits");
        let values: [u8; 48] = std::array::from_fn(|index| index as u8 + 1);
        assert_eq!(copy(device, address(&values), 48), 0);
        assert_eq!(read::<48>(device), values);
        assert_eq!(copy(device + MIB, device, 48), 0);
        assert_eq!(read::<48>(device + MIB), values);
        // Never written: zeros; a single byte is a question, answered with yes.
        assert_eq!(read::<48>(device + 2 * MIB), [0; 48]);
        assert_eq!(read::<1>(device + 2 * MIB), [1]);
        // A byte that the host wrote is what it wrote.
        assert_eq!(copy(device + 3 * MIB, address(&0u8), 1), 0);
        assert_eq!(read::<1>(device + 3 * MIB), [0]);
        // Beyond 64 KiB nothing is kept.
        let large = vec![7u8; 65 << 10];
        let at = large.as_ptr().expose_provenance() as u64;
        assert_eq!(copy(device + 4 * MIB, at, large.len()), 0);
        assert_eq!(read::<48>(device + 4 * MIB), [0; 48]);
        assert_eq!(cuda!(cudaMemset(device => u64, 3 => i32, 64 => usize)), 0);
        assert_eq!(read::<64>(device), [3; 64]);
    });
    let most = |kind| {
        let of_kind = machine.notes().into_iter().filter(|note| note.kind == kind);
        of_kind.filter_map(|note| note.detail.parse::<u64>().ok()).max()
    };
    // Two arrays and one value, noted as they pass 10 and at the end of the process.
    assert_eq!((most(Kind::Readback), most(Kind::Value)), (Some(96), Some(1)));
}

#[test]
fn a_scalar_in_a_block_that_held_an_array_is_a_kernels() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let device = allocate(MIB).expect("fits");
        let tokens = [9u8; 512];
        assert_eq!(copy(device, address(&tokens), 512), 0);
        assert_eq!(read::<512>(device), tokens);
        assert_eq!(read::<4>(device), [0; 4]);
        // A flag where a few labels lay, and the first of a few sizes.
        assert_eq!(copy(device + 512, address(&[3u64, 4]), 16), 0);
        assert_eq!(read::<4>(device + 512), [0; 4]);
        assert_eq!(read::<8>(device + 512), 3u64.to_ne_bytes());
        // A copy on the device does not make it known.
        assert_eq!((copy(device + 1024, device + 512, 4), read::<4>(device + 1024)), (0, [0; 4]));
        let scale = 65536.0f32.to_ne_bytes();
        assert_eq!(copy(device, address(&scale), 4), 0);
        assert_eq!(read::<4>(device), scale);
    });
}

#[test]
fn freed_memory_costs_the_host_nothing_and_is_forgotten() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let device = allocate(MIB).expect("fits");
        assert_eq!(copy(device, address(&[5u8; 64]), 64), 0);
        assert_eq!(free(device), 0);
        let again = allocate(MIB).expect("fits");
        assert_ne!(again, device);
        assert_eq!(read::<64>(again), [0; 64]);
    });
}

/// `cudaPointerAttributes`: type, device, device pointer, host pointer.
fn attributes(of: u64) -> (u32, i32, u64) {
    let mut bytes = [0u64; 3];
    assert_eq!(cuda!(cudaPointerGetAttributes(&mut bytes => *mut [u64; 3], of => u64)), 0);
    (bytes[0] as u32, (bytes[0] >> 32) as i32, bytes[1])
}

#[test]
fn pointers_are_of_the_device_pinned_managed_or_unknown() {
    let machine = Scenario::unlogged("gpu total=1GiB\ngpu total=1GiB");
    child::run(&machine, || {
        let local = 0u64;
        assert_eq!(attributes(address(&local)), (0, -2, 0));
        assert_eq!(cuda!(cudaSetDevice(1 => i32)), 0);
        let device = allocate(MIB).expect("fits");
        assert_eq!(attributes(device + 5), (2, 1, device + 5));
        let mut pinned = 0u64;
        let host = cuda!(cudaHostAlloc(&mut pinned => *mut u64, 5000 => usize, 0 => u32));
        assert_eq!((host, attributes(pinned + 1).0), (0, 1));
        let before = free_bytes();
        let mut managed = 0u64;
        let made = cuda!(cudaMallocManaged(&mut managed => *mut u64, 64 << 20 => usize, 1 => u32));
        assert_eq!((made, attributes(managed).0, free_bytes()), (0, 3, before));
        assert_eq!((free(managed), free(managed)), (0, 1));
        assert_eq!(cuda!(cudaFreeHost(pinned => u64)), 0);
        assert_eq!(attributes(pinned).0, 0);
        let own = [0u8; 64];
        let register = |at| cuda!(cudaHostRegister(at => u64, 64 => usize, 0 => u32));
        assert_eq!((register(address(&own)), register(address(&own))), (0, 712));
        assert_eq!(attributes(address(&own)).0, 1);
        let unregister = |at| cuda!(cudaHostUnregister(at => u64));
        assert_eq!((unregister(address(&own)), unregister(address(&own))), (0, 713));
    });
}

#[test]
fn each_thread_has_its_device_and_its_last_error() {
    let machine = Scenario::unlogged("gpu total=1GiB\ngpu total=1GiB context=10MiB");
    child::run(&machine, || {
        assert_eq!(cuda!(cudaSetDevice(1 => i32)), 0);
        assert_eq!(cuda!(cudaSetDevice(2 => i32)), 101);
        let device = || {
            let mut device = -1;
            assert_eq!(cuda!(cudaGetDevice(&mut device => *mut i32)), 0);
            device
        };
        assert_eq!((device(), free_bytes()), (1, GIB - 10 * MIB));
        let other = std::thread::spawn(move || (device(), free_bytes(), last_error()));
        assert_eq!(other.join().expect("it ends"), (0, GIB, 0));
        assert_eq!(last_error(), 101);
        // The driver and the runtime agree on what is current.
        let mut ordinal = 0;
        assert_eq!(cuda!(cuCtxGetDevice(&mut ordinal => *mut i32)), 0);
        assert_eq!(ordinal, 1);
    });
}

#[test]
fn properties_have_the_layout_of_the_name_they_are_asked_by() {
    let machine = Scenario::unlogged(
        "gpu total=24GiB capability=8.9 sms=128 l2=72MiB clock=2520 bus=384 \
         bandwidth=1008000000000",
    );
    child::run(&machine, || {
        let int = |bytes: &[u8], at: usize| {
            i32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
        };
        // Offsets of driver_types.h, by a C compiler: 12.8 and 13.2.
        let mut twelve = [0xee; 1040];
        let at = twelve.as_mut_ptr();
        assert_eq!(cuda!(cudaGetDeviceProperties_v2(at => *mut u8, 0 => i32)), 0);
        let of = |at| int(&twelve, at);
        assert_eq!((of(360), of(364), of(388), of(612)), (8, 9, 128, 384));
        assert_eq!((of(640), of(696), of(720)), (100 << 10, 99 << 10, 1 << 10));
        assert_eq!(twelve[1032..], [0xee; 8]);
        // Without a libcudart in the process it is the newest.
        let mut thirteen = [0xee; 1040];
        let at = thirteen.as_mut_ptr();
        assert_eq!(cuda!(cudaGetDeviceProperties(at => *mut u8, 0 => i32)), 0);
        let of = |at| int(&thirteen, at);
        assert_eq!((of(360), of(364), of(384), of(592)), (8, 9, 128, 384));
        assert_eq!((of(624), of(672), of(696)), (100 << 10, 99 << 10, 1 << 10));
        assert_eq!(thirteen[1008..], [0xee; 32]);
        let attribute = |number: u32| {
            let mut value = 0;
            let code = cuda!(cudaDeviceGetAttribute(
                &mut value => *mut i32, number => u32, 0 => i32
            ));
            assert_eq!(code, 0);
            value
        };
        let wanted = [(16, 128), (36, 10_500_000), (37, 384), (38, 72 << 20), (97, 99 << 10)];
        for (number, value) in wanted {
            assert_eq!(attribute(number), value, "attribute {number}");
        }
    });
}

#[test]
fn the_drivers_functions_are_found_through_the_runtime() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let find = |name: &std::ffi::CStr| {
            let (mut function, mut status) = (1usize, 9u32);
            let code = cuda!(cudaGetDriverEntryPointByVersion(
                name.as_ptr() => *const std::ffi::c_char, &mut function => *mut usize,
                12000 => u32, 0 => u64, &mut status => *mut u32
            ));
            (code, function != 0, status)
        };
        assert_eq!(find(c"cuMemCreate"), (0, true, 0));
        assert_eq!(find(c"cuNoSuchCall"), (0, false, 1));
    });
    let unanswered = machine.notes().iter().any(|note| note.detail == "cuNoSuchCall");
    assert!(unanswered);
}

#[test]
fn faults_come_to_the_runtimes_calls_too() {
    let machine = Scenario::new("gpu total=1GiB\nfault cudaMalloc at=2 code=999");
    child::run(&machine, || {
        allocate(1).expect("fits");
        assert_eq!((allocate(1), last_error()), (Err(999), 999));
        allocate(1).expect("fits");
    });
    let calls = machine.calls_of("cudaMalloc");
    assert_eq!(calls.len(), 3);
}

#[test]
fn errors_have_the_runtimes_names_and_words() {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        type Text = extern "C" fn(u32) -> *const std::ffi::c_char;
        let text = |name: &str, code| {
            let function: Text = support::driver::exported(name);
            // SAFETY: text of the library's own, which ends in NUL.
            unsafe { std::ffi::CStr::from_ptr(function(code)) }.to_str().expect("ASCII")
        };
        let [name, words] = ["cudaGetErrorName\0", "cudaGetErrorString\0"];
        assert_eq!(text(name, 2), "cudaErrorMemoryAllocation");
        assert_eq!(text(words, 2), "out of memory");
        assert_eq!(text(name, 209), "cudaErrorNoKernelImageForDevice");
        assert_eq!(text(words, 209), "no kernel image is available for execution on the device");
        assert_eq!(text(words, 12345), "unrecognized error code");
    });
}
