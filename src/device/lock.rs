//! One probe a GPU at a time: a lock file for each UUID, which says who holds it.
//!
//! The kernel drops the lock when the last process that inherited it is gone, so a crashed probe
//! never leaves one behind, and a probe that was killed keeps it until its child is gone as well.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How often a held lock is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another probe has the GPU.
    #[error("{uuid} is being probed by {holder}")]
    Held {
        /// The GPU.
        uuid: String,
        /// Who, as the lock file says.
        holder: String,
    },
    /// The folder or file could not be used.
    #[error("the lock file {path} cannot be used: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

impl LockError {
    /// Returns what to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            LockError::Held { .. } => {
                "try again once that has ended (`oomph probe --lock-timeout 1m` waits for it)"
            }
            LockError::Io { .. } => {
                "lock files are made where XDG_RUNTIME_DIR points, or else TMPDIR: name a folder of yours"
            }
        }
    }
}

/// A held lock.
#[derive(Debug)]
pub struct GpuLock {
    file: File,
}

impl GpuLock {
    /// Takes the lock of a GPU, waiting for up to `patience`, or until `stop` says so.
    ///
    /// # Errors
    ///
    /// When another probe holds it for longer, or the file cannot be used.
    pub fn take(
        folder: &Path,
        uuid: &str,
        patience: Duration,
        stop: impl Fn() -> bool,
    ) -> Result<GpuLock, LockError> {
        let path = folder.join(format!("{}.lock", file_name(uuid)));
        let io = |source| LockError::Io { path: path.clone(), source };
        prepare(folder).map_err(io)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(io)?;
        let begun = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if begun.elapsed() < patience && !stop() => {
                    std::thread::sleep(RETRY.min(patience));
                }
                Err(Errno::WOULDBLOCK) => {
                    let holder = holder(&mut file);
                    return Err(LockError::Held { uuid: uuid.to_owned(), holder });
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(io(error.into())),
            }
        }
        let note = format!("pid {}\n", std::process::id());
        let written = file.set_len(0).and_then(|()| file.rewind());
        written.and_then(|()| file.write_all(note.as_bytes())).map_err(io)?;
        Ok(GpuLock { file })
    }

    /// Returns the file, for a child that must keep the lock for as long as it lives.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Returns the folder for locks: the user's runtime folder, or one of their own among temporary
/// files.
pub fn default_folder() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(runtime) if runtime.is_dir() => runtime.join("oomph"),
        _ => std::env::temp_dir().join(format!("oomph-{}", rustix::process::getuid().as_raw())),
    }
}

/// Makes the folder, or makes sure that it is ours: the temporary folder is everybody's.
fn prepare(folder: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().recursive(false).mode(0o700).create(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = std::fs::symlink_metadata(folder)?;
            let ours = found.uid() == rustix::process::getuid().as_raw();
            if found.is_dir() && ours {
                return Ok(());
            }
            let why = format!("{} is not a folder of this user", folder.display());
            Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
        }
        Err(error) => Err(error),
    }
}

fn holder(file: &mut File) -> String {
    let mut note = String::new();
    let read = file.rewind().and_then(|()| file.take(100).read_to_string(&mut note));
    match read {
        Ok(_) if !note.trim().is_empty() => format!("another oomph ({})", note.trim()),
        _ => "another oomph".to_owned(),
    }
}

/// A UUID comes from a driver: nothing of it may lead out of the folder.
fn file_name(uuid: &str) -> String {
    uuid.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_probe_is_told_who_holds_the_gpu() {
        let folder = tempfile::tempdir().unwrap();
        let never = || false;
        let first = GpuLock::take(folder.path(), "GPU-1", Duration::ZERO, never).unwrap();
        let second = GpuLock::take(folder.path(), "GPU-1", Duration::ZERO, never).unwrap_err();
        let pid = std::process::id();
        assert_eq!(
            second.to_string(),
            format!("GPU-1 is being probed by another oomph (pid {pid})")
        );
        GpuLock::take(folder.path(), "GPU-2", Duration::ZERO, never).unwrap();
        drop(first);
        GpuLock::take(folder.path(), "GPU-1", Duration::ZERO, never).unwrap();
    }

    #[test]
    fn a_folder_that_is_a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(GpuLock::take(&link, "GPU-1", Duration::ZERO, || false).is_err());
    }

    #[test]
    fn a_uuid_cannot_leave_the_folder() {
        assert_eq!(file_name("../../etc/GPU-1"), "______etc_GPU-1");
    }
}
