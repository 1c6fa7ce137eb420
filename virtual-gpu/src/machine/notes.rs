//! What the library has to say about a run: lines of `PID KIND DETAIL` beside the scenario.
//!
//! Each line is one append, so that lines of several processes never mix, and is written once a
//! process. A reader may meet a last line that a kill has cut short, and drops it.

use std::path::{Path, PathBuf};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Which process.
    pub pid: u32,
    /// What it says.
    pub kind: Kind,
    /// A name, a count, or both.
    pub detail: String,
}

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A call that is not answered as the real library would: its name.
    Unanswered,
    /// Single values that the host has read and that only a kernel could have written: how often so
    /// far. A process writes several such lines; the largest counts.
    Value,
    /// Bytes of arrays that it has read likewise: the sum so far, and again the largest counts.
    Readback,
    /// Reads of what the host wrote before work that is not followed may have written there: how
    /// many so far, likewise.
    Older,
    /// Kernels were launched that the program has no code of for this card: the card's
    /// architecture, and those that there are code for.
    NoKernelImage,
    /// A version that was met: of what, and which.
    Version,
    /// Memory that is charged by assumption: for what, and how much.
    Allowance,
}

const WORDS: [(Kind, &str); 7] = [
    (Kind::Unanswered, "unanswered"),
    (Kind::Value, "value"),
    (Kind::Readback, "readback"),
    (Kind::Older, "older"),
    (Kind::NoKernelImage, "no-kernel-image"),
    (Kind::Version, "version"),
    (Kind::Allowance, "allowance"),
];

impl Kind {
    /// The word that stands for it in a line.
    pub fn word(self) -> &'static str {
        WORDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }

    fn parse(text: &str) -> Option<Kind> {
        WORDS.iter().find(|(_, word)| *word == text).map(|(kind, _)| *kind)
    }
}

impl Note {
    /// Returns the line, with its end.
    pub fn line(&self) -> String {
        format!("{} {} {}\n", self.pid, self.kind.word(), self.detail.replace('\n', " "))
    }

    /// Reads one line; `None` for a kind that this version does not know, or what is no note.
    pub fn parse(line: &str) -> Option<Note> {
        let (pid, rest) = line.split_once(' ')?;
        let (word, detail) = rest.split_once(' ')?;
        Some(Note { pid: pid.parse().ok()?, kind: Kind::parse(word)?, detail: detail.to_owned() })
    }
}

/// Reads all notes of a file's text; a last line without an end is left out.
pub fn parse(text: &str) -> Vec<Note> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(Note::parse).collect()
}

/// Returns where the notes of the scenario at `path` are kept.
pub fn notes_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".notes");
    PathBuf::from(name)
}
