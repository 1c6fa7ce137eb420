//! `--allocator`, and what the environment says about PyTorch's allocator.

use crate::cli::values::AllocatorArg;
use crate::step::setup::{Allocator, Version};

/// The variable that every PyTorch reads.
const VARIABLE: &str = "PYTORCH_CUDA_ALLOC_CONF";
/// Its newer name.
const NEWER: &str = "PYTORCH_ALLOC_CONF";
/// The first version that reads the newer name, where the older one is not set, be it to nothing.
///
/// Source: c10/core/AllocatorConfig.h; run on 2.15 (which reads one of them alone) and on 2.8 and 2.4 (which do
/// not know the newer name).
const READS_NEWER: Version = Version::new(2, 9);

/// The allocator of a job, and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chosen {
    /// What the job runs on.
    pub allocator: Allocator,
    /// Set where the environment has chosen.
    pub assumption: Option<String>,
    /// What is set and not honoured, and what the training needs, each a line.
    pub notes: Vec<String>,
}

/// Decides: the flag or key, else the environment as PyTorch reads it, else its default.
pub fn choose(
    flag: Option<AllocatorArg>,
    torch: Version,
    variable: impl Fn(&str) -> Option<String>,
) -> Chosen {
    let flag = flag.map(|flag| match flag {
        AllocatorArg::Default => Allocator::Default,
        AllocatorArg::Expandable => Allocator::Expandable,
    });
    let (older, newer) = (variable(VARIABLE), variable(NEWER));
    let mut chosen = Chosen::default();
    let read = match (&older, &newer) {
        (Some(value), _) => Some((VARIABLE, value)),
        (None, Some(value)) if torch >= READS_NEWER => Some((NEWER, value)),
        _ => None,
    };
    if let Some(value) = newer.as_ref().filter(|value| !value.is_empty())
        && read.is_none_or(|(name, _)| name != NEWER)
    {
        let why = match older {
            Some(_) => format!("PyTorch reads {VARIABLE} in its place"),
            None => format!("PyTorch {}.{} reads {VARIABLE} alone", torch.major, torch.minor),
        };
        chosen.notes.push(format!("{NEWER}={value} is set and not read: {why}"));
    }
    let mut said = None;
    if let Some((name, value)) = read {
        let Settings { expandable, others } = Settings::parse(value);
        if !others.is_empty() {
            chosen.notes.push(not_honoured(name, &others.join(",")));
        }
        said = expandable.map(|expandable| (name, expandable));
    }
    if let Some(value) = variable("CUBLAS_WORKSPACE_CONFIG").filter(|value| !value.is_empty()) {
        chosen.notes.push(not_honoured("CUBLAS_WORKSPACE_CONFIG", &value));
    }
    chosen.allocator = flag.or(said.map(|(_, said)| said)).unwrap_or_default();
    match (flag, said) {
        (None, Some((name, said))) => {
            chosen.assumption = Some(format!("--allocator {} ({name})", said.name()));
        }
        (Some(flag), Some((name, said))) if flag != said => {
            let name_of = |allocator: Allocator| allocator.name();
            let (flag, said) = (name_of(flag), name_of(said));
            chosen
                .notes
                .push(format!("{name} asks for {said} segments: --allocator {flag} overrules it"));
        }
        (Some(Allocator::Expandable), None) => {
            chosen.notes.push(format!(
                "the training needs {} in its environment",
                Allocator::IN_ENVIRONMENT
            ));
        }
        _ => {}
    }
    chosen
}

fn not_honoured(name: &str, value: &str) -> String {
    format!("{name}={value} is set and not honoured: its default is assumed")
}

/// What a variable sets.
#[derive(Debug, Default)]
struct Settings {
    /// `expandable_segments`, the last one.
    expandable: Option<Allocator>,
    /// All else, each as it is written.
    others: Vec<String>,
}

