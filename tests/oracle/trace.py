#!/usr/bin/env python3
"""The oracle's trace of one case, with the autograd node behind each allocation of backward.

    trace.py '{"config": {...}, "micro_batch": 2, ...}' OUT.jsonl     # the case's result on standard output

Needs the oracle (../shared/oracle/README.md, ORACLE names another folder) and its environment. Each line of OUT is an
allocation, as the oracle writes it, plus `node`: the autograd node that ran (backward), or "".
"""
import json, os, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import switches

oracle = switches.load()
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


def balanced_qwen3_experts():
    """transformers 4's Qwen3-MoE with balanced experts, as the oracle has Mixtral's: routing needs values."""
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock as M
    if not hasattr(M(oracle.AutoConfig.for_model("qwen3_moe", num_experts=2, hidden_size=8, moe_intermediate_size=8)), "norm_topk_prob"): return
    def forward(self, h):
        b, s, d = h.shape
        h = h.view(-1, d)
        logits = self.gate(h)
        w, _ = torch.topk(torch.softmax(logits, dim=1, dtype=torch.float), self.top_k, dim=-1)
        w = (w / w.sum(dim=-1, keepdim=True)).to(h.dtype) if self.norm_topk_prob else w.to(h.dtype)
        out = torch.zeros_like(h)
        n = b * s * self.top_k // self.num_experts
        for e in self.experts:
            rows = torch.empty(n, dtype=torch.long, device=h.device)
            cur = e(h[None, rows].reshape(-1, d)) * w[rows, rows, None]
            out.index_add_(0, rows, cur.to(h.dtype))
        return out.reshape(b, s, d), logits
    M.forward = forward


def run(case, out):
    if case["config"]["model_type"] == "qwen3_moe":
        balanced_qwen3_experts()
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
