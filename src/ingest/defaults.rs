//! The sizes that transformers takes where a `config.json` has none: those of one published model of
//! each `model_type`.
//!
//! Source: `AutoConfig.for_model(model_type)` of transformers 4.56.2 and 5.23.0, which agree on all of
//! them.

/// Returns the size that a `model_type` has under a key, or `None` where it has no such key.
pub(super) fn size(model_type: &str, key: &str) -> Option<u64> {
    sizes(model_type).iter().find(|(known, _)| *known == key).map(|&(_, size)| size)
}

fn sizes(model_type: &str) -> &'static [(&'static str, u64)] {
    match model_type {
        "llama" => &[
            ("hidden_size", 4096),
            ("intermediate_size", 11_008),
            ("num_hidden_layers", 32),
            ("num_attention_heads", 32),
            ("vocab_size", 32_000),
        ],
        "mistral" | "mixtral" => &[
            ("hidden_size", 4096),
            ("intermediate_size", 14_336),
            ("num_hidden_layers", 32),
            ("num_attention_heads", 32),
            ("vocab_size", 32_000),
        ],
        "qwen2" | "qwen3" => &[
            ("hidden_size", 4096),
            ("intermediate_size", 22_016),
            ("num_hidden_layers", 32),
            ("num_attention_heads", 32),
            ("vocab_size", 151_936),
        ],
        "gemma2" => &[
            ("hidden_size", 2304),
            ("intermediate_size", 9216),
            ("num_hidden_layers", 26),
            ("num_attention_heads", 8),
            ("vocab_size", 256_000),
        ],
        "gemma3_text" => &[
            ("hidden_size", 2304),
            ("intermediate_size", 9216),
            ("num_hidden_layers", 26),
            ("num_attention_heads", 8),
            ("vocab_size", 262_208),
        ],
        "phi3" => &[
            ("hidden_size", 3072),
            ("intermediate_size", 8192),
            ("num_hidden_layers", 32),
            ("num_attention_heads", 32),
            ("vocab_size", 32_064),
        ],
        "gpt_neox" => &[
            ("hidden_size", 6144),
            ("intermediate_size", 24_576),
            ("num_hidden_layers", 44),
            ("num_attention_heads", 64),
            ("vocab_size", 50_432),
        ],
        "olmo2" => &[
            ("hidden_size", 4096),
            ("intermediate_size", 11_008),
            ("num_hidden_layers", 32),
            ("num_attention_heads", 32),
            ("vocab_size", 50_304),
        ],
        "starcoder2" => &[
            ("hidden_size", 3072),
            ("intermediate_size", 12_288),
            ("num_hidden_layers", 30),
            ("num_attention_heads", 24),
            ("vocab_size", 49_152),
        ],
        "qwen3_moe" => &[
            ("hidden_size", 2048),
            ("intermediate_size", 6144),
            ("num_hidden_layers", 24),
            ("num_attention_heads", 32),
            ("vocab_size", 151_936),
        ],
        "gpt2" => &[("vocab_size", 50_257), ("n_embd", 768), ("n_layer", 12), ("n_head", 12)],
        "opt" => &[
            ("hidden_size", 768),
            ("num_hidden_layers", 12),
            ("num_attention_heads", 12),
            ("vocab_size", 50_272),
            ("ffn_dim", 3072),
        ],
        "bert" | "xlm-roberta" => &[
            ("hidden_size", 768),
            ("intermediate_size", 3072),
            ("num_hidden_layers", 12),
            ("num_attention_heads", 12),
            ("vocab_size", 30_522),
        ],
        "roberta" => &[
            ("hidden_size", 768),
            ("intermediate_size", 3072),
            ("num_hidden_layers", 12),
            ("num_attention_heads", 12),
            ("vocab_size", 50_265),
        ],
        "distilbert" => &[
            ("vocab_size", 30_522),
            ("dim", 768),
            ("hidden_dim", 3072),
            ("n_layers", 6),
            ("n_heads", 12),
        ],
        "modernbert" => &[
            ("hidden_size", 768),
            ("intermediate_size", 1152),
            ("num_hidden_layers", 22),
            ("num_attention_heads", 12),
            ("vocab_size", 50_368),
        ],
        "deberta-v2" => &[
            ("hidden_size", 1536),
            ("intermediate_size", 6144),
            ("num_hidden_layers", 24),
            ("num_attention_heads", 24),
            ("vocab_size", 128_100),
        ],
        "t5" => &[
            ("vocab_size", 32_128),
            ("d_model", 512),
            ("d_ff", 2048),
            ("d_kv", 64),
            ("num_layers", 6),
            ("num_heads", 8),
        ],
        "mt5" => &[
            ("vocab_size", 250_112),
            ("d_model", 512),
            ("d_ff", 1024),
            ("d_kv", 64),
            ("num_layers", 8),
            ("num_heads", 6),
        ],
        "bart" => &[
            ("vocab_size", 50_265),
            ("d_model", 1024),
            ("encoder_layers", 12),
            ("decoder_layers", 12),
            ("encoder_attention_heads", 16),
            ("decoder_attention_heads", 16),
            ("encoder_ffn_dim", 4096),
            ("decoder_ffn_dim", 4096),
        ],
        "whisper" => &[
            ("vocab_size", 51_865),
            ("d_model", 384),
            ("encoder_layers", 4),
            ("decoder_layers", 4),
            ("encoder_attention_heads", 6),
            ("decoder_attention_heads", 6),
            ("encoder_ffn_dim", 1536),
            ("decoder_ffn_dim", 1536),
        ],
        "vit" => &[
            ("hidden_size", 768),
            ("intermediate_size", 3072),
            ("num_hidden_layers", 12),
            ("num_attention_heads", 12),
        ],
        _ => &[],
    }
}
