//! What moved between versions of transformers (and, where transformers asks for it, PyTorch): one
//! constant for each change that moves memory, named for what holds from that version on.
//!
//! Each was read in the sources of the versions on either side. Which models' peaks were compared with
//! which versions': tests/data/transformers_torch2.8.jsonl.

use crate::model::options::Version;

/// Masks are built without vmap, and much is written anew.
pub const TRANSFORMERS_5: Version = Version::new(5, 0);

/// ModernBERT is written as the newer encoders are, with masks from `masking_utils`.
///
/// Source: `models/modernbert/modeling_modernbert.py` of 5.0.0 and 5.1.0.
pub const MODERNBERT_AS_OTHERS: Version = Version::new(5, 1);

/// Masks are made from lengths; before, from a tensor of the cache's positions, which most models made.
///
/// Source: `masking_utils.py`, `models/{llama,bert}/modeling_*.py` of 5.3.0 and 5.4.0.
pub const MASKS_FROM_LENGTHS: Version = Version::new(5, 4);

/// Gemma 2's embedding is scaled by a buffer; before, by a tensor made for it.
///
/// Source: `models/gemma2/modeling_gemma2.py` of 5.3.0 and 5.4.0.
pub const GEMMA2_SCALES_BY_BUFFER: Version = Version::new(5, 4);

/// GPT-2 has no buffers of its own for the causal mask, which `masking_utils` makes alone; before, the
/// scores were masked twice.
///
/// Source: `models/gpt2/modeling_gpt2.py` of 5.1.0 and 5.2.0.
pub const GPT2_WITHOUT_BUFFERS: Version = Version::new(5, 2);

/// GPT-2 scales its scores by one number; before, they were divided by a tensor.
///
/// Source: `models/gpt2/modeling_gpt2.py` of 5.3.0 and 5.4.0.
pub const GPT2_SCALES_AT_ONCE: Version = Version::new(5, 4);

/// A mixture counts its experts' rows in integers; before, in floats.
///
/// Source: `integrations/moe.py` of 5.0.0 and 5.1.0.
pub const EXPERTS_COUNT_INTEGERS: Version = Version::new(5, 1);

/// The experts' first product, and their products in the order of experts, have names no longer than
/// they are read.
///
/// Source: `integrations/moe.py` of 5.2.0 and 5.3.0.
pub const EXPERTS_NAME_LESS: Version = Version::new(5, 3);

/// Nor has what goes into their second product, whose outcome takes its name.
///
/// Source: `integrations/moe.py` of 5.3.0 and 5.4.0.
pub const EXPERTS_NAME_LEAST: Version = Version::new(5, 4);

/// The order of a mixture's rows is inverted by writing at indices; before, by a second sort.
///
/// Source: `integrations/moe.py` of 5.3.0 and 5.4.0.
pub const EXPERTS_INVERT_BY_INDEX: Version = Version::new(5, 4);

/// A mixture's rows are picked in their order; before, for each token in turn, and those again by order.
///
/// Source: `integrations/moe.py` of 5.4.0 and 5.5.4.
pub const EXPERTS_PICK_ONCE: Version = Version::new(5, 5);

/// A router's probabilities have a name beside its logits; before, they take theirs, so that Qwen3-MoE's
/// weights stay in float32.
///
/// Source: `models/{mixtral,qwen3_moe}/modeling_*.py` of 5.5.4 and 5.6.2.
pub const PROBABILITIES_BESIDE_LOGITS: Version = Version::new(5, 6);

/// Rows of experts on other devices are looked for, and what became of them is filled with zeros.
///
/// Source: `integrations/moe.py` of 5.5.4 and 5.6.2.
pub const EXPERTS_MAY_BE_INVALID: Version = Version::new(5, 6);

/// A mixture sorts its rows and their experts at once, fills such rows too, and inverts their order last.
///
/// Source: `integrations/moe.py` of 5.7.0 and 5.8.1.
pub const EXPERTS_SORT_ONCE: Version = Version::new(5, 8);

