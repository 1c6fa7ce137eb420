//! Writes notes: what the result of a run has to say about it (`machine/notes.rs` has the format).

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::call::SCENARIO;
use crate::machine::notes::{Kind, Note, notes_path};

/// What a process has said.
struct Said {
    pid: u32,
    lines: Option<HashSet<(Kind, String)>>,
}

static SAID: Mutex<Said> = Mutex::new(Said { pid: 0, lines: None });

/// Writes a line, unless this process has written the same before.
///
/// A run is never broken by its notes: without a scenario, or where the file cannot be written,
/// nothing happens.
pub fn write(kind: Kind, detail: &str) {
    let Some(path) = std::env::var_os(SCENARIO).filter(|path| !path.is_empty()) else {
        return;
    };
    let pid = std::process::id();
    let mut guard = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    // A fork says its own.
    if guard.pid != pid {
        *guard = Said { pid, lines: None };
    }
    if !guard.lines.get_or_insert_default().insert((kind, detail.to_owned())) {
        return;
    }
    let note = Note { pid, kind, detail: detail.to_owned() };
    let file = OpenOptions::new().append(true).create(true).open(notes_path(Path::new(&path)));
    if let Ok(mut file) = file {
        // One write, so that no line of another process gets in between.
        let _ = file.write_all(note.line().as_bytes());
    }
}

/// Waits for the notes of other threads, and keeps them out until the guard drops.
pub fn pause() -> MutexGuard<'static, impl Sized> {
    SAID.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that a call is not answered as the real library would.
pub fn unanswered(name: &str) {
    write(Kind::Unanswered, name);
}
