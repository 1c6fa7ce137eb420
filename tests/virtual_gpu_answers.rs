//! The simulated GPU's answers to questions of one byte: what a usual run's kernel would say.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use std::ffi::CStr;

use support::kernel::{self, Dim3, ELF};
use support::{Scenario, child};

// Names of kernels in libtorch_cuda.so of 2.15.0 (the first but one: 2.4.1), shortened at places
// that are not looked at.
const ANY: &CStr = c"_ZN2at6native13reduce_kernelILi512ELi1ENS0_8ReduceOpIbNS0_14func_wrapper_tIbZZZNS0_14or_kernel_cudaERNS_14TensorIteratorE";
const ALL: &CStr = c"_ZN2at6native13reduce_kernelILi512ELi1ENS0_8ReduceOpIiNS0_14func_wrapper_tIb18__nv_hdl_wrapper_tILb0ELb1ELb0E11__nv_dl_tagIPFvRNS_14TensorIteratorEEXadL_ZNS0_15and_kernel_cudaES7_EELj3EEFbiiEJEEEEjbLi4ELi4EEEEEvT1_";
const SUM: &CStr = c"_ZN2at6native13reduce_kernelILi512ELi1ENS0_8ReduceOpIfNS0_14func_wrapper_tIfZNS0_15sum_functorIfff";
const COMPARED: &CStr = c"_ZN2at6native29vectorized_elementwise_kernelILi4ENS0_13BinaryFunctorIffbNS0_16CompareEqFunctorIfEEEESt5arrayIPcLm3EELb0EEEviT0_T1_";
const SINGLE: &CStr = c"_ZN2at6native29vectorized_elementwise_kernelILi4ENS0_13AUnaryFunctorIffbNS0_16CompareEqFunctorIfEEEESt5arrayIPcLm2EELb0EEEviT0_T1_";
const BRAIN: &CStr = c"_ZN2at6native29vectorized_elementwise_kernelILi4ENS0_13BUnaryFunctorIN3c108BFloat16ES4_bNS0_16CompareEqFunctorIS4_EEEESt5arrayIPcLm2EELb0EEEviT0_T1_";
const OR: &CStr = c"_ZN2at6native29vectorized_elementwise_kernelILi4ENS0_13BinaryFunctorIbbbNS0_16BitwiseOrFunctorIbEEEESt5arrayIPcLm3EELb0EEEviT0_T1_";
const AND: &CStr = c"_ZN2at6native29vectorized_elementwise_kernelILi4ENS0_13BinaryFunctorIbbbNS0_15binary_internal10MulFunctorIbEEEESt5arrayIPcLm3EELb0EEEviT0_T1_";
const NOT: &CStr = c"_ZN2at6native29vectorized_elementwise_kernelILi4EZNS0_23bitwise_not_kernel_cudaERNS_18TensorIteratorBaseEEUlbE_St5arrayIPcLm2EELb0EEEviT0_T1_";
const COPY: &CStr = c"_ZN2at6native27unrolled_elementwise_kernelIZZZNS0_23direct_copy_kernel_cudaERNS_18TensorIteratorBaseEENKUlvE1_clEvENKUlvE_clEvEUlhE_St5arrayIPcLm2EELi4E";
const GREATER: &CStr = c"_ZN2at6native29vectorized_elementwise_kernelILi4EZNS0_21compare_scalar_kernelIfEEvRNS_18TensorIteratorBaseE";

const COUNT: &CStr = c"_ZN14at_cuda_detail3cub28DeviceReduceSingleTileKernelINS0_18DeviceReducePolicyIiyN4cuda3std3__44plusIvEEE9Policy600EPiSA_iS7_ii";
const DIFFERENT: &CStr = c"_ZN14at_cuda_detail3cub6detail6select23DeviceSelectSweepKernelINS2_10policy_hubIlNS0_8NullTypeEiLb0ELNS0_10SelectImplE0EE10Policy1000EPKlPS5_PlSC_NS0_13ScanTileStateIiLb1EEES5_N4cuda3std3__48equal_toIvEEi";
// Of 2.4.1.
const DIFFERENT_BEFORE: &CStr = c"_ZN14at_cuda_detail3cub23DeviceSelectSweepKernelINS0_16DispatchSelectIfIPKlPNS0_8NullTypeEPlS7_S5_NS0_8EqualityEiLb0ELb0EE18PtxSelectIfPolicyT";
const MASKED: &CStr = c"_ZN14at_cuda_detail3cub6detail6select23DeviceSelectSweepKernelINS2_10policy_hubIlbiLb0ELNS0_10SelectImplE0EE10Policy1000EN6thrust17counting_iteratorIlEE";
const COUNTED: &CStr = c"_ZN14at_cuda_detail3cub6detail6reduce23DeviceReduceByKeyKernelINS1_3rle6encode10policy_hubIllE10Policy1000EPKlPlN6thrust17constant_iteratorIllEESB_SB_";
const BY_KEY: &CStr = c"_ZN14at_cuda_detail3cub6detail13unique_by_key28DeviceUniqueByKeySweepKernelINS2_10policy_hubIllE10Policy1000EPlS7_S7_S7_Pj";
const SOFTMAX: &CStr = c"_ZN43_GLOBAL__N__f71e7945_10_SoftMax_cu_9f978f6320softmax_warp_forwardIfffLi3ELb0ELb0ELi32EEEvPT0_PKT_iiiPKbib";
const READS: &CStr = c"_ZN2at6native13reads_onlyIfEEvPKT_PS1_";