/// Copies of both products are filled; before, the rows' sums in place.
///
/// Source: `integrations/moe.py` of 5.16.1 and 5.17.0.
pub const EXPERTS_FILL_PRODUCTS: Version = Version::new(5, 17);

/// Rows of experts on other devices are looked for where there are any.
///
/// Source: `integrations/moe.py` of 5.17.0 and 5.18.0.
pub const EXPERTS_ALL_VALID: Version = Version::new(5, 18);

/// Whisper copies keys before it makes values; before, once both are there.
///
/// Source: `models/whisper/modeling_whisper.py` of 5.4.0 and 5.5.4.
pub const WHISPER_COPIES_IN_TURN: Version = Version::new(5, 5);

/// OLMo 2 has a class that classifies samples.
///
/// Source: `models/olmo2/modeling_olmo2.py` of 5.5.4 and 5.6.2.
pub const OLMO2_CLASSIFIES: Version = Version::new(5, 6);

/// ViT and Swin are written as decoders are: attention from `ALL_ATTENTION_FUNCTIONS`, an MLP of its own,
/// other names of modules; Swin takes sdpa.
///
/// Source: `models/{vit,swin}/modeling_*.py` of 5.8.1 and 5.9.0.
pub const VISION_AS_DECODERS: Version = Version::new(5, 9);

/// A mask's padding is looked for by counting its ones; before, by asking whether all are.
///
/// Source: `masking_utils.py` of 5.13.1 and 5.14.1.
pub const PADDING_IS_COUNTED: Version = Version::new(5, 14);

/// Rotary angles are made by broadcasting; before, by a matrix product.
///
/// Source: `models/llama/modeling_llama.py` of 5.18.0 and 5.19.0.
pub const ROTARY_BROADCASTS: Version = Version::new(5, 19);

/// T5 is written as BART is: attention from `ALL_ATTENTION_FUNCTIONS`, sdpa too. Its
/// masks are from `masking_utils` since 5.0.
///
/// Source: `models/t5/modeling_t5.py` of 5.14.1 and 5.15.1.
pub const T5_AS_BART: Version = Version::new(5, 15);

/// OPT makes no causal mask for sdpa where none is passed; before, it was given the ones that positions
/// are counted by.
///
/// Source: `models/opt/modeling_opt.py` of 5.17.0 and 5.18.0.
pub const OPT_LEAVES_MASK_OUT: Version = Version::new(5, 18);

/// What goes into a decoder's head is not sliced.
///
/// Source: `models/llama/modeling_llama.py` of 5.20.2 and 5.21.1.
pub const HEAD_TAKES_ALL: Version = Version::new(5, 21);

/// Gemma 2 refuses sdpa, which has no soft cap.
///
/// Source: `models/gemma2/modeling_gemma2.py` of 5.20.2 and 5.21.1.
pub const GEMMA2_REFUSES_SDPA: Version = Version::new(5, 21);

/// `sdpa_attention_forward` hands query, key and value on with the strides that they have; before, it
/// makes each contiguous.
///
/// Source: `integrations/sdpa_attention.py` of 4.55.4 and 4.56.2.
pub const SDPA_KEEPS_STRIDES: Version = Version::new(4, 56);

/// `sdpa_attention_forward` leaves groups of key and value heads to PyTorch where there is no mask
/// (`use_gqa_in_sdpa`); before, it repeats them always.
///
/// Source: `integrations/sdpa_attention.py` of 4.53.3 and 4.54.1.
pub const SDPA_GROUPS_HEADS: Version = Version::new(4, 54);

/// A decoder's layer returns its hidden states alone and names nothing else (`hidden_states, _ = ...`);
/// before, what attention and a router give besides have names of their own until it returns.
///
/// Source: `models/mixtral/modeling_mixtral.py` of 4.53.3 and 4.54.1.
pub const LAYERS_RETURN_ONE: Version = Version::new(4, 54);

/// Decoders ask `masking_utils` for their masks (`create_causal_mask`); before, each draws its own
/// (`_update_causal_mask`), one for all layers.
///
/// Source: `models/llama/modeling_llama.py` of 4.52.4 and 4.53.3, and their like.
pub const MASKS_BY_FUNCTION: Version = Version::new(4, 53);

