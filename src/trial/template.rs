//! A training command with its sizes left open, and filled in.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::trial::environment::Change;
use crate::units::{AccumulationSteps, MicroBatch};

/// The sizes of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sizes {
    /// Samples in a micro-step on one device.
    pub micro_batch: MicroBatch,
    /// Micro-steps in an optimizer step.
    pub accumulation: AccumulationSteps,
    /// Samples of an optimizer step over all devices.
    pub effective_batch: u64,
}

impl Sizes {
    /// The names of what can be filled in, with the variables that carry the same.
    const NAMES: [(&'static str, &'static str); 3] = [
        ("{micro_batch}", "OOMPH_MICRO_BATCH"),
        ("{accumulation_steps}", "OOMPH_ACCUMULATION_STEPS"),
        ("{effective_batch}", "OOMPH_EFFECTIVE_BATCH"),
    ];

    fn values(&self) -> [u64; 3] {
        [self.micro_batch.get(), self.accumulation.get(), self.effective_batch]
    }
}

/// A command whose arguments may hold `{micro_batch}` and the like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    words: Vec<OsString>,
    shell: bool,
}

impl Template {
    /// Takes a command; with `shell` its words are one line for `sh -c`.
    pub fn new(words: Vec<OsString>, shell: bool) -> Template {
        Template { words, shell }
    }

    /// Returns whether the micro-batch is named anywhere: in an argument, or, by its variable's
    /// name, in what a shell reads.
    pub fn names_micro_batch(&self) -> bool {
        self.names(0)
    }

    /// Returns whether the command is told to accumulate, by the steps or the effective batch.
    pub fn names_accumulation(&self) -> bool {
        self.names(1) || self.names(2)
    }

    /// Returns what looks like a placeholder and is none: `{micro_batch_size}`.
    ///
    /// A shell's `${name}` and what has anything but letters and `_` in its braces is not meant.
    pub fn unknown(&self) -> Vec<String> {
        let mut found = Vec::new();
        for word in &self.words {
            let word = word.to_string_lossy();
            for (at, _) in word.match_indices('{') {
                let Some((name, _)) = word[at + 1..].split_once('}') else { continue };
                let plain = |c: char| c.is_ascii_alphabetic() || c == '_';
                let placeholder = format!("{{{name}}}");
                let known = Sizes::NAMES.iter().any(|(known, _)| *known == placeholder);
                let meant =
                    !name.is_empty() && name.chars().all(plain) && !word[..at].ends_with('$');
                if meant && !known && !found.contains(&placeholder) {
                    found.push(placeholder);
                }
            }
        }
        found
    }

    /// Returns the placeholders that are filled in.
    pub fn placeholders() -> [&'static str; 3] {
        Sizes::NAMES.map(|(placeholder, _)| placeholder)
    }

    fn names(&self, index: usize) -> bool {
        let (placeholder, variable) = Sizes::NAMES[index];
        let has = |word: &OsString, text: &str| {
            word.as_bytes().windows(text.len()).any(|part| part == text.as_bytes())
        };
        self.words.iter().any(|word| has(word, placeholder) || (self.shell && has(word, variable)))
    }

    /// Returns the program that is started.
    pub fn program(&self) -> Option<&OsStr> {
        if self.shell {
            Some(OsStr::new("sh"))
        } else {
            self.words.first().map(OsString::as_os_str)
        }
    }

    /// Returns the words with their placeholders.
    pub fn words(&self) -> &[OsString] {
        &self.words
    }

    /// Returns whether a shell reads the command.
    pub fn is_shell(&self) -> bool {
        self.shell
    }

    /// Fills sizes in.
    pub fn command(&self, sizes: &Sizes) -> Vec<OsString> {
        let filled = self.words.iter().map(|word| fill(word, sizes));
        if !self.shell {
            return filled.collect();
        }
        let words: Vec<OsString> = filled.collect();
        vec!["sh".into(), "-c".into(), words.join(OsStr::new(" "))]
    }

    /// Returns the variables that carry the sizes.
    pub fn environment(sizes: &Sizes) -> Vec<Change> {
        let pairs = Sizes::NAMES.iter().zip(sizes.values());
        pairs.map(|((_, name), value)| Change::set(*name, value.to_string())).collect()
    }
}

fn fill(word: &OsStr, sizes: &Sizes) -> OsString {
    let mut bytes = word.as_bytes().to_vec();
    for ((name, _), value) in Sizes::NAMES.iter().zip(sizes.values()) {
        let value = value.to_string();
        while let Some(at) = bytes.windows(name.len()).position(|part| part == name.as_bytes()) {
            bytes.splice(at..at + name.len(), value.bytes());
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(Into::into).collect()
    }

    const SIZES: fn() -> Sizes = || Sizes {
        micro_batch: MicroBatch::new(8).unwrap(),
        accumulation: AccumulationSteps::new(2).unwrap(),
        effective_batch: 64,
    };

    #[test]
    fn sizes_are_filled_in_wherever_they_are_named() {
        let line = "train --bs={micro_batch}x{micro_batch} -a {accumulation_steps} {effective_batch} {other}";
        let template = Template::new(words(line), false);
        assert!(template.names_micro_batch());
        assert_eq!(template.command(&SIZES()), words("train --bs=8x8 -a 2 64 {other}"));
        let set = Template::environment(&SIZES());
        assert!(set.contains(&Change::set("OOMPH_EFFECTIVE_BATCH", "64")));
    }

    #[test]
    fn what_looks_like_a_placeholder_and_is_none_is_found() {
        let line =
            "train {micro_batch} {micro_batch_size} ${HOME} {a,b} {} x{steps}y{steps} {\"k\":1}";
        let template = Template::new(words(line), false);
        assert_eq!(template.unknown(), ["{micro_batch_size}", "{steps}"]);
    }

    #[test]
    fn a_shell_gets_one_line_and_only_when_asked() {
        let template = Template::new(words("cd x && train $OOMPH_MICRO_BATCH"), true);
        assert!(template.names_micro_batch());
        assert_eq!(template.command(&SIZES())[2], "cd x && train $OOMPH_MICRO_BATCH");
        assert!(!Template::new(words("train $OOMPH_MICRO_BATCH"), false).names_micro_batch());
    }
}
