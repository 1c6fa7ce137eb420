//! Image classifiers: their keys, defaults and refusals.

use oomph::ingest::error::ConfigError;
use oomph::model::config::{ModelConfig, Problem};
use serde_json::{Map, Value, json};

use super::{map, read, refused};

fn vit(changes: Value) -> Map<String, Value> {
    let mut config = map(json!({
        "model_type": "vit", "hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 2,
        "num_attention_heads": 3, "image_size": 96, "num_labels": 1000,
    }));
    config.extend(map(changes));
    config
}

fn resnet(changes: Value) -> Map<String, Value> {
    let mut config = map(json!({
        "model_type": "resnet", "embedding_size": 32, "hidden_sizes": [64, 128], "depths": [2, 2],
        "num_labels": 1000,
    }));
    config.extend(map(changes));
    config
}

/// `sum(p.numel())` of these configurations, by transformers 5.23.0.
#[test]
fn parameter_counts_are_those_of_transformers() {
    let basic = json!({
        "layer_type": "basic", "hidden_sizes": [32, 64], "num_labels": 100,
    });
    let cases = [
        (vit(json!({})), 1_238_056),
        (vit(json!({"num_labels": 37, "qkv_bias": false})), 1_051_045),
        (resnet(json!({})), 186_504),
        (resnet(basic), 180_100),
    ];
    for (config, parameters) in cases {
        assert_eq!(read(&config).config.parameter_count(), parameters, "{config:?}");
    }
}

#[test]
fn classes_are_those_that_have_a_name_else_two() {
    let named = json!({"id2label": {"0": "cat", "1": "dog", "2": "owl"}, "num_labels": null});
    let ModelConfig::Vit(three) = read(&vit(named)).config else { panic!("a ViT") };
    assert_eq!(three.num_labels, 3);
    let read = read(&vit(json!({"num_labels": null})));
    let ModelConfig::Vit(two) = read.config else { panic!("a ViT") };
    assert_eq!(two.num_labels, 2);
    assert!(read.notes.iter().any(|note| note.contains("num_labels")), "{:?}", read.notes);
}

#[test]
fn sizes_may_be_pairs_of_equal_numbers() {
    let pairs = read(&vit(json!({"image_size": [96, 96], "patch_size": [16, 16]}))).config;
    assert_eq!(pairs, read(&vit(json!({}))).config);
    let oblong = refused(&vit(json!({"image_size": [96, 128]})));
    assert!(matches!(oblong, ConfigError::Unsupported { key: "image_size", .. }), "{oblong}");
}

#[test]
fn images_are_labelled_by_a_class_by_several_or_by_numbers() {
    let problem = |changes| read(&vit(changes)).config.problem();
    assert_eq!(problem(json!({})), Some(Problem::OneLabel));
    assert_eq!(problem(json!({"num_labels": 1})), Some(Problem::Numbers));
    let several = json!({"problem_type": "multi_label_classification"});
    assert_eq!(problem(several), Some(Problem::SeveralLabels));
}

#[test]
fn labels_that_no_loss_is_of_are_refused() {
    for changes in [
        json!({"num_labels": 1, "problem_type": "single_label_classification"}),
        json!({"problem_type": "ranking"}),
        json!({"id2label": {}}),
    ] {
        let error = refused(&vit(changes));
        assert!(matches!(error, ConfigError::Unsupported { .. }), "{error}");
    }
}

#[test]
fn sizes_that_no_such_model_can_have_are_refused() {
    let large_patch = refused(&vit(json!({"patch_size": 128})));
    assert!(matches!(large_patch, ConfigError::Contradiction(_)), "{large_patch}");
    let heads = refused(&vit(json!({"num_attention_heads": 5})));
    assert!(matches!(heads, ConfigError::NotDivisible { .. }), "{heads}");
    let lengths = refused(&resnet(json!({"depths": [2, 2, 2]})));
    assert!(matches!(lengths, ConfigError::Contradiction(_)), "{lengths}");
    let narrow = refused(&resnet(json!({"hidden_sizes": [2, 64]})));
    assert!(matches!(narrow, ConfigError::Contradiction(_)), "{narrow}");
    let zero = refused(&resnet(json!({"depths": [2, 0]})));
    assert!(matches!(zero, ConfigError::OutOfRange { key: "depths", .. }), "{zero}");
    let layer = refused(&resnet(json!({"layer_type": "wide"})));
    assert!(matches!(layer, ConfigError::Unsupported { key: "layer_type", .. }), "{layer}");
}

fn convnext(changes: Value) -> Map<String, Value> {
    let mut config = map(json!({
        "model_type": "convnext", "num_stages": 2, "hidden_sizes": [32, 64], "depths": [2, 1],
        "num_labels": 10, "num_channels": 3, "patch_size": 4, "image_size": 64,
    }));
    config.extend(map(changes));
    config
}

#[test]
fn a_convnext_counts_its_stem_its_stages_and_its_head() {
    let layer =
        |width: u64, scale: u64| 50 * width + 2 * width + 8 * width * width + 5 * width + scale;
    let rest = 32 * (3 * 16 + 1) + 2 * 32 + (2 * 32 + 64 * (4 * 32 + 1)) + 2 * 64 + 10 * 65;
    let count = |changes| read(&convnext(changes)).config.parameter_count();
    assert_eq!(count(json!({})), rest + 2 * layer(32, 32) + layer(64, 64));
    let unscaled = json!({"layer_scale_init_value": 0.0});
    assert_eq!(count(unscaled), rest + 2 * layer(32, 0) + layer(64, 0));
}

#[test]
fn a_convnext_that_drops_paths_or_has_no_pixel_left_is_refused() {
    let paths = refused(&convnext(json!({"drop_path_rate": 0.1})));
    assert!(matches!(paths, ConfigError::Unsupported { key: "drop_path_rate", .. }), "{paths}");
    let small = refused(&convnext(json!({"image_size": 7})));
    assert!(matches!(small, ConfigError::Contradiction(_)), "{small}");
}
