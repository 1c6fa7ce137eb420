#!/usr/bin/env python3
"""Asks whether a run says that a value is older than a kernel's result, and says it of nothing else.

    older.py --python VENV/bin/python [--oomph target/debug/oomph]

Two runs on a simulated GPU: in one the host reads results of work that the library does not follow, from memory that the
host had filled before; in the other what usual training programs read. Exit code 1: too few were counted, or any.
"""
import argparse, json, pathlib, re, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def leave(value, count, dtype):
    """Leaves memory that the host has filled and the allocator gives out next."""
    import torch
    torch.tensor([value] * count, dtype=dtype).to("cuda")


def older():
    import torch
    ones, matrix = torch.ones(8, device="cuda"), torch.ones(4, 4, device="cuda")
    work = {
        "rand": lambda: torch.rand(8, device="cuda"),
        "normal": lambda: torch.randn(8, device="cuda"),
        "in place": lambda: torch.empty(8, device="cuda").uniform_(),
        "bernoulli": lambda: torch.bernoulli(ones),
        "cumsum": lambda: ones.cumsum(0),
        "topk": lambda: ones.topk(8)[0],
        "layer_norm": lambda: torch.nn.functional.layer_norm(ones, (8,)),
        "roll": lambda: ones.roll(1),
        "triu": lambda: matrix.triu(),
        "foreach": lambda: torch._foreach_mul([ones], 2.0)[0],
        "arange": lambda: torch.arange(8.0, device="cuda"),
        "a kernel of one's own": lambda: torch.cuda.jiterator._create_jit_fn("template <typename T> T f(T x) { return x; }")(ones),
    }
    said = 0
    for name, make in work.items():
        leave(5.0, 16 if name == "triu" else 8, torch.float32)
        values = make().flatten().tolist()
        print(name, values[:2])
        said += values[0] == 5.0
    assert said > 6, "the memory was not given out again"
    print("older", said)


def trusted():
    import torch
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(100, 32), torch.nn.Linear(32, 100)).cuda()
    optimizer, scaler = torch.optim.AdamW(model.parameters()), torch.amp.GradScaler("cuda")
    state = torch.cuda.get_rng_state()
    for step in range(4):
        tokens = torch.randint(0, 100, (4, 33), generator=generator)
        on_gpu = tokens.to("cuda")
        words, labels = on_gpu[:, :-1].contiguous(), on_gpu[:, 1:].contiguous()
        with torch.autocast("cuda", torch.float16):
            logits = model(words)
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten())
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        # What an evaluation reads: labels, hits, the loss.
        assert torch.equal(on_gpu.cpu(), tokens), "what the host wrote is what it reads"
        (logits.argmax(-1) == labels).float().mean().item(), loss.item(), scaler.get_scale()
        product = torch.ones(3, 3).to("cuda")
        (product @ product).sum().item(), product.cpu()
    torch.cuda.set_rng_state(state)
    torch.cuda.get_rng_state()
    print("older 0")


def counted(oomph, python, part):
    command = [oomph, "run", "--gpu", "sim:a100-80gb", "--json", "--", python, __file__, "--part", part]
    done = subprocess.run(command, capture_output=True, text=True)
    answer = json.loads(done.stdout)
    if answer["verdict"] != "ran":
        sys.exit(f"{part}: {answer['verdict']}\n{done.stderr[-2000:]}")
    said = [re.search(r"read (once|\d+ times) from the GPU what it had copied", warning) for warning in answer["warnings"]]
    times = next((match[1] for match in said if match), "0 times").replace("once", "1 times")
    return int(times.split()[0]), int(re.search(r"^older (\d+)$", done.stderr, re.M)[1])


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--python"), a.add_argument("--oomph", default=str(ROOT / "target/debug/oomph"))
    a.add_argument("--part", choices=["older", "trusted"])
    a = a.parse_args()
    if a.part:
        return {"older": older, "trusted": trusted}[a.part]()
    failed = False
    for part in ["older", "trusted"]:
        times, known = counted(a.oomph, a.python, part)
        print(f"{part}: {known} values are older, {times} reads were counted")
        failed |= times < known or (part == "trusted" and times > 0)
    sys.exit(failed)


if __name__ == "__main__":
    main()
