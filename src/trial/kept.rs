//! Runs of a trial that are kept in a folder, and used again by a trial that goes on.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::trial::outcome::{Outcome, Verdict};
use crate::trial::template::Sizes;

/// The schema of a kept run.
const SCHEMA: &str = "oomph.kept-run/2";

/// A folder of runs.
#[derive(Debug, Clone)]
pub struct Kept {
    folder: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    schema: String,
    micro_batch: u64,
    accumulation_steps: u64,
    outcome: Outcome,
}

impl Kept {
    /// Opens the folder, and makes it where it is not there yet.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(folder: &Path) -> io::Result<Kept> {
        fs::create_dir_all(folder)?;
        let folder = std::path::absolute(folder)?;
        // What cannot be written is said now, and not after the first run.
        let probe = folder.join(format!(".write-{}", std::process::id()));
        File::create(&probe).and_then(|_| fs::remove_file(&probe))?;
        Ok(Kept { folder })
    }

    /// Returns the outcome of a run that was kept, if it says something about memory.
    pub fn find(&self, key: &str) -> Option<Outcome> {
        let text = fs::read(self.path(key, "json")).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        let decided = matches!(record.outcome.verdict, Verdict::Ran | Verdict::OutOfMemory);
        (record.schema == SCHEMA && decided).then_some(record.outcome)
    }

    /// Starts the log of a run.
    ///
    /// # Errors
    /// What the file system says.
    pub fn log(&self, key: &str) -> io::Result<File> {
        File::create(self.path(key, "log"))
    }

    /// Keeps the outcome of a run.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep(&self, key: &str, sizes: &Sizes, outcome: &Outcome) -> io::Result<()> {
        let record = Record {
            schema: SCHEMA.to_owned(),
            micro_batch: sizes.micro_batch.get(),
            accumulation_steps: sizes.accumulation.get(),
            outcome: outcome.clone(),
        };
        // A kill in between leaves the old file or the new one, never half of it.
        let new = self.path(key, &format!("new-{}", std::process::id()));
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(&record)?)?;
        fs::rename(new, self.path(key, "json"))
    }

    /// Returns the file of a run.
    pub fn path(&self, key: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("{key}.{ending}"))
    }
}

/// Returns the name under which a run is kept: its sizes, and a hash of all that decides it.
///
/// `parts` are what decides it beside the command: the GPUs, the library, when it is ended. Of a
/// word that names a file, length and time of change count too: an edited script is another one.
pub fn key(command: &[impl AsRef<OsStr>], parts: &[&str], sizes: &Sizes) -> String {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for part in parts {
        add(part.as_bytes());
    }
    if let Ok(folder) = std::env::current_dir() {
        add(folder.as_os_str().as_bytes());
    }
    for word in command {
        add(word.as_ref().as_bytes());
        if let Ok(found) = fs::metadata(word.as_ref())
            && found.is_file()
        {
            add(&found.len().to_le_bytes());
            add(&found.mtime().to_le_bytes());
            add(&found.mtime_nsec().to_le_bytes());
        }
    }
    let digest: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("mb{}-acc{}-{digest}", sizes.micro_batch, sizes.accumulation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{AccumulationSteps, MicroBatch};

    #[test]
    fn the_key_changes_with_all_that_decides_a_run() {
        let sizes = |n| Sizes {
            micro_batch: MicroBatch::new(n).unwrap(),
            accumulation: AccumulationSteps::ONE,
            effective_batch: n,
        };
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("train.py");
        fs::write(&script, "one").unwrap();
        let words = [script.to_str().unwrap(), "8"];
        let first = key(&words, &["sim:t4"], &sizes(8));
        assert_eq!(first, key(&words, &["sim:t4"], &sizes(8)));
        assert!(first.starts_with("mb8-acc1-"));
        assert_ne!(first, key(&words, &["sim:l4"], &sizes(8)));
        assert_ne!(first, key(&[words[0], "9"], &["sim:t4"], &sizes(8)));
        assert_ne!(first, key(&[words[0], "8", ""], &["sim:t4"], &sizes(8)));
        fs::write(&script, "two!").unwrap();
        assert_ne!(first, key(&words, &["sim:t4"], &sizes(8)));
    }
}
