//! The families' own keys and defaults.

use oomph::ingest::error::ConfigError;
use oomph::model::config::{Activation, Family, ModelConfig, Task};
use serde_json::{Map, Value, json};

use super::{decoder, map, read, refused, small, small_gpt2, without};

fn small_opt(changes: Value) -> Map<String, Value> {
    let mut config = map(json!({
        "model_type": "opt", "hidden_size": 256, "ffn_dim": 512, "num_hidden_layers": 2,
        "num_attention_heads": 8, "vocab_size": 1000,
    }));
    config.extend(map(changes));
    config
}

/// `sum(p.numel())` of these configurations, by transformers 5.23.0 and 4.56.2 alike (meta device).
#[test]
fn parameter_counts_are_those_of_transformers() {
    let cases = [
        ("qwen3's head size of 128", small("qwen3", json!({})), 2_610_944),
        (
            "qwen3, biases",
            small("qwen3", json!({"head_dim": 32, "attention_bias": true})),
            1_628_800,
        ),
        (
            "gemma2, tied, head size of 256",
            small("gemma2", json!({"sliding_window": 64})),
            3_666_176,
        ),
        (
            "gemma3",
            small(
                "gemma3_text",
                json!({"sliding_window": 64, "head_dim": 32, "attention_bias": true}),
            ),
            1_373_824,
        ),
        ("phi3", small("phi3", json!({})), 1_627_392),
        ("phi3, as many kv heads", without("phi3", "num_key_value_heads"), 1_824_000),
        ("gpt_neox", small("gpt_neox", json!({})), 1_566_720),
        (
            "gpt_neox without attention biases",
            small("gpt_neox", json!({"attention_bias": false, "tie_word_embeddings": true})),
            1_308_672,
        ),
        ("olmo2", small("olmo2", json!({})), 1_628_032),
        ("olmo2, biases", small("olmo2", json!({"attention_bias": true})), 1_629_312),
        ("starcoder2's 2 kv heads", without("starcoder2", "num_key_value_heads"), 1_113_344),
        (
            "starcoder2 without biases",
            small("starcoder2", json!({"use_bias": false, "tie_word_embeddings": false})),
            1_366_528,
        ),
        ("mixtral's 8 experts", small("mixtral", json!({"num_attention_heads": 16})), 7_103_744),
        (
            "mixtral, 4 experts",
            small("mixtral", json!({"num_local_experts": 4, "num_experts_per_tok": 1})),
            3_988_736,
        ),
        (
            "qwen3_moe",
            small(
                "qwen3_moe",
                json!({"num_experts": 8, "moe_intermediate_size": 192, "num_experts_per_tok": 2}),
            ),
            3_204_480,
        ),
        (
            "qwen3_moe, sparse steps",
            small(
                "qwen3_moe",
                json!({"num_hidden_layers": 5, "num_experts": 8, "moe_intermediate_size": 192, "num_experts_per_tok": 2, "decoder_sparse_step": 2, "mlp_only_layers": [1], "head_dim": 64, "attention_bias": true}),
            ),
            4_913_536,
        ),
        ("opt", small_opt(json!({})), 1_835_520),
        (
            "opt, projected",
            small_opt(
                json!({"word_embed_proj_dim": 128, "do_layer_norm_before": false, "max_position_embeddings": 77}),
            ),
            1_267_968,
        ),
        (
            "opt without biases",
            small_opt(json!({"enable_bias": false, "tie_word_embeddings": false})),
            2_087_936,
        ),
    ];
    for (name, config, parameters) in cases {
        assert_eq!(read(&config).config.parameter_count(), parameters, "{name}");
    }
}

#[test]
fn every_family_says_its_own_model_type() {
    for family in Family::ALL {
        let config = read(&small(family.model_type(), json!({"sliding_window": 64}))).config;
        assert_eq!(config.model_type(), family.model_type());
        assert_eq!(config.max_seq_len(), 2048);
        assert!(!config.has_learned_positions());
    }
    let opt = read(&small_opt(json!({}))).config;
    assert_eq!((opt.model_type(), opt.max_seq_len()), ("opt", 2048));
    assert!(opt.has_learned_positions());
}

#[test]
fn gemmas_soft_caps_and_layers_are_read() {
    let gemma2 = decoder(&small("gemma2", json!({"sliding_window": 64, "num_hidden_layers": 3})));
    assert!(gemma2.attention.softcap && gemma2.final_softcap);
    assert_eq!(gemma2.mlp.activation, Activation::GeluPytorchTanh);
    assert_eq!(gemma2.window.unwrap().layers, [true, false, true]);
    let off = json!({"sliding_window": 64, "attn_logit_softcapping": null,
        "final_logit_softcapping": null});
    let gemma2 = decoder(&small("gemma2", off));
    assert!(!gemma2.attention.softcap && !gemma2.final_softcap);
    let seven = json!({"sliding_window": 64, "num_hidden_layers": 7});
    let gemma3 = decoder(&small("gemma3_text", seven));
    assert!(!gemma3.attention.softcap && !gemma3.final_softcap);
    assert_eq!(gemma3.window.unwrap().layers, [true, true, true, true, true, false, true]);
    let both_ways = json!({"sliding_window": 64, "use_bidirectional_attention": true});
    let error = refused(&small("gemma3_text", both_ways));
    assert!(matches!(error, ConfigError::Unsupported { key: "use_bidirectional_attention", .. }));
    assert!(matches!(refused(&small("gemma2", json!({}))), ConfigError::Contradiction(_)));
}

