//! Contexts: the primary one of each device, others, and which is current in a thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::c_void;

use super::error;
use crate::c::{In, Out};
use crate::call::{Call, Code, Outcome};

/// A process' contexts, by handle.
#[derive(Default)]
pub struct Contexts {
    live: BTreeMap<u64, Context>,
    /// Flags to make primary contexts with, by place.
    primary_flags: BTreeMap<usize, u32>,
    made: u64,
}

#[derive(Clone, Copy)]
struct Context {
    place: usize,
    ordinal: i32,
    flags: u32,
    /// How often a primary context is retained; `None` for others.
    retained: Option<u64>,
}

thread_local! {
    /// The thread's stack of contexts, the current one last; zero is none.
    static STACK: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Contexts {
    fn primary(&self, place: usize) -> Option<u64> {
        let mut live = self.live.iter();
        live.find(|(_, c)| c.place == place && c.retained.is_some()).map(|(handle, _)| *handle)
    }
}

impl Call<'_> {
    /// Returns the current context's handle and place; 201 when there is none or it is gone.
    pub fn current_context(&self) -> Result<(u64, usize), Code> {
        self.initialized()?;
        let handle = STACK.with_borrow(|stack| stack.last().copied()).unwrap_or(0);
        let context = self.cuda.contexts.live.get(&handle).ok_or(error::INVALID_CONTEXT)?;
        Ok((handle, context.place))
    }

    fn make_context(
        &mut self,
        ordinal: i32,
        flags: u32,
        retained: Option<u64>,
    ) -> Result<u64, Code> {
        let place = self.device(ordinal)?;
        self.works_at(place)?;
        let closed = match self.scenario.gpu_at(place).compute_mode {
            2 => true,
            3 => self.machine.others_are_on(place),
            _ => false,
        };
        if closed {
            return Err(error::DEVICE_UNAVAILABLE);
        }
        self.machine.add_context(place).map_err(|_| error::OUT_OF_MEMORY)?;
        let contexts = &mut self.cuda.contexts;
        contexts.made += 1;
        let handle = 0xc0de_0000 + contexts.made * 16;
        contexts.live.insert(handle, Context { place, ordinal, flags, retained });
        Ok(handle)
    }

    /// Takes a context away with all that was allocated in it.
    fn end_context(&mut self, handle: u64) {
        if let Some(context) = self.cuda.contexts.live.remove(&handle) {
            for taken in self.cuda.memory.remove_all_of(handle) {
                self.machine.give_back(context.place, taken);
            }
            self.machine.remove_context(context.place);
        }
    }
}

/// Empties this thread's stack: after a fork its handles mean nothing.
pub fn forget_thread() {
    STACK.with_borrow_mut(Vec::clear);
}

/// `cuDevicePrimaryCtxRetain`
pub fn retain_primary(call: &mut Call, context: Out<u64>, device: i32) -> Outcome {
    let place = call.device(device)?;
    call.works_at(place)?;
    let handle = match call.cuda.contexts.primary(place) {
        Some(handle) => {
            let live = call.cuda.contexts.live.get_mut(&handle);
            if let Some(Context { retained: Some(count), .. }) = live {
                *count += 1;
            }
            handle
        }
        None => {
            let flags = call.cuda.contexts.primary_flags.get(&place).copied().unwrap_or(0);
            call.make_context(device, flags, Some(1))?
        }
    };
    call.note("context", handle);
    Ok(context.set(handle)?)
}

/// `cuDevicePrimaryCtxRelease`: the last release ends the context; one too many is 201.
pub fn release_primary(call: &mut Call, device: i32) -> Outcome {
    let place = call.device(device)?;
    let handle = call.cuda.contexts.primary(place).ok_or(error::INVALID_CONTEXT)?;
    match call.cuda.contexts.live.get_mut(&handle) {
        Some(Context { retained: Some(count), .. }) if *count > 1 => *count -= 1,
        _ => call.end_context(handle),
    }
    Ok(())
}

/// `cuDevicePrimaryCtxReset`: ends the context however often it is retained.
pub fn reset_primary(call: &mut Call, device: i32) -> Outcome {
    let place = call.device(device)?;
    if let Some(handle) = call.cuda.contexts.primary(place) {
        call.end_context(handle);
    }
    Ok(())
}

