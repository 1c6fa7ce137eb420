"""What flash-attn 2 allocates, as its source says (`flash_attn_interface.py`, `csrc/flash_attn/flash_api.cpp`, commit 0251105):
the package needs a compiler for CUDA, and its kernels would do nothing here. transformers calls it as it would the package.
"""
import sys
import types

import torch


def splits(batch, heads, queries, keys, head_dim):
    block = 256 if head_dim <= 64 else 128 if head_dim <= 128 else 64
    key_blocks, blocks = -(-keys // block), batch * heads * -(-queries // 64)
    sms = 2 * torch.cuda.get_device_properties(0).multi_processor_count
    if blocks >= 0.8 * sms: return 1
    eligible = [n for n in range(1, min(128, sms, key_blocks) + 1) if n == 1 or -(-key_blocks // n) != -(-key_blocks // (n - 1))]
    efficiency = {n: (w := n * blocks / sms) / -(-w // 1) for n in eligible}
    return next((n for n in eligible if efficiency[n] >= 0.85 * max(efficiency.values())), 1)


class Func(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, dropout):
        (batch, queries, heads, dim), keys = q.shape, k.shape[1]
        q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
        floats = lambda *sizes: torch.empty(sizes, dtype=torch.float32, device=q.device)
        out, lse = torch.empty_like(q), floats(batch, heads, queries)
        parts = splits(batch, heads, queries, keys, dim) if dropout == 0 else 1
        rounded = -(-dim // 32) * 32 if dim <= 128 else -(-dim // 64) * 64
        accumulators = (floats(parts, batch, heads, queries), floats(parts, batch, heads, queries, rounded)) if parts > 1 else ()
        rng = torch.empty(2, dtype=torch.int64, device=q.device)
        ctx.save_for_backward(q, k, v, out, lse, rng)
        return out[..., :dim]

    @staticmethod
    def backward(ctx, grad):
        q, k, v, out, lse, rng = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        if grad.stride(-1) != 1: grad = grad.contiguous()
        (batch, queries, heads, dim), (keys, groups) = q.shape, k.shape[1:3]
        rows, rounded = -(-queries // 128) * 128, -(-dim // 32) * 32 if dim <= 128 else -(-dim // 64) * 64
        floats = lambda *sizes: torch.empty(sizes, dtype=torch.float32, device=q.device)
        delta, total = floats(batch, heads, rows), floats(batch, rows, heads, rounded)
        if heads != groups:
            wide = [torch.empty(batch, keys, heads, dim, dtype=q.dtype, device=q.device) for _ in range(2)]
            for thin, wide_ in zip((dk, dv), wide):
                torch.sum(wide_.reshape(batch, keys, groups, heads // groups, dim), 3, out=thin)
        return dq[..., :dim], dk[..., :dim], dv[..., :dim], None


def flash_attn_func(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0,
                    alibi_slopes=None, deterministic=False, return_attn_probs=False):
    return Func.apply(q, k, v, dropout_p)


def refused(*_, **__):
    raise NotImplementedError("the stand-in has no unpadded attention")


def varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None, causal=False,
           window_size=(-1, -1), softcap=0.0, alibi_slopes=None, deterministic=False, return_attn_probs=False, block_table=None):
    refused()  # its signature says what the package supports


def install():
    import transformers.modeling_flash_attention_utils as utils
    module, padding = types.ModuleType("flash_attn"), types.ModuleType("flash_attn.bert_padding")
    module.flash_attn_func, module.flash_attn_varlen_func, module.flash_attn_with_kvcache = flash_attn_func, varlen, refused
    padding.pad_input = padding.unpad_input = refused
    sys.modules.update({"flash_attn": module, "flash_attn.bert_padding": padding})
    utils.is_flash_attn_2_available = lambda *_, **__: True
    asks = utils._is_packed_sequence  # a bool of the device reads true here
    utils._is_packed_sequence = lambda *a: (asks(*a), False)[1]
    from transformers import PreTrainedModel
    PreTrainedModel._flash_attn_can_dispatch = lambda self, *_, **__: True
