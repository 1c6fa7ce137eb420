//! Questions that a program asks of its tensors and reads the answer of, one byte: `torch.any`,
//! `torch.isnan(loss)`, and what is said of such answers with and, or and not.
//!
//! Kernels do nothing here, so an answer is what a usual run's would be: nothing odd is found
//! (`any` is false, no value is infinite or not a number), and all is as it should be (`all` is
//! true). It is kept with the memory that the kernel would have written, until something else is
//! written there. What the host wrote into that memory before is forgotten, so that nobody reads it
//! as a result: what any other kernel leaves reads as zero.
//!
//! Source: PyTorch's kernels by name (ReduceLogicKernel.cu, CompareEQKernel.cu, the logical and
//! bitwise ones, Copy.cu), CUB's last one of a reduction, and where their arguments lie (Reduce.cuh,
//! Loops.cuh, dispatch_reduce.cuh); seen the same in torch 2.4.1, 2.8.0 and 2.15.0.

use super::copy::SMALL;
use super::lists::Lists;
use super::stack::Stack;
use super::unfollowed::{given, wrote};
use super::{arena, shadow};

/// What a kernel would answer by one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// A reduction: by or (no), by and (yes), or one whose answer is not known (a sum).
    Reduction(Option<bool>),
    /// Something of each element; only a single one's answer can be followed.
    Element(Element),
    /// No answer, and its first argument is where it writes (softmax, `cat`).
    Output,
    /// A count, of which a size is made (`torch.nonzero`): what the host wrote there before is not
    /// it.
    Count,
    /// How many different values there are (`torch.unique`), by the argument of this number: one, as
    /// CUB is not asked where there are no values.
    Different(usize),
    /// No answer, and its second argument is a closure over tensors, the first of which it writes:
    /// elements that lie in any order, or are picked by index.
    Strided,
    /// No answer, and lists of tensors.
    Lists(Lists),
    /// No answer, and its second argument has an address for each block (`TensorListAddresses`).
    Addresses,
}

/// What is asked of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Whether two values are equal or not: `isnan` compares a value with itself.
    Equal,
    /// Whether a value equals a number: `isinf` compares with infinity.
    EqualsNumber(Number),
    /// One answer or another: as a reduction, where an answer is not known.
    Or,
    /// One answer and another, likewise.
    And,
    /// The contrary of an answer.
    Not,
    /// An answer again, perhaps in another type.
    Copy,
    /// Anything else: the answer that lay there before is no more.
    Other,
}

/// A floating-point type that a comparison holds its number in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// IEEE half precision.
    Half,
    /// bfloat16.
    Brain,
    /// IEEE single precision.
    Single,
    /// IEEE double precision.
    Double,
}

/// Bytes of a count.
const COUNT: u64 = 4;
/// Bytes of how many different values there are, as PyTorch has it; Thrust has four.
const NUMBER: u64 = 8;
/// Bytes of an element at most, one at least: a complex number of two doubles.
const ELEMENT: u64 = 16;
/// Where a closure over one to five tensors has their addresses, in words of eight bytes, and the
/// end of the last: sizes and strides of 25 dimensions precede them (`OffsetCalculator`: 4 bytes,
/// 12 a dimension, 4 a dimension and tensor). What is not in use of those is whatever lay there.
const CLOSURES: [usize; 5] = [51, 63, 76, 88, 101];
const CLOSURE: usize = 106;
/// Where `ReduceOp` has its source, in words of eight bytes: the later the larger the operation, its
/// factor and the identity before it are. Two destinations follow, the second one for indices.
const SOURCES: [usize; 4] = [122, 123, 124, 125];

