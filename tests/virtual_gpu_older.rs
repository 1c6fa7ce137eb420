//! What the host reads of its own where work that nobody follows may have written since: it is
//! counted, and nothing else is.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use std::ffi::CStr;

use support::kernel::{self, Dim3, ELF};
use support::machine::notes::Kind;
use support::{Scenario, child};

// Kernels of libtorch_cuda.so of 2.15.0, shortened at places that are not looked at.
const ROLL: &CStr = c"_ZN2at6native16roll_cuda_kernelIfEEvPKT_PS2_llllll";
const TRIANGLE: &CStr = c"_ZN2at6native16triu_tril_kernelIfiLb1ELi2ELb0EEEvNS_4cuda6detail10TensorInfoIT_T0_EENS4_IKS5_S6_EEllS6_";
const TOP: &CStr = c"_ZN2at6native6sbtopk10gatherTopKIfjLi1ELb0EEEvNS_4cuda6detail10TensorInfoIKT_T0_EES8_S8_bS8_S8_NS5_IS6_S8_EES8_NS5_IlS8_EES8_PS6_";
const RANDOM: &CStr = c"_ZN2at6native54_GLOBAL__N__8e11a5fb_21_DistributionNormal_cu_0c5b6e8543distribution_elementwise_grid_stride_kernelIfLi4EEEvlNS_15PhiloxCudaStateET1_T2_";
const FOREACH: &CStr = c"_ZN2at6native57_GLOBAL__N__7e105b8f_24_ForeachBinaryOpScalar_cu_86b9896c25multi_tensor_apply_kernelINS1_18TensorListMetadataILi1EEENS1_21BinaryOpScalarFunctorIfLi2ELi1ELi1EEEJSt10multipliesIfEfEEEvT_T0_DpT1_";
const NORMS: &CStr =
    c"_ZN2at6native14lpnorm_cleanupIfLNS0_8NormTypeE1EffEEvPKT2_NS0_19TensorListAddressesEi";
const COPY: &CStr = c"_ZN2at6native18elementwise_kernelILi128ELi2EZNS0_22gpu_kernel_impl_nocastIZZZNS0_23direct_copy_kernel_cudaERNS_18TensorIteratorBaseEENKUlvE1_clEvENKUlvE5_clEvEUlfE_EEvS4_RKT_EUliE_EEviT1_";
const LOSS: &CStr = c"_ZN2at6native39_GLOBAL__N__6bd09d29_7_Loss_cu_5b0651e138nll_loss_forward_reduce_cuda_kernel_2dIfflEEvPT_S4_PKS3_PKT1_S6_bllll";
const NOTHING: &CStr = c"_ZN14at_cuda_detail3cub6detail11EmptyKernelIvEEvv";
/// Not mangled as C++ is.
const PLAIN: &CStr = c"plain";

const FIVE: u64 = 0x4014_0000_0000_0000;

fn at<T: ?Sized>(value: &T) -> u64 {
    std::ptr::from_ref(value).cast::<u8>().expose_provenance() as u64
}

fn copy(to: u64, from: u64, bytes: usize) {
    assert_eq!(cuda!(cudaMemcpy(to => u64, from => u64, bytes => usize, 4 => u32)), 0);
}

fn write(device: u64, words: usize) {
    copy(device, at(&vec![FIVE; words][..]), 8 * words);
}

fn read(device: u64) -> u64 {
    let read = [0xaau64];
    copy(at(&read), device, 8);
    std::hint::black_box(read)[0]
}

fn launch(name: &'static CStr, arguments: &[u64]) {
    let one = Dim3(1, 1, 1);
    let code = cuda!(cudaLaunchKernel(
        kernel::register(name, &[(ELF, 80)]) => u64, one => Dim3, one => Dim3,
        at(arguments) => u64, 0 => usize, 0 => u64
    ));
    assert_eq!(code, 0);
}

