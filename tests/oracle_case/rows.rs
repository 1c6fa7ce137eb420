//! The recorded rows: `tests/data/*_torch*.jsonl`.

use std::path::Path;

use oomph::ingest::config_json;
use oomph::model::config::{ModelConfig, Task};
use oomph::step::setup::Version;
use serde_json::Value;

/// A case with the oracle's answer.
#[derive(Debug)]
pub struct Row {
    /// The file's name.
    pub file: String,
    /// Whether the case was chosen when the code was finished, and not worked on.
    pub held_out: bool,
    /// The oracle's PyTorch.
    pub torch: Version,
    /// The oracle's transformers.
    pub transformers: Version,
    /// The case and, under `result`, its answer.
    pub case: Value,
}

impl Row {
    /// Returns the case's name.
    pub fn id(&self) -> &str {
        self.case["id"].as_str().unwrap()
    }
}

/// Returns the transformers that a row was made with, which it says where it is not its file's.
pub fn transformers_of(case: &Value, of_file: Version) -> Version {
    case["transformers"].as_str().map_or(of_file, version)
}

/// Returns the transformers of rows that do not say it.
fn transformers_beside(torch: Version) -> Version {
    if torch < Version::new(2, 11) { Version::new(4, 56) } else { Version::new(5, 23) }
}

fn version(text: &str) -> Version {
    let (major, minor) = text.split_once('.').unwrap();
    Version::new(major.parse().unwrap(), minor.parse().unwrap())
}

/// Returns the model of a case, for the case's task.
pub fn model_of(case: &Value) -> ModelConfig {
    let model = config_json::from_map(case["config"].as_object().unwrap()).unwrap().config;
    let task = Task::ALL.into_iter().find(|task| task.name() == case["task"]).unwrap();
    model.with_task(task).unwrap()
}

/// Returns all rows, in the order of the files' names.
pub fn all_rows() -> Vec<Row> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let names = std::fs::read_dir(&folder).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut rows = Vec::new();
    for file in names {
        let named = file.split_once("_torch").and_then(|(_, rest)| rest.strip_suffix(".jsonl"));
        let Some(torch) = named.map(version) else { continue };
        let of_file = transformers_beside(torch);
        // The optimizers' sizes were chosen once the code was finished.
        let held_out = file.contains("held_out") || file.starts_with("optimizers");
        for line in std::fs::read_to_string(folder.join(&file)).unwrap().lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let transformers = transformers_of(&case, of_file);
            rows.push(Row { file: file.clone(), held_out, torch, transformers, case });
        }
    }
    rows
}
