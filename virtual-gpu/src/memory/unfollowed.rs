//! Work whose results nobody follows: kernels that are not known by name, Triton's, libraries'.
//!
//! Any device address among its arguments may be one that it writes to. What the host wrote there
//! before stays readable, as the work may as well have only read it, but is in doubt from then on:
//! a read of it is counted (`readback.rs`).

use super::stack::Stack;
use super::{arena, shadow};
use crate::image::Parameters;
use crate::image::parameters::Parameter;

/// Arguments that are looked at where a kernel does not tell how many it has.
const MOST: usize = 64;
/// Words of one argument: the 4 KiB that all of them had together before CUDA 12.1.
const WORDS: usize = 512;
/// Words of an argument of the driver's functions: Triton's and NVRTC's are numbers, addresses, a
/// few addresses or the 128 bytes of a tensor's description.
const FEW: usize = 16;

/// Says that a kernel was launched with these arguments.
///
/// # Safety
///
/// `arguments` is null or the launch's array of addresses, of as many as `parameters` says.
pub unsafe fn launched(arguments: u64, parameters: Option<Parameters>) {
    // SAFETY: as the caller says.
    unsafe { looked_at(arguments, parameters, WORDS) };
}

/// Says that a function of the driver's was launched with these arguments.
///
/// # Safety
///
/// As [`launched`].
pub unsafe fn launched_by_driver(arguments: u64) {
    // SAFETY: as the caller says.
    unsafe { looked_at(arguments, None, FEW) };
}

unsafe fn looked_at(arguments: u64, parameters: Option<Parameters>, most: usize) {
    if arguments == 0 {
        return;
    }
    let stack = Stack::here();
    let mut places = [0; MOST];
    let (sure, all) = parameters.map_or((0, false), |parameters| parameters.count());
    let room = if all { sure } else { MOST };
    let read = stack.read(arguments, &mut places[..room]);
    // Where nobody says how many there are, they end before a word that is no address of the stack.
    let there = |(index, place): &(usize, &u64)| {
        *index < sure || stack.holds(**place) || !stack.holds(arguments)
    };
    let count = places[..read].iter().enumerate().take_while(there).count();
    let places = &places[..count];
    for (index, place) in places.iter().enumerate() {
        let of = parameters.map_or(Parameter::Unknown, |parameters| parameters.at(index));
        let room = match of {
            Parameter::Read => continue,
            Parameter::Pointer => 1,
            Parameter::Unknown => most,
        };
        // What one argument has ends where the next one lies.
        let next = places.iter().filter(|other| *other > place).min();
        let room = next.map_or(room, |next| room.min(((next - place) / 8) as usize));
        let mut words = [0; WORDS];
        let read = stack.read(*place, &mut words[..room]);
        given(&words[..read]);
    }
}

/// `CU_LAUNCH_PARAM_BUFFER_POINTER` and `CU_LAUNCH_PARAM_BUFFER_SIZE`
const BUFFER: [u64; 2] = [1, 2];

/// Says that a kernel was launched with its arguments in one buffer (`extra` of `cuLaunchKernel`).
pub fn launched_with_buffer(extra: u64) {
    let stack = Stack::here();
    let mut list = [0; 5];
    if extra == 0 || stack.read(extra, &mut list) < 4 || [list[0], list[2]] != BUFFER {
        return;
    }
    let mut bytes = [0];
    let mut words = [0; WORDS];
    if stack.read(list[3], &mut bytes) == 1 {
        let room = WORDS.min((bytes[0] / 8) as usize);
        let read = stack.read(list[1], &mut words[..room]);
        given(&words[..read]);
    }
}

/// Says that work was given these words, addresses among them.
pub fn given(words: &[u64]) {
    for word in words.iter().filter(|word| arena::holds(**word)) {
        shadow::doubt(*word, u64::MAX);
    }
}

/// Says that something of at least `bytes` and at most `most` was written at an address, and what
/// the byte there answers: what the host wrote there before is not it.
pub fn wrote(to: u64, bytes: u64, most: u64, answer: Option<bool>) {
    if arena::holds(to) {
        shadow::doubt(to, most);
        shadow::forget(to, bytes);
        shadow::answer(to, answer);
    }
}