/// Runs `body` with the address of two mebibytes; returns how many reads were counted: of what may
/// be older, and of values that only a kernel could have written.
fn counted(body: impl FnOnce(u64)) -> [u64; 2] {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let mut address = 0;
        assert_eq!(cuda!(cudaMalloc(&mut address => *mut u64, 2 << 20 => usize)), 0);
        body(address);
    });
    [Kind::Older, Kind::Value].map(|kind| {
        let notes = machine.notes();
        let of_kind = notes.iter().filter(|note| note.kind == kind);
        of_kind.map(|note| note.detail.parse().expect("is a count")).max().unwrap_or(0)
    })
}

/// As [`counted`], of eight bytes that the host wrote before `work` had their address.
fn after(work: impl FnOnce(u64)) -> [u64; 2] {
    counted(|device| {
        write(device, 1);
        work(device);
        read(device);
    })
}

const TRUSTED: [u64; 2] = [0, 0];
const OLDER: [u64; 2] = [1, 0];
const VALUE: [u64; 2] = [0, 1];

/// Compares what was counted, once all children have run.
fn check<const N: usize>(cases: [(&str, [u64; 2], [u64; 2]); N]) {
    for (what, counted, wanted) in cases {
        assert_eq!(counted, wanted, "{what}");
    }
}

#[test]
fn what_no_work_had_or_work_only_reads_is_trusted() {
    let tensor = |of: u64| [of, 4, 1, 1];
    check([
        ("there and back", after(|_| ()), TRUSTED),
        (
            "a pointer to constants",
            after(|from| launch(ROLL, &[at(&from), at(&(from + 512)), at(&1u64)])),
            TRUSTED,
        ),
        (
            "a tensor of constants",
            after(|from| {
                let (from, other, number) = (tensor(from), tensor(from + 512), 7u64);
                let [from, other, number] = [at(&from), at(&other), at(&number)];
                let mut all = [number; 11];
                (all[0], all[6], all[8], all[10]) = (from, other, other, other);
                launch(TOP, &all);
            }),
            TRUSTED,
        ),
        ("a kernel without arguments", after(|to| launch(NOTHING, &[at(&to)])), TRUSTED),
        (
            "written again",
            after(|to| {
                launch(PLAIN, &[at(&to), 0]);
                write(to, 1);
            }),
            TRUSTED,
        ),
    ]);
}

#[test]
fn what_work_may_have_written_is_counted() {
    let tensor = |of: u64| [of, 4, 1, 1];
    // A closure has its tensor after strides.
    let closure = |to: u64| [3, 5, 7, 9, to, 11];
    // Of one list of PyTorch's, before CUDA 13 and from then on: addresses, counts of elements, and
    // each block's tensor, the first. Others are left over from before.
    let list = |first: u64, second: u64| {
        let mut list = [0u64; 4000];
        (list[0], list[1], list[110], list[770]) = (first, second, 1, 1);
        list
    };
    check([
        ("a pointer", after(|to| launch(ROLL, &[at(&(to + 512)), at(&to), at(&1u64)])), OLDER),
        (
            "a tensor",
            after(|to| launch(TRIANGLE, &[at(&tensor(to)), at(&tensor(to + 512)), at(&1), at(&1)])),
            OLDER,
        ),
        (
            "a closure",
            after(|to| launch(RANDOM, &[at(&9u64), at(&[1u64; 4]), at(&0u64), at(&closure(to))])),
            OLDER,
        ),
        ("a list", after(|to| launch(FOREACH, &[at(&list(to, 0)), at(&0u64), 0])), OLDER),
        (
            "what was in a list before",
            after(|to| launch(FOREACH, &[at(&list(to + 512, to)), at(&0u64), 0])),
            TRUSTED,
        ),
        (
            "what has no types",
            after(|to| {
                let number = std::hint::black_box(5u64);
                launch(PLAIN, &[at(&number), at(&to), 0]);
            }),
            OLDER,
        ),
        (
            "arguments elsewhere than on the stack",
            after(|to| {
                let place = Box::new(to);
                let arguments = Box::new([at(&*place), 0]);
                launch(PLAIN, &*arguments);
            }),
            OLDER,
        ),
    ]);
}

