#!/usr/bin/env python3
"""The memory oracle under expandable_segments:True, on the simulated GPU.

    VENV/bin/python tests/oracle/expandable.py CASES.jsonl >> tests/data/expandable_torchX.jsonl

A case is one of oracle.py's, with `device_total`: the card's bytes, which the address ranges of expandable segments follow. Its result
has peak_allocated and peak_reserved of an idle card; `min_capacity`, by bisection to 0.5 % or 2 MiB as the oracle's own, where another
program holds the rest of the card; and, for a case with `capacity`, `largest_micro_batch` there: the largest that runs, as do all smaller
ones. Needs `cargo build` (the simulated GPU's library) and the oracle's environment (NULLCUDA_SO is not used).
"""
import ctypes, json, os, sys

from on_virtual_gpu import leave, move_here

move_here(PYTORCH_CUDA_ALLOC_CONF="expandable_segments:True")
sys.path.insert(0, os.environ.get("ORACLE", "/work/shared/oracle"))
import oracle  # restarts this script under LD_PRELOAD
import torch

MIB = 1 << 20


def on_card(case, capacity=None):
    """A run on the card, where `capacity` of it is left: peaks, or nothing where it is out of memory."""
    driver = ctypes.CDLL(oracle.SO)
    driver.nullcuda_set_bool(case["attention_mask"] != "padded")
    leave(driver, case["device_total"], capacity or case["device_total"])
    try:
        oracle.train(case, lambda _: None)
    except torch.OutOfMemoryError:
        return []
    s = torch.cuda.memory_stats()
    return [s["allocated_bytes.all.peak"], s["reserved_bytes.all.peak"], s["requested_bytes.all.peak"]]


def runs(case, capacity):
    answer = oracle.forked(on_card, case, capacity)
    assert isinstance(answer, list), answer
    return answer


def min_capacity(case, low, high):
    low, high = low // (2 * MIB) - 1, -(-high // (2 * MIB))
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        if runs(case, middle * 2 * MIB): high = middle
        else: low = middle
    return high * 2 * MIB


def largest(case):
    size = 0
    while runs(dict(case, micro_batch=size + 1), case["capacity"]): size += 1
    return size


for line in open(sys.argv[1]):
    case = {**oracle.DEFAULTS, **json.loads(line)}
    assert "label_len" not in case, "oracle.py makes labels of seq_len"
    allocated, reserved, requested = runs(case, None)
    result = dict(peak_allocated=allocated, peak_reserved=reserved, peak_requested=requested, min_capacity=min_capacity(case, requested, reserved))
    if "capacity" in case: result["largest_micro_batch"] = largest(case)
    print(json.dumps(dict(case, allocator="expandable", result=result)), flush=True)
    print(case["id"], result, file=sys.stderr, flush=True)
