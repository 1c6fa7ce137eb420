//! Communicators: who is in one, and how its ranks find each other.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::board::{Board, MOST_RANKS};
use super::error;
use super::numbers::{Element, Reduction};
use crate::call::{self, Code, SCENARIO};
use crate::machine::Identity;
use crate::machine::notes::Kind;
use crate::note;
use crate::runtime::state;

/// `ncclUniqueId`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct UniqueId([u8; 128]);

/// One rank's end of a communicator.
pub struct Communicator {
    /// How many ranks there are.
    pub ranks: usize,
    /// Which one this is.
    pub rank: usize,
    /// The device's ordinal and place.
    pub device: i32,
    place: usize,
    charged: u64,
    /// Where the board is, which splits name theirs after.
    pub path: PathBuf,
    /// What the ranks share; one operation at a time.
    pub board: Mutex<Board>,
    /// What went wrong, for `ncclCommGetAsyncError`.
    pub failure: AtomicU32,
    /// How often it was split.
    pub splits: AtomicU64,
    /// Reductions that were made for it, by number, with their element's type.
    reductions: Mutex<Vec<Reduction>>,
}

/// NCCL's own reductions come first.
const FIRST_MADE: u32 = 5;

static LIVE: Mutex<Option<HashMap<u64, Arc<Communicator>>>> = Mutex::new(None);
static MADE: AtomicU64 = AtomicU64::new(0);

fn live() -> MutexGuard<'static, Option<HashMap<u64, Arc<Communicator>>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for other threads, and keeps them out until the guard drops.
pub fn pause() -> MutexGuard<'static, impl Sized> {
    live()
}

/// Returns a communicator by its handle.
pub fn get(handle: u64) -> Result<Arc<Communicator>, Code> {
    let live = live();
    let found = live.as_ref().and_then(|live| live.get(&handle)).cloned();
    found.ok_or(error::INVALID_ARGUMENT)
}

/// Takes a communicator away; what it was charged comes back.
pub fn remove(handle: u64) -> Result<(), Code> {
    let gone = live().as_mut().and_then(|live| live.remove(&handle));
    let gone = gone.ok_or(error::INVALID_ARGUMENT)?;
    let (place, charged) = (gone.place, gone.charged);
    if charged > 0 {
        call::enter("ncclCommDestroy", |call| {
            call.machine.give_back(place, charged);
            Ok(())
        });
    }
    Ok(())
}

impl UniqueId {
    /// Returns an id that no other process makes: by process, time and count.
    pub fn new() -> Result<UniqueId, Code> {
        let me = Identity::own().map_err(|_| error::SYSTEM_ERROR)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut bytes = [0; 128];
        let words =
            [u64::from(me.pid), me.start, now.as_nanos() as u64, MADE.fetch_add(1, Relaxed)];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        Ok(UniqueId(bytes))
    }

    /// Returns where the board of the communicator of this id is: beside the scenario.
    pub fn path(&self) -> Result<PathBuf, Code> {
        let mut path = std::env::var_os(SCENARIO).ok_or(error::UNHANDLED_CUDA_ERROR)?;
        path.push(".nccl.");
        for byte in &self.0[..32] {
            path.push(format!("{byte:02x}"));
        }
        Ok(path.into())
    }
}

/// Joins the communicator at `path`; who calls has to wait for the others.
pub fn join(path: PathBuf, ranks: i32, rank: i32) -> Result<(u64, Arc<Communicator>), Code> {
    let sizes = (usize::try_from(ranks), usize::try_from(rank));
    let (Ok(ranks @ 1..=MOST_RANKS), Ok(rank)) = sizes else {
        return Err(error::INVALID_ARGUMENT);
    };
    if rank >= ranks {
        return Err(error::INVALID_ARGUMENT);
    }
    let ready = state::ready().map_err(|_| error::UNHANDLED_CUDA_ERROR)?;
    let me = Identity::own().map_err(|_| error::SYSTEM_ERROR)?;
    let board = Board::join(&path, ranks, rank, me).map_err(|_| error::SYSTEM_ERROR)?;
    let charged = charge(ready.place)?;
    let communicator = Arc::new(Communicator {
        ranks,
        rank,
        device: ready.device,
        place: ready.place,
        charged,
        path,
        board: Mutex::new(board),
        failure: AtomicU32::new(0),
        splits: AtomicU64::new(0),
        reductions: Mutex::new(Vec::new()),
    });
    let handle = 0x6e00_0000 + MADE.fetch_add(1, Relaxed) * 64;
    live().get_or_insert_default().insert(handle, Arc::clone(&communicator));
    Ok((handle, communicator))
}

/// Charges a communicator's buffers; returns what was taken.
fn charge(place: usize) -> Result<u64, Code> {
    let mut taken = 0;
    let code = call::enter("ncclCommInitRank", |call| {
        let bytes = call.scenario.gpu_at(place).nccl;
        if bytes > 0 {
            taken = call.take(place, bytes)?;
            note::write(Kind::Allowance, &format!("nccl {bytes}"));
        }
        Ok(())
    });
    if code == 0 { Ok(taken) } else { Err(error::UNHANDLED_CUDA_ERROR) }
}

impl Communicator {
    /// Waits until every rank has joined.
    pub fn wait_until_complete(&self) {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).wait_until_complete();
    }

    /// Returns a reduction by its number.
    pub fn reduction(&self, number: u32) -> Result<Reduction, Code> {
        if let Some(known) = Reduction::read(number) {
            return Ok(known);
        }
        let made = self.reductions.lock().unwrap_or_else(PoisonError::into_inner);
        let index = number.checked_sub(FIRST_MADE).map(|index| index as usize);
        index.and_then(|index| made.get(index).copied()).ok_or(error::INVALID_ARGUMENT)
    }

    /// Makes a reduction that scales each part; returns its number.
    pub fn make_scaled(&self, scale: f64) -> u32 {
        let mut made = self.reductions.lock().unwrap_or_else(PoisonError::into_inner);
        made.push(Reduction::Scaled(scale));
        FIRST_MADE + made.len() as u32 - 1
    }

    /// Checks a rank that a caller names.
    pub fn rank_named(&self, rank: i32) -> Result<usize, Code> {
        let rank = usize::try_from(rank).map_err(|_| error::INVALID_ARGUMENT)?;
        if rank < self.ranks { Ok(rank) } else { Err(error::INVALID_ARGUMENT) }
    }
}

/// Returns the element of an `ncclDataType_t`.
pub fn element(number: u32) -> Result<Element, Code> {
    Element::read(number).ok_or(error::INVALID_ARGUMENT)
}
