//! The advisor: which other setups fit, what each costs and what it saves.
//!
//! A setup that fits is worth a suggestion when nothing of it could be left out: with any milder
//! setup in its place the step would not fit. All that are so are found ([`search`]); of those, what
//! costs more than another one in every respect goes ([`front`]).

pub mod advice;
pub mod change;
pub mod cost;
pub mod front;
pub mod in_transformers;
pub mod lattice;
pub mod search;
pub mod undo;