impl Question {
    /// Reads a kernel's mangled name; `None` for one that answers nothing that is followed.
    pub fn of(name: &str) -> Option<Question> {
        let has = |part: &str| name.contains(part);
        if has("13reduce_kernelI") {
            return match (has("14or_kernel_cuda"), has("15and_kernel_cuda")) {
                (true, false) => Some(Question::Reduction(Some(false))),
                (false, true) => Some(Question::Reduction(Some(true))),
                _ => Some(Question::Reduction(None)),
            };
        }
        if has("28DeviceReduceSingleTileKernelI") {
            return Some(Question::Count);
        }
        // Keys, selected ones and counts come before the number of them, or values as well.
        if has("23DeviceSelectSweepKernelI") && (has("8equal_toI") || has("8EqualityE")) {
            return Some(Question::Different(3));
        }
        if has("23DeviceReduceByKeyKernelI") || has("28DeviceUniqueByKeySweepKernelI") {
            return Some(Question::Different(4));
        }
        if has("18elementwise_kernelI") && has("gpu_kernel_impl")
            || has("24index_elementwise_kernelI") && has("16gpu_index_kernelI")
        {
            return Some(Question::Strided);
        }
        if let Some(lists) = Lists::of(name) {
            return Some(Question::Lists(lists));
        }
        if has("EvPKT2_NS0_19TensorListAddressesEi") {
            return Some(Question::Addresses);
        }
        let of_several = has("_for_multi_outputs");
        let of_each = has("vectorized_elementwise_kernel") || has("unrolled_elementwise_kernel");
        if !of_each || of_several {
            // A template's parameters follow its result, `void`: a pointer, and not to constants.
            let first = name.rfind("EvP").map(|at| &name[at + "EvP".len()..]);
            return first.filter(|rest| !rest.starts_with('K')).map(|_| Question::Output);
        }
        let of_two = has("13BinaryFunctorI");
        let number = Number::compared(name);
        Some(Question::Element(if let (true, Some(number)) = (has("CompareEqFunctor"), number) {
            Element::EqualsNumber(number)
        } else if of_two && has("CompareEqFunctor") {
            Element::Equal
        } else if of_two && (has("22logical_or_kernel_cuda") || has("BitwiseOrFunctorIbE")) {
            Element::Or
        } else if of_two
            && ["23logical_and_kernel_cuda", "BitwiseAndFunctorIbE", "MulFunctorIbE"]
                .iter()
                .any(|p| has(p))
        {
            Element::And
        } else if has("logical_not_kernel_cuda") || has("bitwise_not_kernel_cuda") {
            Element::Not
        } else if has("direct_copy_kernel_cuda") {
            Element::Copy
        } else {
            Element::Other
        }))
    }

    /// Keeps the answer with the memory that the kernel would have written; says whether that is
    /// all that it writes.
    ///
    /// # Safety
    ///
    /// `arguments` is null or the array of pointers to this kernel's arguments of a launch of `blocks`
    /// blocks.
    pub unsafe fn answer(self, arguments: u64, blocks: u32) -> bool {
        if arguments == 0 {
            return true;
        }
        // SAFETY: the types are those of the kernel that has this name.
        unsafe {
            match self {
                Question::Reduction(answer) => {
                    let reduction: *const u64 = argument(arguments, 0);
                    let word = |at: usize| reduction.add(at).read();
                    // Another layout than those that are known is not believed.
                    let known = |at: &&usize| [0, 1].iter().all(|n| arena::holds(word(*at + n)));
                    let Some(source) = SOURCES.iter().find(known) else { return false };
                    let [to, indices] = [1, 2].map(|n| word(source + n));
                    wrote(to, 1, u64::MAX, answer);
                    wrote(indices, 1, u64::MAX, None);
                }
                Question::Output => {
                    wrote(argument::<u64>(arguments, 0).read(), 1, u64::MAX, None);
                    return false;
                }
                Question::Lists(lists) => return lists.doubt(argument(arguments, 0), blocks),
                Question::Addresses => {
                    let addresses: *const u64 = argument(arguments, 1);
                    for block in 0..blocks as usize {
                        wrote(addresses.add(block).read(), 1, ELEMENT, None);
                    }
                }
                Question::Count => {
                    wrote(argument::<u64>(arguments, 1).read(), COUNT, COUNT, None);
                }
                Question::Different(at) => {
                    let to = argument::<u64>(arguments, at).read();
                    if arena::holds(to) {
                        shadow::doubt(to, NUMBER);
                        shadow::forget(to, NUMBER);
                        shadow::answer_one(to);
                    }
                    return false;
                }
                Question::Strided => {
                    let closure: *const u64 = argument(arguments, 1);
                    let mut words = [0; CLOSURE];
                    let read = Stack::here().read(closure.addr() as u64, &mut words);
                    let tensors =
                        CLOSURES.iter().zip(1..).map(|(at, count)| &words[*at..at + count]);
                    let mut known =
                        tensors.filter(|all| all.iter().all(|word| arena::holds(*word)));
                    match (known.next(), known.next()) {
                        _ if read < CLOSURE => return false,
                        (None, _) => return false,
                        (Some(tensors), None) => wrote(tensors[0], 1, u64::MAX, None),
                        // One of them is the result.
                        (Some(one), Some(other)) => {
                            [one, other].into_iter().chain(known).for_each(|all| given(&all[..1]));
                        }
                    }
                }
                Question::Element(element) => {
                    let count = argument::<i32>(arguments, 0).read();
                    let addresses: *const u64 = argument(arguments, 2);
                    let answer = match count {
                        1 => element.answer(argument(arguments, 1), addresses),
                        _ => None,
                    };
                    if let Ok(count @ 1..) = u64::try_from(count) {
                        wrote(addresses.read(), count.min(SMALL), count * ELEMENT, answer);
                    }
                }
            }
        }
        true
    }
}

