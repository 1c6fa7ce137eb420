//! The simulated GPU's library as files on disk: unpacked once, checked before each use.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::trial::private;
use crate::trial::virtual_library::{self, DRIVER_NAMES, FILE_NAME};

/// The Python modules: what notes PyTorch's own counters, and what it loads.
const MODULES: [(&str, &str); 2] = [
    ("sitecustomize.py", include_str!("sitecustomize.py")),
    ("object_collectives.py", include_str!("object_collectives.py")),
];

/// The folder of the names under which programs open the driver.
const DRIVER: &str = "driver";
/// The folder for PYTHONPATH.
const PYTHON: &str = "python";
/// Folders that are not finished, by the first part of their names.
const UNFINISHED: &str = "new";

/// Why there is no simulated GPU.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The binary carries no library.
    #[error("there are no simulated GPUs for programs here: this oomph was built without them")]
    NotHere,
    /// No folder can take it.
    #[error("the simulated GPU's library cannot be unpacked: {0}")]
    NoPlace(String),
}

/// The unpacked library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    folder: PathBuf,
}

impl Installed {
    /// Unpacks the library into the user's cache, or checks the one that is there.
    ///
    /// Where the cache cannot be used (no home folder, a full disk, a path that LD_PRELOAD cannot
    /// name), the folder for temporary files takes it.
    ///
    /// # Errors
    /// When this is not a system for it, or no folder takes it: says why of each.
    pub fn prepare() -> Result<Installed, InstallError> {
        let library = virtual_library::bytes().ok_or(InstallError::NotHere)?;
        let mut reasons = Vec::new();
        for base in places() {
            match in_folder(&base, library) {
                Ok(folder) => return Ok(Installed { folder }),
                Err(error) => reasons.push(format!("{}: {error}", base.display())),
            }
        }
        Err(InstallError::NoPlace(reasons.join("; ")))
    }

    /// Returns what LD_PRELOAD has to name.
    pub fn library(&self) -> PathBuf {
        self.folder.join(FILE_NAME)
    }

    /// Returns the folder that holds the driver's names.
    pub fn driver(&self) -> PathBuf {
        self.folder.join(DRIVER)
    }

    /// Returns the folder for PYTHONPATH.
    pub fn python(&self) -> PathBuf {
        self.folder.join(PYTHON)
    }
}

/// Returns a name for what the library and its Python modules hold, 16 hexadecimal digits.
///
/// Empty where the binary carries no library.
pub fn content_name() -> String {
    let Some(library) = virtual_library::bytes() else { return String::new() };
    let mut hash = Sha256::new();
    hash.update(library);
    for (name, content) in MODULES {
        hash.update(name);
        hash.update(content);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Where the library may be unpacked, the best place first.
fn places() -> Vec<PathBuf> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    let mut places: Vec<PathBuf> = cache.map(|cache| cache.join("oomph")).into_iter().collect();
    places.push(private::temporary());
    places
}

fn in_folder(base: &Path, library: &[u8]) -> io::Result<PathBuf> {
    // The loader splits LD_PRELOAD at both, and knows no way to quote them (ld.so(8)).
    if base.to_string_lossy().contains([' ', ':']) {
        return Err(io::Error::other("LD_PRELOAD cannot name a path with a space or a colon"));
    }
    if let Some(parent) = base.parent() {
        fs::create_dir_all(parent)?;
    }
    private::prepare(base)?;
    private::sweep(base, UNFINISHED);
    let folder = base.join(format!("virtual-gpu-{}", content_name()));
    match check(&folder, library) {
        Ok(true) => return Ok(folder),
        Ok(false) => set_aside(base, &folder)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let new = private::fresh(base, UNFINISHED)?;
    write(&new.path, library)?;
    match fs::rename(&new.path, &folder) {
        Ok(()) => {}
        // Another run was faster.
        Err(_) if check(&folder, library).unwrap_or(false) => {
            fs::remove_dir_all(&new.path)?;
        }
        Err(error) => return Err(error),
    }
    Ok(folder)
}

/// Whether the folder holds what it should; an error when it is not safely ours.
fn check(folder: &Path, library: &[u8]) -> io::Result<bool> {
    private::check(folder)?;
    for name in [DRIVER, PYTHON] {
        match private::check(&folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        }
    }
    let links = DRIVER_NAMES.iter().all(|name| {
        let to = fs::read_link(folder.join(DRIVER).join(name));
        to.is_ok_and(|to| to == link_target())
    });
    for (name, content) in MODULES {
        if !holds(&folder.join(PYTHON).join(name), content.as_bytes())? {
            return Ok(false);
        }
    }
    Ok(links && holds(&folder.join(FILE_NAME), library)?)
}

/// Whether a file is a plain one of ours that nobody else may write, with this content.
fn holds(path: &Path, content: &[u8]) -> io::Result<bool> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let ours = found.uid() == rustix::process::getuid().as_raw();
    let private = found.is_file() && ours && found.mode() & 0o022 == 0;
    Ok(private && found.len() == content.len() as u64 && fs::read(path)? == content)
}

/// Moves a folder that is ours and does not hold what it should out of the way, and removes it.
fn set_aside(base: &Path, folder: &Path) -> io::Result<()> {
    let aside = private::fresh(base, UNFINISHED)?;
    match fs::rename(folder, aside.path.join("old")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::remove_dir_all(&aside.path)
}

fn link_target() -> PathBuf {
    Path::new("..").join(FILE_NAME)
}

fn write(folder: &Path, library: &[u8]) -> io::Result<()> {
    let file = |path: &Path, content: &[u8], mode| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(content)
    };
    file(&folder.join(FILE_NAME), library, 0o700)?;
    for name in [DRIVER, PYTHON] {
        DirBuilder::new().mode(0o700).create(folder.join(name))?;
    }
    for name in DRIVER_NAMES {
        symlink(link_target(), folder.join(DRIVER).join(name))?;
    }
    for (name, content) in MODULES {
        file(&folder.join(PYTHON).join(name), content.as_bytes(), 0o600)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_changed_is_unpacked_anew() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().join("oomph");
        let folder = in_folder(&base, b"library").unwrap();
        assert_eq!(in_folder(&base, b"library").unwrap(), folder, "and checked the second time");
        let spoiled = [FILE_NAME, "python/sitecustomize.py", "python/object_collectives.py"];
        for spoil in spoiled {
            fs::write(folder.join(spoil), "something else").unwrap();
            in_folder(&base, b"library").unwrap();
            assert_eq!(fs::read(folder.join(FILE_NAME)).unwrap(), b"library");
            for (name, content) in MODULES {
                let unpacked = fs::read_to_string(folder.join("python").join(name)).unwrap();
                assert_eq!(unpacked, content);
            }
        }
        fs::remove_file(folder.join("driver/libcuda.so.1")).unwrap();
        symlink("/elsewhere", folder.join("driver/libcuda.so.1")).unwrap();
        in_folder(&base, b"library").unwrap();
        assert_eq!(fs::read(folder.join("driver/libcuda.so.1")).unwrap(), b"library");
        assert_eq!(fs::read_dir(&base).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_folder_that_others_may_enter_is_not_used() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().join("oomph");
        let folder = in_folder(&base, b"library").unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(in_folder(&base, b"library").unwrap_err().to_string().contains("0770"));
    }

    #[test]
    fn a_path_that_the_loader_would_split_is_not_used() {
        let base = tempfile::tempdir().unwrap();
        let error = in_folder(&base.path().join("my files"), b"library").unwrap_err();
        assert!(error.to_string().contains("LD_PRELOAD"), "{error}");
    }
}