/// The rotary table's scaling is a part of the block without autocast; before, it follows it, so that
/// unscaled cosines and sines are both there.
///
/// Source: `models/llama/modeling_llama.py` of 4.50.3 and 4.51.3.
pub const ROTARY_SCALES_AT_ONCE: Version = Version::new(4, 51);

/// `ForCausalLMLoss` shifts labels by padding; before, it cuts the last token's logits off, which copies
/// them.
///
/// Source: `loss/loss_utils.py` of 4.48.3 and 4.49.0.
pub const LOSS_PADS_LABELS: Version = Version::new(4, 49);

/// OLMo 2 turns query and key in float32 and casts its norms' products; before, it does as Llama.
///
/// Source: `models/olmo2/modeling_olmo2.py` of 4.51.3 and 4.52.4.
pub const OLMO2_IN_F32: Version = Version::new(4, 52);

/// Starcoder 2's layers are checkpointed; from 4.48 on until then `gradient_checkpointing_enable` does
/// nothing on it.
///
/// Source: `models/starcoder2/modeling_starcoder2.py` of 4.51.3 and 4.52.4.
pub const STARCODER2_CHECKPOINTS: Version = Version::new(4, 52);

/// Phi-3 turns a part of each head (`partial_rotary_factor`); before, all of it.
///
/// Source: `models/phi3/modeling_phi3.py` of 4.48.3 and 4.49.0.
pub const PHI3_TURNS_PARTS: Version = Version::new(4, 49);

/// Mixtral, Qwen2, Phi-3 and Starcoder 2 draw their masks as Mistral does, with windows; before, as Llama,
/// without.
///
/// Source: `_update_causal_mask` in `models/{mixtral,qwen2,phi3,starcoder2}/modeling_*.py` of 4.45.2 and 4.46.3.
pub const WINDOWS_DRAWN: Version = Version::new(4, 46);

/// Qwen2 draws its mask as Mistral does, with the window that config.json names, used or not; before,
/// as Llama, without one.
///
/// Source: `models/qwen2/modeling_qwen2.py` and `configuration_qwen2.py` of 4.48.3 and 4.49.0.
pub const QWEN2_DRAWS_WINDOWS: Version = Version::new(4, 49);

/// Masks are drawn with the window only where it is used; whether one is drawn still goes by the one
/// that config.json names. Gemma 2's layers index the mask that they cut their window out of; before,
/// they slice it.
///
/// Source: `models/{qwen2,gemma2}/modeling_*.py` of 4.51.3 and 4.52.4.
pub const WINDOWS_WHERE_USED: Version = Version::new(4, 52);

/// GPT-2 asks `masking_utils` for its mask, and turns heads of key and value before those of query.
///
/// Source: `models/gpt2/modeling_gpt2.py` of 4.53.3 and 4.54.1.
pub const GPT2_MASKS_BY_FUNCTION: Version = Version::new(4, 54);

/// GPT-2 has a cache's positions and draws its mask as Llama did; before, `AttentionMaskConverter` makes
/// it, positions come before embeddings, and attention gives its probabilities back to no one.
///
/// Source: `models/gpt2/modeling_gpt2.py` of 4.51.3 and 4.52.4.
pub const GPT2_HAS_CACHE_POSITIONS: Version = Version::new(4, 52);

/// Most decoders take their attention from `ALL_ATTENTION_FUNCTIONS`; before, each has classes of its own.
///
/// Source: `models/llama/modeling_llama.py` of 4.47.1 and 4.48.3.
pub const ATTENTION_INTERFACE: Version = Version::new(4, 48);

/// GPT-NeoX takes its attention from there too, and its loss from `ForCausalLMLoss`; before, the loss is
/// of logits in the model's own dtype.
///
/// Source: `models/gpt_neox/modeling_gpt_neox.py` of 4.48.3 and 4.49.0.
pub const NEOX_ATTENTION_INTERFACE: Version = Version::new(4, 49);

