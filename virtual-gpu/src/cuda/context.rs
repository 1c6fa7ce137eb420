//! Contexts: the primary one of each device, others, and which is current in a thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::mem::ManuallyDrop;

use super::error;
use crate::c::{In, Out};
use crate::call::{Call, Code, Outcome};
use crate::runtime;

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
    ///
    /// Without a destructor: libraries call CUDA while a thread ends, after destructors have run.
    static STACK: ManuallyDrop<RefCell<Vec<u64>>> =
        const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// Looks at this thread's stack, or changes it.
fn with_stack<T>(body: impl FnOnce(&mut Vec<u64>) -> T) -> T {
    STACK.with(|stack| body(&mut stack.borrow_mut()))
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
        let handle = with_stack(|stack| stack.last().copied()).unwrap_or(0);
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

    /// Makes the primary context of a device current, and makes it first if need be.
    pub fn enter_primary(&mut self, ordinal: i32) -> Result<(u64, usize), Code> {
        let place = self.device(ordinal)?;
        self.works_at(place)?;
        let handle = match self.cuda.contexts.primary(place) {
            Some(handle) => handle,
            None => {
                let flags = self.cuda.contexts.primary_flags.get(&place).copied().unwrap_or(0);
                self.make_context(ordinal, flags, Some(1))?
            }
        };
        with_stack(|stack| {
            stack.pop();
            stack.push(handle);
        });
        Ok((handle, place))
    }

    /// Tells the runtime which device this thread is on now.
    fn follow(&self) {
        let top = with_stack(|stack| stack.last().copied());
        if let Some(context) = top.and_then(|top| self.cuda.contexts.live.get(&top)) {
            runtime::state::set_device(context.ordinal);
        }
    }

    /// Ends the primary context of a place.
    pub fn end_primary(&mut self, place: usize) {
        if let Some(handle) = self.cuda.contexts.primary(place) {
            self.end_context(handle);
        }
    }

    /// Takes a context away with all that was allocated in it.
    fn end_context(&mut self, handle: u64) {
        if let Some(context) = self.cuda.contexts.live.remove(&handle) {
            for taken in self.cuda.memory.remove_all_of(handle) {
                self.machine.give_back(context.place, taken);
            }
            self.cuda.pools.forget_place(context.place);
            self.machine.remove_context(context.place);
            runtime::state::forget_contexts();
        }
    }
}

/// Empties this thread's stack: after a fork its handles mean nothing.
pub fn forget_thread() {
    with_stack(|stack| stack.clear());
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
    call.end_primary(place);
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
    with_stack(|stack| stack.push(handle));
    call.follow();
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
    with_stack(|stack| {
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
    with_stack(|stack| {
        stack.pop();
        if context != 0 {
            stack.push(context);
        }
    });
    call.follow();
    Ok(())
}

/// `cuCtxGetCurrent`
pub fn current(call: &mut Call, context: Out<u64>) -> Outcome {
    call.initialized()?;
    Ok(context.set(with_stack(|stack| stack.last().copied()).unwrap_or(0))?)
}

/// `cuCtxPushCurrent_v2`
pub fn push(call: &mut Call, context: u64) -> Outcome {
    call.note("context", context);
    call.initialized()?;
    if !call.cuda.contexts.live.contains_key(&context) {
        return Err(error::INVALID_CONTEXT);
    }
    with_stack(|stack| stack.push(context));
    call.follow();
    Ok(())
}

/// `cuCtxPopCurrent_v2`
pub fn pop(call: &mut Call, context: Out<u64>) -> Outcome {
    call.initialized()?;
    let top = with_stack(|stack| stack.pop()).ok_or(error::INVALID_CONTEXT)?;
    call.follow();
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
