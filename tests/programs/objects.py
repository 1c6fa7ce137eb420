"""Object collectives over NCCL, as evaluation loops, checkpoints and launchers of frameworks use them. Any number of
ranks from 2. Every rank checks what it has got; pickles of a few bytes, and of 3 MiB and more (in several pieces)."""
import inspect
import os
import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import all_gather_object  # as PyTorch's own modules take it

torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
dist.init_process_group("nccl")
rank, world = dist.get_rank(), dist.get_world_size()


def thing(of, size):
    return {"from": of, "text": "x" * (size + of)}


for size in (1, 3 << 20, 10):
    everybodys = [thing(other, size) for other in range(world)]
    found = [None] * world
    all_gather_object(found, thing(rank, size))
    assert found == everybodys, size

    gathered = [None] * world if rank == 1 else None
    dist.gather_object(thing(rank, size), gathered, dst=1)
    assert rank != 1 or gathered == everybodys, size

    box = [thing(rank, size), rank, None]
    dist.broadcast_object_list(box, src=1)
    assert box == [thing(1, size), 1, None], size

    scattered = [None]
    dist.scatter_object_list(scattered, everybodys if rank == 0 else None, src=0)
    assert scattered == [everybodys[rank]], size

    options = [{}, {"use_batch": True}] if "use_batch" in inspect.signature(dist.send_object_list).parameters else [{}]
    for option in options:
        message = [None, None]
        if rank == 0:
            dist.send_object_list([thing(0, size), "end"], dst=world - 1, **option)
        elif rank == world - 1:
            source = dist.recv_object_list(message, src=0, **option)
            assert message == [thing(0, size), "end"] and source in (0, None), (source, size)

# A group of some ranks, whose numbers are not those of the world.
last_two = dist.new_group([world - 2, world - 1])
if rank >= world - 2:
    found = [None, None]
    dist.all_gather_object(found, rank, group=last_two)
    assert found == [world - 2, world - 1], found
    box = [rank]
    dist.broadcast_object_list(box, src=world - 1, group=last_two)
    assert box == [world - 1], box

# PyTorch's own objections are left to PyTorch.
try:
    dist.scatter_object_list([], None, src=0)
    raise SystemExit("an empty list was taken")
except ValueError:
    pass
dist.destroy_process_group()
print("rank", rank, "is right", flush=True)