/// Launches a function of the driver's.
fn launch_by_driver(arguments: u64, extra: u64) {
    let (mut module, mut function) = (0u64, 0u64);
    assert_eq!(cuda!(cuInit(0 => u32)), 0);
    let loaded = cuda!(cuModuleLoadData(&mut module => *mut u64, at(&1u64) => u64));
    let found = cuda!(cuModuleGetFunction(
        &mut function => *mut u64, module => u64, c"triton_poi".as_ptr() => *const std::ffi::c_char
    ));
    let code = cuda!(cuLaunchKernel(
        function => u64, 1 => u32, 1 => u32, 1 => u32, 1 => u32, 1 => u32, 1 => u32, 0 => u32,
        0 => u64, arguments => u64, extra => u64
    ));
    assert_eq!([loaded, found, code], [0; 3]);
}

#[test]
fn the_drivers_launches_count_too() {
    let buffer = |to: u64| [7, to, 9];
    let extra = |to: &[u64; 3], bytes: &u64| [1, at(to), 2, at(bytes), 0];
    let described = |to: u64| {
        let mut map = [0u64; 16];
        let made = cuda!(cuTensorMapEncodeTiled(
            map.as_mut_ptr() => *mut u64, 7 => u32, 2 => u32, to => u64
        ));
        assert_eq!(made, 0);
        launch_by_driver(at(&[at(&map), 0]), 0);
    };
    check([
        (
            "arguments",
            after(|to| {
                let number = std::hint::black_box(5u64);
                launch_by_driver(at(&[at(&number), at(&to), 0]), 0);
            }),
            OLDER,
        ),
        ("a buffer", after(|to| launch_by_driver(0, at(&extra(&buffer(to), &24)))), OLDER),
        ("a shorter one", after(|to| launch_by_driver(0, at(&extra(&buffer(to), &8)))), TRUSTED),
        ("a tensor's description", after(described), OLDER),
    ]);
}

#[test]
fn a_result_whose_place_is_known_is_a_kernels_and_what_it_comes_from_stays() {
    // Addresses of two tensors come after sizes and strides.
    let closure = |at: usize, addresses: &[u64]| {
        let mut closure = [3; 128];
        closure[at..at + addresses.len()].copy_from_slice(addresses);
        closure
    };
    let strided = |to: u64, from: u64| launch(COPY, &[at(&4u32), at(&closure(63, &[to, from]))]);
    let of_three = |to: u64, left: u64| {
        let mut closure = closure(76, &[to, to + 1024, to + 1536]);
        // Left over from before, where sizes and strides are not in use.
        (closure[51], closure[63]) = (left, left + 512);
        launch(COPY, &[at(&4u32), at(&closure)]);
    };
    let product = |result: u64, from: u64| {
        let code = cuda!(cublasSgemm_v2(
            1 => u64, 0 => i32, 0 => i32, 1 => i32, 1 => i32, 1 => i32, 0 => u64, from => u64,
            1 => i32, from => u64, 1 => i32, 0 => u64, result => u64, 1 => i32
        ));
        assert_eq!(code, 0);
    };
    // Its second result is the total weight.
    let loss = |to: u64, total: u64, from: u64| {
        let number = 1u64;
        let [to, total, from, number] = [at(&to), at(&total), at(&from), at(&number)];
        // By its name the weight of each class may be written as well: it has none here.
        launch(LOSS, &[to, total, from, from, number, number, number, number, number, number]);
    };
    check([
        ("a copy of strides", after(|to| strided(to, to + 512)), VALUE),
        ("what it copies", after(|from| strided(from + 512, from)), TRUSTED),
        ("a sum of strides", after(|to| of_three(to, 0)), VALUE),
        ("one of two", after(|to| of_three(to, to + 2048)), OLDER),
        ("one of the norms", after(|to| launch(NORMS, &[at(&0u64), at(&[to, 7])])), VALUE),
        (
            "what was among them",
            after(|to| launch(NORMS, &[at(&0u64), at(&[to + 512, to])])),
            TRUSTED,
        ),
        ("a product", after(|to| product(to, to + 512)), VALUE),
        ("a factor", after(|from| product(from + 512, from)), TRUSTED),
        ("a loss", after(|to| loss(to, to + 512, to + 1024)), VALUE),
        ("its weight", after(|to| loss(to + 512, to, to + 1024)), OLDER),
        ("what it comes from", after(|from| loss(from + 512, from + 1024, from)), TRUSTED),
    ]);
}

