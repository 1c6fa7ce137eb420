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

    /// Returns the number of parameters: every weight and bias, tied ones once.
    ///
    /// What `sum(p.numel() for p in model.parameters())` gives for the causal language model.
    /// Sizes within the limits of `ingest` cannot overflow.
    ///
    /// Source: the layers of modeling_llama.py, modeling_mistral.py, modeling_qwen2.py and
    /// modeling_gpt2.py of transformers 4.56 and 5.23. Checked in tests/profiles_models.rs.
    pub fn parameter_count(&self) -> u64 {
        match self {
            ModelConfig::Llama(c) => c.parameter_count(),
            ModelConfig::Gpt2(c) => c.parameter_count(),
        }
    }
}

impl LlamaConfig {
    fn parameter_count(&self) -> u64 {
        let hidden = self.hidden_size;
        let query = self.num_attention_heads * self.head_dim;
        let key_value = self.num_key_value_heads * self.head_dim;
        // Mistral's projections have no bias, whatever its config says; Qwen2's output has none.
        let attention_biases = match (self.family, self.attention_bias) {
            (LlamaFamily::Qwen2, _) => query + 2 * key_value,
            (LlamaFamily::Llama, true) => query + 2 * key_value + hidden,
            (LlamaFamily::Llama, false) | (LlamaFamily::Mistral, _) => 0,
        };
        let attention = 2 * hidden * query + 2 * hidden * key_value + attention_biases;
        let mlp_biases = match (self.family, self.mlp_bias) {
            (LlamaFamily::Llama, true) => 2 * self.intermediate_size + hidden,
            _ => 0,
        };
        let mlp = 3 * hidden * self.intermediate_size + mlp_biases;
        let layer = attention + mlp + 2 * hidden;
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        tables * self.vocab_size * hidden + self.num_hidden_layers * layer + hidden
    }
}

impl Gpt2Config {
    fn parameter_count(&self) -> u64 {
        let width = self.n_embd;
        let attention = width * 3 * width + 3 * width + width * width + width;
        let mlp = 2 * width * self.n_inner + self.n_inner + width;
        let layer = attention + mlp + 2 * 2 * width;
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        let embeddings = tables * self.vocab_size * width + self.n_positions * width;
        embeddings + self.n_layer * layer + 2 * width
    }
}
