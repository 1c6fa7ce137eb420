//! MODEL on the command line: which of a profile, a file, a folder and a hub id it is.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::fs;
use std::path::Path;

use oomph::ingest::error::ConfigError;
use oomph::ingest::source::{ModelError, ModelSource, Origin};
use tempfile::TempDir;

const TINY: &str = r#"{"model_type": "gpt2", "n_embd": 64, "n_layer": 1, "n_head": 2,
    "n_positions": 32, "vocab_size": 100}"#;

fn folder_with(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    folder
}

fn resolve(model: &str, folder: &Path) -> ModelSource {
    ModelSource::resolve_in(model, folder).unwrap_or_else(|e| panic!("{model}: {e}"))
}

fn refused(model: &str, folder: &Path) -> ModelError {
    ModelSource::resolve_in(model, folder).expect_err(model)
}

#[test]
fn a_profile_is_found_by_name_in_any_case() {
    let here = folder_with(&[]);
    let model = resolve("Llama-3.2-1B", here.path());
    assert_eq!(model.name, "llama-3.2-1b");
    assert_eq!(model.origin, Origin::Profile { hub_id: "meta-llama/Llama-3.2-1B".into() });
    assert_eq!(model.config.parameter_count(), 1_235_814_400);
}

#[test]
fn a_file_and_the_folder_that_holds_it_are_the_same_model() {
    let here = folder_with(&[("models/tiny/config.json", TINY), ("other.json", TINY)]);
    for named in ["models/tiny", "models/tiny/", "models/tiny/config.json"] {
        let model = resolve(named, here.path());
        assert_eq!(model.name, "tiny", "{named}");
        assert!(matches!(model.origin, Origin::File(_)));
    }
    assert_eq!(resolve("other.json", here.path()).name, "other.json");
    let whole = here.path().join("models/tiny");
    assert_eq!(resolve(&whole.display().to_string(), Path::new("")).name, "tiny");
    assert_eq!(resolve(".", &whole).name, "tiny");
}

#[test]
fn a_bare_name_is_the_profile_in_every_folder_and_a_path_is_the_folder() {
    let here = folder_with(&[("gpt2/config.json", TINY)]);
    let model = resolve("gpt2", here.path());
    assert_eq!(model.config.parameter_count(), 124_439_808);
    assert_eq!(
        model.notes,
        ["`gpt2` is the built-in profile; `./gpt2` is the folder of that name"]
    );
    let local = resolve("./gpt2", here.path());
    assert!(local.config.parameter_count() < 100_000);
    assert_eq!(local.notes, Vec::<String>::new());
}

#[test]
fn a_bare_name_that_is_no_profile_can_be_a_local_folder() {
    let here = folder_with(&[("my-model/config.json", TINY)]);
    assert_eq!(resolve("my-model", here.path()).name, "my-model");
}

#[test]
fn an_unknown_name_gets_the_nearest_profile() {
    let here = folder_with(&[]);
    let error = refused("llama-3.2-1", here.path());
    assert_eq!(error.to_string(), "there is no model `llama-3.2-1`");
    assert!(error.hint().contains("did you mean `llama-3.2-1b`?"), "{}", error.hint());
    assert!(error.cause().unwrap().contains("no built-in profile, file or folder"));
    assert!(refused("zzz", here.path()).hint().starts_with("a model is a profile"));
    assert_eq!(refused("  ", here.path()), ModelError::Empty);
}

#[test]
fn a_hub_id_is_a_profile_only_where_it_is_its_own() {
    let here = folder_with(&[]);
    for (id, name) in
        [("meta-llama/Llama-3.2-1B", "llama-3.2-1b"), ("META-LLAMA/meta-llama-3-8b", "llama-3-8b")]
    {
        let model = resolve(id, here.path());
        assert_eq!(model.name, name);
        assert!(matches!(model.origin, Origin::Profile { .. }));
    }
    // Tunings that a profile lists; where a folder has that name, the folder is meant.
    for name in ["Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b-instruct", "qwen/qwen2.5-coder-7B"] {
        let model = resolve(name, here.path());
        assert_eq!(model.name, "qwen2.5-7b");
        assert!(
            model.notes.contains(&format!("`{name}` has the sizes of the built-in `qwen2.5-7b`"))
        );
    }
    std::fs::create_dir(here.path().join("qwen2.5-7b-instruct")).unwrap();
    assert!(matches!(refused("qwen2.5-7b-instruct", here.path()), ModelError::NoConfig { .. }));
    // Other people's copies and tunings: perhaps the same sizes, perhaps not.
    let copy = refused("somebody/gpt2", here.path());
    assert!(matches!(&copy, ModelError::HubId { profile: Some("gpt2"), .. }));
    assert!(copy.hint().starts_with("download its config.json"), "{}", copy.hint());
    let unknown = refused("google/pegasus-large", here.path());
    assert!(matches!(&unknown, ModelError::HubId { profile: None, .. }), "{unknown:?}");
}

#[test]
fn a_local_folder_of_a_hub_ids_form_is_read() {
    let here = folder_with(&[("org/name/config.json", TINY)]);
    assert_eq!(resolve("org/name", here.path()).name, "name");
}

