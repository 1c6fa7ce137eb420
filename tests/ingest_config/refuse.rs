//! What is no model, or not one that can be planned for.

use oomph::ingest::config_json;
use oomph::ingest::error::ConfigError;
use serde_json::{Value, json};

use super::{map, read, refused, small, small_gpt2};

#[test]
fn numbers_out_of_range_are_refused_with_value_and_range() {
    for (value, shown) in [
        (json!(0), "0"),
        (json!(-4096), "-4096"),
        (json!(1_u64 << 40), "1099511627776"),
        (json!(u64::MAX), "18446744073709551615"),
        (json!(1e30), "1e+30"),
    ] {
        let error = refused(&small("llama", json!({"hidden_size": value})));
        assert_eq!(
            error.to_string(),
            format!("`hidden_size` is {shown}, which is not from 1 to 1048576")
        );
    }
    // More digits than 64 bits hold.
    let text = r#"{"model_type": "llama", "hidden_size": 99999999999999999999999}"#;
    let error = config_json::from_bytes(text.as_bytes()).unwrap_err();
    assert!(matches!(error, ConfigError::OutOfRange { key: "hidden_size", .. }), "{error}");
}

#[test]
fn sizes_within_their_ranges_that_make_an_impossible_model_are_refused() {
    let huge = json!({"hidden_size": 1 << 20, "intermediate_size": 1 << 22,
        "num_hidden_layers": 1 << 12, "num_attention_heads": 1 << 13,
        "num_key_value_heads": 1 << 13, "head_dim": 1 << 13, "vocab_size": 1 << 24});
    assert!(matches!(refused(&small("llama", huge)), ConfigError::TooManyParameters { .. }));
    let huge = json!({"n_embd": 1 << 20, "n_inner": 1 << 22, "n_layer": 1 << 12, "n_head": 1024,
        "vocab_size": 1 << 24, "n_positions": 1 << 28});
    assert!(matches!(refused(&small_gpt2(huge)), ConfigError::TooManyParameters { .. }));
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    for (key, value, shown) in [
        ("hidden_size", json!("wide"), "the text `wide`"),
        ("hidden_size", json!(256.0), "256.0"),
        ("hidden_size", json!([256]), "a list"),
        ("num_hidden_layers", json!(true), "true"),
        ("tie_word_embeddings", json!("yes"), "the text `yes`"),
        ("hidden_act", json!(3), "3"),
        ("attention_dropout", json!("none"), "the text `none`"),
        ("num_key_value_heads", json!({}), "an object"),
    ] {
        let error = refused(&small("llama", json!({key: value})));
        let ConfigError::WrongType { key: found, found: said, .. } = &error else {
            panic!("{key}: {error}")
        };
        assert_eq!((*found, said.as_str()), (key, shown));
        assert!(error.hint().contains(key));
    }
    let error = refused(&map(json!({"model_type": ["llama"]})));
    assert!(matches!(error, ConfigError::WrongType { key: "model_type", .. }));
}

#[test]
fn heads_that_do_not_divide_are_refused() {
    let error = refused(&small("llama", json!({"hidden_size": 250})));
    assert_eq!(
        error.to_string(),
        "`hidden_size` (250) is not a multiple of `num_attention_heads` (8)"
    );
    let error = refused(&small("llama", json!({"num_key_value_heads": 3})));
    assert!(matches!(error, ConfigError::NotDivisible { by: "num_key_value_heads", .. }));
    assert!(matches!(
        refused(&small("llama", json!({"head_dim": 33}))),
        ConfigError::OutOfRange { key: "head_dim", .. }
    ));
    assert!(matches!(refused(&small_gpt2(json!({"n_head": 7}))), ConfigError::NotDivisible { .. }));
    // Mistral's default of 8 heads does not divide 12.
    let mut config = small("mistral", json!({"num_attention_heads": 12, "hidden_size": 384}));
    config.remove("num_key_value_heads");
    assert!(matches!(refused(&config), ConfigError::NotDivisible { divisor: 8, .. }));
}

#[test]
fn layer_types_that_cannot_be_taken_are_refused() {
    let refused = |types: Value| {
        let on = json!({"use_sliding_window": true, "sliding_window": 64, "layer_types": types});
        refused(&small("qwen2", on))
    };
    let linear = refused(json!(["linear_attention", "full_attention"]));
    assert!(matches!(linear, ConfigError::Unsupported { key: "layer_types", .. }));
    assert!(matches!(refused(json!(["full_attention"])), ConfigError::Contradiction(_)));
    assert!(matches!(refused(json!("full_attention")), ConfigError::WrongType { .. }));
    assert!(matches!(refused(json!([1, 2])), ConfigError::Unsupported { .. }));
    let off = json!({"layer_types": ["full_attention", "sliding_attention"]});
    let error = config_json::from_map(&small("qwen2", off)).unwrap_err();
    assert!(matches!(error, ConfigError::Contradiction(_)));
}