const EQUAL: [u32; 4] = [0; 4];
const UNEQUAL: [u32; 4] = [1, 0, 0, 0];

fn at<T>(value: &T) -> u64 {
    std::ptr::from_ref(value).expose_provenance() as u64
}

fn launch(name: &'static CStr, arguments: &[u64]) {
    let one = Dim3(1, 1, 1);
    let code = cuda!(cudaLaunchKernel(
        kernel::register(name, &[(ELF, 80)]) => u64, one => Dim3, one => Dim3,
        at(&arguments[0]) => u64, 0 => usize, 0 => u64
    ));
    assert_eq!(code, 0);
}

/// Launches a reduction; `ReduceOp` has its source and destination at bytes 976 and 984.
fn reduce(name: &'static CStr, from: u64, to: u64) {
    reduce_at(122, name, &[from, to]);
}

/// Launches a reduction whose source and destinations are these words.
fn reduce_at(word: usize, name: &'static CStr, addresses: &[u64]) {
    let mut reduction = [0u64; 130];
    reduction[word..word + addresses.len()].copy_from_slice(addresses);
    launch(name, &[at(&reduction)]);
}

/// Launches a kernel of `count` elements: a functor, and addresses with the output's first.
fn each(name: &'static CStr, count: i32, functor: [u32; 4], addresses: [u64; 3]) {
    launch(name, &[at(&count), at(&functor), at(&addresses)]);
}

fn one(name: &'static CStr, addresses: [u64; 3]) {
    each(name, 1, EQUAL, addresses);
}

fn copy(to: u64, from: u64, bytes: usize) {
    assert_eq!(cuda!(cudaMemcpy(to => u64, from => u64, bytes => usize, 4 => u32)), 0);
}

fn byte(from: u64) -> u8 {
    let byte = [0xaau8];
    copy(at(&byte), from, 1);
    std::hint::black_box(byte)[0]
}

fn word(from: u64) -> u64 {
    let word = [u64::MAX];
    copy(at(&word), from, 8);
    std::hint::black_box(word)[0]
}

/// Runs `body` with the address of a mebibyte.
fn on_a_card(body: impl FnOnce(u64)) {
    let machine = Scenario::unlogged("gpu total=1GiB");
    child::run(&machine, || {
        let mut address = 0;
        assert_eq!(cuda!(cudaMalloc(&mut address => *mut u64, 1 << 20 => usize)), 0);
        body(address);
    });
}

#[test]
fn nothing_odd_is_found_and_all_is_well() {
    on_a_card(|device| {
        let [input, any, all, sum] = [0, 512, 1024, 1536].map(|offset| device + offset);
        reduce(ANY, input, any);
        reduce(ALL, input, all);
        reduce(SUM, input, sum);
        assert_eq!([any, all, sum, input].map(byte), [0, 1, 1, 1]);
        // The same memory, asked otherwise.
        reduce(ALL, input, any);
        assert_eq!(byte(any), 1);
        // A layout that is not PyTorch's is not believed.
        reduce(ANY, 0, any);
        assert_eq!(byte(any), 1);
    });
}

#[test]
fn of_any_values_at_least_one_is_different() {
    on_a_card(|device| {
        let [input, output, number] = [0, 512, 1024].map(|offset| device + offset);
        let ask = |name, place: usize| {
            let mut addresses = [input, output, output, output, output, output];
            addresses[place] = number;
            launch(name, &addresses.each_ref().map(at));
            word(number)
        };
        copy(number, at(&7u64), 8);
        assert_eq!([ask(DIFFERENT, 3), ask(DIFFERENT_BEFORE, 3)], [1, 1]);
        assert_eq!([ask(COUNTED, 4), ask(BY_KEY, 4)], [1, 1]);
        // A mask may select nothing.
        reduce(SUM, input, number);
        assert_eq!(ask(MASKED, 3), 0);
        assert_eq!(ask(DIFFERENT, 3), 1);
        // Of four bytes it is one too; an answer by a byte is another thing.
        let mut four = 0u32;
        copy(std::ptr::from_mut(&mut four).expose_provenance() as u64, number, 4);
        assert_eq!((std::hint::black_box(four), byte(number)), (1, 1));
        reduce(ANY, input, number);
        assert_eq!((byte(number), word(number)), (0, 0));
    });
}

