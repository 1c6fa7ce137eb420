//! A result as a table for people or JSON for programs: `fn(&Result) -> String`.

pub mod gpus;
