//! The script of action.yml, as a step of GitHub Actions runs it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn step(folder: &Path, arguments: &str) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut step = Command::new("bash");
    step.arg(root.join("action/check.sh")).current_dir(folder);
    step.env("OOMPH_ARGUMENTS", arguments).env("OOMPH_BINARY", env!("CARGO_BIN_EXE_oomph"));
    step.env("GITHUB_ACTIONS", "true").env("GITHUB_OUTPUT", folder.join("outputs"));
    step.env("GITHUB_STEP_SUMMARY", folder.join("summary.md")).env_remove("WORLD_SIZE");
    step.output().unwrap()
}

#[test]
fn the_step_fails_by_oomphs_exit_code_and_writes_outputs() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("ds config.json");
    std::fs::write(file, "{\"train_batch_size\": 256, \"train_micro_batch_size_per_gpu\": 6}")
        .unwrap();
    let arguments = "'ds config.json' --only batch --world-size 4";
    assert_eq!(step(folder.path(), arguments).status.code(), Some(6));
    let outputs = std::fs::read_to_string(folder.path().join("outputs")).unwrap();
    assert!(outputs.contains("exit_code=6\n"), "{outputs}");
    let fits = step(folder.path(), "gpt2 --micro-batch 1 --seq-len 128 --gpu sim:t4");
    assert_eq!(fits.status.code(), Some(0), "{fits:?}");
    let outputs = std::fs::read_to_string(folder.path().join("outputs")).unwrap();
    assert!(outputs.ends_with("fits=true\npasses=true\nexit_code=0\n"), "{outputs}");
}

#[test]
fn arguments_are_never_evaluated() {
    let folder = TempDir::new().unwrap();
    step(folder.path(), "gpt2 $(touch evaluated) `touch evaluated`; touch evaluated");
    assert!(!folder.path().join("evaluated").exists());
    assert_eq!(step(folder.path(), "").status.code(), Some(2), "nothing to check");
}

#[test]
fn the_action_names_the_outputs_that_check_writes() {
    let text = include_str!("../action.yml");
    for name in
        ["fits", "passes", "exit_code", "micro_batch", "accumulation_steps", "effective_batch"]
    {
        let value = format!("value: ${{{{ steps.check.outputs.{name} }}}}");
        assert!(text.contains(&value), "{name}");
    }
    oomph::ingest::framework::yaml::read(text).unwrap();
}
