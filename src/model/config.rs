//! The sizes that a model is built from, as Hugging Face's `config.json` names them.

/// A model of a known architecture, with every size that changes its memory.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelConfig {
    /// Llama 2 and 3, Mistral, Qwen2 and Qwen2.5.
    Llama(LlamaConfig),
    /// GPT-2.
    Gpt2(Gpt2Config),
}

/// Which of the Llama-shaped families a model belongs to; they differ in biases and defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LlamaFamily {
    /// `model_type: llama`
    Llama,
    /// `model_type: mistral`
    Mistral,
    /// `model_type: qwen2`: q, k and v projections have a bias, o has none.
    Qwen2,
}

/// The activation function of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `silu` (also called swish).
    Silu,
    /// `gelu`: the exact one, a single kernel.
    Gelu,
    /// `gelu_new`: the tanh approximation written out in Python, operator by operator.
    GeluNew,
    /// `gelu_pytorch_tanh`: the tanh approximation as a single kernel.
    GeluPytorchTanh,
    /// `relu`
    Relu,
}

/// A decoder with RMSNorm, rotary embeddings, grouped-query attention and a gated MLP.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// Which family.
    pub family: LlamaFamily,
    /// Width of the residual stream.
    pub hidden_size: u64,
    /// Width of the gated MLP.
    pub intermediate_size: u64,
    /// Decoder layers.
    pub num_hidden_layers: u64,
    /// Query heads.
    pub num_attention_heads: u64,
    /// Key and value heads.
    pub num_key_value_heads: u64,
    /// Size of one head.
    pub head_dim: u64,
    /// Tokens in the vocabulary.
    pub vocab_size: u64,
    /// The longest sequence the model is made for.
    pub max_position_embeddings: u64,
    /// Whether the output head shares the embedding's weight.
    pub tie_word_embeddings: bool,
    /// Whether q, k, v and o projections have a bias (Llama's `attention_bias`).
    pub attention_bias: bool,
    /// Whether the MLP's projections have a bias (Llama's `mlp_bias`).
    pub mlp_bias: bool,
    /// The MLP's activation.
    pub hidden_act: Activation,
    /// Dropout on the attention probabilities, 0.0 for none.
    pub attention_dropout: f64,
    /// Tokens that attention looks back on, where it is used.
    pub sliding_window: Option<u64>,
    /// Layers (from the first) with full attention before sliding ones begin (Qwen2).
    pub max_window_layers: Option<u64>,
}

/// GPT-2: LayerNorm, learned positions, multi-head attention with one fused projection.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpt2Config {
    /// Width of the residual stream (`n_embd`).
    pub n_embd: u64,
    /// Width of the MLP (`n_inner`, default 4 x `n_embd`).
    pub n_inner: u64,
    /// Layers.
    pub n_layer: u64,
    /// Heads.
    pub n_head: u64,
    /// Learned positions.
    pub n_positions: u64,
    /// Tokens in the vocabulary.
    pub vocab_size: u64,
    /// The MLP's activation.
    pub activation_function: Activation,
    /// Dropout after embeddings.
    pub embd_pdrop: f64,
    /// Dropout on attention probabilities.
    pub attn_pdrop: f64,
    /// Dropout after attention and MLP.
    pub resid_pdrop: f64,
    /// Whether the output head shares the embedding's weight.
    pub tie_word_embeddings: bool,
    /// `scale_attn_weights`
    pub scale_attn_weights: bool,
    /// `scale_attn_by_inverse_layer_idx`
    pub scale_attn_by_inverse_layer_idx: bool,
    /// `reorder_and_upcast_attn`
    pub reorder_and_upcast_attn: bool,
}

impl ModelConfig {
    /// Returns `model_type` as config.json spells it.
    pub fn model_type(&self) -> &'static str {
        match self {
            ModelConfig::Llama(c) => match c.family {
                LlamaFamily::Llama => "llama",
                LlamaFamily::Mistral => "mistral",
                LlamaFamily::Qwen2 => "qwen2",
            },
            ModelConfig::Gpt2(_) => "gpt2",
        }
    }

    /// Returns the longest sequence that the model is made for.
    pub fn max_seq_len(&self) -> u64 {
        match self {
            ModelConfig::Llama(c) => c.max_position_embeddings,
            ModelConfig::Gpt2(c) => c.n_positions,
        }
    }
}