/// The attention classes of Gemma 2 and of GPT-NeoX call functions (`GEMMA2_ATTENTION_FUNCTION`); before,
/// they compute themselves, and GPT-NeoX hides later tokens by a buffer besides the mask.
///
/// Source: `models/{gemma2,gpt_neox}/modeling_*.py` of 4.46.3 and 4.47.1.
pub const ATTENTION_FUNCTIONS: Version = Version::new(4, 47);

/// Most decoders take their loss from `ForCausalLMLoss`; before, their `forward` computes it.
///
/// Source: `models/llama/modeling_llama.py` of 4.45.2 and 4.46.3, and their like.
pub const LOSS_FUNCTION: Version = Version::new(4, 46);

/// What goes into a decoder's head is sliced (`num_logits_to_keep`; [`HEAD_TAKES_ALL`] ends it).
///
/// Source: `models/llama/modeling_llama.py` of 4.44.2 and 4.45.2, and their like.
pub const HEAD_IS_SLICED: Version = Version::new(4, 45);

/// Qwen2, Starcoder 2 and GPT-NeoX make cosines and sines once, by a module of the model; before, each
/// attention has buffers of those of all positions.
///
/// Source: `models/{qwen2,starcoder2,gpt_neox}/modeling_*.py` of 4.44.2 and 4.45.2.
pub const ROTARY_OF_MODEL: Version = Version::new(4, 45);

/// Starcoder 2 takes its loss from `ForCausalLMLoss`; before, its `forward` computes it.
///
/// Source: `models/starcoder2/modeling_starcoder2.py` of 4.46.3 and 4.47.1.
pub const STARCODER2_LOSS_FUNCTION: Version = Version::new(4, 47);

/// GPT-2 slices what goes into its head (`logits_to_keep`), as other decoders do.
///
/// Source: `models/gpt2/modeling_gpt2.py` of 4.52.4 and 4.53.3.
pub const GPT2_SLICES_FOR_HEAD: Version = Version::new(4, 53);

/// Gemma 3's embedding is scaled by a buffer; before, by a number.
///
/// Source: `models/gemma3/modeling_gemma3.py` of 4.50.3 and 4.51.3.
pub const GEMMA3_SCALES_BY_BUFFER: Version = Version::new(4, 51);

/// Classifiers of samples look for the last token that is no padding by its index; before, for the first
/// that is, less one.
///
/// Source: `models/llama/modeling_llama.py` of 4.48.3 and 4.49.0.
pub const LAST_TOKEN_BY_INDEX: Version = Version::new(4, 49);

/// Those indices are int32; before, int64.
///
/// Source: `models/llama/modeling_llama.py` of 4.49.0 and 4.50.3.
pub const LAST_TOKEN_IN_I32: Version = Version::new(4, 50);

/// Eager attention of BERT and RoBERTa splits queries into heads at once, and gives its probabilities
/// back; before, it splits them after values, and gives probabilities only where they were asked for.
///
/// Source: `models/{bert,roberta,xlm_roberta}/modeling_*.py` of 4.53.3 and 4.54.1.
pub const BERT_ATTENTION_ANEW: Version = Version::new(4, 54);

/// ConvNeXt puts channels last for a norm of them and calls PyTorch's; before, it writes the norm out.
///
/// Source: `models/convnext/modeling_convnext.py` of 4.55.4 and 4.56.2.
pub const CONVNEXT_TURNS_FOR_NORM: Version = Version::new(4, 56);

/// ViT's layer has a name for its norm's output, and its attention gives its probabilities back; before,
/// neither.
///
/// Source: `models/vit/modeling_vit.py` of 4.55.4 and 4.56.2.
pub const VIT_NAMES_ALL: Version = Version::new(4, 56);

/// ViT takes its attention from `ALL_ATTENTION_FUNCTIONS`, and projects queries last; before, it has
/// classes of its own, which project them first and split them into heads last.
///
/// Source: `models/vit/modeling_vit.py` of 4.49.0 and 4.50.3.
pub const VIT_ATTENTION_INTERFACE: Version = Version::new(4, 50);

