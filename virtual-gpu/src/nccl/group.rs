//! Groups: operations between `ncclGroupStart` and `ncclGroupEnd` go forward together.
//!
//! An operation alone is a group of its own. Kernels of a real NCCL wait for each other on the
//! device; here the calling thread waits, so what a group holds is taken forward in turns, of
//! several communicators too (one thread that has several devices).

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::mem::ManuallyDrop;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use super::board::Waiting;
use super::communicator::Communicator;
use super::error;
use super::operation::{Lane, Operation};
use crate::call::Code;

/// What a group has gathered.
#[derive(Default)]
struct Gathered {
    operations: Vec<(Arc<Communicator>, Operation)>,
    /// Communicators that were joined, whose other ranks may be of this very thread.
    joined: Vec<Arc<Communicator>>,
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Without a destructor, as libraries may call while a thread ends.
    static GATHERED: ManuallyDrop<RefCell<Gathered>> = const {
        ManuallyDrop::new(RefCell::new(Gathered { operations: Vec::new(), joined: Vec::new() }))
    };
}

/// `ncclGroupStart`
pub fn start() -> Result<(), Code> {
    DEPTH.set(DEPTH.get() + 1);
    Ok(())
}

/// `ncclGroupEnd`: the outermost one runs what was gathered.
pub fn end() -> Result<(), Code> {
    match DEPTH.get() {
        0 => return Err(error::INVALID_USAGE),
        1 => DEPTH.set(0),
        depth => {
            DEPTH.set(depth - 1);
            return Ok(());
        }
    }
    let gathered = GATHERED.with(|gathered| gathered.take());
    for communicator in gathered.joined {
        communicator.wait_until_complete();
    }
    run(gathered.operations)
}

/// Whether this thread is in a group.
pub fn is_open() -> bool {
    DEPTH.get() > 0
}

/// Ends a group of which nothing is to be run.
pub fn leave() {
    DEPTH.set(DEPTH.get().saturating_sub(1));
    GATHERED.with(|gathered| gathered.borrow_mut().joined.clear());
}

/// Waits for the other ranks of a new communicator: now, or when the group ends.
pub fn joined(communicator: Arc<Communicator>) {
    match DEPTH.get() {
        0 => communicator.wait_until_complete(),
        _ => GATHERED.with(|gathered| gathered.borrow_mut().joined.push(communicator)),
    }
}

/// Runs an operation: now, or when the group ends.
pub fn add(communicator: Arc<Communicator>, operation: Operation) -> Result<(), Code> {
    if !operation.is_small(communicator.ranks) {
        return Ok(());
    }
    if DEPTH.get() == 0 {
        return run(vec![(communicator, operation)]);
    }
    GATHERED.with(|gathered| gathered.borrow_mut().operations.push((communicator, operation)));
    Ok(())
}

/// Takes operations forward until all are done, or what one waits for never comes.
fn run(mut pending: Vec<(Arc<Communicator>, Operation)>) -> Result<(), Code> {
    let mut waiting = Waiting::default();
    while !pending.is_empty() {
        let before = pending.len();
        let mut blocked: HashSet<(*const Communicator, Lane)> = HashSet::new();
        pending.retain_mut(|(communicator, operation)| {
            let lane = (Arc::as_ptr(communicator), operation.lane());
            if blocked.contains(&lane) {
                return true;
            }
            let mut board = communicator.board.lock().unwrap_or_else(PoisonError::into_inner);
            let done = operation.step(communicator, &mut board);
            if !done {
                blocked.insert(lane);
            }
            !done
        });
        if pending.len() < before {
            waiting = Waiting::default();
        } else if waiting.pause() {
            fail_if_lost(&pending)?;
        }
    }
    Ok(())
}

/// Fails when an operation waits for a rank that is gone.
fn fail_if_lost(pending: &[(Arc<Communicator>, Operation)]) -> Result<(), Code> {
    for (communicator, operation) in pending {
        let board = communicator.board.lock().unwrap_or_else(PoisonError::into_inner);
        if operation.is_lost(&board) {
            communicator.failure.store(error::REMOTE_ERROR.0, Relaxed);
            return Err(error::REMOTE_ERROR);
        }
    }
    Ok(())
}