impl Element {
    /// # Safety
    ///
    /// The two point to the kernel's functor, and to its array of addresses: the output's first.
    unsafe fn answer(self, functor: *const u8, addresses: *const u64) -> Option<bool> {
        // SAFETY: there are one address or two after the output's, as the question has operands.
        let at = |index| unsafe { addresses.add(index).read() };
        // SAFETY: a comparison's functor starts with what it asks for: equal is 0, unequal 1.
        let unequal = || unsafe { functor.cast::<i32>().read() } == 1;
        let operand = |index| shadow::answered(at(index));
        match self {
            Element::Equal if at(1) == at(2) => Some(!unequal()),
            // SAFETY: the functor's number follows.
            Element::EqualsNumber(number) if unsafe { number.is_infinite(functor) } => {
                Some(unequal())
            }
            Element::Or => Some([1, 2].map(operand).contains(&Some(true))),
            Element::And => Some(![1, 2].map(operand).contains(&Some(false))),
            Element::Not => operand(1).map(|answer| !answer),
            Element::Copy => operand(1),
            Element::Equal | Element::EqualsNumber(_) | Element::Other => None,
        }
    }
}

impl Number {
    /// The type of the number in a comparison with one.
    fn compared(name: &str) -> Option<Number> {
        let start = name.find("13AUnaryFunctorI").or_else(|| name.find("13BUnaryFunctorI"))?;
        let types = &name[start + "13AUnaryFunctorI".len()..];
        [
            ("f", Number::Single),
            ("d", Number::Double),
            ("N3c108BFloat16E", Number::Brain),
            ("N3c104HalfE", Number::Half),
        ]
        .into_iter()
        .find_map(|(start, number)| types.starts_with(start).then_some(number))
    }

    /// Whether the number in a functor is infinite.
    ///
    /// # Safety
    ///
    /// What is asked for comes first, an `int`, then a number of this type at its own alignment.
    unsafe fn is_infinite(self, functor: *const u8) -> bool {
        // SAFETY: as the caller says.
        unsafe {
            match self {
                Number::Half => functor.add(4).cast::<u16>().read() & 0x7fff == 0x7c00,
                Number::Brain => functor.add(4).cast::<u16>().read() & 0x7fff == 0x7f80,
                Number::Single => functor.add(4).cast::<f32>().read().is_infinite(),
                Number::Double => functor.add(8).cast::<f64>().read().is_infinite(),
            }
        }
    }
}

/// # Safety
///
/// `arguments` is an array of pointers of which that one is to a `T`.
unsafe fn argument<T>(arguments: u64, index: usize) -> *const T {
    let arguments: *const *const T = std::ptr::with_exposed_provenance(arguments as usize);
    // SAFETY: as the caller says.
    unsafe { arguments.add(index).read() }
}
