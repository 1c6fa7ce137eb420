//! The process that removes a run's folder when oomph and the guard were killed at one moment.
//!
//! It is in a session of its own, so that what is sent to the run's group or terminal passes it by, and
//! it waits for the end of what those two hold together (`lifeline.rs`). Oomph, which ends all other
//! descendants, spares it: from its start on it is there, whatever moment oomph dies at.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::trial::folder::scenario_in;
use crate::trial::ledger::lifeline_path;
use crate::trial::{private, tree};

/// The hidden first argument that makes this program a run's sweeper.
const ARGUMENT: &str = "__run-sweeper";
/// How long the processes of a run may take to die, which hold its folder and may write there.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one may take to end once it has nothing to wait for.
pub const END: Duration = Duration::from_secs(1);
/// How often it is tried to remove the folder.
const LOOK: Duration = Duration::from_millis(20);

/// Starts one for a folder whose lifeline is held by this process.
///
/// # Errors
/// What the system says.
pub fn start(folder: &Path) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("oomph").arg(ARGUMENT).arg(folder).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: between fork and exec there is one system call, and no memory is allocated.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?));
    }
    let child = command.spawn()?;
    tree::spare(child.id());
    Ok(child)
}

/// Returns the folder, if this process was started as a sweeper.
pub fn folder(command_line: &[OsString]) -> Option<PathBuf> {
    match command_line {
        [_, first, folder] if first.as_bytes() == ARGUMENT.as_bytes() => Some(folder.into()),
        _ => None,
    }
}

/// Waits until nobody holds the lifeline, removes the folder, and returns an exit code that nobody
/// reads.
pub fn main(folder: &Path) -> u8 {
    if wait_for_the_end(&lifeline_path(&scenario_in(folder))).is_err() {
        return 1;
    }
    let begun = Instant::now();
    while folder.exists() && begun.elapsed() < PATIENCE {
        private::remove_unheld(folder);
        std::thread::sleep(LOOK);
    }
    0
}

/// Waits until nobody has a FIFO open for writing.
fn wait_for_the_end(path: &Path) -> io::Result<()> {
    // Who opens it otherwise waits for a writer, who may have gone before; then a read is at the end.
    let mut file: File =
        OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    while file.read(&mut [0])? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::lifeline;

    #[test]
    fn it_removes_the_folder_once_nobody_holds_it_and_not_before() {
        let base = tempfile::tempdir().unwrap();
        let held = private::fresh(base.path(), "run").unwrap();
        let path = held.path.clone();
        let line = lifeline::make(&scenario_in(&path)).unwrap();
        let sweeper = std::thread::spawn({
            let path = path.clone();
            move || main(&path)
        });
        std::thread::sleep(LOOK * 3);
        assert!(!sweeper.is_finished() && path.exists());
        drop(line);
        // Somebody who dies still has the lock.
        std::thread::sleep(LOOK * 3);
        assert!(path.exists());
        drop(held);
        assert_eq!((sweeper.join().unwrap(), path.exists()), (0, false));
    }

    #[test]
    fn a_lifeline_that_nobody_holds_any_more_is_no_wait() {
        let base = tempfile::tempdir().unwrap();
        let path = private::fresh(base.path(), "run").unwrap().path;
        drop(lifeline::make(&scenario_in(&path)).unwrap());
        assert_eq!((main(&path), path.exists()), (0, false));
        assert_eq!(main(&path), 1, "it has gone");
        std::fs::create_dir(&path).unwrap();
        assert_eq!(main(&path), 1, "another folder of this name has no lifeline");
    }
}
