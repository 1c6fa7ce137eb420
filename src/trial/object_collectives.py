"""PyTorch's object collectives over NCCL, on simulated GPUs.

They send pickles as tensors: kernels add up and compare the sizes, and simulated kernels compute
nothing. Here the pickles travel through the store of the process group. On the GPU the tensors that
hold pickles and sizes are made, and the collectives called, as PyTorch does, so that memory and
communicators are the same. Over anything but NCCL's devices PyTorch's own functions run.
"""

import functools
import inspect
import pickle
import weakref

# torch/csrc/distributed/c10d/TCPStoreLibUvBackend.cpp refuses values of more than 8 MiB.
PIECE = 1 << 20

counts = weakref.WeakKeyDictionary()


class Exchange(object):
    """One object collective of one process group, as this rank takes part in it."""

    def __init__(self, c10d, torch, values, device):
        self.c10d, self.torch, self.values = c10d, torch, values
        self.group = values["group"]
        self.device = torch.device(device)
        self.rank, self.size = self.group.rank(), self.group.size()
        self.store = c10d._get_process_group_store(self.group)
        self.weights = (True,) if values.get("weights_only") else ()

    def number(self, of):
        """Counts what this group did so far: every rank of it counts alike."""
        counted = counts.setdefault(self.group, {})
        counted[of] = counted.get(of, -1) + 1
        return "oomph/%s/%d" % (of, counted[of])

    def put(self, key, data):
        starts = range(0, len(data), PIECE)
        for start in starts:
            self.store.set("%s/%d" % (key, start // PIECE), data[start:start + PIECE])
        self.store.set(key, str(len(starts)))

    def get(self, key, readers=1):
        """Waits for what was put; the last of its readers removes it."""
        pieces = range(int(self.store.get(key)))
        data = b"".join(self.store.get("%s/%d" % (key, piece)) for piece in pieces)
        if readers == 1 or self.store.add(key + "/read", 1) == readers:
            for name in [key, key + "/read"] + ["%s/%d" % (key, piece) for piece in pieces]:
                try:
                    self.store.delete_key(name)
                except Exception:
                    break
        return data

    def packed(self, thing):
        tensor, _ = self.c10d._object_to_tensor(thing, "cpu", self.group, *self.weights)
        return tensor.numpy().tobytes()

    def unpacked(self, data):
        tensor = self.torch.frombuffer(bytearray(data), dtype=self.torch.uint8)
        return self.c10d._tensor_to_object(tensor, len(data), self.group, *self.weights)

    def bytes_on_gpu(self, count):
        return self.torch.empty(count, dtype=self.torch.uint8, device=self.device)

    def numbers_on_gpu(self, count):
        return self.torch.zeros(count, dtype=self.torch.long, device=self.device)

    def peer(self, name):
        """The rank in the group that `src` or `group_src` names; 0 by default, as in PyTorch."""
        rank = self.values.get("group_" + name)
        if rank is None:
            number = self.values.get(name)
            rank = self.c10d.get_group_rank(self.group, 0 if number is None else number)
        return rank

    def in_world(self, rank):
        """The number in the world of a rank of the group."""
        return self.c10d.get_global_rank(self.group, rank)


def gather_in_list(x, whole, part):
    x.c10d.all_gather(list(whole.chunk(x.size)), part, group=x.group)


def gather_at_once(x, whole, part):
    # PyTorch 2.15's all_gather_object; before, it gave a list, for which NCCL needs a copy.
    if hasattr(x.c10d, "all_gather_single"):
        x.c10d.all_gather_single(whole, part, group=x.group)
    else:
        gather_in_list(x, whole, part)


def sizes_of_all(x, mine, gather):
    """What both gathers begin with: this rank's pickle on its GPU, and everybody's sizes."""
    pickled = x.bytes_on_gpu(len(mine))
    size, sizes = x.numbers_on_gpu(1), x.numbers_on_gpu(x.size)
    gather(x, sizes, size)
    return pickled, size, sizes


def all_gather_object(x):
    mine = x.packed(x.values["obj"])
    key = x.number("all-gather")
    x.put("%s/%d" % (key, x.rank), mine)
    pickled, *kept = sizes_of_all(x, mine, gather_at_once)
    found = [x.get("%s/%d" % (key, rank), x.size) for rank in range(x.size)]
    longest = max(map(len, found))
    pickled.resize_(longest)
    together = x.bytes_on_gpu(longest * x.size)
    gather_at_once(x, together, pickled)
    for rank, data in enumerate(found):
        x.values["object_list"][rank] = x.unpacked(data)


def gather_object(x):
    to = x.peer("dst")
    x.c10d._validate_output_list_for_rank(x.rank, to, x.values["object_gather_list"])
    mine = x.packed(x.values["obj"])
    key = x.number("gather")
    x.put("%s/%d" % (key, x.rank), mine)
    # Each rank has to know the longest: all of them are made as long.
    x.put("%s/size/%d" % (key, x.rank), str(len(mine)).encode())
    pickled, *kept = sizes_of_all(x, mine, gather_in_list)
    longest = max(int(x.get("%s/size/%d" % (key, rank), x.size)) for rank in range(x.size))
    pickled.resize_(longest)
    parts = None
    if x.rank == to:
        parts = list(x.bytes_on_gpu(longest * x.size).chunk(x.size))
    x.c10d.gather(pickled, parts, dst=x.in_world(to), group=x.group)
    if x.rank == to:
        for rank in range(x.size):
            found = x.get("%s/%d" % (key, rank))
            x.values["object_gather_list"][rank] = x.unpacked(found)


def give_list(x, key, readers, call):
    """What the source of a list does; `call` sends one tensor."""
    data = [x.packed(thing) for thing in x.values["object_list"]]
    if readers:
        x.put(key, pickle.dumps(data))
    kept = [(x.bytes_on_gpu(len(one)), x.numbers_on_gpu(1)) for one in data]
    sizes = x.numbers_on_gpu(len(data))
    call(sizes)
    whole = kept[0][0] if len(kept) == 1 else x.bytes_on_gpu(sum(map(len, data)))
    call(whole)


def take_list(x, key, readers, call):
    """What the others do; `call` receives one tensor."""
    things = x.values["object_list"]
    sizes = x.numbers_on_gpu(len(things))
    call(sizes)
    data = pickle.loads(x.get(key, readers))
    whole = x.bytes_on_gpu(sum(map(len, data)))
    call(whole)
    for at, one in enumerate(data[:len(things)]):
        things[at] = x.unpacked(one)


def broadcast_object_list(x):
    source = x.peer("src")
    key = x.number("broadcast")

    def call(tensor):
        x.c10d.broadcast(tensor, src=x.in_world(source), group=x.group)

    side = give_list if x.rank == source else take_list
    side(x, key, x.size - 1, call)


def scatter_object_list(x):
    source, given = x.peer("src"), x.values["scatter_object_input_list"]
    number = x.in_world(source)
    key = x.number("scatter")
    parts, kept = None, ()
    if x.rank == source:
        data = [x.packed(thing) for thing in given]
        longest = max(map(len, data))
        for rank, one in enumerate(data):
            x.put("%s/%d" % (key, rank), pickle.dumps((longest, one)))
        parts = [x.bytes_on_gpu(longest) for _ in data]
        kept = [x.numbers_on_gpu(1) for _ in data]
    x.c10d.broadcast(x.numbers_on_gpu(1), src=number, group=x.group)
    longest, mine = pickle.loads(x.get("%s/%d" % (key, x.rank)))
    x.c10d.scatter(x.bytes_on_gpu(longest), parts, src=number, group=x.group)
    x.c10d.scatter(x.numbers_on_gpu(1), list(kept) or None, src=number, group=x.group)
    x.values["scatter_object_output_list"][0] = x.unpacked(mine)


def between_two(x, batched, alone, peer):
    """Returns what sends, or receives, one tensor."""
    number = x.in_world(peer)

    def call(tensor):
        if x.values.get("use_batch"):
            operation = x.c10d.P2POp(batched, tensor, number, x.group)
            x.c10d.batch_isend_irecv([operation]).pop().wait()
        else:
            alone(tensor, number, group=x.group)

    return call


def send_object_list(x):
    to = x.peer("dst")
    key = x.number("message-%d-%d" % (x.rank, to))
    give_list(x, key, 1, between_two(x, x.c10d.isend, x.c10d.send, to))


def recv_object_list(x):
    source = x.peer("src")
    key = x.number("message-%d-%d" % (source, x.rank))
    take_list(x, key, 1, between_two(x, x.c10d.irecv, x.c10d.recv, source))
    return x.in_world(source)


def refused(name, x):
    """Whether PyTorch's own function has something to object to: it says so before it sends."""
    values = x.values
    for end in ("src", "dst"):
        if values.get(end) is not None and values.get("group_" + end) is not None:
            return True
        if name.startswith(("send", "recv")) and end in values:
            nobody = values[end] is None and values.get("group_" + end) is None
            return nobody or x.peer(end) == x.rank
    if name == "scatter_object_list":
        out, given = values["scatter_object_output_list"], values["scatter_object_input_list"]
        short = x.rank == x.peer("src") and (given is None or len(given) != x.size)
        return not isinstance(out, list) or not out or short
    things = values.get("object_list")
    return name != "all_gather_object" and "object_list" in values and not things


def wrapped(name, own, ours, c10d):
    signature = inspect.signature(own)

    def exchange(arguments, named):
        bound = signature.bind(*arguments, **named)
        bound.apply_defaults()
        values = bound.arguments
        values["group"] = values["group"] or c10d._get_default_group()
        if c10d._rank_not_in_group(values["group"]):
            return None
        import torch

        # torch 2.4 has the second name.
        device_of = getattr(c10d, "_get_object_coll_device", None) or c10d._get_pg_default_device
        device = values.get("device") or device_of(values["group"])
        nccl = c10d.get_backend(values["group"]) == "nccl"
        if not nccl or torch.device(device).type != "cuda":
            return None
        x = Exchange(c10d, torch, values, device)
        return None if refused(name, x) else x

    @functools.wraps(own)
    def function(*arguments, **named):
        try:
            x = exchange(arguments, named)
        except Exception:
            x = None
        return own(*arguments, **named) if x is None else ours(x)

    return function


def mend(c10d):
    """Puts these in the place of PyTorch's own, before anybody has taken names from the module."""
    for ours in (
        all_gather_object, gather_object, broadcast_object_list, scatter_object_list,
        send_object_list, recv_object_list,
    ):
        name = ours.__name__
        own = getattr(c10d, name, None)
        if own is not None:
            setattr(c10d, name, wrapped(name, own, ours, c10d))
