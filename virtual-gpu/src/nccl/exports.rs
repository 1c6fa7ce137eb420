//! The exported names of libnccl.so.2, as nccl.h of 2.27 and 2.30 has them.

use std::ffi::{c_char, c_void};
use std::sync::atomic::Ordering::Relaxed;

use super::communicator::{self, UniqueId, element};
use super::operation::{Operation, What};
use super::{error, group, split};
use crate::c::{In, Out};
use crate::call::{self, Code};
use crate::memory::copy;
use crate::runtime::{capture, memory};
use crate::{mapped, note};
use capture::Work;

type Answer = Result<(), Code>;

/// Makes one exported function a line. Faults of the scenario act before the call, which itself
/// runs outside the driver's lock: it may wait for another process.
macro_rules! nccl {
    ($($name:ident($($argument:ident: $type:ty),*) $body:block)*) => {
        $(
            /// Answers as nccl.h says.
            ///
            /// # Safety
            ///
            /// Pointers are null or good for what the header says.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
                if call::is_watched() {
                    match call::dispatch(stringify!($name), |_| Ok(())) {
                        0 => {}
                        code => return code,
                    }
                }
                let body = || -> Answer { $body };
                match body() {
                    Ok(()) => 0,
                    Err(code) if code == Code::from(crate::c::NullPointer) => {
                        error::INVALID_ARGUMENT.0
                    }
                    Err(Code(code)) => code,
                }
            }
        )*

        crate::exports::listed!($($name),*);
    };
}

fn init(out: &Out<u64>, ranks: i32, id: UniqueId, rank: i32) -> Answer {
    let (handle, made) = communicator::join(id.path()?, ranks, rank)?;
    group::joined(made);
    Ok(out.set(handle)?)
}

/// Adds an operation; while its stream is captured it is a node of the graph, and not done.
fn operate(
    of: u64,
    stream: u64,
    make: impl FnOnce(&communicator::Communicator) -> Result<Operation, Code>,
) -> Answer {
    let communicator = communicator::get(of)?;
    let operation = make(&communicator)?;
    if capture::captures(stream, Work::Device) {
        return Ok(());
    }
    group::add(communicator, operation)
}

fn bytes(count: usize, kind: u32) -> Result<u64, Code> {
    let each = element(kind)?.bytes() as u64;
    (count as u64).checked_mul(each).ok_or(error::INVALID_ARGUMENT)
}