impl Settings {
    /// Reads `key:value,key:[...,...]`.
    ///
    /// Of another allocator (`backend:cudaMallocAsync`) nothing is taken: it has no such segments.
    fn parse(text: &str) -> Settings {
        let mut settings = Settings::default();
        let mut depth = 0;
        let separates = |c: char| {
            depth += i32::from(c == '[') - i32::from(c == ']');
            c == ',' && depth == 0
        };
        let parts: Vec<&str> = text.split(separates).map(str::trim).collect();
        let is_other = |part: &&str| part.replace(' ', "") == "backend:cudaMallocAsync";
        let native = !parts.iter().any(is_other);
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once(':').unwrap_or((part, ""));
            let expandable = match (key.trim(), value.trim()) {
                ("expandable_segments", "True") if native => Some(Allocator::Expandable),
                ("expandable_segments", "False") if native => Some(Allocator::Default),
                _ => None,
            };
            match expandable {
                Some(_) => settings.expandable = expandable,
                None => settings.others.push(part.to_owned()),
            }
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Version = Version::new(2, 15);
    const OLD: Version = Version::new(2, 8);

    fn chosen(flag: Option<AllocatorArg>, torch: Version, set: &[(&str, &str)]) -> Chosen {
        let value = |name: &str| {
            let found = set.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        choose(flag, torch, value)
    }

    /// As `torch.cuda.memory_snapshot()` said on 2.15, 2.8 and 2.4.
    #[test]
    fn the_environment_is_read_as_pytorch_reads_it() {
        let (on, off) = ("expandable_segments:True", "expandable_segments:False");
        let (twice, other) = (format!("{off},{on}"), format!("{on},backend:cudaMallocAsync"));
        let cases = [
            (NEW, vec![(NEWER, on)], Allocator::Expandable),
            (OLD, vec![(NEWER, on)], Allocator::Default),
            (NEW, vec![(VARIABLE, on)], Allocator::Expandable),
            (OLD, vec![(VARIABLE, on)], Allocator::Expandable),
            (NEW, vec![(NEWER, off), (VARIABLE, on)], Allocator::Expandable),
            (NEW, vec![(NEWER, on), (VARIABLE, off)], Allocator::Default),
            (NEW, vec![(NEWER, on), (VARIABLE, "max_split_size_mb:100")], Allocator::Default),
            (NEW, vec![(NEWER, on), (VARIABLE, "")], Allocator::Default),
            (NEW, vec![(VARIABLE, "expandable_segments: True")], Allocator::Expandable),
            (NEW, vec![(VARIABLE, &twice)], Allocator::Expandable),
            (NEW, vec![(VARIABLE, &other)], Allocator::Default),
            (NEW, vec![(VARIABLE, "expandable_segments:true")], Allocator::Default),
            (NEW, vec![], Allocator::Default),
        ];
        for (torch, set, allocator) in cases {
            let found = chosen(None, torch, &set);
            assert_eq!(found.allocator, allocator, "{torch:?} {set:?}");
            let silent =
                set.iter().any(|(_, value)| *value == on) && allocator == Allocator::Default;
            assert!(!silent || !found.notes.is_empty() || found.assumption.is_some(), "{set:?}");
        }
    }

    #[test]
    fn what_is_not_honoured_is_named_and_what_is_taken_is_an_assumption() {
        let set = [(VARIABLE, "roundup_power2_divisions:[256:1,>:2], expandable_segments:True")];
        let found = chosen(None, NEW, &set);
        assert_eq!(
            found.assumption.as_deref(),
            Some("--allocator expandable (PYTORCH_CUDA_ALLOC_CONF)")
        );
        assert_eq!(
            found.notes,
            [
                "PYTORCH_CUDA_ALLOC_CONF=roundup_power2_divisions:[256:1,>:2] is set and not honoured: \
              its default is assumed"
            ]
        );
    }

    #[test]
    fn the_flag_comes_first_and_says_what_the_training_needs() {
        let on = [(VARIABLE, "expandable_segments:True")];
        let found = chosen(Some(AllocatorArg::Default), NEW, &on);
        assert_eq!((found.allocator, found.notes.len()), (Allocator::Default, 1));
        let found = chosen(Some(AllocatorArg::Expandable), NEW, &on);
        assert_eq!((found.allocator, found.notes.len()), (Allocator::Expandable, 0));
        let found = chosen(Some(AllocatorArg::Expandable), NEW, &[]);
        assert!(found.notes[0].contains("PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"));
    }
}
