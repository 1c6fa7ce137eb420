//! Sizes that a file leaves out: those of transformers' own model of the type.

use oomph::ingest::config_json;
use oomph::ingest::error::ConfigError;
use serde_json::json;

use super::{decoder, map, read, refused, small, small_gpt2, without};

/// The parameters of `AutoModelFor...from_config(AutoConfig.for_model(model_type))` of transformers 5.23.0,
/// on PyTorch's meta device.
const OF_AN_EMPTY_FILE: [(&str, u64); 28] = [
    ("llama", 6_738_415_616),
    ("mistral", 7_241_732_096),
    ("qwen2", 12_049_846_272),
    ("qwen3", 12_049_461_248),
    ("gemma2", 2_614_341_888),
    ("gemma3_text", 2_628_658_432),
    ("phi3", 3_821_079_552),
    ("gpt_neox", 20_554_567_680),
    ("olmo2", 6_888_624_128),
    ("starcoder2", 3_030_371_328),
    ("mixtral", 46_702_792_704),
    ("qwen3_moe", 15_350_731_776),
    ("gpt2", 124_439_808),
    ("opt", 125_239_296),
    ("bert", 109_514_298),
    ("roberta", 124_696_665),
    ("xlm-roberta", 109_514_298),
    ("distilbert", 66_985_530),
    ("modernbert", 149_655_232),
    ("deberta-v2", 879_999_588),
    ("t5", 60_506_624),
    ("mt5", 172_119_424),
    ("bart", 406_291_456),
    ("whisper", 37_760_640),
    ("vit", 85_800_194),
    ("swin", 27_520_892),
    ("convnext", 27_821_666),
    ("resnet", 23_512_130),
];

#[test]
fn a_file_with_no_sizes_is_transformers_own_model() {
    for (model_type, parameters) in OF_AN_EMPTY_FILE {
        let found = read(&map(json!({ "model_type": model_type }))).config.parameter_count();
        assert_eq!(found, parameters, "{model_type}");
    }
}

#[test]
fn each_size_that_is_left_out_is_said() {
    for (key, size) in [("hidden_size", 4096), ("vocab_size", 32_000), ("num_hidden_layers", 32)] {
        let ingested = read(&without("llama", key));
        let note = format!("`{key}` is not in config.json: {size}, as transformers does");
        assert!(ingested.notes.contains(&note), "{:?}", ingested.notes);
    }
    assert_eq!(decoder(&without("qwen2", "vocab_size")).vocab_size, 151_936);
    // By either of its names.
    let mut gpt2 = small_gpt2(json!({ "num_hidden_layers": 3 }));
    gpt2.remove("n_layer").unwrap();
    assert_eq!(super::gpt2(&gpt2).n_layer, 3);
    gpt2.remove("num_hidden_layers").unwrap();
    assert_eq!(super::gpt2(&gpt2).n_layer, 12);
}

#[test]
fn a_size_of_null_or_with_a_slip_in_its_key_is_refused() {
    for key in ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"] {
        let null = small("llama", json!({ key: null }));
        assert_eq!(refused(&null), ConfigError::Missing { key });
        assert!(refused(&null).hint().contains(key));
    }
    let mut slip = without("llama", "vocab_size");
    slip.insert("vocab_sise".to_owned(), json!(1000));
    let error = config_json::from_map(&slip).unwrap_err();
    assert!(matches!(error, ConfigError::Misspelt { key: "vocab_size", .. }), "{error:?}");
}

/// `GPT2ForTokenClassification` asks whether its own is None, then takes the hidden one, then 0.1.
#[test]
fn a_classifiers_dropout_of_null_is_the_hidden_ones() {
    let dropout = |changes| {
        let mut all = json!({ "architectures": ["GPT2ForTokenClassification"] });
        all.as_object_mut().unwrap().extend(map(changes));
        super::gpt2(&small_gpt2(all)).classifier_dropout
    };
    assert_eq!(dropout(json!({})), 0.1);
    assert_eq!(dropout(json!({ "classifier_dropout": null })), 0.1);
    assert_eq!(dropout(json!({ "classifier_dropout": null, "hidden_dropout": 0.3 })), 0.3);
    assert_eq!(dropout(json!({ "classifier_dropout": 0.0 })), 0.0);
}
