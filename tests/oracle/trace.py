#!/usr/bin/env python3
"""The oracle's trace of one case, with the autograd node behind each allocation of backward.

    trace.py '{"config": {...}, "micro_batch": 2, ...}' OUT.jsonl     # the case's result on standard output

Needs the oracle (../shared/oracle/README.md, ORACLE names another folder) and its environment. Each line of OUT is an
allocation, as the oracle writes it, plus `node`: the autograd node that ran (backward), or "".
"""
import importlib.util, json, os, sys

ORACLE = os.environ.get("ORACLE", os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../shared/oracle"))
spec = importlib.util.spec_from_file_location("oracle", os.path.join(ORACLE, "oracle.py"))
oracle = importlib.util.module_from_spec(spec)
spec.loader.exec_module(oracle)  # replaces this process by one with the driver preloaded, once
import torch

NODES = []


def tag_nodes(root):
    """Notes how many allocations were made when each node of the graph begins."""
    count = lambda: torch.cuda.memory_stats()["allocation.all.allocated"]
    seen, stack = set(), [root]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = node.name()
        node.register_prehook(lambda g, name=name: NODES.append((count(), name)))
        stack.extend(n for n, _ in node.next_functions)


backward = torch.Tensor.backward
def tagged(self, *a, **k):
    if self.grad_fn is not None:
        tag_nodes(self.grad_fn)
    out = backward(self, *a, **k)
    NODES.append((torch.cuda.memory_stats()["allocation.all.allocated"], ""))
    return out


def run(case, out):
    if not os.environ.get("NO_NODES"):
        torch.Tensor.backward = tagged
    case = {**oracle.DEFAULTS, **case, "trace": out}
    result = oracle.child(case)
    rows = [json.loads(line) for line in open(out)]
    at = -1
    for i, row in enumerate(rows):
        while at + 1 < len(NODES) and NODES[at + 1][0] <= i:
            at += 1
        row["node"] = NODES[at][1] if at >= 0 else ""
    with open(out, "w") as f:
        for row in rows:
            f.write(json.dumps(row) + "\n")
    return result


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]), sys.argv[2])))
