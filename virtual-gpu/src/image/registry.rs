//! What the program's libraries have registered when they were loaded; survives a fork.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fatbin::{self, Image, Wrapper};
use super::parameters::Parameters;
use crate::c::Text;
use crate::memory::question::Question;

/// Registered modules, kernels and variables.
#[derive(Default)]
struct Registry {
    modules: Vec<Module>,
    /// Kernels by the address of their host function.
    kernels: HashMap<usize, Registered, Quick>,
    /// Bytes and, once asked for, the device address of variables, by their host address.
    variables: HashMap<usize, (u64, Option<u64>), Quick>,
}

struct Module {
    wrapper: usize,
    /// Read at the first launch: of a large library most are never used.
    images: Option<Vec<Image>>,
}

struct Registered {
    module: usize,
    /// Its name, in the program's library.
    name: Text,
    /// What its name says; looked at when it is first launched, as most never are.
    known: Option<(Option<Question>, Option<Parameters>)>,
}

// SAFETY: the name is text of a library, which nobody writes.
unsafe impl Send for Registered {}

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);

fn with<T>(body: impl FnOnce(&mut Registry) -> T) -> T {
    let mut guard = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    body(guard.get_or_insert_default())
}

/// Waits for other threads, and keeps them out until the guard drops.
pub fn pause() -> MutexGuard<'static, impl Sized> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers a fat binary; returns its number, from one.
pub fn register_module(wrapper: *const Wrapper) -> usize {
    with(|registry| {
        registry.modules.push(Module { wrapper: wrapper.expose_provenance(), images: None });
        registry.modules.len()
    })
}

/// Forgets the kernels of a module whose library is unloaded.
pub fn unregister_module(module: usize) {
    with(|registry| {
        registry.kernels.retain(|_, kernel| kernel.module != module);
        if let Some(module) = module.checked_sub(1).and_then(|at| registry.modules.get_mut(at)) {
            // What it points to is about to be unmapped.
            module.images.get_or_insert_default();
        }
    });
}

/// Remembers a kernel by the address that launches name. Its name is of the module's library.
pub fn register_function(module: usize, host: usize, name: Text) {
    let kernel = Registered { module, name, known: None };
    with(|registry| registry.kernels.insert(host, kernel));
}

/// Remembers a variable by the address that copies name.
pub fn register_variable(host: usize, bytes: u64) {
    with(|registry| registry.variables.insert(host, (bytes, None)));
}

/// Returns where a variable is on the device, by `place` when it has no place yet.
pub fn variable(host: usize, place: impl FnOnce(u64) -> Option<u64>) -> Option<(u64, u64)> {
    with(|registry| {
        let (bytes, at) = registry.variables.get_mut(&host)?;
        if at.is_none() {
            *at = place(*bytes);
        }
        at.map(|at| (at, *bytes))
    })
}

/// What is known of a kernel for a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Registered elsewhere, or in a form that is not understood.
    Unknown,
    /// It runs, by the code of this architecture.
    Runs(Kernel),
    /// There is no code that runs on the card; what there is.
    NoImage(Vec<Image>),
}

/// A kernel that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// Ten times the compute capability that its code was made for.
    pub architecture: u32,
    /// What it answers, where that is known.
    pub question: Option<Question>,
    /// Its parameters, where they are known.
    pub parameters: Option<Parameters>,
}

/// Looks a kernel up for a card of that architecture (75 is 7.5).
pub fn kernel(host: usize, card: u32) -> Verdict {
    with(|registry| {
        let Some(kernel) = registry.kernels.get_mut(&host) else {
            return Verdict::Unknown;
        };
        let module = &mut registry.modules[kernel.module - 1];
        let images = module.images.get_or_insert_with(|| {
            let wrapper = std::ptr::with_exposed_provenance(module.wrapper);
            // SAFETY: passed to __cudaRegisterFatBinary, and its library is still loaded.
            unsafe { fatbin::images(wrapper) }
        });
        let best = images
            .iter()
            .filter(|image| image.runs_on(card))
            .max_by_key(|image| (image.machine_code, image.architecture));
        match best {
            Some(image) => {
                let name = &kernel.name;
                let (question, parameters) = *kernel.known.get_or_insert_with(|| {
                    let name = name.get().unwrap_or_default();
                    (Question::of(&name), Parameters::of(&name))
                });
                Verdict::Runs(Kernel { architecture: image.architecture, question, parameters })
            }
            None if images.is_empty() => Verdict::Unknown,
            None => Verdict::NoImage(images.clone()),
        }
    })
}

/// Hashes addresses: there are tens of thousands of kernels, and each launch asks for one.
#[derive(Default, Clone, Copy)]
struct Quick;

/// Multiplies by a constant, Fibonacci hashing.
struct Multiply(u64);

impl std::hash::BuildHasher for Quick {
    type Hasher = Multiply;

    fn build_hasher(&self) -> Multiply {
        Multiply(0)
    }
}

impl std::hash::Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, value: usize) {
        let mixed = (self.0 ^ value as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}
