//! What a check finds: the gate's answer, as plain data.

use crate::plan::equation::Solved;
use crate::plan::result::Estimate;
use crate::plan::world::World;
use crate::units::Bytes;

/// A place as people count: lines and characters from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// What is the matter with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Ok,
    /// The step does not fit, or leaves too little.
    DoesNotFit,
    /// The numbers do not go together, or miss the effective batch.
    Equation,
    /// The framework cannot read the value.
    Invalid,
    /// Somebody else fills the value in.
    Unresolved,
    /// The framework does not know the key.
    UnknownKey,
    /// It is not what it seems: said, not judged.
    Caution,
}

impl Verdict {
    /// Returns the name that every output uses.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::DoesNotFit => "does-not-fit",
            Verdict::Equation => "equation",
            Verdict::Invalid => "invalid",
            Verdict::Unresolved => "unresolved",
            Verdict::UnknownKey => "unknown-key",
            Verdict::Caution => "caution",
        }
    }
}

/// Whether a finding fails the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It does not.
    Fine,
    /// Only under `--fail-on warning`.
    Warning,
    /// It does.
    Error,
}

impl Level {
    /// Returns the name that every output uses.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Fine => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub verdict: Verdict,
    /// Whether it fails the gate.
    pub level: Level,
    /// Where, in the file that was checked.
    pub place: Option<Place>,
    /// The key.
    pub key: Option<String>,
    /// Its value, as written.
    pub value: Option<String>,
    /// What is the matter, in words.
    pub message: String,
    /// Keys and the values that mend it.
    pub repairs: Vec<(String, String)>,
}

/// What became of the question whether the step fits.
#[derive(Debug, Clone, PartialEq)]
pub enum Memory {
    /// It was answered.
    Answered(Box<Estimate>),
    /// It was not asked, and this is why.
    NotAsked(String),
    /// It could not be answered, which fails the gate.
    Unanswered {
        /// The exit code.
        code: u8,
        /// What happened.
        fact: String,
        /// Why.
        cause: Option<String>,
        /// What to do.
        hint: Option<String>,
    },
}

/// One size against an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// What it is, as JSON names it.
    pub name: &'static str,
    /// The earlier size.
    pub before: Bytes,
    /// The size now.
    pub now: Bytes,
}

/// The answer of `oomph check`.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// What was checked: a file, `-` or a command.
    pub subject: String,
    /// Whose configuration it is, as the command line names it; `job` and `plan` for our own.
    pub kind: String,
    /// Devices, where they are known.
    pub world: Option<World>,
    /// Replicas among them.
    pub data_parallel: Option<u64>,
    /// The batch in samples, where it could be worked out.
    pub batch: Option<Solved>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Whether it fits.
    pub memory: Memory,
    /// Against the baseline.
    pub differences: Vec<Difference>,
    /// The exit code.
    pub code: u8,
}

impl Check {
    /// Returns the number of findings of a level.
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}
