//! What a file says, and what is assumed where it is silent.

use oomph::ingest::config_json;
use oomph::ingest::error::ConfigError;
use oomph::model::config::{Activation, Family, Window};
use serde_json::json;

use super::{decoder, gpt2, map, read, refused, small, small_gpt2, without};

/// `sum(p.numel())` of these configurations, by transformers 5.23.0 and 4.56.2 alike (meta device).

#[test]
fn parameter_counts_are_those_of_transformers() {
    let llama_heads = json!({"num_key_value_heads": null});
    let mut mistral_default_heads = small("mistral", json!({"num_attention_heads": 16}));
    mistral_default_heads.remove("num_key_value_heads");
    let mut qwen2_default_heads =
        small("qwen2", json!({"hidden_size": 1024, "num_attention_heads": 64}));
    qwen2_default_heads.remove("num_key_value_heads");
    let both = json!({"attention_bias": true, "mlp_bias": true});
    let mistral_biases = json!({"num_attention_heads": 16, "num_key_value_heads": 4,
        "attention_bias": true, "mlp_bias": true});
    let wide = json!({"head_dim": 64, "tie_word_embeddings": true});
    let mistral_wide = json!({"hidden_size": 320, "num_attention_heads": 16,
        "num_key_value_heads": 4, "head_dim": 32});
    let untied = json!({"n_inner": null, "tie_word_embeddings": false});
    let cases = [
        ("kv heads null", small("llama", llama_heads), 1_824_000),
        ("head_dim null", small("llama", json!({"head_dim": null})), 1_627_392),
        ("wide heads, tied", small("llama", wide.clone()), 1_699_072),
        ("biases", small("llama", both), 1_631_232),
        ("mistral's 8 kv heads", mistral_default_heads, 1_692_928),
        ("mistral has no biases", small("mistral", mistral_biases), 1_627_392),
        ("mistral, wide heads", small("mistral", mistral_wide), 2_443_840),
        ("qwen2's 32 kv heads", qwen2_default_heads, 11_494_400),
        ("qwen2, wide heads", small("qwen2", wide), 1_700_608),
        ("gpt2, n_inner", small_gpt2(json!({"n_inner": 300, "n_positions": 77})), 1_112_920),
        ("gpt2, untied", small_gpt2(untied), 2_354_176),
    ];
    for (name, config, parameters) in cases {
        assert_eq!(read(&config).config.parameter_count(), parameters, "{name}");
    }
}

#[test]
fn unknown_keys_are_ignored() {
    let more = json!({"rope_theta": 5e5, "torch_dtype": "bfloat16", "invented": [1, {"a": null}]});
    assert_eq!(decoder(&small("llama", more)), decoder(&small("llama", json!({}))));
}

#[test]
fn a_default_is_noted_with_its_value() {
    let notes = read(&without("mistral", "sliding_window")).notes;
    assert_eq!(notes, ["`sliding_window` is not in config.json: 4096, as transformers does"]);
    let notes = read(&without("llama", "num_key_value_heads")).notes;
    assert_eq!(notes, ["`num_key_value_heads` is not in config.json: 8, as transformers does"]);
    assert_eq!(read(&small("llama", json!({}))).notes, Vec::<String>::new());
}

#[test]
fn null_and_missing_are_told_apart() {
    let window = |config| decoder(&config).window;
    assert_eq!(window(small("mistral", json!({"sliding_window": null}))), None);
    let every_layer = Window { size: 4096, layers: vec![true, true], pattern: None };
    assert_eq!(window(without("mistral", "sliding_window")), Some(every_layer));
    let sixteen = json!({"num_attention_heads": 16, "num_key_value_heads": null});
    assert_eq!(decoder(&small("mistral", sixteen)).attention.key_value_heads, 16);
}

#[test]
fn each_familys_own_keys_are_honoured() {
    let biases = json!({"attention_bias": true, "mlp_bias": true, "sliding_window": 512});
    let c = decoder(&small("llama", biases.clone()));
    assert!(c.attention.qkv_bias && c.attention.output_bias && c.mlp.bias && c.window.is_none());
    let c = decoder(&small("mistral", biases));
    assert_eq!(c.family, Family::Mistral);
    assert!(!c.attention.qkv_bias && !c.attention.output_bias && !c.mlp.bias);
    assert_eq!(c.window.map(|window| window.size), Some(512));
}

