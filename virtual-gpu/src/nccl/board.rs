//! The board of a communicator: a file beside the scenario that its ranks map, on which each puts
//! its part of a small collective for the others to read.
//!
//! A rank's part of collective n lies in one of two places, n modulo 2: whoever starts n + 2 has
//! finished n + 1, which all have started and so have read n. Messages from one rank to another
//! have a ring of their own. The file is sparse: what is not used takes no space.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::machine::Identity;

unsafe extern "C" {
    fn mmap(
        address: *mut c_void,
        bytes: usize,
        protection: i32,
        flags: i32,
        file: i32,
        offset: i64,
    ) -> *mut c_void;
    fn munmap(address: *mut c_void, bytes: usize) -> i32;
}

// Linux's values (asm-generic/mman-common.h).
const PROT_READ_WRITE: i32 = 1 | 2;
const MAP_SHARED: i32 = 1;

/// The largest part of a rank, bytes: what is small, and a word before it.
pub const PART: usize = crate::memory::copy::SMALL as usize + 8;
/// Messages from one rank to another that may wait.
const RING: u64 = 8;
/// Ranks of a communicator at most: their rings are then 32 GiB of a sparse file.
pub const MOST_RANKS: usize = 256;

/// What each rank says of itself.
#[repr(C)]
struct Rank {
    pid: AtomicU64,
    start: AtomicU64,
    /// Collectives that it has put its part of.
    put: AtomicU64,
    /// It has left: what it has put stays.
    left: AtomicU64,
}

/// What is known of the messages from one rank to another.
#[repr(C)]
struct Mailbox {
    sent: AtomicU64,
    taken: AtomicU64,
}

/// A mapped board.
pub struct Board {
    ranks: usize,
    rank: usize,
    bytes: usize,
    start: *mut u8,
    /// Collectives so far, and messages to and from each rank.
    collectives: u64,
    _file: File,
}

// SAFETY: what is behind the pointer is shared between processes anyway; all of it is reached
// through atomics, or is the part of one rank that others read after it is published.
unsafe impl Send for Board {}

impl Board {
    /// Maps the board at `path`, makes it if need be, and says that this rank is there.
    pub fn join(path: &Path, ranks: usize, rank: usize, me: Identity) -> io::Result<Board> {
        let mailboxes = ranks * ranks;
        let bytes = ranks * size_of::<Rank>()
            + mailboxes * size_of::<Mailbox>()
            + (2 * ranks + mailboxes * RING as usize) * PART;
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() < bytes as u64 {
            file.set_len(bytes as u64)?;
        }
        // SAFETY: a fresh shared mapping of a file that is at least this long.
        let start = unsafe {
            mmap(std::ptr::null_mut(), bytes, PROT_READ_WRITE, MAP_SHARED, file.as_raw_fd(), 0)
        };
        if start.addr() == usize::MAX {
            return Err(io::Error::last_os_error());
        }
        let start = start.cast();
        let board = Board { ranks, rank, bytes, start, collectives: 0, _file: file };
        let mine = board.rank_of(rank);
        mine.start.store(me.start, SeqCst);
        mine.pid.store(u64::from(me.pid), SeqCst);
        Ok(board)
    }

    /// Waits until every rank has joined.
    pub fn wait_until_complete(&self) {
        let mut waiting = Waiting::default();
        while !(0..self.ranks).all(|rank| self.rank_of(rank).pid.load(SeqCst) != 0) {
            waiting.pause();
        }
    }

    /// Puts this rank's part of the next collective; returns the collective's number.
    pub fn put(&mut self, part: &[u8]) -> u64 {
        let number = self.collectives;
        self.collectives += 1;
        let at = self.part_at(self.rank, number);
        // SAFETY: this rank's own part, which nobody reads any more (see the module's text).
        unsafe { at.copy_from(part.as_ptr(), part.len().min(PART)) };
        self.rank_of(self.rank).put.store(number + 1, SeqCst);
        number
    }

    /// Whether every rank has put its part of a collective.
    pub fn is_put(&self, number: u64) -> bool {
        (0..self.ranks).all(|rank| self.rank_of(rank).put.load(SeqCst) > number)
    }

