//! Folders that only this user can look into, among folders that everybody can.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};

/// Folders made by this process so far, for their names.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Makes the folder with mode 0700, or makes sure that the one that is there is ours and private.
///
/// # Errors
/// `PermissionDenied` for a folder of somebody else, one that others may enter, or a link.
pub fn prepare(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check(folder),
        Err(error) => Err(error),
    }
}

/// Makes sure that a folder is one of this user's, no link, with mode 0700.
///
/// # Errors
/// `PermissionDenied`, with what is wrong.
pub fn check(folder: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(folder)?;
    let refuse = |why: String| {
        let why = format!("{} {why}", folder.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
    };
    if !found.is_dir() {
        return refuse("is not a folder".to_owned());
    }
    if found.uid() != rustix::process::getuid().as_raw() {
        return refuse(format!("belongs to user {}", found.uid()));
    }
    match found.mode() & 0o777 {
        0o700 => Ok(()),
        mode => refuse(format!("has mode {mode:04o}, and must be private (0700)")),
    }
}

/// Returns the folder for what lives as long as a run: among the temporary files, as the user's
/// runtime folder is small and cannot be given to programs that look for room.
pub fn temporary() -> PathBuf {
    std::env::temp_dir().join(format!("oomph-{}", rustix::process::getuid().as_raw()))
}

/// A folder with a lock on it that lasts as long as a process that knows it.
#[derive(Debug)]
pub struct Held {
    /// Where it is.
    pub path: PathBuf,
    _lock: File,
}

/// Makes a fresh folder `PREFIX-PID-N` in `base` and holds it.
///
/// # Errors
/// What the file system says.
pub fn fresh(base: &Path, prefix: &str) -> io::Result<Held> {
    loop {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{prefix}-{}-{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        }
        // Another run may have swept it away before the lock was taken: then anew.
        match hold(&path) {
            Ok(held) => return Ok(held),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Holds a folder that is there, together with others that hold it.
///
/// # Errors
/// `NotFound` when it is being swept away.
pub fn hold(path: &Path) -> io::Result<Held> {
    let lock = File::open(path)?;
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(io::ErrorKind::NotFound.into()),
        Err(error) => return Err(error.into()),
    }
    let (ours, there) = (lock.metadata()?, fs::symlink_metadata(path)?);
    if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(Held { path: path.to_owned(), _lock: lock })
}

/// Removes the folders `PREFIX-...` in `base` that no process holds any more: their runs were
/// killed together with all that would have cleaned up.
pub fn sweep(base: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| {
            name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-'))
        });
        if !ours {
            continue;
        }
        remove_unheld(&entry.path());
    }
}

/// Removes a folder that no process holds.
pub fn remove_unheld(folder: &Path) {
    if let Ok(lock) = File::open(folder)
        && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
    {
        let _ = fs::remove_dir_all(folder);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("x");
        prepare(&folder).unwrap();
        prepare(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let error = prepare(&folder).unwrap_err();
        assert!(error.to_string().contains("0755"), "{error}");
    }

    #[test]
    fn a_link_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let link = base.path().join("link");
        std::os::unix::fs::symlink(base.path(), &link).unwrap();
        assert!(prepare(&link).unwrap_err().to_string().contains("not a folder"));
    }

    #[test]
    fn what_nobody_holds_is_swept_and_what_somebody_holds_is_not() {
        let base = tempfile::tempdir().unwrap();
        let held = fresh(base.path(), "run").unwrap();
        let left = fresh(base.path(), "run").unwrap().path;
        let other = base.path().join("running");
        fs::create_dir(&other).unwrap();
        sweep(base.path(), "run");
        assert!(held.path.exists() && !left.exists() && other.exists());
    }
}
