//! A result as a table for people or JSON for programs: `fn(&Result) -> String`.

pub mod apportion;
pub mod bar;
pub mod estimate;
pub mod gpus;
pub mod json;
pub mod plan;
pub mod probe;
pub mod profiles;
pub mod run;
pub mod text;
pub mod trial;
pub mod unequal;