#[test]
fn a_path_with_nothing_at_its_end_says_so() {
    let here = folder_with(&[]);
    for model in ["./gpt2", "models/config.json", "config.json", "/nowhere/at/all", "a/b/c"] {
        assert!(matches!(refused(model, here.path()), ModelError::NoFile { .. }), "{model}");
    }
}

#[test]
fn a_folder_without_a_config_names_where_one_is() {
    let here = folder_with(&[
        ("cache/snapshots/abc/config.json", TINY),
        ("run/checkpoint-10/config.json", TINY),
        ("empty/notes.txt", ""),
    ]);
    for (model, deeper) in [("cache", "snapshots/abc"), ("run", "checkpoint-10")] {
        let error = refused(model, here.path());
        assert!(error.hint().ends_with(&format!("{deeper}`")), "{model}: {}", error.hint());
    }
    assert!(matches!(refused("empty", here.path()), ModelError::NoConfig { deeper: None, .. }));
}

#[test]
fn an_adapters_folder_names_its_base_model() {
    let adapter = r#"{"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen2.5-0.5B"}"#;
    let here = folder_with(&[("lora/adapter_config.json", adapter)]);
    let error = refused("./lora", here.path());
    assert_eq!(
        error.cause().unwrap(),
        "it is a PEFT adapter's configuration, not a model's configuration"
    );
    assert!(error.hint().contains("`Qwen/Qwen2.5-0.5B`"));
}

#[test]
fn a_file_that_is_no_model_says_what_it_is() {
    let here = folder_with(&[("config.json", "{\"model_type\": \"pegasus\"}"), ("cut.json", "{")]);
    let error = refused("./config.json", here.path());
    assert!(error.to_string().ends_with("config.json` is not a model that oomph can plan for"));
    assert_eq!(error.cause().unwrap(), "model_type `pegasus` is not built in");
    assert!(error.hint().contains("llama, mistral, mixtral, modernbert, mt5, olmo2"));
    let ModelError::Config { problem, .. } = refused("cut.json", here.path()) else { panic!() };
    assert!(matches!(problem, ConfigError::Truncated { .. }));
}

#[test]
fn a_large_file_is_not_read_to_its_end() {
    let here = folder_with(&[]);
    let file = here.path().join("model.safetensors");
    fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
    let ModelError::Config { problem, .. } = refused("./model.safetensors", here.path()) else {
        panic!()
    };
    assert_eq!(problem, ConfigError::Binary("a binary file"));
    let text = here.path().join("log.json");
    fs::write(&text, " ".repeat(5 << 20)).unwrap();
    let ModelError::Config { problem, .. } = refused("./log.json", here.path()) else { panic!() };
    assert_eq!(problem, ConfigError::TooLarge { bytes: 5 << 20 });
}

#[cfg(unix)]
#[test]
fn a_device_is_not_read_at_all() {
    let error = refused("/dev/zero", Path::new(""));
    assert_eq!(error.cause().unwrap(), "it is neither a file nor a folder");
}

#[test]
fn a_folder_where_the_file_should_be_says_so() {
    let here = folder_with(&[("model/config.json/weights.txt", "")]);
    let error = refused("./model", here.path());
    assert!(error.to_string().ends_with("model/config.json`"), "{error}");
    assert_eq!(error.cause().unwrap(), "it is a folder");
}

#[cfg(unix)]
#[test]
fn a_link_to_nothing_says_where_it_leads() {
    let here = folder_with(&[("snapshot/notes.txt", "")]);
    for file in ["snapshot/config.json", "alone.json"] {
        std::os::unix::fs::symlink("../../blobs/abc", here.path().join(file)).unwrap();
    }
    for model in ["./snapshot", "alone.json"] {
        let error = refused(model, here.path());
        assert!(error.to_string().ends_with("is a link to nothing"), "{error}");
        assert_eq!(error.cause().unwrap(), "there is no `../../blobs/abc`");
        assert!(error.hint().contains("cp -rL"), "{}", error.hint());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_the_system_does_not_read_says_why() {
    // A regular file by its kind, whose first bytes no process may read.
    let error = refused("/proc/self/mem", Path::new(""));
    assert!(matches!(error, ModelError::Unreadable { .. }), "{error:?}");
    assert!(error.cause().unwrap().starts_with("Input/output error"));
}

#[test]
fn the_address_of_a_page_of_the_hub_is_its_id() {
    let here = folder_with(&[]);
    for end in ["", "/", "/tree/main", "/blob/main/config.json"] {
        let page = format!("https://huggingface.co/meta-llama/Llama-3.2-1B{end}");
        assert_eq!(resolve(&page, here.path()).name, "llama-3.2-1b", "{page}");
    }
    assert_eq!(resolve("https://huggingface.co/gpt2", here.path()).name, "gpt2");
    let other = refused("https://huggingface.co/google/pegasus-large", here.path());
    assert!(matches!(&other, ModelError::HubId { id, .. } if id == "google/pegasus-large"));
}