#[test]
fn qwen2_slides_only_where_its_keys_say_so() {
    let window = |changes| {
        let window = decoder(&small("qwen2", changes)).window;
        window.map(|window| (window.size, window.layers))
    };
    assert_eq!(window(json!({"sliding_window": 64})), None);
    let on = json!({"use_sliding_window": true, "sliding_window": 64, "max_window_layers": 1});
    assert_eq!(window(on), Some((64, vec![false, true])));
    // 28, the default, is above the number of layers: none slides.
    assert_eq!(window(json!({"use_sliding_window": true, "sliding_window": 64})), None);
    let listed = json!({"use_sliding_window": true, "sliding_window": 64,
        "max_window_layers": 0, "layer_types": ["sliding_attention", "full_attention"]});
    assert_eq!(window(listed), Some((64, vec![true, false])));
}

#[test]
fn activations_are_read_by_transformers_names() {
    for (name, activation) in [
        ("silu", Activation::Silu),
        ("swish", Activation::Silu),
        ("gelu", Activation::Gelu),
        ("gelu_new", Activation::GeluNew),
        ("gelu_pytorch_tanh", Activation::GeluPytorchTanh),
        ("relu", Activation::Relu),
    ] {
        assert_eq!(
            decoder(&small("llama", json!({"hidden_act": name}))).mlp.activation,
            activation
        );
    }
    let error = refused(&small("llama", json!({"hidden_act": "quick_gelu"})));
    assert_eq!(error.to_string(), "`hidden_act` is `quick_gelu`, which is not modelled");
    assert!(error.hint().contains("gelu_pytorch_tanh"));
}

#[test]
fn gpt2_takes_its_defaults_and_its_second_names() {
    let c = gpt2(&small_gpt2(json!({})));
    assert_eq!((c.n_inner, c.n_positions, c.tie_word_embeddings), (1024, 1024, true));
    assert_eq!((c.embd_pdrop, c.attn_pdrop, c.resid_pdrop), (0.1, 0.1, 0.1));
    assert_eq!(c.activation_function, Activation::GeluNew);
    assert!(c.scale_attn_weights);
    // n_ctx is read by no version of transformers.
    let second = map(json!({"model_type": "gpt2", "hidden_size": 256, "num_hidden_layers": 2,
        "num_attention_heads": 8, "max_position_embeddings": 99, "n_ctx": 12, "vocab_size": 1000}));
    assert_eq!(read(&second).config.parameter_count(), 1_861_376);
    assert_eq!(gpt2(&second).n_positions, 99);
    let both = small_gpt2(json!({"hidden_size": 512}));
    assert_eq!(refused(&both).to_string(), "`n_embd` is 256, and `hidden_size` is 512");
    let decoder = small_gpt2(json!({"add_cross_attention": true}));
    assert!(matches!(refused(&decoder), ConfigError::Unsupported { .. }));
}

#[test]
fn dropout_is_a_probability() {
    assert_eq!(gpt2(&small_gpt2(json!({"attn_pdrop": 0}))).attn_pdrop, 0.0);
    for value in [json!(1.5), json!(-0.1)] {
        let error = refused(&small_gpt2(json!({"attn_pdrop": value})));
        assert!(matches!(error, ConfigError::OutOfRange { key: "attn_pdrop", .. }));
    }
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let text = serde_json::to_string(&small("llama", json!({}))).unwrap();
    config_json::from_bytes(format!("\u{feff}{text}").as_bytes()).unwrap();
}

/// Every prefix, and every change of one byte, of a real file is answered.

#[test]
fn code_of_its_own_and_another_head_are_noted() {
    let own = read(&small("llama", json!({"auto_map": {"AutoModel": "modeling.M"}})));
    assert!(own.notes[0].contains("auto_map"), "{:?}", own.notes);
    let head = |class: &str| read(&small("llama", json!({"architectures": [class]}))).notes;
    assert_eq!(head("LlamaForCausalLM"), Vec::<String>::new());
    assert_eq!(head("LlamaForTokenClassification"), Vec::<String>::new());
    assert!(head("LlamaForQuestionAnswering")[0].contains("a causal language model"));
}