#[test]
fn a_library_may_write_to_any_address_that_it_is_given() {
    let generate = |to: u64| {
        assert_eq!(cuda!(curandGenerateUniform(1 => u64, to => u64, 1 => usize)), 0);
    };
    check([("random numbers", after(generate), OLDER)]);
}

#[test]
fn what_a_library_is_told_of_no_work_is_in_no_doubt() {
    /// Gives an address to each of these, at every place where it might be looked for.
    macro_rules! given {
        ($($name:ident)*) => {
            [$((
                stringify!($name),
                after(|at| {
                    let code = cuda!($name(
                        at => u64, at => u64, at => u64, at => u64, at => u64, at => u64,
                        at => u64, at => u64, at => u64, at => u64, at => u64, at => u64
                    ));
                    assert_eq!(code, 0);
                }),
                TRUSTED,
            )),*]
        };
    }
    check(given![
        cublasLtMatmulDescSetAttribute cublasLtMatmulDescDestroy cublasLtDestroy
        cublasSetKernelStream cudnnSetTensorNdDescriptor cudnnDestroyTensorDescriptor
        cudnnDestroy cufftSetWorkArea cufftDestroy curandSetStream curandDestroyGenerator
        cusolverDnSetStream cusolverDnDestroy cusparseSetStream cusparseDestroy
        cusparseDestroyDnMat
    ]);
    let lt_product = |result: u64, from: u64| {
        let code = cuda!(cublasLtMatmul(
            1 => u64, 2 => u64, 0 => u64, from => u64, 3 => u64, from => u64, 4 => u64, 0 => u64,
            result => u64, 5 => u64, result => u64, 6 => u64, 0 => u64, 0 => u64, 0 => usize,
            0 => u64
        ));
        assert_eq!(code, 0);
    };
    let filled = |to: u64| {
        assert_eq!(cuda!(cudnnSetTensor(1 => u64, 2 => u64, to => u64, 0 => u64)), 0);
    };
    let dropout = |states: u64| {
        let code = cuda!(cudnnSetDropoutDescriptor(
            1 => u64, 2 => u64, 0 => u32, states => u64, 8 => usize, 7 => u64
        ));
        assert_eq!(code, 0);
    };
    check([
        ("a product", after(|to| lt_product(to, to + 512)), VALUE),
        ("a factor", after(|from| lt_product(from + 512, from)), TRUSTED),
        ("what cuDNN fills", after(filled), OLDER),
        ("the states of its generator", after(dropout), OLDER),
    ]);
}