    /// Reads a rank's part of a collective, which it has put.
    pub fn read(&self, rank: usize, number: u64, part: &mut [u8]) {
        // SAFETY: published, and not written again before this rank has gone on.
        unsafe { part.as_mut_ptr().copy_from(self.part_at(rank, number), part.len().min(PART)) };
    }

    /// Puts a message to another rank; says whether there was room for it.
    pub fn send(&self, to: usize, message: &[u8]) -> bool {
        let mailbox = self.mailbox(self.rank, to);
        let number = mailbox.sent.load(SeqCst);
        if number - mailbox.taken.load(SeqCst) >= RING {
            return false;
        }
        let at = self.message_at(self.rank, to, number);
        // SAFETY: a place of the ring that the receiver has taken already.
        unsafe { at.copy_from(message.as_ptr(), message.len().min(PART)) };
        mailbox.sent.store(number + 1, SeqCst);
        true
    }

    /// Reads the next message of another rank; says whether there was one.
    pub fn receive(&self, from: usize, message: &mut [u8]) -> bool {
        let mailbox = self.mailbox(from, self.rank);
        let number = mailbox.taken.load(SeqCst);
        if mailbox.sent.load(SeqCst) <= number {
            return false;
        }
        let at = self.message_at(from, self.rank, number);
        // SAFETY: published, and the sender waits until it is taken.
        unsafe { message.as_mut_ptr().copy_from(at, message.len().min(PART)) };
        mailbox.taken.store(number + 1, SeqCst);
        true
    }

    /// Whether a rank that has not put its part of a collective never will.
    pub fn is_lost(&self, number: u64) -> bool {
        (0..self.ranks)
            .any(|rank| self.is_gone(rank) && self.rank_of(rank).put.load(SeqCst) <= number)
    }

    /// Whether a rank is gone: its process is dead, or it has left the communicator.
    pub fn is_gone(&self, rank: usize) -> bool {
        let of = self.rank_of(rank);
        let (pid, start) = (of.pid.load(SeqCst) as u32, of.start.load(SeqCst));
        of.left.load(SeqCst) != 0 || !Identity { pid, start }.is_alive()
    }

    fn rank_of(&self, rank: usize) -> &Rank {
        assert!(rank < self.ranks, "callers check ranks");
        // SAFETY: within the mapping, aligned as pages are, and made of atomics.
        unsafe { &*self.start.cast::<Rank>().add(rank) }
    }

    fn mailbox(&self, from: usize, to: usize) -> &Mailbox {
        assert!(from < self.ranks && to < self.ranks, "callers check ranks");
        let at = self.ranks * size_of::<Rank>();
        // SAFETY: as above.
        unsafe { &*self.start.add(at).cast::<Mailbox>().add(from * self.ranks + to) }
    }

    fn part_at(&self, rank: usize, number: u64) -> *mut u8 {
        let place = rank * 2 + (number % 2) as usize;
        // SAFETY: within the mapping.
        unsafe { self.parts().add(place * PART) }
    }

    fn message_at(&self, from: usize, to: usize, number: u64) -> *mut u8 {
        let ring = (from * self.ranks + to) * RING as usize + (number % RING) as usize;
        // SAFETY: within the mapping.
        unsafe { self.parts().add((self.ranks * 2 + ring) * PART) }
    }

    fn parts(&self) -> *mut u8 {
        let at = self.ranks * size_of::<Rank>() + self.ranks * self.ranks * size_of::<Mailbox>();
        // SAFETY: within the mapping.
        unsafe { self.start.add(at) }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.rank_of(self.rank).left.store(1, SeqCst);
        // SAFETY: the mapping made in `join`, which nothing refers to any more.
        unsafe { munmap(self.start.cast(), self.bytes) };
    }
}

/// A wait that starts with a few turns and ends with sleeps of a millisecond.
#[derive(Default)]
pub struct Waiting(u32);

impl Waiting {
    /// Waits a little; says now and then that it is time to look whether the other still lives.
    pub fn pause(&mut self) -> bool {
        self.0 = self.0.saturating_add(1);
        match self.0 {
            0..=200 => std::thread::yield_now(),
            201..=400 => std::thread::sleep(Duration::from_micros(100)),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
        self.0 > 400 && self.0.is_multiple_of(50)
    }
}
