//! PyTorch's kernels over lists of tensors (`torch._foreach_*`, fused optimizers): of their argument
//! only what is in use is read, as the rest is whatever lay on the stack before.
//!
//! Source: MultiTensorApply.cuh of torch 2.15.0, which comes with it, and of 2.4.1 and 2.8.0, whose
//! numbers are those without CUDA 13.

use super::{arena, shadow};
use crate::runtime::version;

/// Tensors of a launch at most, by how many lists there are.
const TENSORS: [usize; 5] = [110, 64, 48, 36, 30];
const TENSORS_FROM_CUDA_13: [usize; 5] = [770, 448, 336, 252, 210];
/// Where each tensor has a number of its own, there are fewer in one list.
const ONE_WITH_NUMBERS: usize = 96;
const ONE_WITH_NUMBERS_FROM_CUDA_13: usize = 672;
/// Blocks of a launch at most, before CUDA 13 and from then on.
const BLOCKS: [usize; 2] = [320, 2240];
/// Bytes of an address, and of a count of elements.
const WORD: usize = 8;
/// Bytes of an element at most.
const ELEMENT: u64 = 16;

/// The lists in a kernel's first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lists {
    /// How many lists there are: 1 to 5.
    count: usize,
    /// What follows them and the counts of elements.
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Nothing.
    Nothing,
    /// A number for each tensor, of so many bytes.
    Numbers(usize),
    /// An address for each: its optimizer's count of steps.
    Steps,
}

impl Lists {
    /// Reads a kernel's mangled name: PyTorch's own, as others take their lists elsewhere (apex has two
    /// arguments before them).
    pub fn of(name: &str) -> Option<Lists> {
        if !name.starts_with("_ZN2at6native") {
            return None;
        }
        let at = name.find("multi_tensor_apply_kernelI")?;
        let after = |part: &str| Some(&name[at + name[at..].find(part)? + part.len()..]);
        let (then, rest) = if let Some(rest) = after("28TensorListScalarListMetadataI") {
            match rest.as_bytes() {
                [b'f', ..] => (Then::Numbers(4), &rest[1..]),
                [b'd', ..] => (Then::Numbers(8), &rest[1..]),
                _ => return None,
            }
        } else if let Some(rest) = after("32FusedOptimizerTensorListMetadataI") {
            (Then::Steps, rest)
        } else {
            (Then::Nothing, after("18TensorListMetadataI")?)
        };
        let count = rest.strip_prefix("Li")?.chars().next()?.to_digit(10)? as usize;
        (1..=TENSORS.len()).contains(&count).then_some(Lists { count, then })
    }

    /// Says that each tensor may be written, those that only are read among them; says whether the
    /// argument is laid out as known.
    ///
    /// # Safety
    ///
    /// `argument` is that of a launch of `blocks` blocks of a kernel of this name.
    pub unsafe fn doubt(self, argument: *const u8, blocks: u32) -> bool {
        let of_cuda_13 = version() >= 13000;
        let most = match (self.then, self.count, of_cuda_13) {
            (Then::Numbers(_), 1, false) => ONE_WITH_NUMBERS,
            (Then::Numbers(_), 1, true) => ONE_WITH_NUMBERS_FROM_CUDA_13,
            (_, count, false) => TENSORS[count - 1],
            (_, count, true) => TENSORS_FROM_CUDA_13[count - 1],
        };
        let then = match self.then {
            Then::Nothing => 0,
            Then::Numbers(bytes) => bytes,
            Then::Steps => WORD,
        };
        // Which tensor each block works on: two bytes from CUDA 13 on, or one.
        let numbers = most * ((self.count + 1) * WORD + then);
        let last = (blocks as usize).saturating_sub(1);
        if last >= BLOCKS[usize::from(of_cuda_13)] {
            return false;
        }
        // SAFETY: within the argument, as its layout is and a block's number has.
        let last_tensor = unsafe {
            match of_cuda_13 {
                true => {
                    usize::from(argument.add(numbers + 2 * last).cast::<u16>().read_unaligned())
                }
                false => usize::from(argument.add(numbers + last).read()),
            }
        };
        if last_tensor >= most {
            return false;
        }
        // SAFETY: within the argument: a list of so many tensors has that many words.
        let word = |list: usize, tensor: usize| unsafe {
            argument.cast::<u64>().add(list * most + tensor).read()
        };
        let lists = || (0..self.count).chain((self.then == Then::Steps).then_some(self.count + 1));
        let tensors = || lists().flat_map(|list| (0..=last_tensor).map(move |at| (list, at)));
        if !tensors().all(|(list, at)| arena::holds(word(list, at))) {
            return false;
        }
        for (list, at) in tensors() {
            let elements = if list < self.count { word(self.count, at) } else { 1 };
            shadow::doubt(word(list, at), elements.saturating_mul(ELEMENT));
        }
        true
    }
}