/// Swin drops paths by a rate that rises from none in the first layer; before, by the same rate in all.
///
/// Source: `models/swin/modeling_swin.py` of 4.46.3 and 4.47.1.
pub const SWIN_DROPS_BY_DEPTH: Version = Version::new(4, 47);

/// BART takes its attention from `ALL_ATTENTION_FUNCTIONS`; before, it has classes of its own: eager
/// scores are of all heads of all samples in one row, and sdpa copies where there is a mask.
///
/// Source: `models/bart/modeling_bart.py` of 4.52.4 and 4.53.3.
pub const BART_ATTENTION_INTERFACE: Version = Version::new(4, 53);

/// BART's decoder has a cache's positions; before, its own attention gives its keys and values to the
/// layer, copies all that it turned, and the mask is `AttentionMaskConverter`'s.
///
/// Source: `models/bart/modeling_bart.py` of 4.51.3 and 4.52.4.
pub const BART_HAS_CACHE_POSITIONS: Version = Version::new(4, 52);

/// Whisper takes its attention from `ALL_ATTENTION_FUNCTIONS`; before, it has classes of its own: eager
/// scores are not multiplied again, and for sdpa queries are not.
///
/// Source: `models/whisper/modeling_whisper.py` of 4.52.4 and 4.53.3.
pub const WHISPER_ATTENTION_INTERFACE: Version = Version::new(4, 53);

/// Whisper's encoder looks its positions up; before, it adds the table.
///
/// Source: `models/whisper/modeling_whisper.py` of 4.52.4 and 4.53.3.
pub const WHISPER_EMBEDS_PLACES: Version = Version::new(4, 53);

/// Layers of Whisper's encoder return their probabilities too; before, only where they were asked for.
///
/// Source: `models/whisper/modeling_whisper.py` of 4.53.3 and 4.54.1.
pub const WHISPER_RETURNS_PROBABILITIES: Version = Version::new(4, 54);

/// Layers of Whisper's encoder clamp in float16; before, only where a number is not finite.
///
/// Source: `models/whisper/modeling_whisper.py` of 4.50.3 and 4.51.3.
pub const WHISPER_CLAMPS_AT_ONCE: Version = Version::new(4, 51);

/// Whisper's decoder has positions for each sample; before, one row of them.
///
/// Source: `models/whisper/modeling_whisper.py` of 4.48.3 and 4.49.0.
pub const WHISPER_REPEATS_POSITIONS: Version = Version::new(4, 49);

/// Whisper projects values before it copies the keys that it turned ([`WHISPER_COPIES_IN_TURN`] ends it); before, after.
///
/// Source: `models/whisper/modeling_whisper.py` of 4.51.3 and 4.52.4.
pub const WHISPER_COPIES_BOTH_LAST: Version = Version::new(4, 52);

/// RoBERTa and XLM-RoBERTa take sdpa; before, transformers refuses it and is eager by default.
///
/// Source: `_supports_sdpa` in `models/{roberta,xlm_roberta}/modeling_*.py` of 4.44.2 and 4.45.2.
pub const SDPA_IN_ROBERTA: Version = Version::new(4, 45);

/// DistilBERT and OPT take sdpa; before, transformers refuses it and is eager by default.
///
/// Source: `_supports_sdpa` in `models/{distilbert,opt}/modeling_*.py` of 4.45.2 and 4.46.3.
pub const SDPA_IN_DISTILBERT_AND_OPT: Version = Version::new(4, 46);

/// Phi-3 takes sdpa; before, transformers refuses it and is eager by default.
///
/// Source: `_supports_sdpa` in `models/phi3/modeling_phi3.py` of 4.44.2 and 4.45.2.
pub const SDPA_IN_PHI3: Version = Version::new(4, 45);

/// Gemma 2 is eager where no attention is asked for, until [`ATTENTION_INTERFACE`].
///
/// Source: `_check_and_enable_sdpa` in `models/gemma2/modeling_gemma2.py` of 4.44.2 and 4.45.2.
pub const GEMMA2_EAGER_BY_DEFAULT: Version = Version::new(4, 45);
