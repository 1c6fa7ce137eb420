//! A result as a table for people or JSON for programs: `fn(&Result) -> String`.

pub mod advise;
pub mod advise_cards;
pub mod advise_json;
pub mod apportion;
pub mod bar;
pub mod check;
pub mod estimate;
pub mod explain;
pub mod github;
pub mod gpus;
pub mod json;
pub mod junit;
pub mod plan;
pub mod probe;
pub mod profiles;
pub mod prometheus;
#[cfg(unix)]
pub mod run;
pub mod schedule;
pub mod sync;
pub mod text;
#[cfg(unix)]
pub mod trial;
pub mod unequal;
pub mod wait;
