"""`flex_attention`, compiled (inductor, Triton): a causal mask by blocks, a bias by distance, forward and backward."""
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention


def causal(batch, head, query, key):
    return query >= key


def nearer(score, batch, head, query, key):
    return score + (key - query)


attend = torch.compile(flex_attention)
mask = create_block_mask(causal, None, None, 1024, 1024, device="cuda")
shape = dict(device="cuda", dtype=torch.bfloat16, requires_grad=True)
query, key, value = (torch.randn(4, 8, 1024, 64, **shape) for _ in range(3))
for step in range(3):
    attend(query, key, value, block_mask=mask, score_mod=nearer).sum().backward()
assert all(tensor.grad is not None for tensor in (query, key, value))
print(torch.cuda.max_memory_allocated())
