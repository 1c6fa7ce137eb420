//! Slips of the hand: quotes around numbers, keys twice, keys misspelt, files in another encoding.

use oomph::ingest::config_json::{self, Ingested};
use oomph::ingest::error::ConfigError;
use serde_json::{Value, json};

use super::{read, refused, small};

#[test]
fn a_number_in_quotes_is_called_that() {
    for (key, value) in [("hidden_size", "1024"), ("tie_word_embeddings", "true")] {
        let error = refused(&small("llama", json!({key: value})));
        let expected = format!("`{key}` is \"{value}\", in quotes: a text, not ");
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert_eq!(error.hint(), format!("without quotes: \"{key}\": {value}"));
    }
    let words = refused(&small("llama", json!({"hidden_size": "large"})));
    assert_eq!(words.to_string(), "`hidden_size` is the text `large`, not a whole number");
}

fn of_bytes(text: &str) -> Ingested {
    config_json::from_bytes(text.as_bytes()).unwrap()
}

#[test]
fn of_a_key_that_is_there_twice_the_last_counts_and_that_is_said() {
    let once = serde_json::to_string(&small("llama", json!({}))).unwrap();
    let twice = once.replace('}', ",\"hidden_size\": 512, \"inner\": {\"a\": 1, \"a\": 2}}");
    let note = "`hidden_size` is in config.json more than once: the last counts, as in Python";
    assert_eq!(of_bytes(&twice).notes, [note]);
    assert_eq!(of_bytes(&twice).config, read(&small("llama", json!({"hidden_size": 512}))).config);
    assert_eq!(of_bytes(&once).notes, Vec::<String>::new());
}

#[test]
fn a_key_one_slip_from_one_that_is_missing_is_asked_about() {
    let mut config = small("llama", json!({}));
    let heads = config.remove("num_key_value_heads").unwrap();
    config.insert("num_key_value_head".to_owned(), heads);
    let expected =
        "`num_key_value_head` is ignored, as transformers does: is `num_key_value_heads` meant?";
    assert_eq!(read(&config).notes[0], expected);
    let mut config = small("llama", json!({}));
    let size = config.remove("hidden_size").unwrap();
    config.insert("hiden_size".to_owned(), size);
    let error = refused(&config);
    assert!(matches!(&error, ConfigError::Misspelt { key: "hidden_size", .. }), "{error}");
    assert_eq!(error.hint(), "write `hiden_size` as `hidden_size`");
}

#[test]
fn keys_that_are_not_misspelt_are_not_asked_about() {
    let others = json!({
        "bos_token_id": 1, "eos_token_id": 2, "use_cache": true, "initializer_range": 0.02,
        "transformers_version": "4.56.2", "torch_dtype": "bfloat16", "pretraining_tp": 1,
    });
    assert_eq!(read(&small("llama", others)).notes, Vec::<String>::new());
    // Transformers writes this one beside `layer_types`.
    let private =
        read(&small("gemma3_text", json!({"_sliding_window_pattern": 6, "sliding_window": 128})));
    assert!(!private.notes.iter().any(|note| note.contains("meant")), "{:?}", private.notes);
}

#[test]
fn the_format_of_the_weights_is_read_by_either_name() {
    let dtype = |key: &str, value: Value| read(&small("llama", json!({key: value}))).dtype;
    assert_eq!(dtype("torch_dtype", json!("bfloat16")).as_deref(), Some("bfloat16"));
    assert_eq!(dtype("dtype", json!("torch.float16")).as_deref(), Some("float16"));
    assert_eq!(dtype("dtype", json!(null)), None);
}

#[test]
fn json_in_another_encoding_is_called_that() {
    let text = serde_json::to_string(&small("llama", json!({}))).unwrap();
    let utf16: Vec<u8> =
        "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let error = config_json::from_bytes(&utf16).unwrap_err();
    assert!(error.to_string().contains("UTF-16"), "{error}");
    let latin = [b"{\n\"author\": \"Ren\xe9\", ", text.trim_start_matches('{').as_bytes()].concat();
    let error = config_json::from_bytes(&latin).unwrap_err();
    assert_eq!(
        error.to_string(),
        "it is not UTF-8, as JSON is: line 2 has bytes of another encoding"
    );
    assert_eq!(error.hint(), "save it as UTF-8");
}