/// `cuDevicePrimaryCtxGetState`
pub fn primary_state(call: &mut Call, device: i32, flags: Out<u32>, active: Out<i32>) -> Outcome {
    let place = call.device(device)?;
    let contexts = &call.cuda.contexts;
    let handle = contexts.primary(place);
    flags.set(contexts.primary_flags.get(&place).copied().unwrap_or(0))?;
    Ok(active.set(i32::from(handle.is_some()))?)
}

/// `cuDevicePrimaryCtxSetFlags`
pub fn set_primary_flags(call: &mut Call, device: i32, flags: u32) -> Outcome {
    let place = call.device(device)?;
    call.cuda.contexts.primary_flags.insert(place, flags);
    Ok(())
}

/// `cuCtxCreate_v2`: the new context is current.
pub fn create(call: &mut Call, context: Out<u64>, flags: u32, device: i32) -> Outcome {
    let handle = call.make_context(device, flags, None)?;
    STACK.with_borrow_mut(|stack| stack.push(handle));
    call.note("context", handle);
    Ok(context.set(handle)?)
}

/// `cuCtxCreate_v3`
pub fn create_v3(
    call: &mut Call,
    context: Out<u64>,
    _affinities: In<c_void>,
    _count: i32,
    flags: u32,
    device: i32,
) -> Outcome {
    create(call, context, flags, device)
}

/// `cuCtxCreate_v4`
pub fn create_v4(
    call: &mut Call,
    context: Out<u64>,
    _parameters: In<c_void>,
    flags: u32,
    device: i32,
) -> Outcome {
    create(call, context, flags, device)
}

/// `cuCtxDestroy_v2`: not for primary contexts.
pub fn destroy(call: &mut Call, context: u64) -> Outcome {
    call.note("context", context);
    call.initialized()?;
    match call.cuda.contexts.live.get(&context) {
        Some(Context { retained: None, .. }) => call.end_context(context),
        _ => return Err(error::INVALID_CONTEXT),
    }
    STACK.with_borrow_mut(|stack| {
        if stack.last() == Some(&context) {
            stack.pop();
        }
    });
    Ok(())
}

/// `cuCtxSetCurrent`: replaces the top of the stack; null takes it away.
pub fn set_current(call: &mut Call, context: u64) -> Outcome {
    call.note("context", context);
    call.initialized()?;
    if context != 0 && !call.cuda.contexts.live.contains_key(&context) {
        return Err(error::INVALID_CONTEXT);
    }
    STACK.with_borrow_mut(|stack| {
        stack.pop();
        if context != 0 {
            stack.push(context);
        }
    });
    Ok(())
}

/// `cuCtxGetCurrent`
pub fn current(call: &mut Call, context: Out<u64>) -> Outcome {
    call.initialized()?;
    Ok(context.set(STACK.with_borrow(|stack| stack.last().copied()).unwrap_or(0))?)
}

/// `cuCtxPushCurrent_v2`
pub fn push(call: &mut Call, context: u64) -> Outcome {
    call.note("context", context);
    call.initialized()?;
    if !call.cuda.contexts.live.contains_key(&context) {
        return Err(error::INVALID_CONTEXT);
    }
    STACK.with_borrow_mut(|stack| stack.push(context));
    Ok(())
}

/// `cuCtxPopCurrent_v2`
pub fn pop(call: &mut Call, context: Out<u64>) -> Outcome {
    call.initialized()?;
    let top = STACK.with_borrow_mut(Vec::pop).ok_or(error::INVALID_CONTEXT)?;
    if context.is_null() { Ok(()) } else { Ok(context.set(top)?) }
}

/// `cuCtxGetDevice`
pub fn device(call: &mut Call, device: Out<i32>) -> Outcome {
    let (handle, _) = call.current_context()?;
    Ok(device.set(call.cuda.contexts.live[&handle].ordinal)?)
}

/// `cuCtxGetFlags`
pub fn flags(call: &mut Call, flags: Out<u32>) -> Outcome {
    let (handle, _) = call.current_context()?;
    Ok(flags.set(call.cuda.contexts.live[&handle].flags)?)
}

/// `cuCtxGetApiVersion`: 3020 since CUDA 3.2.
pub fn api_version(call: &mut Call, context: u64, version: Out<u32>) -> Outcome {
    call.initialized()?;
    if context != 0 && !call.cuda.contexts.live.contains_key(&context) {
        return Err(error::INVALID_CONTEXT);
    }
    Ok(version.set(3020)?)
}

/// `cuCtxSynchronize`: nothing is ever under way.
pub fn synchronize(call: &mut Call) -> Outcome {
    call.current_context().map(drop)
}
