#!/usr/bin/env python3
"""Says what another card changes: peaks of ten cases of the memory oracle on four cards, less those on an A100.

    cards.py --oracle DIR --python VENV/bin/python [--library FILE] [--out docs/simulated-gpu-cards.md] DIR/dev_cases.jsonl

DIR holds oracle.py. Every card has 4 TiB and the properties of its file in profiles/gpus/. Some 15 minutes on two cores.
"""
import argparse, json, pathlib, subprocess, sys

from on_virtual_gpu import ask

CASES = ["gpt2-00", "gpt2-05", "bert-base-02", "llama-3.2-1b-01", "llama-3.2-1b-06", "qwen2.5-0.5b-03", "vit-base-02",
         "resnet-50-01", "t5-small-02", "tinyllama-1.1b-01"]
AGAINST, CARDS = "a100-80gb", {"t4": "T4", "rtx-4090": "RTX 4090", "h100-80gb": "H100", "b200": "B200"}


def peaks(a, cases, gpu):
    """Returns peak allocated and peak reserved in bytes by case, or an error's last line."""
    rows = {}
    for row in map(json.loads, ask(a, cases, gpu, stderr=subprocess.DEVNULL).splitlines()):
        result = row["result"]
        error = result.get("error", "").strip().splitlines()
        rows[row["id"]] = error[-1][:120] if error else (result["peak_allocated"], result["peak_reserved"])
    print(gpu, rows, flush=True)
    return rows


def cell(here, there):
    if isinstance(here, str) or isinstance(there, str) or here is None or there is None:
        return str(here if isinstance(here, str) else there)
    less = [(a - b) / 2**20 for a, b in zip(here, there)]
    return " / ".join("0" if abs(d) < 0.05 else f"{d:+.1f}" for d in less)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("cases"), a.add_argument("--oracle", required=True), a.add_argument("--python", required=True)
    a.add_argument("--library", type=pathlib.Path), a.add_argument("--out", type=pathlib.Path)
    a = a.parse_args()
    known = {case["id"]: case for case in map(json.loads, open(a.cases))}
    if missing := [name for name in CASES if name not in known]:
        sys.exit(f"not in {a.cases}: {missing}")
    cases = [known[name] for name in CASES]
    base = peaks(a, cases, AGAINST)
    equal = sum(base[name] == tuple(known[name]["result"][k] for k in ("peak_allocated", "peak_reserved")) for name in CASES)
    others = {card: peaks(a, cases, card) for card in CARDS}
    rows = [f"| {name} | " + " | ".join(cell(others[card].get(name), base.get(name)) for card in CARDS) + " |" for name in CASES]
    text = "\n".join([
        "# What another card changes", "",
        "Peak allocated / peak reserved less an A100's, MiB, of ten cases of the memory oracle (torch 2.15.0, transformers 5.23.0), on",
        "simulated cards of 4 TiB with the properties of `profiles/gpus/`. Made by `tests/oracle/cards.py`. The T4 has no flash",
        "attention; PyTorch takes cuDNN's attention on Hopper and Blackwell, of whose workspace nothing is known here.", "",
        f"The A100's own peaks: {equal} of {len(CASES)} equal the oracle's to the byte.", "",
        "| case | " + " | ".join(CARDS.values()) + " |", "|---|" + "---|" * len(CARDS), *rows, ""])
    print(text)
    if a.out:
        a.out.write_text(text)
    sys.exit(0 if equal == len(CASES) else 1)


if __name__ == "__main__":
    main()
