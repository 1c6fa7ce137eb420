"""Random cases of the oracle: any built-in architecture at odd sizes, in any setup that its programs allow.

`case(rng, only)` returns one, of the families `only`. Sizes are small (a run takes a second), odd on purpose, and lean to what
people use: a third of the setups is left at its default, key by key.
"""

ACTIVATIONS = ["gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "relu", "silu", "tanh"]
LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BART = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
TARGETS = {
    "phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
    "gpt_neox": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
    "starcoder2": ["q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj"],
    "mixtral": LLAMA[:4], "qwen3_moe": LLAMA[:4],
    "gpt2": ["c_attn", "c_proj", "c_fc"], "opt": BART, "bart": BART, "whisper": BART,
    "bert": ["query", "key", "value", "dense"], "roberta": ["query", "key", "value", "dense"],
    "xlm-roberta": ["query", "key", "value", "dense"], "vit": ["query", "key", "value", "dense"],
    "swin": ["query", "key", "value", "dense"], "deberta-v2": ["query_proj", "key_proj", "value_proj", "dense"],
    "distilbert": ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"], "modernbert": ["Wqkv", "Wo", "Wi"],
    "t5": ["q", "k", "v", "o", "wo"], "mt5": ["q", "k", "v", "o", "wi_0", "wi_1", "wo"],
}
FROZEN = ["*embed*", "*norm*", "model.layers.0.*", "*.0.*", "*weight", "*bias"]
TEXT = "ones ones ones padded none".split()
HEADS = [1, 2, 3, 4, 5, 6, 8, 12]
HEAD_DIMS = [8, 16, 24, 32, 40, 48, 64, 64, 64, 80, 96, 112, 128, 128, 160, 192, 256]


def often(rng, default, others, share=0.5):
    return default if rng.random() < share else rng.choice(others)


def dropout(rng):
    return rng.choice([0.0, 0.0, 0.1, 0.3])


def vocabulary(rng):
    return rng.choice([rng.randint(50, 900), rng.randint(1000, 9999), rng.randint(10000, 70000), 32000, 50257, 128256])


def width(rng):
    """Returns a width that heads of a size used by kernels divide, the heads."""
    heads, size = rng.choice(HEADS), rng.choice(HEAD_DIMS)
    return heads * size, heads


def labels(rng, config, task):
    if task != "token-classification":
        config["num_labels"] = rng.choice([1, 2, 10, 1000, 999] if task == "image-classification" else [1, 2, 2, 3, 5, 17])
        if rng.random() < 0.25:
            config["problem_type"] = rng.choice(["regression", "multi_label_classification", "single_label_classification"])


def llama(rng, family):
    hidden, heads = width(rng)
    groups = rng.choice([n for n in range(1, heads + 1) if heads % n == 0])
    c = dict(model_type=family, hidden_size=hidden, num_attention_heads=heads, vocab_size=vocabulary(rng),
             num_hidden_layers=rng.choice([1, 2, 2, 3, 4, 7]), intermediate_size=rng.randint(3, 300) * rng.choice([1, 2, 8]),
             rms_norm_eps=1e-6, tie_word_embeddings=rng.random() < 0.5)
    if family != "gpt_neox":
        c["num_key_value_heads"] = groups
    if family not in ("gpt_neox", "phi3", "olmo2", "starcoder2", "qwen2"):
        c["head_dim"] = hidden // heads if rng.random() < 0.6 else rng.choice(HEAD_DIMS)
    if rng.random() < 0.3:
        c["attention_dropout"] = 0.1
    layer_types = [rng.choice(["full_attention", "sliding_attention"]) for _ in range(c["num_hidden_layers"])]
    window = rng.choice([16, 33, 64, 100, 128, 400, 4096])
    if family in ("llama", "qwen3", "olmo2", "gemma2", "gemma3_text", "qwen3_moe"):
        c["attention_bias"] = rng.random() < 0.3
    if family == "llama":
        c["mlp_bias"] = rng.random() < 0.3
    if family in ("mistral", "phi3", "starcoder2", "mixtral"):
        c["sliding_window"] = often(rng, None, [window])
    if family in ("qwen2", "qwen3") and rng.random() < 0.5:
        c.update(use_sliding_window=True, sliding_window=window)
        c.update(dict(layer_types=layer_types) if rng.random() < 0.5 else dict(max_window_layers=rng.randint(0, 3)))
    if family == "qwen3_moe":
        c.update(use_sliding_window=rng.random() < 0.3, sliding_window=window)
    if family.startswith("gemma"):
        act = rng.choice(["gelu_pytorch_tanh"] * 4 + ACTIVATIONS)
        c.update(sliding_window=window, hidden_activation=act, query_pre_attn_scalar=64,
                 final_logit_softcapping=often(rng, 30.0, [None]))
        if rng.random() < 0.4:
            c["layer_types"] = layer_types
        if family == "gemma2":
            c["attn_logit_softcapping"] = often(rng, 50.0, [None])
    elif rng.random() < 0.25:
        c["hidden_act"] = rng.choice(ACTIVATIONS)
    if family == "phi3":
        c.update(resid_pdrop=dropout(rng), embd_pdrop=dropout(rng), pad_token_id=0)
        if hidden // heads % 16 == 0:
            c["partial_rotary_factor"] = often(rng, 1.0, [0.5, 0.75])
    if family == "gpt_neox":
        parts = [p for p in (0.25, 0.5, 1.0) if hidden // heads * p % 2 == 0]
        c.update(rotary_pct=rng.choice(parts), use_parallel_residual=rng.random() < 0.6, hidden_dropout=dropout(rng),
                 attention_bias=rng.random() < 0.7)
    if family == "starcoder2":
        c.update(use_bias=rng.random() < 0.7, residual_dropout=dropout(rng), embedding_dropout=dropout(rng))
    if family in ("mixtral", "qwen3_moe"):
        experts = rng.choice([2, 4, 8, 16])
        c.update({"num_local_experts" if family == "mixtral" else "num_experts": experts})
        c["num_experts_per_tok"] = rng.choice([1, 2, 2, 2])
        if family == "qwen3_moe":
            c.update(moe_intermediate_size=rng.randint(1, 40) * 8, decoder_sparse_step=rng.choice([1, 1, 2]),
                     mlp_only_layers=rng.choice([[], [], [0]]), norm_topk_prob=rng.random() < 0.5)
        c["hidden_size"] = max(8, c["hidden_size"] // 8 * 8)
        c["intermediate_size"] = max(8, c["intermediate_size"] // 8 * 8)
    return c


def gpt2(rng):
    hidden, heads = width(rng)
    c = dict(model_type="gpt2", n_embd=hidden, n_head=heads, n_layer=rng.choice([1, 2, 3, 6]), n_positions=1024, vocab_size=vocabulary(rng),
             activation_function=often(rng, "gelu_new", ACTIVATIONS, 0.7), tie_word_embeddings=rng.random() < 0.8)
    if rng.random() < 0.4:
        c["n_inner"] = rng.randint(5, 900)
    if rng.random() < 0.4:
        c.update(embd_pdrop=dropout(rng), attn_pdrop=dropout(rng), resid_pdrop=dropout(rng))
    if rng.random() < 0.2:
        c.update(scale_attn_weights=False)
    if rng.random() < 0.2:
        c.update(scale_attn_by_inverse_layer_idx=True)
    return c


def opt(rng):
    hidden, heads = width(rng)
    return dict(model_type="opt", hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=rng.choice([1, 2, 3, 6]),
                ffn_dim=rng.randint(5, 1500), vocab_size=vocabulary(rng), max_position_embeddings=1024, enable_bias=rng.random() < 0.8,
                do_layer_norm_before=rng.random() < 0.7, word_embed_proj_dim=often(rng, hidden, [rng.randint(1, 40) * 8]),
                tie_word_embeddings=rng.random() < 0.8, activation_function=often(rng, "relu", ACTIVATIONS, 0.7),
                dropout=dropout(rng), attention_dropout=dropout(rng), _remove_final_layer_norm=rng.random() < 0.2)


def bert(rng, family):
    hidden, heads = width(rng)
    c = dict(model_type=family, vocab_size=vocabulary(rng), max_position_embeddings=1030)
    layers, inner = rng.choice([1, 2, 3, 6]), rng.randint(5, 1500)
    act = often(rng, "gelu", ACTIVATIONS, 0.7)
    if family == "distilbert":
        c.update(dim=hidden, n_heads=heads, n_layers=layers, hidden_dim=inner, activation=act if act in ("gelu", "relu") else "gelu")
        if rng.random() < 0.5:
            c.update(dropout=dropout(rng), attention_dropout=dropout(rng), seq_classif_dropout=dropout(rng))
    else:
        c.update(hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=layers, intermediate_size=inner, hidden_act=act,
                 type_vocab_size=rng.choice([1, 2, 2, 3]))
        if rng.random() < 0.5:
            c.update(hidden_dropout_prob=dropout(rng), attention_probs_dropout_prob=dropout(rng), classifier_dropout=dropout(rng))
    return c


def deberta(rng):
    hidden, heads = width(rng)
    c = dict(model_type="deberta-v2", vocab_size=vocabulary(rng), max_position_embeddings=512, hidden_size=hidden, num_attention_heads=heads,
             num_hidden_layers=rng.choice([1, 2, 3]), intermediate_size=rng.randint(5, 1500), hidden_act=often(rng, "gelu", ACTIVATIONS, 0.7),
             relative_attention=rng.random() < 0.75, pos_att_type=rng.choice([["p2c", "c2p"], ["p2c", "c2p"], ["c2p"], ["p2c"]]),
             position_buckets=rng.choice([-1, 32, 256]), share_att_key=rng.random() < 0.6, type_vocab_size=rng.choice([0, 0, 2]),
             position_biased_input=rng.random() < 0.4, norm_rel_ebd=rng.choice(["layer_norm", "none"]), max_relative_positions=-1)
    if rng.random() < 0.3:
        c["conv_kernel_size"] = rng.choice([3, 5])
    if rng.random() < 0.4:
        c.update(hidden_dropout_prob=dropout(rng), attention_probs_dropout_prob=dropout(rng), pooler_dropout=dropout(rng))
    return c


def modernbert(rng):
    hidden, heads = width(rng)
    c = dict(model_type="modernbert", vocab_size=vocabulary(rng), hidden_size=hidden, num_attention_heads=heads, intermediate_size=rng.randint(5, 900),
             num_hidden_layers=rng.choice([1, 2, 3, 4]), local_attention=rng.choice([16, 32, 128, 300]), global_attn_every_n_layers=rng.choice([1, 2, 3]),
             reference_compile=False, pad_token_id=0, classifier_pooling=rng.choice(["cls", "mean"]))
    for key in ["norm_bias", "attention_bias", "mlp_bias", "classifier_bias", "decoder_bias"]:
        if rng.random() < 0.3:
            c[key] = rng.random() < 0.5
    for key in ["embedding_dropout", "attention_dropout", "mlp_dropout", "classifier_dropout"]:
        if rng.random() < 0.3:
            c[key] = 0.1
    if rng.random() < 0.2:
        c["hidden_activation"] = rng.choice(ACTIVATIONS)
    return c


def t5(rng, family):
    c = dict(model_type=family, d_model=rng.randint(2, 100) * 8, d_kv=rng.choice(HEAD_DIMS), num_heads=rng.choice(HEADS), d_ff=rng.randint(5, 1500),
             num_layers=rng.choice([1, 2, 3]), vocab_size=vocabulary(rng), relative_attention_num_buckets=rng.choice([32, 32, 16]),
             decoder_start_token_id=0, tie_word_embeddings=rng.random() < 0.6, dropout_rate=rng.choice([0.1, 0.1, 0.0]),
             feed_forward_proj=rng.choice(["relu", "gated-gelu", "gated-silu", "gelu"]))
    if rng.random() < 0.4:
        c["num_decoder_layers"] = rng.choice([1, 2, 4])
    return c


def bart(rng, family):
    hidden, heads = width(rng)
    c = dict(model_type=family, d_model=hidden, encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_layers=rng.choice([1, 2, 3]),
             decoder_layers=rng.choice([1, 2, 4]), encoder_ffn_dim=rng.randint(5, 1500), decoder_ffn_dim=rng.randint(5, 1500), vocab_size=vocabulary(rng),
             activation_function=often(rng, "gelu", ACTIVATIONS, 0.8), decoder_start_token_id=2, pad_token_id=1)
    if rng.random() < 0.6:
        c.update(dropout=dropout(rng), attention_dropout=dropout(rng), activation_dropout=dropout(rng))
    if family == "bart":
        c["max_position_embeddings"] = 1024
    else:
        c.update(num_mel_bins=rng.choice([80, 128, 40]), max_source_positions=rng.choice([50, 150, 333, 1500]), max_target_positions=448,
                 vocab_size=max(c["vocab_size"], 400), pad_token_id=3)
    return c


def vision(rng, family):
    c = dict(model_type=family)
    if family == "vit":
        hidden, heads = width(rng)
        patch = rng.choice([8, 14, 16, 32])
        c.update(hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=rng.choice([1, 2, 4]), intermediate_size=rng.randint(5, 1500),
                 patch_size=patch, image_size=patch * rng.randint(1, 18), qkv_bias=rng.random() < 0.8, hidden_act=often(rng, "gelu", ACTIVATIONS, 0.8))
        if rng.random() < 0.4:
            c.update(hidden_dropout_prob=dropout(rng), attention_probs_dropout_prob=dropout(rng))
    if family == "swin":
        stages, size = rng.choice([1, 2, 3, 4]), rng.choice([8, 16, 24, 32])
        first = [rng.choice([1, 2, 3]) for _ in range(stages)][0]  # the rows were drawn with as many choices
        heads = [first * 2 ** i for i in range(stages)]
        c.update(embed_dim=heads[0] * size, num_heads=heads, depths=[rng.choice([1, 2, 2, 3]) for _ in heads], window_size=rng.choice([4, 7, 7, 8]),
                 patch_size=4, image_size=rng.choice([64, 96, 112, 224, 120]), mlp_ratio=rng.choice([4.0, 2.0, 3.0]), qkv_bias=rng.random() < 0.8,
                 drop_path_rate=rng.choice([0.1, 0.0, 0.2]), hidden_dropout_prob=dropout(rng), attention_probs_dropout_prob=dropout(rng))
    if family in ("resnet", "convnext"):
        stages = rng.choice([1, 2, 3, 4])
        c.update(hidden_sizes=[rng.randint(2, 16) * 8 for _ in range(stages)], depths=[rng.choice([1, 2, 3]) for _ in range(stages)],
                 image_size=rng.choice([64, 97, 128, 224, 225]))
    if family == "resnet":
        c.update(embedding_size=rng.choice([16, 24, 64]), layer_type=rng.choice(["basic", "bottleneck"]), hidden_act=often(rng, "relu", ["gelu", "silu"], 0.8),
                 downsample_in_first_stage=rng.random() < 0.2, downsample_in_bottleneck=rng.random() < 0.2)
    if family == "convnext":
        c.update(num_stages=stages, layer_scale_init_value=often(rng, 1e-6, [0.0], 0.8), patch_size=rng.choice([4, 4, 2]))
    return c


DECODERS = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "gpt_neox", "olmo2", "starcoder2", "mixtral", "qwen3_moe"]
ENCODERS = ["bert", "roberta", "xlm-roberta", "distilbert", "modernbert", "deberta-v2"]
SEQ2SEQ = ["t5", "mt5", "bart", "whisper"]
VISION = ["vit", "swin", "convnext", "resnet"]
ALL = DECODERS + ["gpt2", "opt"] + ENCODERS + SEQ2SEQ + VISION


def config(rng, family):
    if family in DECODERS: return llama(rng, family)
    if family in ("gpt2", "opt", "deberta-v2", "modernbert"):
        return {"gpt2": gpt2, "opt": opt, "deberta-v2": deberta, "modernbert": modernbert}[family](rng)
    if family in ENCODERS: return bert(rng, family)
    if family in ("t5", "mt5"): return t5(rng, family)
    if family in SEQ2SEQ: return bart(rng, family)
    return vision(rng, family)


def task(rng, c):
    family = c["model_type"]
    if family in VISION: return "image-classification"
    if family == "whisper": return "speech-seq2seq"
    if family in SEQ2SEQ: return "seq2seq-lm"
    if family in ENCODERS: return rng.choice(["masked-lm", "sequence-classification", "token-classification"])
    return often(rng, "causal-lm", ["sequence-classification"] + ["token-classification"] * (family not in ("gemma3_text", "olmo2", "opt")), 0.85)


def case(rng, only=ALL):
    c = config(rng, rng.choice(only))
    family = c["model_type"]
    k = dict(config=c, task=task(rng, c), micro_batch=rng.choice([1, 1, 2, 3, 4, 5, 8, 11]), min_capacity=False)
    if k["task"].endswith("-classification"):
        labels(rng, c, k["task"])
        if family in DECODERS + ["gpt2"]:
            c["pad_token_id"] = 0
    k["seq_len"] = rng.choice([rng.randint(2, 40), rng.randint(41, 300), rng.randint(301, 440), 64, 128, 256])
    if family in ("t5", "mt5", "bart") and rng.random() < 0.4:
        k["label_len"] = rng.randint(2, 200)
    k["precision"] = rng.choice("fp32 bf16 bf16 fp16 amp-bf16 amp-bf16 amp-fp16".split())
    k["optimizer"] = often(rng, "adamw", "adamw-fused adamw-loop sgd sgd-plain adafactor adamw-8bit paged-adamw-8bit".split(), 0.55)
    parts = ["attention"] * (family not in SEQ2SEQ) + ["every=2", "every=3"] if family not in ("swin", "convnext") else []
    ways = ["full"] * 4 + parts
    k["checkpointing"] = often(rng, "none", ways, 0.6) if family != "resnet" else "none"
    k["attention"] = often(rng, "sdpa", ["eager"], 0.65)
    k["attention_mask"] = rng.choice(TEXT) if family not in VISION + ["whisper"] else "none"
    k["accum"] = rng.choice([1, 1, 1, 2, 3])
    if rng.random() < 0.2: k["set_to_none"] = False
    if rng.random() < 0.25: k["clip"] = 1.0
    if rng.random() < 0.25 and family in DECODERS and k["task"] == "causal-lm": k["loss"] = "fused"
    names = TARGETS.get(family, LLAMA)
    if rng.random() < 0.25 and family not in ("resnet", "convnext"):
        chosen = "all-linear" if rng.random() < 0.3 else sorted(rng.sample(names, rng.randint(1, len(names))))
        k["lora"] = dict(r=rng.choice([1, 4, 8, 16, 33]), target_modules=chosen)
        if rng.random() < 0.5: k["lora"]["dropout"] = rng.choice([0.05, 0.1])
        if rng.random() < 0.35 and family not in ("gpt2", "mixtral", "qwen3_moe"):
            k["quantize"] = rng.choice(["nf4", "int8"])
    elif rng.random() < 0.12:
        k["freeze"] = rng.choice(FROZEN)
    return k