#[test]
fn a_part_of_each_head_is_turned_where_the_file_says_so() {
    let turned = |model_type, changes| decoder(&small(model_type, changes)).attention.rotary_dim;
    assert_eq!(turned("gpt_neox", json!({})), 8);
    assert_eq!(turned("gpt_neox", json!({"rotary_pct": 1.0})), 32);
    assert_eq!(turned("gpt_neox", json!({"rope_parameters": {"partial_rotary_factor": 0.5}})), 16);
    assert_eq!(turned("phi3", json!({})), 32);
    assert_eq!(turned("phi3", json!({"partial_rotary_factor": 0.75})), 24);
    assert_eq!(turned("llama", json!({"partial_rotary_factor": 0.75})), 32);
    let odd = refused(&small("phi3", json!({"partial_rotary_factor": 0.1})));
    assert!(matches!(odd, ConfigError::OutOfRange { key: "partial_rotary_factor", .. }));
}

#[test]
fn experts_are_read_with_their_layers() {
    let experts = |model_type, changes| decoder(&small(model_type, changes)).experts.unwrap();
    let mixtral = experts("mixtral", json!({}));
    assert_eq!((mixtral.count, mixtral.per_token, mixtral.intermediate_size), (8, 2, 512));
    let every_second = json!({"num_hidden_layers": 4, "decoder_sparse_step": 2,
        "mlp_only_layers": [3]});
    let qwen = experts("qwen3_moe", every_second);
    assert_eq!(qwen.sparse_layers, [false, true, false, false]);
    assert_eq!((qwen.count, qwen.per_token, qwen.intermediate_size), (128, 8, 768));
    assert!(!qwen.normalized);
    let too_many = refused(&small("mixtral", json!({"num_experts_per_tok": 9})));
    assert!(matches!(too_many, ConfigError::Contradiction(_)));
    for (key, value) in [("router_jitter_noise", json!(0.1)), ("output_router_logits", json!(true))]
    {
        let error = refused(&small("mixtral", json!({key: value})));
        assert!(matches!(error, ConfigError::Unsupported { .. }), "{key}");
    }
}

#[test]
fn opts_own_keys_are_read() {
    let ModelConfig::Opt(c) = read(&small_opt(json!({"_remove_final_layer_norm": true}))).config
    else {
        panic!("not an OPT")
    };
    assert_eq!((c.dropout, c.attention_dropout), (0.1, 0.0));
    assert_eq!(c.activation_function, Activation::Relu);
    assert!(!c.has_final_norm() && !c.is_projected() && c.tie_word_embeddings);
    for changes in [json!({"layerdrop": 0.5}), json!({"layer_norm_elementwise_affine": false})] {
        assert!(matches!(refused(&small_opt(changes)), ConfigError::Unsupported { .. }));
    }
}

#[test]
fn a_decoder_classifies_where_the_config_or_the_caller_says_so() {
    let class = json!({
        "architectures": ["LlamaForSequenceClassification"], "pad_token_id": 0, "num_labels": 5,
    });
    let read_as = read(&small("llama", class));
    assert_eq!((read_as.config.task(), read_as.notes), (Task::SequenceClassification, Vec::new()));
    let causal = read(&small("llama", json!({"num_labels": 5}))).config;
    let classifier = causal.clone().with_task(Task::SequenceClassification).unwrap();
    // A head of the vocabulary's size, and one of five labels.
    assert_eq!(causal.parameter_count() - classifier.parameter_count(), (1000 - 5) * 256);
    // Without a token that pads only one sample at a time is classified.
    let unpadded = json!({"architectures": ["LlamaForSequenceClassification"]});
    assert!(read(&small("llama", unpadded)).notes[0].contains("pad_token_id"));
    let unknown = json!({
        "architectures": ["LlamaForSequenceClassification"], "problem_type": "ranking",
    });
    let error = refused(&small("llama", unknown));
    assert!(matches!(error, ConfigError::Unsupported { key: "problem_type", .. }), "{error}");
    // OLMo 2 has a class for samples in transformers 5, and none for tokens.
    let olmo = read(&small("olmo2", json!({}))).config;
    assert!(olmo.clone().with_task(Task::SequenceClassification).is_ok());
    assert!(olmo.with_task(Task::TokenClassification).is_err());
}

#[test]
fn gpt2_and_opt_classify_samples_with_a_projection_without_a_bias() {
    let count = |config: &Map<String, Value>, task| {
        read(config).config.with_task(task).unwrap().parameter_count()
    };
    let small = small_gpt2(json!({"num_labels": 3, "tie_word_embeddings": false}));
    let head = 1000 * 256;
    let trunk = count(&small, Task::CausalLm) - head;
    assert_eq!(count(&small, Task::SequenceClassification), trunk + 3 * 256);
    assert_eq!(count(&small, Task::TokenClassification), trunk + 3 * 257);
    let opt = small_opt(json!({"word_embed_proj_dim": 128, "num_labels": 3}));
    assert_eq!(count(&opt, Task::SequenceClassification), count(&opt, Task::CausalLm) + 3 * 128);
    assert!(read(&opt).config.with_task(Task::TokenClassification).is_err());
}

#[test]
fn a_gpt2_that_classifies_says_what_is_missing_to_find_the_last_token() {
    let classes = |changes| {
        let mut config = small_gpt2(changes);
        config.extend(map(json!({"architectures": ["GPT2ForSequenceClassification"]})));
        let read = read(&config);
        (read.config.task(), read.notes.iter().any(|note| note.contains("pad_token_id")))
    };
    assert_eq!(classes(json!({})), (Task::SequenceClassification, true));
    assert_eq!(classes(json!({"pad_token_id": 0})), (Task::SequenceClassification, false));
}
