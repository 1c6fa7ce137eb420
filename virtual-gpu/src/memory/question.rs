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
const COUNT: i64 = 4;
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
        if !has("vectorized_elementwise_kernel") && !has("unrolled_elementwise_kernel") {
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

    /// Keeps the answer with the memory that the kernel would have written.
    ///
    /// # Safety
    ///
    /// `arguments` is null or a launch's array of pointers to this kernel's arguments.
    pub unsafe fn answer(self, arguments: u64) {
        if arguments == 0 {
            return;
        }
        // SAFETY: the types are those of the kernel that has this name.
        unsafe {
            match self {
                Question::Reduction(answer) => {
                    let reduction: *const u64 = argument(arguments, 0);
                    let word = |at: usize| reduction.add(at).read();
                    // Another layout than those that are known is not believed.
                    let known = |at: &&usize| [0, 1].iter().all(|n| arena::holds(word(*at + n)));
                    if let Some(source) = SOURCES.iter().find(known) {
                        let [to, indices] = [1, 2].map(|n| word(source + n));
                        wrote(to, 1, answer);
                        wrote(indices, 1, None);
                    }
                }
                Question::Output => wrote(argument::<u64>(arguments, 0).read(), 1, None),
                Question::Count => {
                    wrote(argument::<u64>(arguments, 1).read(), COUNT, None);
                }
                Question::Element(element) => {
                    let count = argument::<i32>(arguments, 0).read();
                    let addresses: *const u64 = argument(arguments, 2);
                    let answer = match count {
                        1 => element.answer(argument(arguments, 1), addresses),
                        _ => None,
                    };
                    wrote(addresses.read(), count.into(), answer);
                }
            }
        }
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

/// Says that a kernel has written that many elements at an address: what the host wrote there
/// before is not them. Their size is not known: one byte at least.
fn wrote(to: u64, elements: i64, answer: Option<bool>) {
    let Ok(elements @ 1..) = u64::try_from(elements) else { return };
    if arena::holds(to) {
        shadow::forget(to, elements.min(SMALL));
        shadow::answer(to, answer);
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
