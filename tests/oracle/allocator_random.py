#!/usr/bin/env python3
"""Has real PyTorch's caching allocator serve random allocations and frees, and writes down its statistics.

    allocator_random.py --python VENV/bin/python [--seeds 1-40] [--mode expandable|default] [--library FILE]
                        [--total BYTES] >> tests/data/allocator/random.txt

Needs torch and no GPU: it runs on the simulated GPU (`cargo build` makes its library). A line a run:

    TORCH MODE SEED TOTAL CAPACITY ran|oom ALLOCATIONS PEAK_ALLOCATED PEAK_RESERVED RETRIES DEVICE_ALLOCS DEVICE_FREES

with torch.cuda.memory_stats() as they are at the end, or at torch.OutOfMemoryError. Each seed runs on a device that has
more than enough, and on capacities drawn between what its tensors take and a little more than it reserved. TOTAL is the
device's memory, which the address ranges of expandable segments follow: the capacity, or as --total says, where another
program then holds the rest. What a seed stands for, `sequence` says, and tests/allocator_random.rs once more.
"""
import argparse, json, os, pathlib, subprocess, sys, tempfile

from on_virtual_gpu import install, leave, newest_library

MIB = 1 << 20
ENDLESS = 4 << 40
CAPACITIES = 8
SIZES = [512, MIB, MIB + 1, 10 * MIB, 10 * MIB - 511, 20 * MIB, 40 * MIB, 2 * MIB]


class Random:
    """Knuth's MMIX generator; the top 31 bits."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self.state >> 33) % n


def sequence(seed):
    """Requests (bytes > 0) and frees (-1 - the place in the list of what lives; the last takes its place)."""
    random = Random(seed)
    frees, largest = 30 + random.below(25), 20 + random.below(100)
    live, out = 0, []
    for _ in range(60 + random.below(240)):
        if live and random.below(100) < frees:
            out.append(-1 - random.below(live))
            live -= 1
            continue
        kind = random.below(10)
        if kind < 2: size = 1 + random.below(2048)
        elif kind < 4: size = 1 + random.below(MIB)
        elif kind < 7: size = MIB + random.below(11 * MIB)
        elif kind < 9: size = MIB + random.below(largest * MIB)
        else: size = SIZES[random.below(len(SIZES))]
        out.append(size)
        live += 1
    return out


def run(seed, total, capacity):
    """One run, in a process of its own: an address range that came to nothing stays, and counts later."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, json.dumps(forked(seed, total, capacity)).encode())
        os._exit(0)
    os.close(writing)
    text = os.read(reading, 1 << 16)
    os.close(reading), os.wait()
    return json.loads(text)


def forked(seed, total, capacity):
    import ctypes, torch
    driver = ctypes.CDLL(None)
    empty = lambda size: torch.empty(size, dtype=torch.uint8, device="cuda")
    leave(driver, total, capacity)
    live, verdict = [], "ran"
    try:
        for step in sequence(seed):
            if step > 0:
                live.append(empty(step))
            else:
                live[-1 - step] = live[-1]
                live.pop()
    except torch.OutOfMemoryError:
        verdict = "oom"
    s = torch.cuda.memory_stats()
    return [verdict, *[s[k] for k in ("allocation.all.allocated", "allocated_bytes.all.peak", "reserved_bytes.all.peak",
                                      "num_alloc_retries", "num_device_alloc", "num_device_free")]]


def serve(mode, seeds, total):
    import torch
    version = ".".join(torch.__version__.split(".")[:2])
    for seed in seeds:
        _, _, allocated, reserved, *_ = run(seed, ENDLESS, ENDLESS)
        random = Random(seed ^ 0xFFFF)
        low, high = allocated // (2 * MIB) - 4, reserved // (2 * MIB) + 1
        capacities = [total or ENDLESS] + [(low + random.below(max(high - low, 1) + 1)) * 2 * MIB for _ in range(CAPACITIES)]
        for capacity in dict.fromkeys(capacities):
            print(version, mode, seed, total or capacity, capacity, *run(seed, total or capacity, capacity), flush=True)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--python", required=True), a.add_argument("--seeds", default="1-40")
    a.add_argument("--mode", default="expandable"), a.add_argument("--library", type=pathlib.Path)
    a.add_argument("--total", type=int, default=0)
    a = a.parse_args()
    first, last = map(int, a.seeds.split("-"))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        environment = install(folder, a.library or newest_library(), "a100-80gb")
        environment |= {"LD_PRELOAD": environment["NULLCUDA_SO"], "LD_LIBRARY_PATH": str(folder / "driver"),
                        "PYTORCH_CUDA_ALLOC_CONF": f"expandable_segments:{a.mode == 'expandable'}"}
        asked = json.dumps([a.mode, list(range(first, last + 1)), a.total])
        sys.exit(subprocess.run([a.python, __file__, "--serve", asked], env=environment, cwd=folder).returncode)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*json.loads(sys.argv[2]))
    else:
        main()
