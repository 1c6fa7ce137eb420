//! `ncclCommSplit`: ranks of one colour make a communicator of their own, in the order of keys.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::communicator::{self, Communicator};
use super::operation::{Operation, What};
use super::{error, group};
use crate::call::Code;

/// `NCCL_SPLIT_NOCOLOR`: takes part in the split, and gets no communicator.
const NO_COLOUR: i32 = -1;

/// Splits a communicator; `None` for a rank without a colour.
pub fn split(of: &Arc<Communicator>, colour: i32, key: i32) -> Result<Option<u64>, Code> {
    if colour < NO_COLOUR {
        return Err(error::INVALID_ARGUMENT);
    }
    // What the ranks say has to be known before the next communicator can be joined.
    if group::is_open() {
        crate::note::unanswered("ncclCommSplit (in a group)");
        return Err(error::INVALID_USAGE);
    }
    let own = [colour, key];
    let mut all = vec![[0i32; 2]; of.ranks];
    let from = own.as_ptr().expose_provenance() as u64;
    let to = all.as_mut_ptr().expose_provenance() as u64;
    group::add(Arc::clone(of), Operation::new(What::AllGather, from, to, 8))?;
    let number = of.splits.fetch_add(1, Relaxed);
    if colour == NO_COLOUR {
        return Ok(None);
    }
    let mut members: Vec<(i32, usize)> = all
        .iter()
        .enumerate()
        .filter(|(_, [theirs, _])| *theirs == colour)
        .map(|(rank, [_, key])| (*key, rank))
        .collect();
    members.sort_unstable();
    let rank = members.iter().position(|(_, rank)| *rank == of.rank);
    let rank = rank.ok_or(error::INVALID_USAGE)?;
    let mut path = of.path.clone().into_os_string();
    path.push(format!("-{number}-{colour}"));
    let (handle, made) = communicator::join(path.into(), members.len() as i32, rank as i32)?;
    group::joined(made);
    Ok(Some(handle))
}
