"""Object collectives, as evaluation loops and checkpoints of frameworks use them."""
import os
import torch
import torch.distributed as dist

torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
dist.init_process_group("nccl")
rank, world = dist.get_rank(), dist.get_world_size()
names = [None] * world
dist.all_gather_object(names, "x" * (10 + rank))
assert names == ["x" * (10 + other) for other in range(world)], names
box = [{"from": rank}]
dist.broadcast_object_list(box, src=1)
assert box == [{"from": 1}], box
dist.destroy_process_group()
