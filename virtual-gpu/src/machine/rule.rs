//! What goes wrong, and when: faults of calls, and neighbours that take or give back memory.

use super::line::Line;

/// An effect of calls, counted over all processes of the scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// An exported name, or the start of names and `*`.
    pub pattern: String,
    when: When,
    /// What happens.
    pub effect: Effect,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The call goes wrong.
    Fail(Fault),
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

/// Which of the calls that match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    At(u64),
    From(u64),
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call returns this code and does nothing else.
    Return(u32),
    /// The call never returns.
    Hang,
    /// The calling process is killed (SIGKILL).
    Kill,
    /// The calling process makes an invalid access.
    Segfault,
    /// The calling process, or its parent, gets a signal; the call goes on.
    Signal {
        /// Its number.
        number: i32,
        /// Whether the parent gets it.
        to_parent: bool,
    },
}

impl Rule {
    /// Reads `fault PATTERN [at=N|from=N] code=N|do=hang|kill|segfault|signal signal=N [to=parent]`.
    pub fn fault(line: &mut Line) -> Result<Rule, String> {
        let pattern = line.word()?;
        let when = match (line.number("at")?, line.number("from")?) {
            (Some(n), None) => When::At(n),
            (None, Some(n)) => When::From(n),
            (None, None) => When::From(1),
            _ => return Err("at= and from= exclude each other".to_owned()),
        };
        let code = line.parsed("code", |text| text.parse().ok())?;
        let fault = match (code, line.text("do").as_deref()) {
            (Some(code), None) => Fault::Return(code),
            (None, Some("hang")) => Fault::Hang,
            (None, Some("kill")) => Fault::Kill,
            (None, Some("segfault")) => Fault::Segfault,
            (None, Some("signal")) => Fault::Signal {
                number: line
                    .parsed("signal", |text| text.parse().ok())?
                    .ok_or("signal= is missing")?,
                to_parent: line.parsed("to", to_parent)?.unwrap_or(false),
            },
            _ => return Err("a fault needs code=N or do=hang|kill|segfault|signal".to_owned()),
        };
        Ok(Rule { pattern, when, effect: Effect::Fail(fault) })
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

fn to_parent(who: &str) -> Option<bool> {
    match who {
        "parent" => Some(true),
        "self" => Some(false),
        _ => None,
    }
}
