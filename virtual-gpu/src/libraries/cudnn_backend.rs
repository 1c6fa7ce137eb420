//! cuDNN's current interface: descriptors whose attributes are kept as they are set. A graph of any
//! operations has one engine with one configuration, whose workspace is the scenario's
//! (`convolution=SIZE` of a card).
//!
//! PyTorch takes scaled dot-product attention from it on compute capability 9 and 10.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use super::cudnn_convolution::workspace;
use super::handle::answers;
use crate::c::Out;
use crate::memory::unfollowed;

/// `CUDNN_STATUS_BAD_PARAM`
const BAD_PARAMETER: u32 = 2000;

/// Count and bytes of each attribute that was set, by its number.
type Descriptor = HashMap<u32, (i64, Vec<u8>)>;

static DESCRIPTORS: Mutex<Option<HashMap<u64, Descriptor>>> = Mutex::new(None);

fn with<T>(body: impl FnOnce(&mut HashMap<u64, Descriptor>) -> T) -> T {
    body(DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// Bytes of an element of a `cudnnBackendAttributeType_t`; most are enumerations.
fn bytes_of(kind: u32) -> usize {
    match kind {
        // A handle, a 64-bit number, a double, a pointer, a descriptor.
        0 | 3 | 5 | 6 | 15 => 8,
        // A boolean, a character.
        2 | 24 => 1,
        // Two 64-bit numbers.
        26 => 16,
        _ => 4,
    }
}

/// What an attribute is that nobody has set: count and bytes. The descriptors of results (202) and
/// of a configuration's engine (300) are the caller's own, which there is nothing to fill in.
fn unset(name: u32) -> (i64, Vec<u8>) {
    let number = |value: u64| (1, value.to_ne_bytes().to_vec());
    // Numbers: cudnn_graph.h, cudnnBackendAttributeName_t.
    match name {
        202 | 300 => (1, Vec::new()),
        303 | 402 => number(workspace()),
        304 => (1, vec![0; 4]),
        802 => number(1),
        1301 => number(0),
        405 | 2402 | 2702 => (3, b"{}\0".to_vec()),
        2401 => (1, vec![0]),
        // Notes, knobs and layouts: none.
        _ => (0, Vec::new()),
    }
}

answers! {
    cudnnBackendCreateDescriptor(_kind: u32, out: Out<u64>) -> u32 {
        let handle = super::handle::new();
        with(|all| all.insert(handle, Descriptor::new()));
        if out.set(handle).is_ok() { 0 } else { BAD_PARAMETER }
    }
    cudnnBackendDestroyDescriptor(descriptor: u64) -> u32 {
        if with(|all| all.remove(&descriptor)).is_some() { 0 } else { BAD_PARAMETER }
    }
    cudnnBackendFinalize(descriptor: u64) -> u32 {
        if with(|all| all.contains_key(&descriptor)) { 0 } else { BAD_PARAMETER }
    }
    cudnnBackendExecute(_handle: u64, plan: u64, pack: u64) -> u32 {
        with(|all| {
            for (_, bytes) in all.get(&pack).into_iter().flat_map(HashMap::values) {
                let words = bytes.chunks_exact(8).filter_map(|word| word.try_into().ok());
                unfollowed::given(&words.map(u64::from_ne_bytes).collect::<Vec<_>>());
            }
            if all.contains_key(&plan) { 0 } else { BAD_PARAMETER }
        })
    }
    cudnnBackendSetAttribute(
        descriptor: u64, name: u32, kind: u32, count: i64, elements: *const c_void
    ) -> u32 {
        let Ok(elements_there) = usize::try_from(count) else {
            return BAD_PARAMETER;
        };
        let length = elements_there.saturating_mul(bytes_of(kind));
        let mut bytes = vec![0u8; length];
        if length > 0 {
            if elements.is_null() {
                return BAD_PARAMETER;
            }
            // SAFETY: the caller vouches for as many elements of that kind.
            unsafe { bytes.as_mut_ptr().copy_from(elements.cast(), length) };
        }
        with(|all| match all.get_mut(&descriptor) {
            Some(known) => {
                known.insert(name, (count, bytes));
                0
            }
            None => BAD_PARAMETER,
        })
    }
    cudnnBackendGetAttribute(
        descriptor: u64, name: u32, kind: u32, room: i64, count: Out<i64>, elements: Out<c_void>
    ) -> u32 {
        let Some(set) = with(|all| all.get(&descriptor).map(|known| known.get(&name).cloned()))
        else {
            return BAD_PARAMETER;
        };
        let (there, bytes) = set.unwrap_or_else(|| unset(name));
        count.set_if_wanted(there);
        let most = usize::try_from(room).unwrap_or(0).saturating_mul(bytes_of(kind));
        if most > 0 && !bytes.is_empty() && elements.set_bytes(&bytes[..bytes.len().min(most)]).is_err()
        {
            return BAD_PARAMETER;
        }
        0
    }
}