#[test]
fn a_model_type_that_is_not_built_in_is_never_taken_for_another() {
    for (model_type, nearest) in [
        ("olmo3", Some("olmo2")),
        ("gemma", Some("gemma2")),
        ("llama4", Some("llama")),
        ("Llama", Some("llama")),
        ("pegasus", None),
        ("", None),
    ] {
        match refused(&small(model_type, json!({}))) {
            ConfigError::ModelTypeNotBuiltIn { model_type: said, nearest: near, .. } => {
                assert_eq!((said.as_str(), near), (model_type, nearest));
            }
            other => panic!("{model_type}: {other}"),
        }
    }
    let mut none = small("llama", json!({}));
    none.remove("model_type");
    assert_eq!(refused(&none), ConfigError::NoModelType);
    assert!(refused(&none).hint().contains("llama, mistral, mixtral, modernbert, mt5, olmo2"));
}

#[test]
fn a_multimodal_model_is_not_its_text_model() {
    let llava = map(json!({"model_type": "llava", "text_config": {"model_type": "llama"},
        "vision_config": {}}));
    let error = refused(&llava);
    assert!(error.hint().starts_with("its text model alone is `llama`"), "{}", error.hint());
    for key in ["vision_config", "text_config", "mm_vision_tower"] {
        let hidden = refused(&small("llama", json!({key: {"hidden_size": 1024}})));
        assert_eq!(hidden, ConfigError::Multimodal { key });
    }
    read(&small("llama", json!({"vision_config": null})));
}

#[test]
fn quantized_weights_are_refused_by_method() {
    let gptq = json!({"quantization_config": {"quant_method": "gptq", "bits": 4}});
    let error = refused(&small("llama", gptq));
    assert_eq!(error.to_string(), "its weights are quantized (gptq)");
    read(&small("llama", json!({"quantization_config": null})));
}

#[test]
fn the_other_json_files_of_a_models_folder_are_recognised() {
    for (file, kind) in [
        (json!({"peft_type": "LORA", "r": 16}), "a PEFT adapter's configuration"),
        (json!({"metadata": {}, "weight_map": {}}), "an index of weights"),
        (json!({"tokenizer_class": "LlamaTokenizer"}), "a tokenizer's configuration"),
        (json!({"version": "1.0", "added_tokens": [], "model": {}}), "a tokenizer"),
        (json!({"_from_model_config": true, "eos_token_id": 2}), "a generation configuration"),
        (json!({"bos_token_id": 1, "eos_token_id": [2]}), "a generation configuration"),
        (json!({"zero_optimization": {"stage": 2}}), "a DeepSpeed configuration"),
        (json!({"log_history": [], "epoch": 1.0}), "a trainer's state"),
    ] {
        match refused(&map(file)) {
            ConfigError::OtherFile { kind: said, .. } => assert_eq!(said, kind),
            other => panic!("{kind}: {other}"),
        }
    }
    let base = json!({"peft_type": "LORA", "base_model_name_or_path": "meta-llama/Llama-3.2-1B"});
    assert!(refused(&map(base)).hint().contains("`meta-llama/Llama-3.2-1B`"));
}

#[test]
fn what_is_not_a_json_object_is_refused_by_what_it_is() {
    let of = |bytes: &[u8]| config_json::from_bytes(bytes).unwrap_err();
    assert_eq!(of(b""), ConfigError::Empty);
    assert_eq!(of(b" \n\t "), ConfigError::Empty);
    let cut = of(b"{\"model_type\": \"llama\",\n \"hidden_size\": 40");
    assert!(matches!(cut, ConfigError::Truncated { line: 2, .. }), "{cut:?}");
    assert!(matches!(of(b"{'model_type': 'llama'}"), ConfigError::NotJson { line: 1, .. }));
    assert!(matches!(of(b"model_type = \"llama\""), ConfigError::NotJson { .. }));
    assert_eq!(of(b"[1, 2]"), ConfigError::NotAnObject("a list"));
    assert_eq!(of(b"{}"), ConfigError::NoModelType);
    let mut safetensors = 40_u64.to_le_bytes().to_vec();
    safetensors.extend(b"{\"lm_head.weight\":{\"dtype\":\"F32\"}}");
    assert_eq!(of(&safetensors), ConfigError::Binary("a safetensors file"));
    assert_eq!(of(b"GGUF\x03\0\0\0"), ConfigError::Binary("a GGUF file"));
    assert!(matches!(of(b"PK\x03\x04rest"), ConfigError::Binary(_)));
    assert!(matches!(of(b"version https://git-lfs.github.com/spec/v1\n"), ConfigError::Binary(_)));
    assert_eq!(of(b"{\"a\": \"\0\xff\xfe\"}"), ConfigError::Binary("a binary file"));
    assert!(matches!(of("{".repeat(10_000).as_bytes()), ConfigError::NotJson { .. }));
    assert!(matches!(of(&vec![b' '; 5 << 20]), ConfigError::TooLarge { .. }));
}

#[test]
fn no_damaged_file_panics() {
    let text =
        serde_json::to_vec(&small("qwen2", json!({"layer_types": ["full_attention"]}))).unwrap();
    for end in 0..text.len() {
        assert!(config_json::from_bytes(&text[..end]).is_err(), "cut at {end}");
        for byte in [0, b'0', b'9', b'-', b'"', b'{', 0xff] {
            let mut damaged = text.clone();
            damaged[end] = byte;
            let _ = config_json::from_bytes(&damaged);
        }
    }
}
