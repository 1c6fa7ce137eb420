//! Whether a program is there and may be run.

use std::ffi::OsStr;
use std::path::Path;

use crate::trial::launch::LaunchError;

/// Looks a program up as the system will, so that what cannot be run is said before anything is
/// prepared.
///
/// # Errors
/// When there is none, or it may not be run.
pub fn find_program(program: &OsStr) -> Result<(), LaunchError> {
    let refused = |code: rustix::io::Errno| LaunchError::Refused {
        program: program.to_string_lossy().into_owned(),
        code: code.raw_os_error(),
        reason: std::io::Error::from(code).to_string(),
    };
    let runs = |path: &Path| {
        rustix::fs::access(path, rustix::fs::Access::EXEC_OK)?;
        if path.is_dir() { Err(rustix::io::Errno::ACCESS) } else { Ok(()) }
    };
    if program.is_empty() {
        return Err(refused(rustix::io::Errno::NOENT));
    }
    if program.as_encoded_bytes().contains(&b'/') {
        return runs(Path::new(program)).map_err(refused);
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut worst = rustix::io::Errno::NOENT;
    for folder in std::env::split_paths(&path) {
        match runs(&folder.join(program)) {
            Ok(()) => return Ok(()),
            Err(error) if error == rustix::io::Errno::ACCESS => worst = error,
            Err(_) => {}
        }
    }
    Err(refused(worst))
}