nccl! {
    ncclGetVersion(out: Out<i32>) {
        let own = ncclGetVersion as *const ();
        Ok(out.set(mapped::written("libnccl.so.", c"ncclGetVersion", own).unwrap_or(22_703))?)
    }
    ncclGetUniqueId(out: Out<UniqueId>) { Ok(out.set(UniqueId::new()?)?) }
    ncclCommInitRank(out: Out<u64>, ranks: i32, id: UniqueId, rank: i32) {
        init(&out, ranks, id, rank)
    }
    ncclCommInitRankConfig(out: Out<u64>, ranks: i32, id: UniqueId, rank: i32, _config: u64) {
        init(&out, ranks, id, rank)
    }
    ncclCommInitRankScalable(
        out: Out<u64>, ranks: i32, rank: i32, _ids: i32, ids: In<UniqueId>, _config: u64
    ) { init(&out, ranks, ids.get(0)?, rank) }
    ncclCommInitAll(out: Out<u64>, count: i32, devices: In<i32>) {
        init_all(&out, count, &devices)
    }
    ncclCommFinalize(of: u64) { communicator::get(of).map(drop) }
    ncclCommDestroy(of: u64) { communicator::remove(of) }
    ncclCommAbort(of: u64) { communicator::remove(of) }
    ncclCommSplit(of: u64, colour: i32, key: i32, out: Out<u64>, _config: u64) {
        let made = split::split(&communicator::get(of)?, colour, key)?;
        Ok(out.set(made.unwrap_or(0))?)
    }
    ncclCommCount(of: u64, out: Out<i32>) { Ok(out.set(communicator::get(of)?.ranks as i32)?) }
    ncclCommUserRank(of: u64, out: Out<i32>) { Ok(out.set(communicator::get(of)?.rank as i32)?) }
    ncclCommCuDevice(of: u64, out: Out<i32>) { Ok(out.set(communicator::get(of)?.device)?) }
    ncclCommGetAsyncError(of: u64, out: Out<u32>) {
        Ok(out.set(communicator::get(of)?.failure.load(Relaxed))?)
    }
    ncclCommRegister(of: u64, _at: u64, _bytes: usize, handle: Out<u64>) {
        communicator::get(of)?;
        Ok(handle.set(1)?)
    }
    ncclCommDeregister(of: u64, _handle: u64) { communicator::get(of).map(drop) }
    ncclMemAlloc(out: Out<u64>, bytes: usize) {
        cuda(call::enter("cudaMalloc", |call| memory::allocate(call, out, bytes)))
    }
    ncclMemFree(at: u64) { cuda(call::enter("cudaFree", |call| memory::free(call, at))) }
    ncclRedOpCreatePreMulSum(out: Out<u32>, scalar: u64, kind: u32, _residence: u32, of: u64) {
        let kind = element(kind)?;
        let mut value = vec![0; kind.bytes()];
        // SAFETY: the caller vouches for one element; of what a kernel wrote nothing is known.
        unsafe { copy::peek(scalar, &mut value) };
        Ok(out.set(communicator::get(of)?.make_scaled(kind.fraction(&value)))?)
    }
    ncclRedOpDestroy(_number: u32, of: u64) { communicator::get(of).map(drop) }
    ncclGroupStart() { group::start() }
    ncclGroupEnd() { group::end() }

    ncclAllReduce(
        from: u64, to: u64, count: usize, kind: u32, by: u32, of: u64, stream: u64
    ) {
        operate(of, stream, |of| {
            let what = What::AllReduce(element(kind)?, of.reduction(by)?);
            Ok(Operation::new(what, from, to, bytes(count, kind)?))
        })
    }
    ncclReduce(
        from: u64, to: u64, count: usize, kind: u32, by: u32, root: i32, of: u64, stream: u64
    ) {
        operate(of, stream, |of| {
            let what = What::Reduce(element(kind)?, of.reduction(by)?, of.rank_named(root)?);
            Ok(Operation::new(what, from, to, bytes(count, kind)?))
        })
    }
    ncclReduceScatter(
        from: u64, to: u64, count: usize, kind: u32, by: u32, of: u64, stream: u64
    ) {
        operate(of, stream, |of| {
            let what = What::ReduceScatter(element(kind)?, of.reduction(by)?);
            Ok(Operation::new(what, from, to, bytes(count, kind)?))
        })
    }
    ncclBroadcast(
        from: u64, to: u64, count: usize, kind: u32, root: i32, of: u64, stream: u64
    ) {
        operate(of, stream, |of| {
            let what = What::Broadcast(of.rank_named(root)?);
            Ok(Operation::new(what, from, to, bytes(count, kind)?))
        })
    }
    ncclBcast(at: u64, count: usize, kind: u32, root: i32, of: u64, stream: u64) {
        operate(of, stream, |of| {
            let what = What::Broadcast(of.rank_named(root)?);
            Ok(Operation::new(what, at, at, bytes(count, kind)?))
        })
    }
    ncclAllGather(from: u64, to: u64, count: usize, kind: u32, of: u64, stream: u64) {
        operate(of, stream, |_| {
            Ok(Operation::new(What::AllGather, from, to, bytes(count, kind)?))
        })
    }
    ncclAlltoAll(from: u64, to: u64, count: usize, kind: u32, of: u64, stream: u64) {
        operate(of, stream, |_| {
            Ok(Operation::new(What::AllToAll, from, to, bytes(count, kind)?))
        })
    }
    ncclGather(from: u64, to: u64, count: usize, kind: u32, root: i32, of: u64, stream: u64) {
        operate(of, stream, |of| {
            let what = What::Gather(of.rank_named(root)?);
            Ok(Operation::new(what, from, to, bytes(count, kind)?))
        })
    }
    ncclScatter(from: u64, to: u64, count: usize, kind: u32, root: i32, of: u64, stream: u64) {
        operate(of, stream, |of| {
            let what = What::Scatter(of.rank_named(root)?);
            Ok(Operation::new(what, from, to, bytes(count, kind)?))
        })
    }
    ncclSend(from: u64, count: usize, kind: u32, peer: i32, of: u64, stream: u64) {
        operate(of, stream, |of| {
            let what = What::Send(of.rank_named(peer)?);
            Ok(Operation::new(what, from, 0, bytes(count, kind)?))
        })
    }
    ncclRecv(to: u64, count: usize, kind: u32, peer: i32, of: u64, stream: u64) {
        operate(of, stream, |of| {
            let what = What::Receive(of.rank_named(peer)?);
            Ok(Operation::new(what, 0, to, bytes(count, kind)?))
        })
    }
}

/// One communicator of all devices of this process.
fn init_all(out: &Out<u64>, count: i32, devices: &In<i32>) -> Answer {
    let id = UniqueId::new()?;
    let before = crate::runtime::state::device();
    group::start()?;
    let mut joined = Ok(());
    for rank in 0..count {
        let device = devices.get(rank as usize).unwrap_or(rank);
        crate::runtime::state::set_device(device);
        joined = joined.and_then(|()| {
            let (handle, made) = communicator::join(id.path()?, count, rank)?;
            group::joined(made);
            Ok(out.set_at(rank as usize, handle)?)
        });
        if joined.is_err() {
            break;
        }
    }
    crate::runtime::state::set_device(before);
    // Without all ranks there is nobody to wait for.
    if joined.is_err() {
        group::leave()
    } else {
        group::end()?
    }
    joined
}

fn cuda(code: u32) -> Answer {
    if code == 0 { Ok(()) } else { Err(error::UNHANDLED_CUDA_ERROR) }
}

/// `ncclGetErrorString`
#[unsafe(no_mangle)]
pub extern "C" fn ncclGetErrorString(code: u32) -> *const c_char {
    error::words(code).as_ptr()
}

/// `ncclGetLastError`: nothing to add.
#[unsafe(no_mangle)]
pub extern "C" fn ncclGetLastError(_of: u64) -> *const c_char {
    c"".as_ptr()
}

/// `ncclGroupSimulateEnd`: of the time that a group would take nothing is known.
#[unsafe(no_mangle)]
pub extern "C" fn ncclGroupSimulateEnd(_info: *mut c_void) -> u32 {
    note::unanswered("ncclGroupSimulateEnd");
    error::INVALID_USAGE.0
}
