"""`fully_shard` as torchtitan uses it, on 4 ranks: meta device, bf16 with reductions in fp32, checkpointing of each block.

    torchrun --nproc-per-node 4 sharded.py [hsdp|offload|compile]
"""
import os
import sys
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.nn import functional as F

WIDTH, HEADS, VOCABULARY = 512, 8, 8192
kind = sys.argv[1] if len(sys.argv) > 1 else ""
rank = int(os.environ["LOCAL_RANK"])
torch.cuda.set_device(rank)
# Norms of gradients on the host are reduced there.
dist.init_process_group("cpu:gloo,cuda:nccl")
if kind == "hsdp":
    mesh = init_device_mesh("cuda", (2, 2), mesh_dim_names=("replicate", "shard"))
else:
    mesh = init_device_mesh("cuda", (4,))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.before_attention, self.before_mlp = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.query_key_value, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        batch, length, _ = x.shape
        heads = self.query_key_value(self.before_attention(x)).view(batch, length, 3, HEADS, WIDTH // HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, WIDTH))
        return x + self.down(F.silu(self.up(self.before_mlp(x))))


with torch.device("meta"):
    blocks = [Block() for _ in range(4)]
    model = nn.Sequential(nn.Embedding(VOCABULARY, WIDTH), *blocks, nn.RMSNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY))
offload = kind == "offload"
options = dict(mesh=mesh, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32),
               offload_policy=CPUOffloadPolicy() if offload else OffloadPolicy())
for place in range(1, 5):
    block = checkpoint_wrapper(model[place])
    model[place] = fully_shard(torch.compile(block) if kind == "compile" else block, **options)
fully_shard(model, **options)
model.to_empty(device="cpu" if offload else "cuda")
for parameter in model.parameters():
    nn.init.normal_(parameter, std=0.02)
optimizer = torch.optim.AdamW(model.parameters(), fused=not offload)
for step in range(3):
    tokens = torch.randint(0, VOCABULARY, (4, 257), device="cuda")
    logits = model(tokens[:, :-1])
    F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten()).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0).full_tensor().item()
    optimizer.step()
    optimizer.zero_grad()
print("rank", rank, torch.cuda.max_memory_allocated())
dist.destroy_process_group()
