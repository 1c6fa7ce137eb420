//! What a command prints: passed on, kept in a log, searched for what ends or explains the run.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use regex::bytes::Regex;

use crate::trial::messages::{self, Message};

/// The longest line that is looked at; the rest of it is passed on all the same.
const LONGEST_LINE: usize = 64 << 10;
/// Lines of the end that are kept for whoever has to find out what went wrong.
const TAIL: usize = 30;
/// The most messages that are kept.
const MOST_MESSAGES: usize = 50;

/// How long a program is silent before a line that it has begun counts as it stands: a prompt, or a
/// progress bar that waits for its next turn.
pub const SILENCE: Duration = Duration::from_millis(500);

/// Where a stream of the command goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// This process' standard output.
    Stdout,
    /// This process' standard error.
    Stderr,
    /// The log alone.
    Nowhere,
}

/// A line that says what went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Which of the known messages it is.
    pub message: &'static Message,
    /// The line, without what surrounds it.
    pub line: String,
}

/// What was found in all that the command has printed.
#[derive(Debug, Default)]
pub struct Seen {
    /// The first line that the regular expression matches.
    pub until: Option<String>,
    /// The regular expression, where no line matched it.
    pub unmatched: Option<String>,
    /// Messages of memory that ran out, in order.
    pub messages: Vec<Said>,
    /// The last lines.
    pub tail: VecDeque<String>,
}

/// What is looked for, and what was found.
#[derive(Debug, Clone)]
pub struct Watch {
    until: Option<Regex>,
    seen: Arc<Mutex<Seen>>,
    log: Option<Arc<File>>,
}

impl Watch {
    /// Looks for a regular expression, and copies all to a log.
    pub fn new(until: Option<Regex>, log: Option<File>) -> Watch {
        Watch { until, seen: Arc::default(), log: log.map(Arc::new) }
    }

    /// Takes what was found so far.
    pub fn take(&self) -> Seen {
        let mut seen =
            std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let wanted = self.until.as_ref().filter(|_| seen.until.is_none());
        seen.unmatched = wanted.map(|until| until.as_str().to_owned());
        seen
    }

    /// Passes a stream on to its end; `found` is called once the regular expression is seen in a
    /// line. `silent` waits for a while and says whether nothing came: then a line that has not come
    /// to its end is looked at, too.
    ///
    /// When nobody reads any more what is passed on, the stream is closed: the command then gets
    /// what it would have got without oomph in between.
    pub fn pass_on<R: Read>(
        &self,
        mut from: R,
        sink: Sink,
        silent: impl Fn(&R) -> bool,
        mut found: impl FnMut(),
    ) {
        let mut buffer = vec![0; 64 << 10];
        let mut lines = Lines::default();
        loop {
            if self.would_match(&lines.begun) && silent(&from) && self.look_at(&lines.begun, false)
            {
                found();
            }
            let bytes = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => &buffer[..read],
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            if let Some(mut log) = self.log.as_deref() {
                let _ = log.write_all(bytes);
            }
            let mut hit = false;
            lines.feed(bytes, |line| hit |= self.look_at(line, true));
            let passed = match sink {
                Sink::Stdout => write_all(&mut std::io::stdout().lock(), bytes),
                Sink::Stderr => write_all(&mut std::io::stderr().lock(), bytes),
                Sink::Nowhere => true,
            };
            if hit {
                found();
            }
            if !passed {
                break;
            }
        }
        if !lines.begun.is_empty() && self.look_at(&lines.begun, true) {
            found();
        }
    }

    /// Whether a line that has been begun would be the first that matches, if it were whole.
    fn would_match(&self, begun: &[u8]) -> bool {
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner).until.is_some();
        !begun.is_empty()
            && self.until.as_ref().is_some_and(|until| until.is_match(begun))
            && !seen()
    }

    /// Looks at a line, which may not have come to its end; returns whether it is the first that
    /// the regular expression matches.
    fn look_at(&self, line: &[u8], whole: bool) -> bool {
        let matches = self.until.as_ref().is_some_and(|until| until.is_match(line));
        let message = if whole { messages::find(line) } else { None };
        if !whole && !matches {
            return false;
        }
        let text = || printable(line);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if whole {
            if seen.tail.len() == TAIL {
                seen.tail.pop_front();
            }
            seen.tail.push_back(text());
        }
        if let Some(message) = message.filter(|_| seen.messages.len() < MOST_MESSAGES) {
            seen.messages.push(Said { message, line: text() });
        }
        let first = matches && seen.until.is_none();
        if first {
            seen.until = Some(text());
        }
        first
    }
}

fn write_all(to: &mut impl Write, bytes: &[u8]) -> bool {
    to.write_all(bytes).and_then(|()| to.flush()).is_ok()
}

/// Returns a line as text that a terminal shows as such.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.trim_end().chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

/// Cuts a stream into lines; progress bars end theirs with a carriage return.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        for part in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let ends = part.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r'));
            let text = if ends { &part[..part.len() - 1] } else { part };
            let room = LONGEST_LINE.saturating_sub(self.begun.len());
            self.begun.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                if !self.begun.is_empty() {
                    line(&self.begun);
                }
                self.begun.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(until: &str) -> Watch {
        Watch::new(Some(Regex::new(until).unwrap()), None)
    }

    /// Passes pieces on; returns how often the expression was found, and all that was seen.
    fn pass(until: &str, pieces: [&[u8]; 3], silent: bool) -> (u32, Seen) {
        let (watch, mut found) = (watch(until), 0);
        let [a, b, c] = pieces;
        watch.pass_on(a.chain(b).chain(c), Sink::Nowhere, |_| silent, || found += 1);
        (found, watch.take())
    }

    #[test]
    fn a_line_is_found_once_also_in_pieces() {
        let (found, seen) = pass("step [3-9]", [b"step 1\nst", b"ep 3", b"\nstep 4\n"], false);
        assert_eq!((found, seen.until.as_deref()), (1, Some("step 3")));
        assert_eq!(seen.tail, ["step 1", "step 3", "step 4"]);
        assert_eq!(seen.unmatched, None);
    }

    #[test]
    fn a_line_that_is_being_written_is_matched_when_it_is_whole_or_after_a_silence() {
        let pieces: [&[u8]; 3] = [b"step 1", b"0 done\n", b"step 11\n"];
        let (found, seen) = pass("step 1$", pieces, false);
        assert_eq!((found, seen.until), (0, None));
        assert_eq!(seen.unmatched.as_deref(), Some("step 1$"));
        let (found, seen) = pass("step 1$", pieces, true);
        assert_eq!((found, seen.until.as_deref()), (1, Some("step 1")));
        // The last line of all has no end.
        assert_eq!(pass("^step 2$", [b"step 1\n", b"step", b" 2"], false).0, 1);
    }

    #[test]
    fn progress_bars_end_lines_with_carriage_returns() {
        let watch = watch("100%");
        watch.pass_on(&b" 50%|##\r100%|####\r\n"[..], Sink::Nowhere, |_| false, || {});
        assert_eq!(watch.take().tail, [" 50%|##", "100%|####"]);
    }

    #[test]
    fn an_endless_line_is_cut_and_bytes_that_are_no_text_do_no_harm() {
        let watch = watch("x");
        let endless = vec![0xff; 3 * LONGEST_LINE];
        watch.pass_on(&endless[..], Sink::Nowhere, |_| false, || {});
        assert!(watch.take().tail[0].chars().count() <= LONGEST_LINE);
    }
}
