//! Encoders' own keys and defaults, and the task that they are read for.

use oomph::ingest::error::ConfigError;
use oomph::model::config::{EncoderConfig, ModelConfig, Problem, Task};
use serde_json::{Map, Value, json};

use super::{map, read, refused, small};

fn small_encoder(model_type: &str, changes: Value) -> Map<String, Value> {
    let mut config = map(json!({
        "model_type": model_type, "hidden_size": 256, "intermediate_size": 512,
        "num_hidden_layers": 2, "num_attention_heads": 8, "vocab_size": 1000,
        "max_position_embeddings": 514, "type_vocab_size": 1,
    }));
    config.extend(map(changes));
    config
}

fn small_distilbert(changes: Value) -> Map<String, Value> {
    let mut config = map(json!({
        "model_type": "distilbert", "dim": 256, "hidden_dim": 512, "n_layers": 2, "n_heads": 8,
        "vocab_size": 1000,
    }));
    config.extend(map(changes));
    config
}

fn encoder(config: &Map<String, Value>) -> EncoderConfig {
    match read(config).config {
        ModelConfig::Encoder(c) => c,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_task_is_that_of_the_class_in_the_config() {
    let task =
        |class: &str| encoder(&small_encoder("bert", json!({"architectures": [class]}))).task;
    assert_eq!(task("BertForMaskedLM"), Task::MaskedLm);
    assert_eq!(task("BertForSequenceClassification"), Task::SequenceClassification);
    assert_eq!(task("BertForTokenClassification"), Task::TokenClassification);
    assert_eq!(task("BertForPreTraining"), Task::MaskedLm);
    assert_eq!(encoder(&small_encoder("roberta", json!({}))).task, Task::MaskedLm);
    let notes =
        read(&small_encoder("bert", json!({"architectures": ["BertForPreTraining"]}))).notes;
    assert!(notes[0].contains("a masked language model"), "{notes:?}");
}

#[test]
fn another_task_is_another_head() {
    let model = read(&small_encoder("bert", json!({"num_labels": 7}))).config;
    let count = |task| model.clone().with_task(task).unwrap().parameter_count();
    // The head of masked tokens: a square, a norm, a bias for each token. The pooler: a square.
    let square = 256 * 256 + 256;
    let encoder = count(Task::MaskedLm) - (square + 512 + 1000);
    assert_eq!(count(Task::TokenClassification), encoder + 257 * 7);
    assert_eq!(count(Task::SequenceClassification), encoder + square + 257 * 7);
    let refused = model.with_task(Task::CausalLm).unwrap_err();
    assert_eq!(refused.possible, EncoderConfig::TASKS);
}

#[test]
fn labels_are_those_that_are_counted_or_named() {
    let labels = |changes| encoder(&small_encoder("xlm-roberta", changes)).num_labels;
    assert_eq!(labels(json!({})), 2);
    assert_eq!(labels(json!({"id2label": {"0": "a", "1": "b", "2": "c"}})), 3);
    assert_eq!(labels(json!({"num_labels": 5})), 5);
    // As in transformers, names overrule a number.
    assert_eq!(labels(json!({"num_labels": 5, "id2label": {"0": "a", "1": "b"}})), 2);
}

#[test]
fn counted_positions_begin_behind_the_padding() {
    let longest = |model_type| encoder(&small_encoder(model_type, json!({}))).max_seq_len();
    assert_eq!(longest("bert"), 514);
    assert_eq!(longest("roberta"), 512);
    assert_eq!(longest("xlm-roberta"), 512);
}

#[test]
fn dropout_of_a_classifier_is_the_hidden_one_unless_it_is_said() {
    let c = encoder(&small_encoder("bert", json!({"hidden_dropout_prob": 0.3})));
    assert_eq!((c.sequence_dropout, c.token_dropout), (0.3, 0.3));
    let c = encoder(&small_encoder("bert", json!({"classifier_dropout": 0.0})));
    assert_eq!((c.hidden_dropout, c.token_dropout), (0.1, 0.0));
    let c = encoder(&small_distilbert(json!({})));
    assert_eq!((c.sequence_dropout, c.token_dropout), (0.2, 0.1));
}

#[test]
fn distilberts_keys_have_second_names() {
    let mut config = small_distilbert(json!({"hidden_size": 256}));
    assert_eq!(encoder(&config).hidden_size, 256);
    config.remove("dim");
    assert_eq!(encoder(&config).hidden_size, 256);
    let two = small_distilbert(json!({"hidden_size": 128}));
    assert!(matches!(refused(&two), ConfigError::Contradiction(_)));
}

#[test]
fn what_would_be_another_model_is_refused() {
    for (key, value) in [
        ("is_decoder", json!(true)),
        ("tie_word_embeddings", json!(false)),
        ("chunk_size_feed_forward", json!(64)),
        ("position_embedding_type", json!("relative_key")),
        ("problem_type", json!("ranking")),
        ("pruned_heads", json!({"0": [1]})),
    ] {
        let error = refused(&small_encoder("bert", json!({key: value})));
        assert!(matches!(error, ConfigError::Unsupported { .. }), "{key}: {error}");
    }
    // A decoder's own tie is its own.
    read(&small("llama", json!({"tie_word_embeddings": false})));
}

fn small_modernbert(changes: Value) -> Map<String, Value> {
    let mut config = map(json!({
        "model_type": "modernbert", "hidden_size": 128, "intermediate_size": 192,
        "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 1000,
    }));
    config.extend(map(changes));
    config
}

#[test]
fn modernberts_heads_have_what_pytorch_counts() {
    let model = read(&small_modernbert(json!({"num_labels": 3}))).config;
    let count = |task| model.clone().with_task(task).unwrap().parameter_count();
    // Counted by transformers 5.23.0 on PyTorch's meta device.
    assert_eq!(count(Task::MaskedLm), 703_720);
    assert_eq!(count(Task::SequenceClassification), 703_107);
    assert_eq!(count(Task::TokenClassification), 703_107);
}

#[test]
fn modernberts_layers_are_listed_or_counted() {
    let types = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"];
    let listed = |every: u64| {
        let keys = json!({"layer_types": types, "global_attn_every_n_layers": every});
        oomph::ingest::config_json::from_map(&small_modernbert(keys))
    };
    assert!(listed(3).is_ok());
    assert!(matches!(listed(2), Err(ConfigError::Unsupported { key: "layer_types", .. })));
    for (key, value) in [
        ("rope_scaling", json!({"rope_type": "dynamic", "factor": 2.0})),
        ("rope_parameters", json!({"full_attention": {"rope_type": "yarn", "factor": 2.0}})),
        ("sparse_prediction", json!(true)),
        ("classifier_pooling", json!("last")),
    ] {
        let error = refused(&small_modernbert(json!({key: value})));
        assert!(matches!(error, ConfigError::Unsupported { .. }), "{key}: {error}");
    }
}

fn small_deberta(changes: Value) -> Map<String, Value> {
    let mut config = map(json!({
        "model_type": "deberta-v2", "hidden_size": 128, "intermediate_size": 256,
        "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 1000,
        "max_position_embeddings": 160, "relative_attention": true, "norm_rel_ebd": "layer_norm",
        "share_att_key": false, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 2,
    }));
    config.extend(map(changes));
    config
}

#[test]
fn debertas_heads_have_what_pytorch_counts() {
    let model = read(&small_deberta(json!({"num_labels": 5}))).config;
    let count = |task| model.clone().with_task(task).unwrap().parameter_count();
    // Counted by transformers 5.23.0 on PyTorch's meta device.
    assert_eq!(count(Task::MaskedLm), 704_488);
    assert_eq!(count(Task::SequenceClassification), 703_877);
    assert_eq!(count(Task::TokenClassification), 687_365);
    let plain = json!({"num_labels": 5, "relative_attention": false, "pos_att_type": null});
    let plain = read(&small_deberta(plain)).config;
    assert_eq!(plain.with_task(Task::MaskedLm).unwrap().parameter_count(), 564_456);
}

#[test]
fn debertas_distances_are_bucketed_or_as_many_as_positions() {
    let deberta = |changes| match read(&small_deberta(changes)).config {
        ModelConfig::Deberta(c) => c.relative.map(|it| (it.distances, it.buckets_distances)),
        other => panic!("{other:?}"),
    };
    assert_eq!(deberta(json!({})), Some((160, false)));
    assert_eq!(deberta(json!({"max_relative_positions": -1})), Some((160, false)));
    assert_eq!(deberta(json!({"max_relative_positions": 64})), Some((64, false)));
    assert_eq!(deberta(json!({"position_buckets": 32})), Some((32, true)));
    assert_eq!(deberta(json!({"position_buckets": -1})), Some((160, false)));
    assert_eq!(deberta(json!({"relative_attention": false, "pos_att_type": null})), None);
    assert_eq!(deberta(json!({"pos_att_type": null})), Some((160, false)));
}

#[test]
fn a_deberta_that_would_be_another_model_is_refused() {
    for (key, value) in [
        ("legacy", json!(false)),
        ("conv_groups", json!(2)),
        ("embedding_size", json!(64)),
        ("problem_type", json!("ranking")),
    ] {
        let error = refused(&small_deberta(json!({key: value})));
        assert!(matches!(error, ConfigError::Unsupported { .. }), "{key}: {error}");
    }
    let even = refused(&small_deberta(json!({"conv_kernel_size": 4})));
    assert!(matches!(even, ConfigError::OutOfRange { key: "conv_kernel_size", .. }), "{even}");
    let heads = refused(&small_deberta(json!({"attention_head_size": 64})));
    assert!(matches!(heads, ConfigError::Contradiction(_)), "{heads}");
}

#[test]
fn one_label_is_a_number_unless_it_is_said() {
    let problem = |changes| encoder(&small_encoder("bert", changes)).problem;
    assert_eq!(problem(json!({})), Problem::OneLabel);
    assert_eq!(problem(json!({"num_labels": 1})), Problem::Numbers);
    assert_eq!(problem(json!({"num_labels": 3, "problem_type": "regression"})), Problem::Numbers);
    let several = json!({"num_labels": 3, "problem_type": "multi_label_classification"});
    assert_eq!(problem(several), Problem::SeveralLabels);
    for kind in ["single_label_classification", "multi_label_classification"] {
        let one = small_encoder("bert", json!({"num_labels": 1, "problem_type": kind}));
        assert!(matches!(refused(&one), ConfigError::Unsupported { key: "problem_type", .. }));
    }
}