#[test]
fn a_value_is_a_finite_number() {
    on_a_card(|device| {
        let [value, other, answer] = [0, 512, 1024].map(|offset| device + offset);
        let ask = |name, functor: [u32; 4], addresses| {
            reduce(ANY, value, answer);
            reduce(ALL, value, answer);
            each(name, 1, functor, addresses);
            byte(answer)
        };
        let itself = [answer, value, value];
        assert_eq!(ask(COMPARED, UNEQUAL, itself), 0, "isnan");
        assert_eq!(ask(COMPARED, EQUAL, itself), 1);
        assert_eq!(ask(COMPARED, UNEQUAL, [answer, value, other]), 1, "two values: not known");
        let number = |bits: u32, unequal: u32| [unequal, bits, 0, 0];
        let of_one = [answer, value, 0];
        assert_eq!(ask(SINGLE, number(f32::INFINITY.to_bits(), 0), of_one), 0, "isinf");
        assert_eq!(ask(SINGLE, number(f32::INFINITY.to_bits(), 1), of_one), 1);
        assert_eq!(ask(SINGLE, number(f32::NEG_INFINITY.to_bits(), 0), of_one), 0);
        assert_eq!(ask(SINGLE, number(1f32.to_bits(), 0), of_one), 1, "== 1: not known");
        assert_eq!(ask(BRAIN, number(0x7f80, 0), of_one), 0, "isinf in bfloat16");
        assert_eq!(ask(BRAIN, number(0x3f80, 0), of_one), 1);
    });
}

#[test]
fn answers_are_followed_through_and_or_not_and_copies() {
    on_a_card(|device| {
        let [input, no, yes, answer] = [0, 512, 1024, 1536].map(|offset| device + offset);
        reduce(ANY, input, no);
        reduce(ALL, input, yes);
        let ask = |name, first, second| {
            one(name, [answer, first, second]);
            byte(answer)
        };
        assert_eq!([ask(OR, no, no), ask(OR, no, yes), ask(OR, no, input)], [0, 1, 0]);
        assert_eq!([ask(AND, yes, yes), ask(AND, no, yes), ask(AND, yes, input)], [1, 0, 1]);
        assert_eq!([ask(NOT, no, 0), ask(NOT, yes, 0), ask(NOT, input, 0)], [1, 0, 1]);
        assert_eq!([ask(COPY, no, 0), ask(COPY, yes, 0), ask(COPY, input, 0)], [0, 1, 1]);
        copy(answer, no, 1);
        assert_eq!(byte(answer), 0);
        // Of several elements nobody knows which is read.
        one(COPY, [answer, no, 0]);
        each(NOT, 2, EQUAL, [answer, no, 0]);
        assert_eq!(byte(answer), 1);
    });
}

#[test]
fn an_answer_ends_with_what_is_written_after_it() {
    on_a_card(|device| {
        let answer = device + 512;
        let ask = || reduce(ANY, device, answer);
        ask();
        one(GREATER, [answer, device, 0]);
        assert_eq!(byte(answer), 1, "another kernel");
        ask();
        copy(answer, at(&1u8), 1);
        assert_eq!(byte(answer), 1, "the host");
        // And what the host wrote ends with an answer.
        ask();
        assert_eq!(byte(answer), 0);
        ask();
        copy(answer, device, 64);
        assert_eq!(byte(answer), 1, "a copy on the device");
    });
}

/// What the host reads of eight bytes that it wrote before `kernel` ran.
fn after(device: u64, kernel: impl FnOnce()) -> u64 {
    let (written, read) = ([0x4014_0000_0000_0000u64], [0xaau64]);
    copy(device, at(&written), 8);
    kernel();
    copy(at(&read), device, 8);
    std::hint::black_box(read)[0]
}

#[test]
fn what_a_kernel_writes_is_not_what_the_host_wrote_there_before() {
    on_a_card(|device| {
        let (to, from, other) = (device, device + 512, device + 1024);
        assert_eq!(after(to, || ()), 0x4014_0000_0000_0000, "no kernel");
        for word in 122..=125 {
            assert_eq!(after(to, || reduce_at(word, SUM, &[from, to])), 0, "{word}");
            assert_eq!(
                after(to, || reduce_at(word, SUM, &[from, other, to])),
                0,
                "indices, {word}"
            );
        }
        assert_eq!(after(to, || one(GREATER, [to, from, 0])), 0, "an element");
        assert_eq!(after(to, || each(GREATER, 7, EQUAL, [to, from, 0])), 0, "several");
        assert_eq!(after(to, || launch(SOFTMAX, &[at(&to), at(&from)])), 0, "softmax");
        // Elsewhere the host's stays.
        assert_ne!(after(to, || each(GREATER, 512, EQUAL, [from, to, 0])), 0);
        assert_ne!(after(to, || launch(READS, &[at(&to), at(&from)])), 0, "constants");
        assert_ne!(after(to, || reduce_at(121, SUM, &[from, to])), 0, "an unknown layout");
    });
}

#[test]
fn a_count_is_not_what_the_host_wrote_there_before() {
    on_a_card(|device| {
        let count = || {
            let number = [0xaaaa_aaaau32];
            copy(at(&number), device, 4);
            std::hint::black_box(number)[0]
        };
        copy(device, at(&0x3f80_0001u32), 4);
        assert_eq!(count(), 0x3f80_0001);
        launch(COUNT, &[at(&(device + 512)), at(&device)]);
        assert_eq!(count(), 0);
    });
}
