//! What goes wrong, and when: faults of calls, and neighbours that take or give back memory.

use super::line::Line;

/// An effect of calls, counted over all processes of the scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// An exported name, or the start of names and `*`.
    pattern: String,
    when: When,
    /// What happens.
    pub effect: Effect,
}

/// Which of the calls that match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    At(u64),
    From(u64),
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The call returns this code and does nothing else.
    Return(u32),
    /// The call never returns.
    Hang,
    /// The calling process is killed (SIGKILL).
    Kill,
    /// The calling process makes an invalid access.
    Segfault,
    /// Another process takes bytes, or gives them back; the call goes on.
    Move {
        /// Index of the place.
        place: usize,
        /// The other process.
        pid: u32,
        /// How many.
        bytes: u64,
        /// Takes, or else gives back.
        takes: bool,
    },
}

impl Rule {
    /// Reads `fault PATTERN [at=N|from=N] code=N|do=hang|kill|segfault`.
    pub fn fault(line: &mut Line) -> Result<Rule, String> {
        let pattern = line.word()?;
        let when = match (line.number("at")?, line.number("from")?) {
            (Some(n), None) => When::At(n),
            (None, Some(n)) => When::From(n),
            (None, None) => When::From(1),
            _ => return Err("at= and from= exclude each other".to_owned()),
        };
        let code = line.parsed("code", |text| text.parse().ok())?;
        let effect = match (code, line.text("do").as_deref()) {
            (Some(code), None) => Effect::Return(code),
            (None, Some("hang")) => Effect::Hang,
            (None, Some("kill")) => Effect::Kill,
            (None, Some("segfault")) => Effect::Segfault,
            _ => return Err("a fault needs code=N or do=hang|kill|segfault".to_owned()),
        };
        Ok(Rule { pattern, when, effect })
    }

    /// Reads `steal [PATTERN] after=N pid=N take=SIZE|give=SIZE`, at a place that is known already.
    pub fn steal(line: &mut Line, place: usize) -> Result<Rule, String> {
        let pattern = line.word().unwrap_or_else(|_| "*".to_owned());
        let after = line.number("after")?.ok_or("a steal needs after=N")?;
        let pid = line.parsed("pid", |text| text.parse().ok())?.unwrap_or(1);
        let (bytes, takes) = match (line.size("take")?, line.size("give")?) {
            (Some(bytes), None) => (bytes, true),
            (None, Some(bytes)) => (bytes, false),
            _ => return Err("a steal needs take=SIZE or give=SIZE".to_owned()),
        };
        let effect = Effect::Move { place, pid, bytes, takes };
        Ok(Rule { pattern, when: When::From(after.saturating_add(1)), effect })
    }

    /// Whether the rule counts calls of this name.
    pub fn matches(&self, name: &str) -> bool {
        match self.pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == self.pattern,
        }
    }

    /// Whether it acts on the `hit`-th call that matches, from one.
    pub fn acts_on(&self, hit: u64) -> bool {
        match self.when {
            When::At(n) => hit == n,
            When::From(n) => hit >= n,
        }
    }
}
