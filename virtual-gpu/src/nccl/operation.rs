//! One operation of a communicator, taken forward step by step.

use super::board::Board;
use super::communicator::Communicator;
use super::numbers::{Element, Reduction};
use crate::memory::copy::{self, Origin, SMALL};

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum What {
    /// Every rank gets the reduction of all parts.
    AllReduce(Element, Reduction),
    /// One rank gets it.
    Reduce(Element, Reduction, usize),
    /// Each rank gets its own piece of it.
    ReduceScatter(Element, Reduction),
    /// Every rank gets all parts.
    AllGather,
    /// One rank gets them.
    Gather(usize),
    /// Every rank gets one rank's part.
    Broadcast(usize),
    /// Each rank gets its own piece of one rank's part.
    Scatter(usize),
    /// Each rank gets its own piece of each part.
    AllToAll,
    /// A message to another rank.
    Send(usize),
    /// A message from another rank.
    Receive(usize),
}

/// An operation that was asked for.
pub struct Operation {
    /// What it does.
    pub what: What,
    /// Where this rank's part is.
    pub from: u64,
    /// Where the answer goes.
    pub to: u64,
    /// Bytes of one piece: of a part, where a rank has one piece.
    pub piece: u64,
    /// The collective's number, once this rank has put its part.
    number: Option<u64>,
}

/// What keeps operations of a communicator in order: those of one lane wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Collectives.
    Collective,
    /// Messages to a rank.
    To(usize),
    /// Messages from a rank.
    From(usize),
}

/// A word before each part: where its values are from ([`number`]).
const WORD: usize = 8;

impl Operation {
    /// Makes one.
    pub fn new(what: What, from: u64, to: u64, piece: u64) -> Operation {
        Operation { what, from, to, piece, number: None }
    }

    /// Bytes of this rank's part.
    fn part(&self, ranks: usize) -> u64 {
        match self.what {
            What::ReduceScatter(..) | What::Scatter(_) | What::AllToAll => {
                self.piece.saturating_mul(ranks as u64)
            }
            _ => self.piece,
        }
    }

    /// Whether it is really done: all ranks say the same of it, as they agree on the sizes.
    pub fn is_small(&self, ranks: usize) -> bool {
        (1..=SMALL).contains(&self.part(ranks))
    }

    /// What it has to wait for.
    pub fn lane(&self) -> Lane {
        match self.what {
            What::Send(peer) => Lane::To(peer),
            What::Receive(peer) => Lane::From(peer),
            _ => Lane::Collective,
        }
    }

    /// Takes it forward; says whether it is done.
    pub fn step(&mut self, of: &Communicator, board: &mut Board) -> bool {
        let part = self.part(of.ranks) as usize;
        match self.what {
            What::Send(peer) => board.send(peer, &read(self.from, part)),
            What::Receive(peer) => {
                let mut message = vec![0; WORD + part];
                let there = board.receive(peer, &mut message);
                if there {
                    write(self.to, &message[WORD..], origin(message[0]));
                }
                there
            }
            _ => {
                let number = match self.number {
                    Some(number) => number,
                    None => board.put(&self.own_part(of.rank, part)),
                };
                self.number = Some(number);
                let there = board.is_put(number);
                if there {
                    self.finish(of, board, number, part);
                }
                there
            }
        }
    }

    /// Whether what it waits for never comes.
    pub fn is_lost(&self, board: &Board) -> bool {
        match self.what {
            What::Send(peer) | What::Receive(peer) => board.is_gone(peer),
            _ => self.number.is_some_and(|number| board.is_lost(number)),
        }
    }

    /// This rank's part: nothing where another rank's alone counts.
    fn own_part(&self, rank: usize, part: usize) -> Vec<u8> {
        match self.what {
            What::Broadcast(root) | What::Scatter(root) if root != rank => vec![0; WORD],
            _ => read(self.from, part),
        }
    }

    /// Works the answer out of all parts, and writes it.
    fn finish(&self, of: &Communicator, board: &Board, number: u64, part: usize) {
        let piece = self.piece as usize;
        let of_rank = |rank: usize| {
            let mut bytes = vec![0; WORD + part];
            board.read(rank, number, &mut bytes);
            bytes
        };
        let parts = || (0..of.ranks).map(of_rank).collect::<Vec<_>>();
        let mine = of.rank * piece;
        match self.what {
            What::AllReduce(element, by) => self.reduced(element, by, &parts(), 0),
            What::ReduceScatter(element, by) => self.reduced(element, by, &parts(), mine),
            What::Reduce(element, by, root) if root == of.rank => {
                self.reduced(element, by, &parts(), 0);
            }
            What::AllGather => self.gathered(&parts(), 0),
            What::Gather(root) if root == of.rank => self.gathered(&parts(), 0),
            What::AllToAll => self.gathered(&parts(), mine),
            What::Broadcast(root) => self.gathered(&[of_rank(root)], 0),
            What::Scatter(root) => self.gathered(&[of_rank(root)], mine),
            _ => {}
        }
    }

    /// Writes the reduction of the pieces that start at `at` of each part.
    fn reduced(&self, element: Element, by: Reduction, parts: &[Vec<u8>], at: usize) {
        let origins = || parts.iter().map(|part| origin(part[0]));
        let origin = match origins().any(|origin| origin == Origin::Kernel) {
            true => Origin::Kernel,
            false => origins().find(|origin| *origin == Origin::Older).unwrap_or(Origin::Host),
        };
        let start = WORD + at;
        let end = start + self.piece as usize;
        let pieces: Vec<Vec<u8>> = parts.iter().map(|part| part[start..end].to_vec()).collect();
        let mut answer = vec![0; self.piece as usize];
        by.reduce(element, &pieces, &mut answer);
        write(self.to, &answer, origin);
        // A flag that any rank may raise, DeepSpeed's of an overflow: nobody has, if the kernels
        // that led to it are not known.
        if let ([flag], Origin::Kernel, Reduction::Sum | Reduction::Max) = (&answer[..], origin, by)
        {
            copy::keep_answer(self.to, *flag != 0);
        }
    }

    /// Writes the pieces that start at `at` of each part, one after the other.
    fn gathered(&self, parts: &[Vec<u8>], at: usize) {
        let piece = self.piece as usize;
        for (index, part) in parts.iter().enumerate() {
            let bytes = &part[WORD + at..WORD + at + piece];
            write(self.to + (index * piece) as u64, bytes, origin(part[0]));
        }
    }
}

/// Reads a part, with its word.
fn read(from: u64, bytes: usize) -> Vec<u8> {
    let mut part = vec![0; WORD + bytes];
    // SAFETY: callers of the exported function vouch for addresses of the host.
    part[0] = number(unsafe { copy::peek(from, &mut part[WORD..]) });
    part
}

fn write(to: u64, bytes: &[u8], origin: Origin) {
    // SAFETY: as above.
    unsafe { copy::poke(to, bytes, origin) };
}

/// What stands for an origin before a part: zero, as of a part that nobody has put.
fn number(origin: Origin) -> u8 {
    match origin {
        Origin::Kernel => 0,
        Origin::Host => 1,
        Origin::Older => 2,
    }
}

fn origin(number: u8) -> Origin {
    match number {
        1 => Origin::Host,
        2 => Origin::Older,
        _ => Origin::Kernel,
    }
}