#[test]
fn work_on_a_descriptor_is_work_on_its_arrays() {
    let dense = |values: u64| {
        let mut descriptor = 0u64;
        let made = cuda!(cusparseCreateDnMat(
            &mut descriptor => *mut u64, 1 => i64, 1 => i64, 1 => i64, values => u64, 0 => u32,
            1 => u32
        ));
        assert_eq!(made, 0);
        descriptor
    };
    // In a thread, on whose stack no address is: more words are looked at than there are arguments.
    let product = |result: u64| {
        let multiplied = std::thread::spawn(move || {
            cuda!(cusparseSpMM(
                1 => u64, 0 => u32, 0 => u32, 0 => u64, 2 => u64, 3 => u64, 0 => u64,
                result => u64, 0 => u32, 0 => u32, 0 => u64
            ))
        });
        assert_eq!(multiplied.join().expect("does not panic"), 0);
    };
    let set = |descriptor: u64, values: u64| {
        let code = cuda!(cusparseDnMatSetValues(descriptor => u64, values => u64));
        assert_eq!(code, 0);
    };
    check([
        ("made", after(|to| _ = dense(to)), TRUSTED),
        ("multiplied", after(|to| product(dense(to))), OLDER),
        (
            "set since",
            after(|to| {
                let result = dense(to + 512);
                set(result, to);
                product(result);
            }),
            OLDER,
        ),
        (
            "set elsewhere",
            after(|to| {
                let result = dense(to);
                set(result, to + 512);
                product(result);
            }),
            TRUSTED,
        ),
        (
            "ended",
            after(|to| {
                let result = dense(to);
                assert_eq!(cuda!(cusparseDestroyDnMat(result => u64)), 0);
                product(result);
            }),
            TRUSTED,
        ),
    ]);
}

/// Counts what `body` reads once three arrays of 4 KiB lie one after the other, the second in doubt.
fn with_a_doubted_array(body: impl FnOnce(u64)) -> [u64; 2] {
    counted(|device| {
        for array in 0..3 {
            write(device + 4096 * array, 512);
        }
        launch(ROLL, &[at(&0u64), at(&(device + 4096)), 0, 0, 0, 0, 0, 0]);
        body(device);
    })
}

#[test]
fn a_doubt_is_of_what_was_written_at_once_and_goes_with_copies() {
    let last = |device: u64| _ = read(device + 4096 + 4088);
    let before = |device: u64| _ = (read(device + 8), read(device + 4088));
    let copied = |device: u64| {
        copy(device + (1 << 16), device + 4096, 512);
        read(device + (1 << 16) + 8);
    };
    let replaced = |device: u64| {
        write(device + 4096, 512);
        read(device + 4096 + 8);
    };
    check([
        ("its last word", with_a_doubted_array(last), OLDER),
        ("the one before it", with_a_doubted_array(before), TRUSTED),
        ("a copy of it", with_a_doubted_array(copied), OLDER),
        ("written again", with_a_doubted_array(replaced), TRUSTED),
    ]);
}

#[test]
fn a_doubt_goes_with_what_ranks_exchange() {
    /// `ncclUniqueId`
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct UniqueId([u8; 128]);
    let exchanged = |work: fn(u64)| {
        counted(|device| {
            let (mut id, mut of) = (UniqueId([0; 128]), 0u64);
            let named = cuda!(ncclGetUniqueId(&mut id => *mut UniqueId));
            let joined =
                cuda!(ncclCommInitRank(&mut of => *mut u64, 1 => i32, id => UniqueId, 0 => i32));
            write(device, 1);
            work(device);
            // Two numbers in single precision, the largest of one rank's.
            let reduced = cuda!(ncclAllReduce(
                device => u64, device + 512 => u64, 2 => usize, 7 => u32, 2 => u32, of => u64, 0 => u64
            ));
            assert_eq!([named, joined, reduced], [0; 3]);
            read(device + 512);
        })
    };
    check([
        ("nobody had it", exchanged(|_| ()), TRUSTED),
        ("work had it", exchanged(|to| launch(PLAIN, &[at(&to), 0])), OLDER),
    ]);
}

#[test]
fn what_a_large_copy_or_fill_replaces_is_no_more_the_hosts() {
    const LARGE: usize = 100_000;
    const WITHIN: u64 = 1 << 16;
    let replaced = |by: fn(u64)| {
        counted(|device| {
            write(device + WITHIN, 1);
            by(device);
            read(device + WITHIN);
        })
    };
    let copy = |device: u64| copy(device, at(&[7u8; LARGE]), LARGE);
    let fill = |device: u64| {
        assert_eq!(cuda!(cudaMemset(device => u64, 1 => i32, LARGE => usize)), 0);
    };
    check([("a copy", replaced(copy), VALUE), ("a fill", replaced(fill), VALUE)]);
}
