//! Copies, streams and events of the driver: the runtime's, which are the same objects.

use crate::c::Out;
use crate::call::{Call, Code, Outcome};
use crate::runtime::{self, Ready};

/// Checks that there is a current context; returns what the runtime's functions want.
fn ready(call: &mut Call) -> Result<Ready, Code> {
    let (_, place) = call.current_context()?;
    call.works_at(place)?;
    let (major, minor) = call.scenario.gpu_at(place).capability;
    Ok(Ready::new(runtime::state::device(), place, major * 10 + minor))
}

fn outcome(code: u32) -> Outcome {
    if code == 0 { Ok(()) } else { Err(Code(code)) }
}

/// Makes functions a line, each with the runtime's own answer.
macro_rules! same {
    ($($name:ident($($argument:ident: $type:ty),*) => $answer:expr;)*) => {
        $(
            /// As the runtime's.
            pub fn $name(call: &mut Call $(, $argument: $type)*) -> Outcome {
                let ready = ready(call)?;
                outcome($answer(ready $(, $argument)*))
            }
        )*
    };
}

use runtime::{capture, copies, event, launch, stream};

same! {
    copy(to: u64, from: u64, bytes: usize) => |r, t, f, b| copies::copy_now(r, t, f, b, 4);
    copy_on(to: u64, from: u64, bytes: usize, on: u64)
        => |r, t, f, b, on| copies::copy_on(r, t, f, b, 4, on);
    fill8(to: u64, value: u8, count: usize) => |r, t, v, c| copies::fill(r, t, i32::from(v), c);
    fill8_on(to: u64, value: u8, count: usize, on: u64)
        => |r, t, v, c, on| copies::fill_on(r, t, i32::from(v), c, on);
    fill32(to: u64, value: u32, count: usize) => copies::fill_words;
    fill32_on(to: u64, value: u32, count: usize, on: u64)
        => |r, t, v, c, _on| copies::fill_words(r, t, v, c);
    write32(on: u64, to: u64, value: u32) => |r, _on, t, v| copies::fill_words(r, t, v, 1);
    host_function(on: u64, function: u64, data: u64) => launch::host_function;
    create_stream(on: Out<u64>, flags: u32) => |r, on, flags| stream::create(r, on, flags, 0);
    create_stream_with_priority(on: Out<u64>, flags: u32, priority: i32) => stream::create;
    destroy_stream(on: u64) => stream::destroy;
    synchronize(on: u64) => stream::synchronize;
    wait(on: u64, event: u64, flags: u32) => capture::wait;
    is_capturing(on: u64, status: Out<i32>) => capture::is_capturing;
    create_event(event: Out<u64>, flags: u32) => event::create;
    destroy_event(event: u64) => event::destroy;
    record(event: u64, on: u64) => capture::record_plain;
    query(event: u64) => event::query;
    elapsed(milliseconds: Out<f32>, start: u64, end: u64) => event::elapsed;
}

/// `cuMemHostAlloc`
pub fn allocate_host(call: &mut Call, address: Out<u64>, bytes: usize, flags: u32) -> Outcome {
    call.current_context()?;
    runtime::memory::allocate_host(call, address, bytes, flags)
}

/// `cuMemAllocHost_v2`
pub fn allocate_host_plain(call: &mut Call, address: Out<u64>, bytes: usize) -> Outcome {
    allocate_host(call, address, bytes, 0)
}

/// `cuMemFreeHost`
pub fn free_host(call: &mut Call, address: u64) -> Outcome {
    call.current_context()?;
    runtime::memory::free_host(call, address)
}

/// `cuMemHostGetDevicePointer_v2`
pub fn host_device_pointer(call: &mut Call, at: Out<u64>, address: u64, flags: u32) -> Outcome {
    call.current_context()?;
    runtime::memory::host_device_pointer(call, at, address, flags)
}
