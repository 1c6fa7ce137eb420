"""Several ranks under torchrun: ddp, fsdp1, fsdp2 or tp. The rendezvous and small collectives are checked."""
import os
import sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

kind, local = sys.argv[1], int(os.environ["LOCAL_RANK"])
torch.cuda.set_device(local)
dist.init_process_group("nccl")
rank, world = dist.get_rank(), dist.get_world_size()
numbers = torch.tensor([rank + 1, 10 * rank]).cuda()
dist.all_reduce(numbers)
assert numbers.tolist() == [world * (world + 1) // 2, 5 * world * (world - 1)], numbers
parts = [torch.zeros(2, dtype=torch.long, device="cuda") for _ in range(world)]
dist.all_gather(parts, torch.tensor([rank, -rank]).cuda())
assert [part.tolist() for part in parts] == [[other, -other] for other in range(world)], parts
half = dist.new_group(list(range(world // 2)))
if rank < world // 2:
    dist.barrier(half)
model = nn.Sequential(*[nn.Sequential(nn.Linear(1024, 4096), nn.GELU(), nn.Linear(4096, 1024)) for _ in range(6)]).cuda()
if kind == "ddp":
    model = DistributedDataParallel(model, device_ids=[local])
elif kind == "fsdp1":
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy
    model = FullyShardedDataParallel(model, auto_wrap_policy=ModuleWrapPolicy({nn.Sequential}), use_orig_params=True)
elif kind == "fsdp2":
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:  # torch 2.4
        from torch.distributed._composable.fsdp import fully_shard
    for layer in model:
        fully_shard(layer)
    fully_shard(model)
elif kind == "tp":
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
    mesh = init_device_mesh("cuda", (world,))
    for layer in model:
        parallelize_module(layer, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
for step in range(2):
    model(torch.randn(64, 1024, device="cuda")).mean().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
dist.barrier()
print(kind, rank, torch.cuda.max_memory_allocated())
dist.destroy_process_group()
