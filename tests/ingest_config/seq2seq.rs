//! Encoder-decoders' own keys and defaults.

use oomph::ingest::error::ConfigError;
use oomph::model::config::{Activation, BartConfig, ModelConfig, T5Config, Task, WhisperConfig};
use serde_json::{Map, Value, json};

use super::{map, read, refused};

fn small_t5(model_type: &str, changes: Value) -> Map<String, Value> {
    let mut config = map(json!({
        "model_type": model_type, "d_model": 256, "d_ff": 512, "d_kv": 32, "num_heads": 8,
        "num_layers": 2, "vocab_size": 1000, "relative_attention_num_buckets": 32,
    }));
    config.extend(map(changes));
    config
}

fn t5(model_type: &str, changes: Value) -> T5Config {
    match read(&small_t5(model_type, changes)).config {
        ModelConfig::T5(c) => c,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_decoder_has_as_many_layers_as_the_encoder_unless_it_is_said() {
    assert_eq!(t5("t5", json!({})).num_decoder_layers, 2);
    assert_eq!(t5("t5", json!({"num_decoder_layers": 5})).num_decoder_layers, 5);
    assert_eq!(t5("t5", json!({"num_decoder_layers": null})).num_decoder_layers, 2);
}

#[test]
fn t5_and_mt5_differ_in_their_defaults() {
    let old = t5("t5", json!({}));
    assert_eq!((old.gated, old.activation, old.ties), (false, Activation::Relu, true));
    let new = t5("mt5", json!({}));
    assert_eq!((new.gated, new.activation, new.ties), (true, Activation::GeluNew, false));
}

#[test]
fn the_mlp_is_what_feed_forward_proj_says() {
    let mlp = |name: &str| {
        let c = t5("t5", json!({"feed_forward_proj": name}));
        (c.gated, c.activation)
    };
    assert_eq!(mlp("gelu"), (false, Activation::Gelu));
    // Its name says another function than transformers takes.
    assert_eq!(mlp("gated-gelu"), (true, Activation::GeluNew));
    assert_eq!(mlp("gated-silu"), (true, Activation::Silu));
    let error = refused(&small_t5("t5", json!({"feed_forward_proj": "gated-tanh"})));
    assert!(matches!(error, ConfigError::Unsupported { key: "feed_forward_proj", .. }), "{error}");
}

#[test]
fn parameters_are_those_of_one_table_and_two_stacks() {
    // A table, two tables of biases, two norms; 2 x (attention, MLP), 2 x (2 attentions, MLP).
    let attention = 4 * 256 * 256 + 256;
    let mlp = 2 * 256 * 512 + 256;
    let stacks = 2 * (attention + mlp) + 2 * (2 * attention + mlp);
    let model = read(&small_t5("t5", json!({}))).config;
    assert_eq!(model.parameter_count(), 1000 * 256 + 2 * 32 * 8 + 2 * 256 + stacks);
    assert_eq!(model.task(), Task::Seq2SeqLm);
    assert!(model.with_task(Task::CausalLm).is_err());
}

fn small_bart(changes: Value) -> Map<String, Value> {
    let mut config = map(json!({
        "model_type": "bart", "d_model": 256, "encoder_layers": 2, "decoder_layers": 3,
        "encoder_attention_heads": 8, "decoder_attention_heads": 4, "encoder_ffn_dim": 512,
        "decoder_ffn_dim": 1024, "vocab_size": 1000, "max_position_embeddings": 128,
    }));
    config.extend(map(changes));
    config
}

fn bart(changes: Value) -> BartConfig {
    match read(&small_bart(changes)).config {
        ModelConfig::Bart(c) => c,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_sides_of_bart_have_sizes_of_their_own() {
    let c = bart(json!({}));
    assert_eq!((c.encoder.layers, c.encoder.heads, c.encoder.ffn_dim), (2, 8, 512));
    assert_eq!((c.decoder.layers, c.decoder.heads, c.decoder.ffn_dim), (3, 4, 1024));
    assert_eq!((c.dropout, c.attention_dropout, c.activation_dropout), (0.1, 0.0, 0.0));
    let error = refused(&small_bart(json!({"decoder_attention_heads": 3})));
    assert!(matches!(error, ConfigError::NotDivisible { key: "d_model", .. }), "{error}");
}

#[test]
fn layers_that_are_dropped_at_random_are_refused() {
    let error = refused(&small_bart(json!({"decoder_layerdrop": 0.1})));
    assert!(matches!(error, ConfigError::Unsupported { key: "decoder_layerdrop", .. }), "{error}");
    bart(json!({"encoder_layerdrop": 0.0}));
}

#[test]
fn barts_positions_begin_behind_two_unused_rows() {
    let (short, long) =
        (small_bart(json!({})), small_bart(json!({"max_position_embeddings": 228})));
    let count = |config| read(config).config.parameter_count();
    assert_eq!(count(&long) - count(&short), 2 * 100 * 256);
    let norm = 2 * 256;
    let attention = 4 * (256 * 256 + 256) + norm;
    let mlp = |inner: u64| 2 * 256 * inner + inner + 256 + norm;
    let stacks = 2 * (attention + mlp(512)) + 3 * (2 * attention + mlp(1024));
    assert_eq!(count(&short), 1000 * 256 + 2 * (130 * 256 + norm) + stacks);
    assert_eq!(read(&short).config.max_seq_len(), 128);
}

fn small_whisper(changes: Value) -> Map<String, Value> {
    let mut config = small_bart(json!({
        "model_type": "whisper", "num_mel_bins": 40, "max_source_positions": 100,
        "max_target_positions": 50,
    }));
    config.extend(map(changes));
    config
}

fn whisper(changes: Value) -> WhisperConfig {
    match read(&small_whisper(changes)).config {
        ModelConfig::Whisper(c) => c,
        other => panic!("{other:?}"),
    }
}

#[test]
fn whisper_reads_audio_of_one_length_and_writes_up_to_another() {
    let model = read(&small_whisper(json!({}))).config;
    assert_eq!((model.max_seq_len(), model.max_label_len()), (100, Some(50)));
    assert!(model.reads_audio());
    assert_eq!(model.task(), Task::SpeechSeq2Seq);
    let class = json!({"architectures": ["WhisperForConditionalGeneration"]});
    assert_eq!(read(&small_whisper(class)).notes, Vec::<String>::new());
    assert!(model.with_task(Task::Seq2SeqLm).is_err());
}

#[test]
fn whispers_defaults_are_those_of_its_own() {
    let lengths = json!({"max_source_positions": null, "max_target_positions": null});
    let c = whisper(lengths);
    assert_eq!((c.max_source_positions, c.max_target_positions, c.dropout), (1500, 448, 0.0));
    let error = refused(&small_whisper(json!({"apply_spec_augment": true})));
    assert!(matches!(error, ConfigError::Unsupported { key: "apply_spec_augment", .. }), "{error}");
}
